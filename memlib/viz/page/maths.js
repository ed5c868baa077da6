// The mathematics of the page, without a document: each function equals memlib's to 1e-5 (tests/test_page.py).
// Points lie flat in an array: x0, y0, x1, y1, ... Python joins the files of this folder into one module.

// The three schedules by name. Cosine and sigmoid say how much signal is left at u = t / T, with betas of at most .999.
const logistic = (x) => 1 / (1 + Math.exp(-x));
const SIGNAL = {
  cosine: (u) => Math.cos(((u + 0.008) / 1.008) * (Math.PI / 2)) ** 2,
  sigmoid: (u) => logistic(3) - logistic(6 * u - 3),
};
function scheduleNamed(name, T) {
  const signal = SIGNAL[name];
  const linear = (t) => ((1e-4 + ((0.02 - 1e-4) * t) / (T - 1)) * 1000) / T;
  const beta = (t) => (name === "linear" ? linear(t) : Math.min(1 - signal((t + 1) / T) / signal(t / T), 0.999));
  const alphaBar = new Float64Array(T);
  for (let t = 0, product = 1; t < T; t++) alphaBar[t] = product *= 1 - beta(t);
  return scheduleOf(alphaBar.map((a) => Math.log(a / (1 - a))));
}
const linearSchedule = (T) => scheduleNamed("linear", T);

function scheduleOf(logSnr) {
  const T = logSnr.length;
  const alphaBar = logSnr.map(logistic);
  // |d log-SNR / dt| by central differences, one-sided at the ends
  const spacing = logSnr.map((_, t) => {
    const [before, after] = [Math.max(t - 1, 0), Math.min(t + 1, T - 1)];
    return (logSnr[before] - logSnr[after]) / (after - before);
  });
  return { T, alphaBar, logSnr, spacing };
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const sum = (values, from = 0, to = values.length) => values.slice(from, to).reduce((total, value) => total + value, 0);

function fromWeights(weights) {
  const total = sum(weights);
  return Float64Array.from(weights, (w) => w / total);
}

function gaussianInterval(schedule, low, high, tails = "proportional") {
  const [mean, std] = bellOf(low, high);
  const bell = (t) => Math.exp(-0.5 * ((t - mean) / std) ** 2);
  const mass = (t) => (bell(t - 0.5) + 4 * bell(t) + bell(t + 0.5)) / (6 * std * Math.sqrt(2 * Math.PI)); // Simpson
  const p = schedule.alphaBar.map((_, t) => mass(t));
  let [below, above] = [0, 0];
  for (let t = -1; t > mean - 9 * std; t--) below += mass(t);
  for (let t = schedule.T; t < mean + 9 * std; t++) above += mass(t);
  const inside = (t) => low <= t && t <= high;
  const spread = (kept) => (1 - kept.reduce((sum, m) => sum + m, 0)) / kept.length;
  const even = tails === "interval" ? spread(p.filter((_, t) => inside(t))) : (below + above) / schedule.T;
  if (tails === "uniform") return fromWeights(p.map((m) => m + even));
  if (tails === "interval") return fromWeights(p.map((m, t) => (inside(t) ? m + even : 0)));
  if (tails === "clip") [p[0], p[schedule.T - 1]] = [p[0] + below, p[schedule.T - 1] + above];
  return fromWeights(p);
}

// A Gaussian over log-SNR, of which [low, high] holds the central 95 %.
function logSnrBell(schedule, low, high) {
  const [mean, std] = bellOf(low, high);
  return fromWeights(schedule.logSnr.map((s, t) => Math.exp(-0.5 * ((s - mean) / std) ** 2) * schedule.spacing[t]));
}

const bellOf = (low, high) => [(low + high) / 2, (high - low) / (2 * 1.959963984540054)];
const uniform = (schedule) => new Float64Array(schedule.T).fill(1 / schedule.T);
const minSnr = (schedule) => fromWeights(schedule.logSnr.map((s) => Math.min(1, 5 / Math.exp(s))));
const notch = (schedule) => fromWeights(schedule.logSnr.map((s) => (Math.abs(s) < 2.4 ? 0.05 : 1)));
const uShape = (schedule) => fromWeights(schedule.logSnr.map((s) => Math.cosh(4 * Math.tanh(s / 4))));
// The density over log-SNR at each timestep.
const logSnrDensity = (p, schedule) => p.map((mass, t) => mass / schedule.spacing[t]);

// The log-SNR between which the central 95 % of the draws lie, [low, high].
function interval(p, schedule) {
  const at = (share, sum = 0) => schedule.logSnr[p.findIndex((mass) => (sum += mass) >= share)];
  return [at(0.975), at(0.025)];
}

class Random {
  constructor(seed) {
    this.state = (seed * 2654435761 + 1) >>> 0;
  }
  uniform() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  }
  normal = () => Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  normals = (n) => Float64Array.from({ length: n }, () => this.normal());
}

const polar = (radius, angle) => [radius * Math.cos(angle), radius * Math.sin(angle)];
const CURVES = {
  spiral: (u) => polar(3 * Math.PI * Math.sqrt(u), 3 * Math.PI * Math.sqrt(u)),
  moons: (u) => polar(u < 0.5 ? 1 : -1, (2 * Math.PI * u) % Math.PI).map((x, k) => (u < 0.5 ? x : x + 1 - k / 2)),
  rings: (u) => (u < 1 / 3 ? polar(0.5, 6 * Math.PI * u) : polar(1, 3 * Math.PI * (u - 1 / 3))),
};

// Many points along a curve at unit scale, and as many training as held-out points, in turn, with a little noise.
function makePoints(name, seed, n, noise) {
  const many = Array.from({ length: 1024 }, (_, i) => CURVES[name]((i + 0.5) / 1024));
  const middle = [0, 1].map((k) => many.reduce((sum, point) => sum + point[k] / 1024, 0));
  const square = (point) => point.reduce((sum, x, k) => sum + (x - middle[k]) ** 2, 0);
  const scale = Math.sqrt(many.reduce((sum, point) => sum + square(point) / 2048, 0));
  const place = (point) => point.map((x, k) => (x - middle[k]) / scale);
  const [random, parts] = [new Random(seed), [[], []]];
  for (let i = 0; i < 2 * n; i++) {
    const point = place(CURVES[name]((i + 0.5 + 0.6 * (random.uniform() - 0.5)) / (2 * n)));
    parts[i % 2].push(...point.map((x) => x + noise * random.normal()));
  }
  return { train: Float64Array.from(parts[0]), heldOut: Float64Array.from(parts[1]), curve: many.map(place) };
}

// The posterior probability of each training point, given the noisy point (x, y).
function posterior(train, x, y, alphaBar, out = new Float64Array(train.length / 2)) {
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
function exactDenoiser(train, schedule) {
  const weights = new Float64Array(train.length / 2);
  return (x, t, eps) => {
    const alphaBar = schedule.alphaBar[t];
    for (let i = 0; i < x.length; i++) {
      if (i % 2 === 0) posterior(train, x[i], x[i + 1], alphaBar, weights);
      const mean = weights.reduce((sum, w, j) => sum + w * train[2 * j + (i % 2)], 0);
      eps[i] = (x[i] - Math.sqrt(alphaBar) * mean) / Math.sqrt(1 - alphaBar);
    }
  };
}

// The falling timesteps of a sampler, T - 1 first and -1 (clean data) last. Halves go to the even number, as in Python.
function timestepList(T, steps) {
  const even = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  return [...Array.from({ length: steps }, (_, k) => even((T * (steps - k)) / steps) - 1), -1];
}

// Frames (steps + 1) of x_t, from the noise xT to the sample; deterministic.
function ddim(predict, schedule, xT, steps) {
  const [times, eps, frames] = [timestepList(schedule.T, steps), new Float64Array(xT.length), [Float64Array.from(xT)]];
  for (let i = 0; i < steps; i++) {
    const [here, next] = [schedule.alphaBar[times[i]], schedule.alphaBar[times[i + 1]] ?? 1];
    predict(frames[i], times[i], eps);
    const clean = frames[i].map((x, j) => (x - Math.sqrt(1 - here) * eps[j]) / Math.sqrt(here));
    frames.push(clean.map((x, j) => Math.sqrt(next) * x + Math.sqrt(1 - next) * eps[j]));
  }
  return frames;
}

// The two nearest training points of (x, y): indices and distances.
function nearest(train, x, y) {
  let [first, second, d1, d2] = [-1, -1, Infinity, Infinity];
  for (let i = 0; i < train.length / 2; i++) {
    const d = Math.hypot(x - train[2 * i], y - train[2 * i + 1]);
    if (d < d1) [first, second, d1, d2] = [i, first, d, d1];
    else if (d < d2) [second, d2] = [i, d];
  }
  return { first, second, d1, d2 };
}

function meanOver(points, f) {
  let total = 0;
  for (let i = 0; i < points.length; i += 2) total += f(points[i], points[i + 1]);
  return total / (points.length / 2);
}

// The share of points whose nearest training point is less than `threshold` times as far as the second nearest.
function nearCopies(points, train, threshold) {
  const isCopy = ({ d1, d2 }) => d1 === 0 || d1 / d2 < threshold;
  return meanOver(points, (x, y) => (isCopy(nearest(train, x, y)) ? 1 : 0));
}

// The mean distance to a curve, which is given by many points on it.
const offCurve = (points, curve) =>
  meanOver(points, (x, y) => curve.reduce((d, [a, b]) => Math.min(d, Math.hypot(x - a, y - b)), Infinity));

// The log-SNR, [low, high], at which a noisy training point could be 1.1 to n / 2 of them: exp(mean entropy).
function dangerZone(train, schedule) {
  const [noise, zone] = [new Random(0).normals(4 * train.length), []];
  for (let t = 0; t < schedule.T; t += 20) {
    const [root, sigma] = [Math.sqrt(schedule.alphaBar[t]), Math.sqrt(1 - schedule.alphaBar[t])];
    const noisy = noise.map((eps, i) => root * train[i % train.length] + sigma * eps);
    const entropy = (x, y) =>
      posterior(train, x, y, schedule.alphaBar[t]).reduce((sum, w) => sum - (w > 0 ? w * Math.log(w) : 0), 0);
    const candidates = Math.exp(meanOver(noisy, entropy));
    if (candidates > 1.1 && candidates < train.length / 4) zone.push(schedule.logSnr[t]);
  }
  return zone.length ? [zone[zone.length - 1], zone[0]] : null;
}

// Near-copies of p and the ends of their 95 % interval, as a spectrum of recorded runs predicts them. `fits` are its
// coefficients by band: the fit's own first, then those of controls drawn again.
function predictCopies({ edges, shares, copies, residual, fits }, p) {
  const more = shares.map((share, k) => sum(p, edges[k - 1], edges[k]) - share);
  const drawn = fits.map((fit) => clamp(fit.reduce((all, slope, k) => all + slope * more[k], copies), 0, 1));
  const mean = sum(drawn) / drawn.length;
  const variance = sum(drawn.map((x) => (x - mean) ** 2)) / drawn.length;
  const half = 1.96 * Math.hypot(Math.sqrt(variance), residual);
  return [drawn[0], Math.max(0, drawn[0] - half), Math.min(1, drawn[0] + half)];
}
