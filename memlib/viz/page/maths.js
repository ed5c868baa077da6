// The mathematics of the page, without a document: each function equals memlib's to 1e-5 (tests/test_page.py).
// Points lie flat in an array: x0, y0, x1, y1, ... Python joins the files of this folder into one module.

// beta(t) of the schedules. Cosine and sigmoid say how much signal is left at u = t / T, with betas of at most .999.
const logistic = (x) => 1 / (1 + Math.exp(-x));
const fromSignal = (signal) => (t, T) => Math.min(1 - signal((t + 1) / T) / signal(t / T), 0.999);
const BETAS = {
  linear: (t, T) => ((1e-4 + ((0.02 - 1e-4) * t) / (T - 1)) * 1000) / T,
  cosine: fromSignal((u) => Math.cos(((u + 0.008) / 1.008) * (Math.PI / 2)) ** 2),
  sigmoid: fromSignal((u) => logistic(3) - logistic(6 * u - 3)),
};
function scheduleNamed(name, T) {
  let product = 1;
  const alphaBar = Float64Array.from({ length: T }, (_, t) => (product *= 1 - BETAS[name](t, T)));
  return scheduleOf(alphaBar.map((a) => Math.log(a / (1 - a))));
}

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
const mean = (values) => sum(values) / values.length;
const running = (values, total = 0) => values.map((value) => (total += value));
const lowest = (values) => values.indexOf(Math.min(...values));
const pairs = (flat) => Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
const distance = ([x, y], [a, b]) => Math.hypot(x - a, y - b);
// What is left of x0 (again and again, where the noise is longer), and noise.
const noised = (x0, eps, alphaBar, signal = Math.sqrt(alphaBar), noise = Math.sqrt(1 - alphaBar)) =>
  eps.map((e, i) => signal * x0[i % x0.length] + noise * e);

const fromWeights = (weights, total = sum(weights)) => Float64Array.from(weights, (w) => w / total);

function gaussianInterval(schedule, low, high, tails = "proportional") {
  const [centre, std] = bellOf(low, high);
  const bell = (t) => Math.exp(-0.5 * ((t - centre) / std) ** 2);
  const mass = (t) => (bell(t - 0.5) + 4 * bell(t) + bell(t + 0.5)) / (6 * std * Math.sqrt(2 * Math.PI)); // Simpson
  const p = schedule.alphaBar.map((_, t) => mass(t));
  if (tails === "uniform" || tails === "interval") {
    const kept = (t) => tails === "uniform" || (low <= t && t <= high);
    const parts = p.filter((_, t) => kept(t));
    const even = (1 - sum(parts)) / parts.length;
    return fromWeights(p.map((m, t) => (kept(t) ? m + even : 0)));
  }
  if (tails === "clip") {
    for (let t = -1; t > centre - 9 * std; t--) p[0] += mass(t);
    for (let t = schedule.T; t < centre + 9 * std; t++) p[schedule.T - 1] += mass(t);
  }
  return fromWeights(p);
}

// A Gaussian over log-SNR, of which [low, high] holds the central 95 %.
function logSnrBell(schedule, low, high) {
  const [centre, std] = bellOf(low, high);
  return fromWeights(schedule.logSnr.map((s, t) => Math.exp(-0.5 * ((s - centre) / std) ** 2) * schedule.spacing[t]));
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
  const at = (share) => schedule.logSnr[running(p).findIndex((mass) => mass >= share)];
  return [at(0.975), at(0.025)];
}

function randomFrom(seed) {
  let state = (seed * 2654435761 + 1) >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, normals: (n) => Float64Array.from({ length: n }, normal) };
}

const polar = (radius, angle) => [radius * Math.cos(angle), radius * Math.sin(angle)];
const CURVES = {
  spiral: (u) => polar(3 * Math.PI * Math.sqrt(u), 3 * Math.PI * Math.sqrt(u)),
  moons: (u) => polar(u < 0.5 ? 1 : -1, (2 * Math.PI * u) % Math.PI).map((x, k) => (u < 0.5 ? x : x + 1 - k / 2)),
  rings: (u) => (u < 1 / 3 ? polar(0.5, 6 * Math.PI * u) : polar(1, 3 * Math.PI * (u - 1 / 3))),
};

// Every second point: of the first, as training points (k = 0), or of the second, as held-out points (k = 1).
const half = (points, k) => Float64Array.from(points.filter((_, i) => i % 2 === k).flat());

// Many points along a curve at unit scale, and n training and n held-out points with a little noise.
function makePoints(name, seed, n, noise) {
  const many = Array.from({ length: 1024 }, (_, i) => CURVES[name]((i + 0.5) / 1024));
  const middle = [0, 1].map((k) => mean(many.map((point) => point[k])));
  const centred = (point) => point.map((x, k) => x - middle[k]);
  const scale = Math.hypot(...many.flatMap(centred)) / Math.sqrt(2048);
  const place = (point) => centred(point).map((x) => x / scale);
  const random = randomFrom(seed);
  const points = Array.from({ length: 2 * n }, (_, i) => {
    const point = place(CURVES[name]((i + 0.5 + 0.6 * (random.uniform() - 0.5)) / (2 * n)));
    return point.map((x) => x + noise * random.normal());
  });
  return { train: half(points, 0), heldOut: half(points, 1), curve: many.map(place) };
}

// The posterior probability of each training point, given the noisy point (x, y).
function posterior(train, x, y, alphaBar) {
  const root = Math.sqrt(alphaBar);
  const away = pairs(train).map(([a, b]) => (x - root * a) ** 2 + (y - root * b) ** 2);
  const least = Math.min(...away);
  return fromWeights(away.map((square) => Math.exp((least - square) / (2 * (1 - alphaBar)))));
}

// predict(x, t): the noise that the exact denoiser sees in x.
function exactDenoiser(train, schedule) {
  return (x, t) => {
    const alphaBar = schedule.alphaBar[t];
    const weights = pairs(x).map(([a, b]) => posterior(train, a, b, alphaBar));
    const clean = (k) => sum(weights[k >> 1].map((w, j) => w * train[2 * j + (k & 1)]));
    return x.map((value, k) => (value - Math.sqrt(alphaBar) * clean(k)) / Math.sqrt(1 - alphaBar));
  };
}

// The falling timesteps of a sampler, T - 1 first and -1 (clean data) last. Halves go to the even number, as in Python.
function timestepList(T, steps) {
  const even = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  return [...Array.from({ length: steps }, (_, k) => even((T * (steps - k)) / steps) - 1), -1];
}

// Frames (steps + 1) of x_t, from the noise xT to the sample; deterministic.
function ddim(predict, schedule, xT, steps) {
  const [times, frames] = [timestepList(schedule.T, steps), [Float64Array.from(xT)]];
  for (let i = 0; i < steps; i++) {
    const [here, next] = [schedule.alphaBar[times[i]], schedule.alphaBar[times[i + 1]] ?? 1];
    const eps = predict(frames[i], times[i]);
    const clean = frames[i].map((x, j) => (x - Math.sqrt(1 - here) * eps[j]) / Math.sqrt(here));
    frames.push(noised(clean, eps, next));
  }
  return frames;
}

// The two nearest *different* training points of (x, y): indices and distances. Equal points count as one.
function nearest(train, x, y) {
  const points = pairs(train);
  const away = points.map((point) => distance(point, [x, y]));
  const first = lowest(away);
  const second = lowest(away.map((d, i) => (distance(points[i], points[first]) ? d : Infinity)));
  return { first, second, d1: away[first], d2: away[second] };
}

// A near-copy is less than `threshold` times as far from its nearest training point as from the second nearest.
const isCopy = ({ d1, d2 }, threshold) => d1 === 0 || d1 / d2 < threshold;
const nearCopies = (points, train, threshold) =>
  mean(pairs(points).map(([x, y]) => +isCopy(nearest(train, x, y), threshold)));

// The mean distance to a curve, which is given by many points on it.
const offCurve = (points, curve) =>
  mean(pairs(points).map((point) => Math.min(...curve.map((near) => distance(near, point)))));

// The log-SNR, [low, high], at which a noisy training point could be 1.1 to n / 2 of them: exp(mean entropy).
function dangerZone(train, schedule) {
  const eps = randomFrom(0).normals(4 * train.length);
  const entropy = (weights) => -sum(weights.map((w) => (w > 0 ? w * Math.log(w) : 0)));
  const zone = schedule.logSnr.filter((_, t) => {
    if (t % 20) return false;
    const noisy = pairs(noised(train, eps, schedule.alphaBar[t]));
    const candidates = Math.exp(mean(noisy.map(([x, y]) => entropy(posterior(train, x, y, schedule.alphaBar[t])))));
    return candidates > 1.1 && candidates < train.length / 4;
  });
  return zone.length ? [zone.at(-1), zone[0]] : null;
}

// Near-copies of p and the ends of their 95 % interval, as a spectrum of recorded runs predicts them. `fits` are its
// coefficients by band: the fit's own first, then those of controls drawn again.
function predictCopies({ edges, shares, copies, residual, fits }, p) {
  const more = shares.map((share, k) => sum(p, edges[k - 1], edges[k]) - share);
  const predicted = (fit) => fit.reduce((all, slope, k) => all + slope * more[k], copies);
  const drawn = fits.map((fit) => clamp(predicted(fit), 0, 1));
  const middle = mean(drawn);
  const variance = mean(drawn.map((x) => (x - middle) ** 2));
  const half = 1.96 * Math.sqrt(variance + residual ** 2);
  return [drawn[0], Math.max(0, drawn[0] - half), Math.min(1, drawn[0] + half)];
}
