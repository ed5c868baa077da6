// The interval explorer: a Gaussian interval that the hand moves; its weights, noise levels and noised data follow.

const limits = (T) => ({ widths: [T / 10, 2 * T], centres: [0, T], unit: Math.max(1, T / 100) });
// One model, any number of views and linked sliders.
function initialize({ model }) {
  const { widths, centres } = limits(model.get("about").logSnr.length);
  limit(model, "width", (width) => clamp(Math.round(width), ...widths));
  limit(model, "centre", (centre) => clamp(Math.round(centre), ...centres));
}

// A line and a bar for each data set with recorded runs: what its spectrum predicts of p, and of uniform sampling.
function copies(spectra, p, even) {
  const x = (share) => `${4 + 90 * share}%`;
  return Object.entries(spectra).map(([name, spectrum]) => {
    const [[value, low, high], [plain]] = [p, even].map((q) => predictCopies(spectrum, q));
    const words = `${name} ${percent(value)} [${percent(low)}, ${percent(high)}] after ${spectrum.steps} steps`;
    const marks = `<line x1="${x(low)}" x2="${x(high)}" y1="10" y2="10" /><circle cx="${x(plain)}" cy="10" r="6" />`;
    const dot = `<circle class="dot" cx="${x(value)}" cy="10" r="5" />`;
    return `<div>${words}</div><svg height="23">${marks}${dot}</svg>`;
  });
}

function begin({ model, $, picture, set, editor }) {
  const { logSnr, top, never, tails } = model.get("about");
  const schedule = scheduleOf(Float64Array.from(logSnr));
  const { T, alphaBar } = schedule;
  const [even, ones, noisy] = [uniform(schedule), alphaBar.map(() => 1), alphaBar.findIndex((a) => a < 0.5)];
  const flat = logSnrDensity(even, schedule);
  const densest = top * Math.max(...flat);
  const overT = { ...SETTINGS.axes.t, to: T - 1, at: even.map((_, t) => t), top, ...limits(T) };
  overT.ticks = [0, 1, 2, 3, 4].map((k) => Math.min(Math.round((k * T) / 4), T - 1));
  const noise = { ...SETTINGS.axes.logSnr, at: schedule.logSnr, from: logSnr[0], to: logSnr[T - 1], top: densest };
  noise.levels = [1, 2].map((k) => +((k * densest) / 3).toPrecision(1));
  $(".pair figure:last-child .grip").forEach((grip) => grip.remove());
  $(".zone-text").forEach((label) => (label.textContent = "raises copying"));
  Object.assign($("[data-set=width]")[0], { min: T / 10, max: 2 * T, step: overT.unit });
  Object.assign($("[data-set=centre]")[0], { min: 0, max: T, step: overT.unit });
  $("select")[0].append(...tails.map((name) => new Option(name)));
  const move = ({ ends: [low, high] }) => set({ width: high - low, centre: (low + high) / 2 });
  const curves = [overT, noise].map((axis, k) => editor(k, axis, move));
  return () => {
    const [width, centre] = ["width", "centre"].map((name) => model.get(name));
    const [low, high] = [centre - width / 2, centre + width / 2];
    const p = gaussianInterval(schedule, low, high, model.get("tails"));
    const weight = p.map((mass) => T * mass);
    const at = [low, centre, high].map((t) => clamp(Math.round(t), 0, T - 1));
    const bare = Array.from(weight, (w) => w <= never);
    const spectra = model.get("spectra");
    const zones = Object.values(spectra).flatMap(({ zone }) => (zone ? [zone] : []));
    curves[0]({ curve: weight, even: [ones], ends: [low, high], bare, zones });
    const dense = logSnrDensity(p, schedule);
    curves[1]({ curve: dense, even: [flat], ends: [0, 0], zones: zones.map((zone) => zone.map((t) => logSnr[t])) });
    $(".copies div")[0].innerHTML = copies(spectra, p, even).join("");
    at.forEach((t, k) => picture(k, schedule, t));
    $(".told")[0].textContent =
      `[${low}, ${high}] holds ${percent(sum(p, at[0], at[2] + 1))} of the draws. Almost never trained ` +
      `(T\u00b7p(t) at most ${never}, thick on the axis): ${percent(sum(bare) / T)} of the steps. Highest weight ` +
      `${Math.max(...weight).toPrecision(3)}. Draws with more noise than signal: ${percent(sum(p, noisy))}, under ` +
      `uniform ${percent((T - noisy) / T)}.`;
  };
}

export default { initialize, render: (place) => explorer(["centre", "width", "tails", "spectra"], begin, place) };
