// What the reader sees of the points: a plane with training points and samples, and charts against the step.

const REACH = 2.55; // half the height of the plane, in the units of the data
const { colours, threshold } = SETTINGS;
const HOW = "arrow keys move the cursor (with shift, far), Enter adds a point, Delete takes the nearest away";

// `picked(i)` is called for a sample pointed at, `drawn([x, y], begins)` at a drawn point, `renew()` after a stroke,
// `keyed([x, y], deed)` when keys move the cursor, or ask to add a point there or to take the nearest.
function plane(canvas, { picked, drawn, renew, keyed }) {
  const pen = canvas.getContext("2d");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = { pick: -1 };
  const name = canvas.ariaLabel;
  let [width, height, scale, drawing, waiting, at, cursor] = [300, 300, 60, null, 0, null, [0, 0]];
  const place = ([x, y]) => [width / 2 + scale * x, height / 2 - scale * y];
  function dot(point, radius, fill, edge = fill) {
    pen.beginPath();
    pen.arc(...place(point), radius * Math.min(1, 0.4 + scale / 110), 0, 2 * Math.PI);
    Object.assign(pen, { fillStyle: fill, strokeStyle: edge, lineWidth: 1.4 }).fill();
    pen.stroke();
  }
  // A line through points; it breaks where two are farther apart than `gap`.
  function line(points, colour, thick, { dash = [], gap = Infinity } = {}) {
    Object.assign(pen, { strokeStyle: colour, lineWidth: thick }).setLineDash(dash);
    pen.beginPath();
    points.forEach((point, i) => {
      const begins = i === 0 || distance(point, points[i - 1]) > gap;
      pen[begins ? "moveTo" : "lineTo"](...place(point));
    });
    pen.stroke();
  }
  function draw() {
    waiting = 0;
    pen.clearRect(0, 0, width, height);
    const { train, heldOut, curve } = shown.data;
    line(curve, "#c9ced6", 5, { gap: 0.3 });
    pen.fillStyle = colours["held out"];
    for (const point of pairs(heldOut)) pen.fillRect(...place(point).map((px) => px - 3), 6, 6);
    const [points, samples] = [pairs(train), shown.samples ? glide() : []];
    const found = samples.map(([x, y]) => nearest(train, x, y));
    const copied = found.map((near) => shown.finished && isCopy(near, threshold));
    points.forEach((point, j) => {
      const copies = found.filter(({ first }, i) => first === j && copied[i]).length; // the halo's area grows with them
      if (copies) dot(point, 4.5 + 2.6 * Math.sqrt(copies), `${colours.sample}55`, colours.sample);
      dot(point, 3.6, colours.train);
    });
    samples.forEach((sample, i) => {
      const { first, d1 } = found[i];
      if (shown.finished && d1 < 1) line([sample, points[first]], `${colours.sample}66`, 1);
      if (!copied[i]) dot(sample, 3.4, "#ffffffcc", colours.sample);
    });
    if (samples[shown.pick]) mark(points, samples[shown.pick], found[shown.pick]);
    const out = samples.filter(([x, y]) => Math.abs(x) > width / 2 / scale || Math.abs(y) > height / 2 / scale).length;
    Object.assign(pen, { fillStyle: "#59626e", font: "12px system-ui" });
    if (out) pen.fillText(`${out} of ${samples.length} outside`, 8, height - 8);
    if (shown.drawable && canvas.matches(":focus-visible")) dot(cursor, 11, `${colours.A}33`, colours.A);
  }
  // The posterior weight of each training point as a disc's area, and the two nearest.
  function mark(points, sample, { first, second }) {
    const weights = posterior(shown.data.train, ...sample, shown.alphaBar);
    points.forEach((point, j) => dot(point, 16 * Math.sqrt(weights[j]), `${colours.sample}40`, "#0000"));
    line([sample, points[second]], colours.train, 1.6, { dash: [4, 3] });
    line([sample, points[first]], colours.train, 1.6);
    dot(sample, 6, colours.sample, colours.train);
  }
  // The samples move a part of the way to where they are now; the next picture goes on.
  function glide() {
    at ??= shown.samples;
    const away = at.map((value, i) => shown.samples[i] - value);
    const glides = !still && away.some((by) => Math.abs(by) > 0.004);
    at = at.map((value, i) => value + (glides ? 0.25 : 1) * away[i]);
    if (glides) request();
    return pairs(at);
  }
  const request = () => (waiting ||= requestAnimationFrame(draw));
  const where = (event) => [(event.offsetX - width / 2) / scale, (height / 2 - event.offsetY) / scale];
  function point(event) {
    if (!shown.samples) return;
    const { first, d1 } = nearest(shown.samples, ...where(event));
    picked(d1 < 14 / scale ? first : -1);
  }
  canvas.addEventListener("pointermove", (event) => {
    if (drawing === event.pointerId) drawn(where(event), false);
    else if (drawing === null) point(event);
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (!shown.drawable || event.button) return point(event);
    if (drawing !== null) return; // one hand at a time
    drawing = event.pointerId;
    canvas.setPointerCapture(event.pointerId);
    drawn(where(event), true);
  });
  canvas.addEventListener("lostpointercapture", (event) => {
    if (drawing !== event.pointerId) return;
    drawing = null;
    renew();
  });
  canvas.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && picked(-1));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const deed = { Enter: "add", " ": "add", Delete: "take", Backspace: "take" }[event.key];
    if (!by && !(deed && shown.drawable)) return;
    event.preventDefault();
    const n = SETTINGS.samples;
    if (!shown.drawable) return picked((shown.pick + by[0] - by[1] + n) % n);
    if (by) cursor = cursor.map((x, k) => clamp(x + by[k] * (event.shiftKey ? 0.5 : 0.1), -2.4, 2.4));
    keyed(cursor, deed);
    request();
  });
  for (const change of ["focus", "blur"]) canvas.addEventListener(change, request);
  new ResizeObserver(() => {
    const dense = window.devicePixelRatio;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [width * dense, height * dense];
    scale = Math.min(width, height) / (2 * REACH);
    pen.scale(dense, dense);
    draw();
  }).observe(canvas);
  return (what) => {
    Object.assign(shown, what);
    canvas.role = shown.drawable ? "application" : "img";
    canvas.ariaLabel = `${name}: ${shown.drawable ? HOW : "arrow keys choose a sample"}`;
    request();
  };
}

// Both networks against the training step, from 0 to the top, or less where that is enough; dotted: `reference`.
function chart(figure, course, key, reference) {
  const [top, format] = { copies: [1, percent], off: [1, two], loss: [1.5, two] }[key];
  const values = course.flatMap(({ seen }) => seen.map((one) => one[key]));
  const late = Math.max(...values.slice(values.length >> 3));
  const high = key === "copies" ? top : Math.min(top, Math.ceil(12 * late) / 10);
  const beyond = Math.max(...values) > high ? "\u2265\u00a0" : ""; // what is higher is drawn at the top
  const end = Math.max(200, course.at(-1).step);
  const y = (value) => 100 * (1 - Math.min(value / high, 1));
  const points = (k) => path(course.map(({ step, seen }) => [(1000 * step) / end, y(seen[k][key])]));
  const lines = [reference === undefined ? "" : `M0 ${y(reference)}H1000`, points(0), points(1)];
  const words = [format(0), format(high / 2), beyond + format(high), 0, "training step", end];
  figure.querySelectorAll("path").forEach((line, k) => line.setAttribute("d", lines[k]));
  figure.querySelectorAll("text").forEach((label, k) => (label.textContent = words[k]));
  const [a, b] = course.at(-1).seen.map((one) => format(one[key]));
  figure.querySelector("svg").ariaLabel = `A ${a}, B ${b} after ${course.at(-1).step} steps`;
}
