// What the reader sees of the points: a plane with training points and samples, and charts against the step.

import { nearest, posterior } from "./maths.js";
import { path, text } from "./curve.js";

const REACH = 2.35; // half the height of the plane, in the units of the data
const { colours } = SETTINGS;

// `picked(i)` is called when a sample is pointed at, `drawn([x, y], begins)` when a point is drawn.
export function plane(canvas, schedule, times, picked, drawn) {
  const pen = canvas.getContext("2d");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = { pick: -1 };
  let [width, height, scale, drawing, waiting, at, cursor] = [300, 300, 60, false, false, null, [0, 0]];
  const px = (x) => width / 2 + scale * x;
  const py = (y) => height / 2 - scale * y;

  function dot(x, y, radius, fill, edge = fill) {
    pen.beginPath();
    pen.arc(px(x), py(y), radius * Math.min(1, 0.4 + scale / 110), 0, 2 * Math.PI);
    [pen.fillStyle, pen.strokeStyle] = [fill, edge];
    pen.fill();
    pen.stroke();
  }

  function line(x0, y0, x1, y1, colour, thick, dash = []) {
    pen.setLineDash(dash);
    [pen.lineWidth, pen.strokeStyle] = [thick, colour];
    pen.beginPath();
    pen.moveTo(px(x0), py(y0));
    pen.lineTo(px(x1), py(y1));
    pen.stroke();
    pen.setLineDash([]);
  }

  function draw() {
    waiting = false;
    pen.clearRect(0, 0, width, height);
    if (!shown.data) return;
    const { train, heldOut, curve } = shown.data;
    pen.beginPath();
    curve.forEach(([x, y], i) => {
      const gap = i === 0 || Math.hypot(x - curve[i - 1][0], y - curve[i - 1][1]) > 0.3;
      pen[gap ? "moveTo" : "lineTo"](px(x), py(y));
    });
    [pen.lineWidth, pen.strokeStyle] = [5, "#c9ced6"];
    pen.stroke();
    pen.fillStyle = colours["held out"];
    for (let i = 0; i < heldOut.length; i += 2) pen.fillRect(px(heldOut[i]) - 3, py(heldOut[i + 1]) - 3, 6, 6);
    const last = shown.frame === times.length - 1;
    if (!shown.sketching && shown.samples) glide();
    const found = [];
    for (let i = 0; at && !shown.sketching && i < at.length; i += 2) found.push(nearest(train, at[i], at[i + 1]));
    const copied = found.filter(({ d1, d2 }) => last && d1 < SETTINGS.threshold * d2).map(({ first }) => first);
    pen.lineWidth = 1.4;
    for (let j = 0; j < train.length / 2; j++) {
      const copies = copied.filter((first) => first === j).length; // the halo's area grows with them
      if (copies) dot(train[2 * j], train[2 * j + 1], 4.5 + 2.6 * Math.sqrt(copies), `${colours.sample}55`, colours.sample);
      dot(train[2 * j], train[2 * j + 1], 3.6, colours.train);
    }
    found.forEach(({ first, d1, d2 }, i) => {
      const [x, y] = [at[2 * i], at[2 * i + 1]];
      if (last && d1 < 1) line(x, y, train[2 * first], train[2 * first + 1], `${colours.sample}66`, 1);
      pen.lineWidth = 1.4;
      if (!last || d1 >= SETTINGS.threshold * d2) dot(x, y, 3.4, "#ffffffcc", colours.sample);
    });
    if (found.length && shown.pick >= 0) mark(train, at[2 * shown.pick], at[2 * shown.pick + 1]);
    if (shown.sketching) dot(...cursor, 9, "#0000", colours.train);
  }

  // The posterior weight of each training point as a disc's area, and the two nearest.
  function mark(train, x, y) {
    const weights = posterior(train, x, y, schedule.alphaBar[Math.max(times[shown.frame], times[times.length - 2])]);
    weights.forEach((w, j) => dot(train[2 * j], train[2 * j + 1], 16 * Math.sqrt(w), `${colours.sample}40`, "#0000"));
    const { first, second } = nearest(train, x, y);
    line(x, y, train[2 * first], train[2 * first + 1], colours.train, 1.6);
    line(x, y, train[2 * second], train[2 * second + 1], colours.train, 1.6, [4, 3]);
    dot(x, y, 6, colours.sample, colours.train);
  }

  // The samples move a part of the way to where they are now; the next picture goes on.
  function glide() {
    if (at?.length !== shown.samples.length) at = Float32Array.from(shown.samples);
    let far = 0;
    at.forEach((value, i) => (far = Math.max(far, Math.abs(shown.samples[i] - value))));
    if (still || far < 0.004) at.set(shown.samples);
    else at.forEach((value, i) => (at[i] += 0.25 * (shown.samples[i] - value)));
    if (!still && far >= 0.004) request();
  }

  function request() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left - width / 2) / scale, (box.top + height / 2 - event.clientY) / scale];
  };
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = where(event);
    if (drawing) drawn([x, y], false);
    if (shown.sketching || !at) return;
    const one = nearest(at, x, y);
    picked(one.d1 < 14 / scale ? one.first : -1);
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (!shown.sketching) return;
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    drawn(where(event), true);
  });
  canvas.addEventListener("pointerup", () => (drawing = false));
  canvas.addEventListener("pointerleave", () => picked(-1));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], " ": [0, 0] }[event.key];
    if (!by) return;
    event.preventDefault();
    if (!shown.sketching) return at && picked((shown.pick + by[0] - by[1] + at.length / 2) % (at.length / 2));
    cursor = cursor.map((value, k) => Math.min(Math.max(value + 0.1 * by[k], -2.2), 2.2));
    if (event.key === " ") drawn(cursor, true);
    request();
  });
  new ResizeObserver(() => {
    const dense = window.devicePixelRatio || 1;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [width * dense, height * dense];
    scale = Math.min(width, height) / (2 * REACH);
    pen.scale(dense, dense);
    draw();
  }).observe(canvas);
  return (what) => {
    Object.assign(shown, what);
    request();
  };
}

// Both networks against the training step, from 0 to `top`, or less where that is enough; dotted: `reference`.
export function chart(svg, steps, series, reference, top, whole, format) {
  const [left, right, width, base] = [46, 12, Math.max(120, svg.clientWidth), 92];
  const high = whole ? top : Math.min(top, 1.2 * Math.max(...series.flatMap((values) => values.slice(values.length >> 3))));
  const end = Math.max(200, steps[steps.length - 1]);
  const x = (step) => left + (step / end) * (width - left - right);
  const y = (value) => base - Math.min(value / high, 1.03) * (base - 8);
  const level = (value) => `<path d="M${left} ${y(value)}H${width - right}" />${text(left - 6, y(value) + 4, "end", format(value))}`;
  const marks = [text(left, 108, "start", 0), text(x(end / 2), 108, "middle", "training step"), text(x(end), 108, "end", end)];
  const lines = series.map((values, k) => `<path class="of-${"ab"[k]}" d="${path(values.map((v, i) => [x(steps[i]), y(v)]))}" />`);
  const nothing = reference === undefined ? "" : `<path class="null" d="M${left} ${y(reference)}H${width - right}" />`;
  svg.innerHTML = [0, high / 2, high].map(level).join("") + marks.join("") + nothing + lines.join("");
}
