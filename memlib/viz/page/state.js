// The state of the playground as text, as in a link, and what is made of it: p(t), drawn points, lines of Python.

const { timesteps } = SETTINGS;
const defaults = { ...SETTINGS.defaults, frame: SETTINGS.samplerSteps };
const MAKE = { uniform, notch, "u-shape": uShape, "min-snr": minSnr, paper: (s) => gaussianInterval(s, 0, 500) };
const LANES = ["a", "b"];
const two = (x) => x.toFixed(2);
const counted = ({ length }) => `${length} ${length === 1 ? "point" : "points"}`;

// A p(t) is the name of a shape, or the ends of a bell over log-SNR, "-2.3..7.1".
const bell = (spec) => (/^-?\d+(\.\d+)?\.\.-?\d+(\.\d+)?$/.test(spec) ? spec.split("..").map(Number) : null);
const probabilities = (spec, schedule) => MAKE[spec]?.(schedule) ?? logSnrBell(schedule, ...bell(spec));

const parts = (words, mark) => words.split(mark).filter(Boolean);

// Strokes "x,y;x,y|x,y" as training points, held-out points and a curve; `wrong` says why not.
function readDrawn(words) {
  const read = (pair) => pair.split(",").map((x) => +(x || NaN));
  const strokes = parts(words, "|").map((stroke) => parts(stroke, ";").map(read));
  const all = strokes.flat();
  const between = ([x, y], [x1, y1]) => [0, 1, 2, 3, 4, 5].map((i) => [x + ((x1 - x) * i) / 6, y + ((y1 - y) * i) / 6]);
  const curve = strokes.flatMap((s) => s.flatMap((point, i) => between(point, s[i + 1] ?? point)));
  const enough = all.length >= 4 && all.length <= 200 && all.some((p, i) => i % 2 === 0 && distance(p, all[0]) > 0);
  const wrong = enough ? "" : `${counted(all)}; need 4 to 200, not all in one place (every second is held out)`;
  return { all, train: half(all, 0), heldOut: half(all, 1), curve, wrong };
}

const pointsOf = ({ data, drawn, seed }) =>
  data === "drawn" ? readDrawn(drawn) : makePoints(data, +seed, SETTINGS.points, SETTINGS.noise);

// The strokes without the point that is nearest to the place.
function withoutNearest(words, place) {
  let left = lowest(readDrawn(words).all.map((point) => distance(point, place)));
  const without = (stroke) => parts(stroke, ";").filter(() => left-- !== 0);
  const strokes = parts(words, "|").map((stroke) => without(stroke).join(";"));
  return strokes.filter(Boolean).join("|");
}

function readLink(words) {
  const given = Object.fromEntries(new URLSearchParams(words.replace(/^.*#/, "")));
  const known = (v) => Object.hasOwn(MAKE, v) || (bell(v) !== null && !limited(bell(v), SETTINGS.axes.logSnr).changed);
  const right = {
    data: (v) => Object.hasOwn(CURVES, v) || (v === "drawn" && right.drawn(given.drawn ?? "")),
    drawn: (v) => v && readDrawn(v).all.every((p) => p.length === 2 && p.every((x) => Math.abs(x) <= 2.5)),
    seed: (v) => /^\d{1,4}$/.test(v),
    a: known,
    b: known,
    speed: (v) => /^(full|60|10)$/.test(v),
    steps: (v) => /^[1-9]\d{0,4}$/.test(v),
    frame: (v) => /^\d{1,2}$/.test(v) && v <= SETTINGS.samplerSteps,
    exact: (v) => /^[01]$/.test(v),
  };
  const [state, wrong] = [{ ...defaults }, []];
  for (const [key, value] of Object.entries(given)) {
    if (Object.hasOwn(right, key) && right[key](value)) state[key] = typeof defaults[key] === "number" ? +value : value;
    else wrong.push(`${key} = ${value}`);
  }
  return { state, wrong };
}

// The state as far as it is not the one that the page begins with.
function writeLink(state) {
  const own = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
  return own.map((pair) => pair.join("=")).join("&");
}

function python(state, train, steps) {
  const points = Array.from(train, (x, i) => (i % 2 ? `${x.toFixed(3)}]` : `[${x.toFixed(3)}`)).join(", ");
  const made = LANES.map((lane) => {
    const [mean, std] = bellOf(...(bell(state[lane]) ?? [0, 0])).map((x) => x.toFixed(3));
    const gaussian = `from_log_snr(schedule, lambda s: (-0.5 * ((s - ${mean}) / ${std}) ** 2).exp())`;
    return timesteps[state[lane]] ?? gaussian;
  });
  const values = { ...SETTINGS, points, made: made.join(", "), steps: steps || 1000, seed: +state.seed };
  return SETTINGS.python.join("\n").replace(/<(\w+)>/g, (_, name) => values[name]);
}
