// The SNR explorer: a position on three schedules that the hand moves, what the noise is there, and data noised so.

const { schedules: NAMES, sizes, axes } = SETTINGS;

function initialize({ model }) {
  limit(model, "position", (position) => clamp(position, 0, 1));
  limit(model, "T", (T) => sizes[lowest(sizes.map((size) => Math.abs(size - T)))]);
}

function begin({ model, $, picture, set, editor }) {
  const line = { ...axes.position };
  const density = { ...axes.logSnr, to: -21, ticks: [8, 0, -8, -16], top: 0.25, levels: [0.1, 0.2], widths: [0, 0] };
  let [all, chosen] = [[], null];
  const positionOf = (s) => lowest(chosen.logSnr.map((x) => Math.abs(x - s))) / (chosen.T - 1);
  $(".grip:not(.body)").forEach((grip) => grip.remove());
  ["position", "log-SNR"].forEach((name, k) => ($(".body")[k].ariaLabel = name));
  $(".zone-text")[1].textContent = "more noise than signal";
  $("[data-set=schedule]")[0].append(...NAMES.map((name) => new Option(name)));
  $("[data-set=T]")[0].append(...sizes.map((T) => new Option(T)));
  const curves = [
    editor(0, line, ({ ends: [position] }) => set({ position })),
    editor(1, density, ({ ends: [s] }) => set({ position: positionOf(s) })),
  ];
  return () => {
    const [name, T, position] = ["schedule", "T", "position"].map((trait) => model.get(trait));
    if (all[0]?.T !== T) all = NAMES.map((each) => scheduleNamed(each, T)); // not at each move of the hand
    chosen = all[NAMES.indexOf(name)];
    const { alphaBar, logSnr } = chosen;
    const [t, noisy] = [Math.round(position * (T - 1)), alphaBar.findIndex((a) => a < 0.5)];
    const dense = logSnrDensity(uniform(chosen), chosen);
    [line.at, density.at, density.centres] = [logSnr.map((_, i) => i / (T - 1)), logSnr, [logSnr[T - 1], logSnr[0]]];
    const even = [logSnr.map(() => 0), ...all.filter((one) => one !== chosen).map((one) => one.logSnr)];
    curves[0]({ curve: logSnr, even, ends: [position, position], height: logSnr[t] });
    curves[1]({ curve: dense, even: [], ends: [logSnr[t], logSnr[t]], height: dense[t], zones: [[0, -Infinity]] });
    all.forEach((each, k) => picture(k, each, t));
    const at = [alphaBar[t], Math.exp(logSnr[t]), logSnr[t], Math.exp(-logSnr[t] / 2)].map(significant);
    $(".told")[0].textContent =
      `${name}, T = ${T}, t = ${t}: signal share ${at[0]}, SNR ${at[1]}, log-SNR ${at[2]}, \u03c3 ${at[3]}. Uniform ` +
      `draws with more noise than signal: ${percent((T - noisy) / T)}.`;
  };
}

export default { initialize, render: (place) => explorer(["schedule", "T", "position"], begin, place) };
