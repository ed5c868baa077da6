// A curve over t or log-SNR (curve.svg). Its body moves the centre, its edges the width: mouse, touch or keys.

const [LEFT, RIGHT, BASE] = [30, 10, 114]; // pixels beside the axis, and where it lies

const percent = (share) => `${Math.round(100 * share)} %`;
const tenths = (x) => Math.round(10 * x) / 10; // of a pixel, as much as is seen
const path = (points) => `M${points.map(([x, y]) => `${tenths(x)} ${tenths(y)}`).join("L")}`;
const text = (x, y, anchor, words) => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;

// TEMPLATE in its place. JupyterLab would take arrows, Home and End; it shall take what is pressed with Ctrl, to save.
function placed(el) {
  el.insertAdjacentHTML("beforeend", TEMPLATE);
  const root = el.lastElementChild;
  root.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
  return root;
}

// The interval moved by so much, within the widths and centres of its axis; and whether these changed it. Where only one
// end is moved (side -1: the low one, 1: the high one), the other stays.
function limited([low, high], { widths, centres }, side = 0, by = 0) {
  const [asked, fixed] = [high - low + side * by, [high, (low + high) / 2 + by, low][side + 1]];
  let width = clamp(asked, ...widths);
  const centre = clamp(fixed + (side * width) / 2, ...centres);
  if (side) width = 2 * Math.abs(centre - fixed);
  const away = Math.abs(width - asked) + Math.abs(centre - fixed - (side * asked) / 2);
  return { ends: [centre - width / 2, centre + width / 2], changed: !(away <= 0.2) };
}

// An axis: its ends, labels, heights and limits (settings.json), what an arrow key adds, and the value `at` each step.
// `moved({ ends, changed })` is called with the interval at each move, and `done()` when the hand lets go.
// Where the body is the only grip, it is a point on the curve: its two ends are one, and it comes to the hand.
function curveEditor(svg, axis, moved, done) {
  const $ = (name) => svg.querySelector(name);
  const grips = [...svg.querySelectorAll(".grip")];
  const isPoint = grips.length === 1;
  const { from, to, unit, top, bottom = 0 } = axis;
  const right = Math.sign(to - from);
  const side = grips.map((grip) => right * (grip.dataset.part - 1)); // which end each moves, the body (0) both
  const pages = { PageUp: 5, PageDown: -5, Home: -1e5, End: 1e5 }; // as far as the limits allow
  const keys = { ArrowLeft: -right, ArrowRight: right, ArrowUp: 1, ArrowDown: -1, ...pages };
  const shown = { zones: [], bare: [], height: bottom };
  let [width, grab, traced] = [300, null, new WeakMap()]; // one hand at a time; the path of each curve that stays
  const within = (s) => clamp(s, Math.min(from, to), Math.max(from, to));
  const x = (s) => LEFT + ((within(s) - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (height) => BASE - clamp((height - bottom) / (top - bottom), 0, 1) * (BASE - 10);
  const place = (k, [low, high]) => [low, (low + high) / 2, high][side[k] + 1];
  const shift = (k, ends, by) => limited(ends, axis, side[k], by);
  const trace = (heights) => path(Array.from(heights, (height, t) => [x(axis.at[t]), y(height)]));
  const once = (curve) => traced.get(curve) ?? traced.set(curve, trace(curve)).get(curve);
  function draw() {
    const [line, [zone], peak] = [trace(shown.curve), shown.zones, Math.max(...shown.curve)];
    $(".line").setAttribute("d", line);
    $(".area").setAttribute("d", `${line}V${BASE}H${x(axis.at[0])}Z`);
    $(".even").setAttribute("d", shown.even.map(once).join(""));
    grips.forEach((grip, k) => {
      const at = (by) => place(k, shift(k, shown.ends, unit * by).ends).toFixed(unit < 0.1 ? 2 : 1);
      Object.assign(grip, { ariaValueMin: at(keys.Home), ariaValueNow: at(0), ariaValueMax: at(keys.End) });
      grip.setAttribute("transform", `translate(${x(place(k, shown.ends))} ${y(shown.height) - BASE})`);
    });
    const dash = (bare, t) => (bare ? `M${x(axis.at[t])} ${BASE}H${x(axis.at[t + 1] ?? axis.at[t])}` : "");
    $(".bare").setAttribute("d", shown.bare.map(dash).join(""));
    const shade = ([low, high]) => `M${x(low)} 8H${x(high)}V${BASE}H${x(low)}Z`;
    $(".zone").setAttribute("d", shown.zones.map(shade).join(""));
    $(".zone-text").setAttribute("x", zone ? (x(zone[0]) + x(zone[1])) / 2 : 0);
    $(".cut").textContent = peak > top ? `cut off, rises to ${peak.toPrecision(3)}` : "";
  }
  const valueAt = (px) => from + ((px - LEFT) / (width - LEFT - RIGHT)) * (to - from); // the inverse of x
  const value = (event) => valueAt(event.clientX - svg.getBoundingClientRect().left);
  svg.addEventListener("pointerdown", (event) => {
    const s = value(event);
    const away = grips.map((_, k) => Math.abs(x(place(k, shown.ends)) - x(s)));
    let k = lowest(away);
    if (!isPoint && away[k] > 22) k = s > shown.ends[0] && s < shown.ends[1] ? 1 : -1; // the body moves the whole
    if (k < 0 || grab || event.button) return;
    const ends = shown.ends.map((end, i) => (side[k] === 2 * i - 1 ? within(end) : end)); // an edge is where it is seen
    grab = { by: event.pointerId, k, s, ends: isPoint ? [s, s] : ends, before: shown.ends };
    if (isPoint) moved(shift(k, grab.ends, 0));
    svg.setPointerCapture(event.pointerId);
    grips[k].focus({ preventScroll: true });
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (grab?.by === event.pointerId) moved(shift(grab.k, grab.ends, value(event) - grab.s));
  });
  svg.addEventListener("lostpointercapture", (event) => {
    if (grab?.by !== event.pointerId) return;
    if (grab.before !== shown.ends) done();
    grab = null;
  });
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    moved(shift(grips.indexOf(event.target), shown.ends, unit * keys[event.key]));
    done();
  });
  new ResizeObserver(() => {
    [width, traced] = [Math.max(200, svg.clientWidth), new WeakMap()];
    svg.setAttribute("viewBox", `0 0 ${width} 154`); // on paper it is narrower
    const signed = (number) => String(number).replace("-", "\u2212");
    const ticks = axis.ticks.filter((s) => s === within(s)).map((s) => text(x(s), BASE + 20, "middle", signed(s)));
    const levels = axis.levels.map((height) => text(LEFT - 6, y(height) + 4, "end", signed(height)));
    const name = text((LEFT + width) / 2, 149, "middle", axis.name);
    $(".axis").innerHTML = `<path d="M${LEFT} ${BASE}H${width - RIGHT}" />${[...ticks, ...levels, name].join("")}`;
    draw();
  }).observe(svg);
  return (what) => {
    Object.assign(shown, what);
    draw();
  };
}
