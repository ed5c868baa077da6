// The interval explorer: a Gaussian interval that the hand moves; its weights, noise levels and noised data follow.

const NUMBERS = ["low", "high", "width", "centre"];

// One model, any number of views and linked sliders: its four numbers agree, whichever of them was moved.
function initialize({ model }) {
  const T = model.get("about").logSnr.length;
  let busy = false;
  const agree = (moved) => {
    if (busy) return;
    busy = true;
    const [low, high, width, centre] = NUMBERS.map((name) => model.get(name));
    const [w, c] = moved === "ends" ? [high - low, (low + high) / 2] : [width, centre];
    const [right, middle] = [clamp(Math.round(w), T / 10, 2 * T), clamp(Math.round(c), 0, T)];
    [middle - right / 2, middle + right / 2, right, middle].forEach((value, k) => model.set(NUMBERS[k], value));
    busy = false;
  };
  NUMBERS.forEach((name, k) => model.on(`change:${name}`, () => agree(k < 2 ? "ends" : "middle")));
}

function begin({ model, $, noised, set }) {
  const { logSnr, top, never, tails } = model.get("about");
  const schedule = scheduleOf(Float64Array.from(logSnr));
  const { T, alphaBar } = schedule;
  const [even, ones, noisy] = [uniform(schedule), alphaBar.map(() => 1), alphaBar.findIndex((a) => a < 0.5)];
  const flat = logSnrDensity(even, schedule);
  const densest = top * Math.max(...flat);
  const overT = { ...SETTINGS.axes.t, to: T - 1, at: even.map((_, t) => t), unit: Math.max(1, T / 100), top };
  overT.ticks = [0, 1, 2, 3, 4].map((k) => Math.round((k * (T - 1)) / 4));
  const noise = { ...overLogSnr(schedule), from: logSnr[0], to: logSnr[T - 1], top: densest };
  noise.levels = [1, 2].map((k) => +((k * densest) / 3).toPrecision(1));
  $(".pair figure:last-child .grip").forEach((grip) => grip.remove());
  $(".grip").forEach((grip) => Object.assign(grip, { ariaValueMin: -T, ariaValueMax: 2 * T }));
  Object.assign($("[data-set=width]")[0], { min: T / 10, max: 2 * T, step: overT.unit });
  Object.assign($("[data-set=centre]")[0], { min: 0, max: T, step: overT.unit });
  $("select")[0].append(...tails.map((name) => new Option(name)));
  const move = ([low, high], done) => set({ width: high - low, centre: (low + high) / 2 }, done);
  const curves = [overT, noise].map((axis, k) => curveEditor($(".curve")[k], axis, move));
  return () => {
    const [low, high, , centre] = NUMBERS.map((name) => model.get(name));
    const p = gaussianInterval(schedule, low, high, model.get("tails"));
    const weight = p.map((mass) => T * mass);
    const at = [low, centre, high].map((t) => clamp(Math.round(t), 0, T - 1));
    const bare = Array.from(weight, (w) => w <= never);
    curves[0]({ curve: weight, even: [ones], ends: [low, high], bare });
    curves[1]({ curve: logSnrDensity(p, schedule), even: [flat], ends: [0, 0] });
    at.forEach((t, k) => noised(k, schedule, t));
    $(".told")[0].textContent =
      `[${low}, ${high}] holds ${percent(sum(p, at[0], at[2] + 1))} of the draws. Almost never trained ` +
      `(T\u00b7p(t) at most ${never}, thick on the axis): ${percent(sum(bare) / T)} of the steps. Highest weight ` +
      `${Math.max(...weight).toPrecision(3)}. Draws with more noise than signal: ${percent(sum(p, noisy))}, under ` +
      `uniform ${percent((T - noisy) / T)}.`;
  };
}

export default { initialize, render: explorer(["centre", "width", "tails"], begin) };
