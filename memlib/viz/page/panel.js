// What the explorers share: controls bound to the model's traits, and pictures of items noised at a timestep.

const significant = (x) => +x.toPrecision(3);
// A trait out of its limits, or that is no number, is brought back, for the kernel, too.
function limit(model, name, within) {
  const bring = () => {
    const given = model.get(name);
    model.set(name, within(+given || 0));
    if (model.get(name) !== given) model.save_changes();
  };
  model.on(`change:${name}`, bring);
  bring();
}

// A canvas for points (N, 2), or for four signals (N, C, L) or images (N, C, H, W); the answer draws them noised.
function noisedItems(canvas, [n, ...shape], x0) {
  const [pen, eps, size] = [canvas.getContext("2d"), randomFrom(0).normals(x0.length), 360];
  const [channels, height, width] = shape;
  const isImage = shape.length === 3;
  Object.assign(canvas, isImage ? { width: 2 * width, height: 2 * height } : { width: size, height: size });
  if (isImage) canvas.style.imageRendering = "pixelated";
  const middle = [0, 1].map((k) => mean(x0.filter((_, i) => i % 2 === k)));
  const reach = x0.reduce((most, x, i) => Math.max(most, 1.1 * Math.abs(x - middle[i % 2])), 3.5);
  const images = (x) => {
    const area = height * width;
    for (let k = 0; k < n; k++) {
      const seen = new Uint8ClampedArray(4 * area).fill(255);
      for (let colour = 0; colour < 3; colour++) {
        const first = (k * channels + (colour % channels)) * area;
        for (let i = 0; i < area; i++) seen[4 * i + colour] = 127.5 * (x[first + i] + 1);
      }
      pen.putImageData(new ImageData(seen, width), (k % 2) * width, (k >> 1) * height);
    }
  };
  const points = (x, alphaBar) => {
    const place = (v, k) => (size / 2) * (1 + ((k ? -1 : 1) * (v - Math.sqrt(alphaBar) * middle[k])) / reach) - 3;
    for (const point of pairs(x)) pen.fillRect(...point.map(place), 6, 6);
  };
  const signals = (x) => {
    const [bottom, top, length] = [Math.min(...x), Math.max(...x), shape[1]];
    for (let line = 0; line < n * channels; line++) {
      const [column, row] = [Math.floor(line / channels) % 2, (line / channels) >> 1];
      const y = (v) => (size / 2) * (row + 0.95 - (0.9 * (v - bottom)) / (top - bottom));
      const values = Array.from(x.subarray(line * length, (line + 1) * length));
      pen.stroke(new Path2D(path(values.map((v, i) => [(size / 2) * (column + i / length), y(v)]))));
    }
  };
  const draw = [points, signals, images][shape.length - 1];
  return (alphaBar) => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    Object.assign(pen, { fillStyle: SETTINGS.colours.train, strokeStyle: SETTINGS.colours.train, lineWidth: 2 });
    draw(noised(x0, eps, alphaBar), alphaBar);
  };
}

// The `render` of a widget. `begin` lays out what is seen, and answers what draws it when one of the traits changes.
function explorer(traits, begin, { model, el }) {
  const root = placed(el);
  const $ = (selector) => [...root.querySelectorAll(selector)];
  const bytes = model.get("items");
  const x0 = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const pictures = $("canvas").map((canvas) => noisedItems(canvas, model.get("about").shape, x0));
  const picture = (k, { alphaBar, logSnr }, t) => {
    pictures[k](alphaBar[t]);
    $(".three output")[k].textContent = `t = ${t}, \u03c3\u00a0=\u00a0${significant(Math.exp(-logSnr[t] / 2))}`;
  };
  const set = (values) => Object.entries(values).forEach((pair) => model.set(...pair));
  const editor = (k, axis, moved) => curveEditor($(".curve")[k], axis, moved, () => model.save_changes());
  const draw = begin({ model, $, picture, set, editor });
  const show = () => {
    draw();
    for (const control of $("[data-set]")) {
      const value = (control.value = model.get(control.dataset.set));
      if (control.type === "range") control.previousElementSibling.textContent = +value.toFixed(2);
    }
  };
  root.addEventListener("input", ({ target: { dataset, value } }) => {
    set({ [dataset.set]: isNaN(value) ? value : +value });
  });
  root.addEventListener("change", () => model.save_changes());
  traits.forEach((name) => model.on(`change:${name}`, show));
  show();
  return () => traits.forEach((name) => model.off(`change:${name}`, show));
}
