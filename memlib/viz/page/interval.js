// The interval explorer: a Gaussian interval that the hand moves; its weights, noise levels and noised data follow.

const NUMBERS = ["low", "high", "width", "centre"];
const SHOWN = ["centre", "width", "tails"];
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// A canvas for points (N, 2), or for four signals (N, C, L) or images (N, C, H, W); the answer draws them noised.
function noisedItems(canvas, [n, ...shape], x0) {
  const [pen, eps, size] = [canvas.getContext("2d"), new Random(0).normals(x0.length), 360];
  const [channels, height, width] = shape;
  const isImage = shape.length === 3;
  Object.assign(canvas, isImage ? { width: 2 * width, height: 2 * height } : { width: size, height: size });
  if (isImage) canvas.style.imageRendering = "pixelated";
  const mean = [0, 1].map((k) => x0.reduce((sum, x, i) => sum + (i % 2 === k ? x / n : 0), 0));
  const reach = x0.reduce((most, x, i) => Math.max(most, 1.1 * Math.abs(x - mean[i % 2])), 3.5);
  const images = (x, pixels = width * height) => {
    const picture = pen.createImageData(width, height);
    for (let k = 0; k < n; k++) {
      picture.data.forEach((_, j) => {
        const value = x[(k * channels + (channels === 1 ? 0 : j % 4)) * pixels + (j >> 2)];
        picture.data[j] = j % 4 === 3 ? 255 : 127.5 * (value + 1);
      });
      pen.putImageData(picture, (k % 2) * width, (k >> 1) * height);
    }
  };
  const points = (x, root) => {
    const place = (i) => (size / 2) * (1 + (i % 2 ? -1 : 1) * ((x[i] - root * mean[i % 2]) / reach));
    for (let i = 0; i < x.length; i += 2) pen.fillRect(place(i) - 3, place(i + 1) - 3, 6, 6);
  };
  const signals = (x, length = height) => {
    const [bottom, top] = [Math.min(...x), Math.max(...x)];
    for (let line = 0; line < n * channels; line++) {
      const [column, row] = [Math.floor(line / channels) % 2, line / channels >> 1];
      const at = (v, i) => [column + i / length, row + 0.95 - (0.9 * (v - bottom)) / (top - bottom)];
      const values = Array.from(x.subarray(line * length, (line + 1) * length), at);
      pen.stroke(new Path2D(path(values.map((point) => point.map((v) => (v * size) / 2)))));
    }
  };
  return (alphaBar) => {
    const [root, sigma] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
    const x = x0.map((value, i) => root * value + sigma * eps[i]);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    Object.assign(pen, { fillStyle: SETTINGS.colours.train, strokeStyle: SETTINGS.colours.train, lineWidth: 2 });
    (isImage ? images : shape.length === 2 ? signals : points)(x, shape.length === 1 ? root : undefined);
  };
}

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

function render({ model, el }) {
  el.insertAdjacentHTML("beforeend", TEMPLATE);
  const root = el.lastElementChild;
  const $ = (selector) => [...root.querySelectorAll(selector)];
  const { logSnr, shape, top, never, tails } = model.get("about");
  const bytes = model.get("items");
  const schedule = scheduleOf(Float64Array.from(logSnr));
  const { T, alphaBar } = schedule;
  const x0 = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const pictures = $("canvas").map((canvas) => noisedItems(canvas, shape, x0));
  const [even, ones] = [uniform(schedule), alphaBar.map(() => 1)];
  const [flat, densest] = [logSnrDensity(even, schedule), top * Math.max(...logSnrDensity(even, schedule))];
  const overT = { from: 0, to: T - 1, at: even.map((_, t) => t), unit: Math.max(1, T / 100), top };
  Object.assign(overT, { levels: [1, 3, 6], name: "timestep t (noise grows \u2192)" });
  overT.ticks = [0, 1, 2, 3, 4].map((k) => Math.round((k * (T - 1)) / 4));
  const noise = { ...overLogSnr(schedule), from: logSnr[0], to: logSnr[T - 1], top: densest };
  noise.levels = [1, 2].map((k) => +((k * densest) / 3).toPrecision(1));
  $(".pair figure:last-child .grip").forEach((grip) => grip.remove());
  $(".grip").forEach((grip) => Object.assign(grip, { ariaValueMin: -T, ariaValueMax: 2 * T }));
  const curves = [overT, noise].map((axis, k) => curveEditor($(".curve")[k], axis, move));
  function move([low, high], done) {
    model.set("width", high - low);
    model.set("centre", (low + high) / 2);
    if (done) model.save_changes();
  }
  function draw() {
    const [low, high, width, centre] = NUMBERS.map((name) => model.get(name));
    const p = gaussianInterval(schedule, low, high, model.get("tails"));
    const weight = p.map((mass) => T * mass);
    const at = [low, centre, high].map((t) => clamp(Math.round(t), 0, T - 1));
    const bare = weight.map((w) => w <= never);
    curves[0]({ curve: weight, even: ones, ends: [low, high], zone: [at[0], at[2]], bare });
    curves[1]({ curve: logSnrDensity(p, schedule), even: flat, ends: [0, 0], zone: [logSnr[at[2]], logSnr[at[0]]] });
    $("canvas").forEach((_, k) => {
      pictures[k](alphaBar[at[k]]);
      $(".three output")[k].textContent = `t = ${at[k]}, \u03c3 = ${+Math.exp(-logSnr[at[k]] / 2).toPrecision(3)}`;
    });
    const sum = (values, from = 0, to = T) => values.slice(from, to).reduce((total, value) => total + value, 0);
    const noisy = alphaBar.findIndex((a) => a < 0.5);
    $(".told")[0].textContent =
      `[${low}, ${high}] holds ${percent(sum(p, at[0], at[2] + 1))} of the draws. Almost never trained (T\u00b7p(t) at most ` +
      `${never}, thick on the axis): ${percent(sum(bare) / T)} of the steps. Highest weight ` +
      `${Math.max(...weight).toPrecision(3)}. Draws with more noise than signal: ${percent(sum(p, noisy))}, under ` +
      `uniform ${percent((T - noisy) / T)}.`;
    $("[data-set]").forEach((control) => (control.value = model.get(control.dataset.set)));
    $(".bar b").forEach((bold, k) => (bold.textContent = [width, centre][k]));
  }
  const given = ({ value, dataset }) => model.set(dataset.set, isNaN(value) ? value : +value);
  root.addEventListener("input", ({ target }) => given(target));
  root.addEventListener("change", () => model.save_changes());
  root.style.setProperty("--own", SETTINGS.colours.A);
  Object.assign($("[data-set=width]")[0], { min: T / 10, max: 2 * T, step: overT.unit });
  Object.assign($("[data-set=centre]")[0], { min: 0, max: T, step: overT.unit });
  $("select")[0].append(...tails.map((name) => new Option(name)));
  SHOWN.forEach((name) => model.on(`change:${name}`, draw));
  draw();
  return () => SHOWN.forEach((name) => model.off(`change:${name}`, draw));
}

export default { initialize, render };
