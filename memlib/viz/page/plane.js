// What the reader sees of the points: a plane with training points and samples, and charts against the step.

const REACH = 2.35; // half the height of the plane, in the units of the data
const { colours } = SETTINGS;
const HOW = "arrow keys move the cursor (with shift, far), Enter adds a point, Delete takes the nearest away";

// `picked(i)` is called when a sample is pointed at, `drawn([x, y], begins)` at a drawn point, `drawn()` at the end, and
// `keyed([x, y], deed)` when keys move the cursor, or ask to add a point there or to take the nearest.
function plane(canvas, schedule, times, { picked, drawn, keyed }) {
  const pen = canvas.getContext("2d");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = { pick: -1 };
  const name = canvas.getAttribute("aria-label");
  let [width, height, scale, drawing, waiting, at, cursor] = [300, 300, 60, false, 0, null, [0, 0]];
  const px = (x) => width / 2 + scale * x;
  const py = (y) => height / 2 - scale * y;
  function dot(x, y, radius, fill, edge = fill) {
    pen.beginPath();
    pen.arc(px(x), py(y), radius * Math.min(1, 0.4 + scale / 110), 0, 2 * Math.PI);
    Object.assign(pen, { fillStyle: fill, strokeStyle: edge }).fill();
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
    waiting = 0;
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
    if (shown.samples) glide();
    const found = [];
    for (let i = 0; shown.samples && i < at.length; i += 2) found.push(nearest(train, at[i], at[i + 1]));
    const copied = found.filter(({ d1, d2 }) => last && d1 < SETTINGS.threshold * d2).map(({ first }) => first);
    pen.lineWidth = 1.4;
    for (let j = 0; j < train.length / 2; j++) {
      const copies = copied.filter((first) => first === j).length; // the halo's area grows with them
      const halo = 4.5 + 2.6 * Math.sqrt(copies);
      if (copies) dot(train[2 * j], train[2 * j + 1], halo, `${colours.sample}55`, colours.sample);
      dot(train[2 * j], train[2 * j + 1], 3.6, colours.train);
    }
    found.forEach(({ first, d1, d2 }, i) => {
      const [x, y] = [at[2 * i], at[2 * i + 1]];
      if (last && d1 < 1) line(x, y, train[2 * first], train[2 * first + 1], `${colours.sample}66`, 1);
      pen.lineWidth = 1.4;
      if (!last || d1 >= SETTINGS.threshold * d2) dot(x, y, 3.4, "#ffffffcc", colours.sample);
    });
    if (found.length && shown.pick >= 0) mark(train, at[2 * shown.pick], at[2 * shown.pick + 1]);
    if (!shown.drawable || document.activeElement !== canvas) return;
    const [x, y] = cursor;
    for (const [a, b] of [[0.25, 0], [0, 0.25]]) line(x - a, y - b, x + a, y + b, colours.A, 3);
  }
  // The posterior weight of each training point as a disc's area, and the two nearest.
  function mark(train, x, y) {
    const t = Math.max(times[shown.frame], times[times.length - 2]);
    const weights = posterior(train, x, y, schedule.alphaBar[t]);
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
  const request = () => (waiting ||= requestAnimationFrame(draw));
  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left - width / 2) / scale, (box.top + height / 2 - event.clientY) / scale];
  };
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = where(event);
    if (drawing) return drawn([x, y], false);
    if (!shown.samples) return;
    const one = nearest(at, x, y);
    picked(one.d1 < 14 / scale ? one.first : -1);
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (!shown.drawable) return;
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    drawn(where(event), true);
  });
  canvas.addEventListener("lostpointercapture", () => {
    drawing = false;
    drawn();
  });
  canvas.addEventListener("pointerleave", () => picked(-1));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const deed = { Enter: "add", " ": "add", Delete: "take", Backspace: "take" }[event.key];
    if (shown.drawable ? !by && !deed : !by || !shown.samples) return;
    event.preventDefault();
    if (!shown.drawable) return picked((shown.pick + by[0] - by[1] + at.length / 2) % (at.length / 2));
    if (by) cursor = cursor.map((x, k) => clamp(x + by[k] * (event.shiftKey ? 0.5 : 0.1), -2.4, 2.4));
    keyed(cursor, deed);
    request();
  });
  for (const change of ["focus", "blur"]) canvas.addEventListener(change, request);
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
    canvas.classList.toggle("pad", shown.drawable);
    canvas.setAttribute("role", shown.drawable ? "application" : "img");
    canvas.setAttribute("aria-label", shown.drawable ? `${name}: ${HOW}` : name);
    request();
  };
}

// Both networks against the training step, from 0 to `top`, or less where that is enough; dotted: `reference`.
function chart(svg, course, key, reference, top, whole, format) {
  const [left, right, width, base] = [46, 12, Math.max(120, svg.clientWidth), 92];
  const late = course.slice(course.length >> 3).flatMap((one) => one[key]);
  const high = whole ? top : Math.min(top, 1.2 * Math.max(...late));
  const end = Math.max(200, course[course.length - 1].step);
  const x = (step) => left + (step / end) * (width - left - right);
  const y = (value) => base - Math.min(value / high, 1.03) * (base - 8);
  const level = (v) => `<path d="M${left} ${y(v)}H${width - right}" />${text(left - 6, y(v) + 4, "end", format(v))}`;
  const marks = [["start", 0], ["middle", end / 2, "training step"], ["end", end]];
  const line = (k) => `<path class="of-${"ab"[k]}" d="${path(course.map((one) => [x(one.step), y(one[key][k])]))}" />`;
  const nothing = reference === undefined ? "" : `<path class="null" d="M${left} ${y(reference)}H${width - right}" />`;
  const under = marks.map(([anchor, step, words = step]) => text(x(step), 108, anchor, words));
  svg.innerHTML = [0, high / 2, high].map(level).join("") + under.join("") + nothing + line(0) + line(1);
}
