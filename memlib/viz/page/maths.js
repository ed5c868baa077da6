// The mathematics of the page, without a document: each function equals memlib's of the same name to 1e-5
// (tests/test_page.py). Points lie flat in a Float64Array: x0, y0, x1, y1, ...

export function linearSchedule(T) {
  const alphaBar = new Float64Array(T);
  let product = 1;
  for (let t = 0; t < T; t++) {
    product *= 1 - (1e-4 + ((0.02 - 1e-4) * t) / (T - 1)) * (1000 / T);
    alphaBar[t] = product;
  }
  const logSnr = alphaBar.map((a) => Math.log(a / (1 - a)));
  // |d log-SNR / dt| by central differences, one-sided at the ends
  const spacing = logSnr.map((_, t) => {
    const [before, after] = [Math.max(t - 1, 0), Math.min(t + 1, T - 1)];
    return (logSnr[before] - logSnr[after]) / (after - before);
  });
  return { T, alphaBar, logSnr, spacing };
}

// --- p(t), a vector of T probabilities

export function fromWeights(weights) {
  const total = weights.reduce((sum, w) => sum + w, 0);
  return Float64Array.from(weights, (w) => w / total);
}

export const uniform = (schedule) => new Float64Array(schedule.T).fill(1 / schedule.T);

export function gaussianInterval(schedule, low, high) {
  const [mean, std] = [(low + high) / 2, (high - low) / (2 * Z95)];
  const bell = (t) => Math.exp(-0.5 * ((t - mean) / std) ** 2);
  // the mass over [t - 1/2, t + 1/2] by Simpson's rule
  return fromWeights(schedule.alphaBar.map((_, t) => bell(t - 0.5) + 4 * bell(t) + bell(t + 0.5)));
}

export function fromLogSnr(schedule, density) {
  return fromWeights(schedule.logSnr.map((s, t) => density(s) * schedule.spacing[t]));
}

// A Gaussian over log-SNR, of which [low, high] holds the central 95 %.
export function logSnrBell(schedule, low, high) {
  const [centre, width] = bellOf(low, high);
  return fromLogSnr(schedule, (s) => Math.exp(-0.5 * ((s - centre) / width) ** 2));
}

export const bellOf = (low, high) => [(low + high) / 2, (high - low) / (2 * Z95)];
const Z95 = 1.959963984540054;

export const minSnr = (schedule) => fromWeights(schedule.logSnr.map((s) => Math.min(1, 5 / Math.exp(s))));
export const notch = (schedule) => fromWeights(schedule.logSnr.map((s) => (s > -2.4 && s < 2.4 ? 0.05 : 1)));
export const uShape = (schedule) => fromWeights(schedule.logSnr.map((s) => Math.cosh(4 * Math.tanh(s / 4))));

// The density over log-SNR at each timestep.
export const logSnrDensity = (p, schedule) => p.map((mass, t) => mass / schedule.spacing[t]);

// The log-SNR between which the central 95 % of the draws lie, [low, high].
export function interval(p, schedule) {
  let [sum, first, last] = [0, 0, p.length - 1];
  for (let t = 0; t < p.length; t++) {
    if (sum < 0.025) first = t;
    if (sum < 0.975) last = t;
    sum += p[t];
  }
  return [schedule.logSnr[last], schedule.logSnr[first]];
}

// --- random numbers (mulberry32) and points

export class Random {
  constructor(seed) {
    this.state = (seed * 2654435761 + 1) >>> 0;
    for (let i = 0; i < 8; i++) this.uniform();
  }

  uniform() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  }

  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  normals(n) {
    return Float64Array.from({ length: n }, () => this.normal());
  }
}

const at = (radius, angle) => [radius * Math.cos(angle), radius * Math.sin(angle)];

export const CURVES = {
  spiral: (u) => at(3 * Math.PI * Math.sqrt(u), 3 * Math.PI * Math.sqrt(u)),
  moons: (u) => {
    const [x, y] = at(1, (2 * Math.PI * u) % Math.PI);
    return u < 0.5 ? [x, y] : [1 - x, 0.5 - y];
  },
  rings: (u) => (u < 1 / 3 ? at(0.5, 6 * Math.PI * u) : at(1, 3 * Math.PI * (u - 1 / 3))),
};

// A curve at unit scale: 1024 points along it.
export function curvePoints(name, n = 1024) {
  const along = Array.from({ length: n }, (_, i) => CURVES[name]((i + 0.5) / n));
  const [mx, my] = [0, 1].map((k) => along.reduce((sum, point) => sum + point[k], 0) / n);
  const square = along.reduce((sum, [x, y]) => sum + (x - mx) ** 2 + (y - my) ** 2, 0) / (2 * n);
  const scale = Math.sqrt(square);
  const place = ([x, y]) => [(x - mx) / scale, (y - my) / scale];
  return { along: along.map(place), place };
}

// As many training as held-out points, in turn along the curve, with a little noise.
export function makePoints(name, seed, n, noise) {
  const { along, place } = curvePoints(name);
  const [random, parts] = [new Random(seed), [[], []]];
  for (let i = 0; i < 2 * n; i++) {
    const [x, y] = place(CURVES[name]((i + 0.5 + 0.6 * (random.uniform() - 0.5)) / (2 * n)));
    parts[i % 2].push(x + noise * random.normal(), y + noise * random.normal());
  }
  return { train: Float64Array.from(parts[0]), heldOut: Float64Array.from(parts[1]), curve: along };
}

// --- the exact denoiser and the reverse process

// The posterior probability of each training point, given the noisy point (x, y).
export function posterior(train, x, y, alphaBar, out = new Float64Array(train.length / 2)) {
  const root = Math.sqrt(alphaBar);
  let [top, total] = [-Infinity, 0];
  for (let i = 0; i < out.length; i++) {
    const distance = (x - root * train[2 * i]) ** 2 + (y - root * train[2 * i + 1]) ** 2;
    out[i] = -distance / (2 * (1 - alphaBar));
    top = Math.max(top, out[i]);
  }
  for (let i = 0; i < out.length; i++) total += out[i] = Math.exp(out[i] - top);
  for (let i = 0; i < out.length; i++) out[i] /= total;
  return out;
}

// predict(x, t, eps) writes the exact denoiser's noise into eps.
export function exactDenoiser(train, schedule) {
  const weights = new Float64Array(train.length / 2);
  return (x, t, eps) => {
    const alphaBar = schedule.alphaBar[t];
    for (let i = 0; i < x.length; i += 2) {
      posterior(train, x[i], x[i + 1], alphaBar, weights);
      for (let k = 0; k < 2; k++) {
        let mean = 0;
        for (let j = 0; j < weights.length; j++) mean += weights[j] * train[2 * j + k];
        eps[i + k] = (x[i + k] - Math.sqrt(alphaBar) * mean) / Math.sqrt(1 - alphaBar);
      }
    }
  };
}

// The falling timesteps of a sampler, T - 1 first and -1 (clean data) last.
export function timestepList(T, steps) {
  const times = [];
  for (let k = steps; k > 0; k--) {
    const exact = (T * k) / steps; // a half is rounded to the even number, as Python does
    const rounded = Math.round(exact) - (exact % 1 === 0.5 && Math.round(exact) % 2 ? 1 : 0);
    times.push(rounded - 1);
  }
  return [...times, -1];
}

// Frames (steps + 1) of x_t, from the noise xT to the sample; deterministic.
export function ddim(predict, schedule, xT, steps) {
  const times = timestepList(schedule.T, steps);
  const eps = new Float64Array(xT.length);
  const frames = [Float64Array.from(xT)];
  for (let i = 0; i < steps; i++) {
    const here = schedule.alphaBar[times[i]];
    const next = i + 1 < steps ? schedule.alphaBar[times[i + 1]] : 1;
    const x = frames[i];
    predict(x, times[i], eps);
    frames.push(
      x.map((value, j) => {
        const clean = (value - Math.sqrt(1 - here) * eps[j]) / Math.sqrt(here);
        return Math.sqrt(next) * clean + Math.sqrt(1 - next) * eps[j];
      }),
    );
  }
  return frames;
}

// --- what is measured

// The two nearest training points of (x, y): indices and distances.
export function nearest(train, x, y) {
  const found = { first: -1, second: -1, d1: Infinity, d2: Infinity };
  for (let i = 0; i < train.length / 2; i++) {
    const d = Math.hypot(x - train[2 * i], y - train[2 * i + 1]);
    if (d < found.d1) Object.assign(found, { first: i, second: found.first, d1: d, d2: found.d1 });
    else if (d < found.d2) Object.assign(found, { second: i, d2: d });
  }
  return found;
}

// The share of points whose nearest training point is `threshold` times as far as the second nearest, or less.
export function nearCopies(points, train, threshold) {
  let copies = 0;
  for (let i = 0; i < points.length; i += 2) {
    const { d1, d2 } = nearest(train, points[i], points[i + 1]);
    if (d1 === 0 || d1 / d2 < threshold) copies++;
  }
  return copies / (points.length / 2);
}

// The mean distance to a curve, which is given by many points on it.
export function offCurve(points, curve) {
  let total = 0;
  for (let i = 0; i < points.length; i += 2) {
    let least = Infinity;
    for (const [x, y] of curve) least = Math.min(least, (points[i] - x) ** 2 + (points[i + 1] - y) ** 2);
    total += Math.sqrt(least);
  }
  return total / (points.length / 2);
}

// The log-SNR, [low, high], at which noise makes a training point look like 1.1 to n / 2 of them on average.
export function dangerZone(train, schedule, random = new Random(0)) {
  const n = train.length / 2;
  const noise = random.normals(4 * train.length);
  const zone = [];
  for (let t = 0; t < schedule.T; t += 20) {
    const [root, sigma] = [Math.sqrt(schedule.alphaBar[t]), Math.sqrt(1 - schedule.alphaBar[t])];
    let entropy = 0;
    for (let i = 0; i < noise.length; i += 2) {
      const j = i % train.length;
      const [x, y] = [root * train[j] + sigma * noise[i], root * train[j + 1] + sigma * noise[i + 1]];
      for (const w of posterior(train, x, y, schedule.alphaBar[t])) entropy -= w > 0 ? w * Math.log(w) : 0;
    }
    const candidates = Math.exp(entropy / (noise.length / 2));
    if (candidates > 1.1 && candidates < n / 2) zone.push(schedule.logSnr[t]);
  }
  return zone.length ? [Math.min(...zone), Math.max(...zone)] : null;
}
