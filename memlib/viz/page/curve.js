// A curve over t or log-SNR (curve.svg). Its body moves the centre, its edges the width: mouse, touch or keys.

const [LEFT, RIGHT, BASE] = [30, 10, 114]; // pixels beside the axis, and where it lies

const percent = (share) => `${Math.round(100 * share)} %`;
const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
const text = (x, y, anchor, words) => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;

// The interval within its limits: 3 to 18 wide, the centre from -8 to 8; and whether that changed it.
function limited([low, high]) {
  const half = clamp(high - low, 3, 18) / 2;
  const centre = clamp((low + high) / 2, -8, 8);
  const ends = [centre - half, centre + half].map((x) => Math.round(10 * x) / 10);
  return { ends, changed: !(Math.abs(ends[0] - low) + Math.abs(ends[1] - high) <= 0.2) };
}

// An axis: its ends, labels and heights (settings.json), what an arrow key adds, and the value `at` each step.
// `moved(ends, done)` is called with the interval at each move, and with done = true when the hand lets go.
// Where the body is the only grip, it is a point on the curve: its two ends are one, and it comes to the hand.
function curveEditor(svg, axis, moved) {
  const $ = (name) => svg.querySelector(name);
  const grips = [...svg.querySelectorAll(".grip")];
  const parts = grips.map((grip) => +grip.dataset.part);
  const isPoint = grips.length === 1;
  const { from, to, unit, top, bottom = 0 } = axis;
  const right = Math.sign(to - from);
  const keys = { ArrowLeft: -right, ArrowRight: right, ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
  const shown = { zones: [], bare: [], height: bottom };
  let [width, grab] = [300, null]; // one hand at a time
  const within = (s) => clamp(s, Math.min(from, to), Math.max(from, to));
  const x = (s) => LEFT + ((within(s) - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (height) => BASE - clamp((height - bottom) / (top - bottom), 0, 1) * (BASE - 10);
  const sides = ([low, high]) => (from > to ? [high, low] : [low, high]); // left and right, and back
  const places = ([left, right] = sides(shown.ends)) => [left, (left + right) / 2, right];
  const trace = (heights) => path(Array.from(heights, (height, t) => [x(axis.at[t]), y(height)]));
  function draw() {
    const [line, [zone], peak] = [trace(shown.curve), shown.zones, Math.max(...shown.curve)];
    $(".line").setAttribute("d", line);
    $(".area").setAttribute("d", `${line}V${BASE}H${x(axis.at[0])}Z`);
    $(".even").setAttribute("d", shown.even.map(trace).join(""));
    grips.forEach((grip, k) => {
      const place = places()[parts[k]];
      grip.setAttribute("transform", `translate(${x(place)} ${y(shown.height) - BASE})`);
      grip.setAttribute("aria-valuenow", place.toFixed(unit < 0.1 ? 2 : 1));
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
  const shift = (part, ends, by) => sides(sides(ends).map((s, side) => (part === 2 - 2 * side ? s : s + by)));
  svg.addEventListener("pointerdown", (event) => {
    const [s, seen] = [value(event), places().map(within)];
    const away = parts.map((part) => Math.abs(x(seen[part]) - x(s)));
    let k = lowest(away);
    if (!isPoint && away[k] > 22) k = s > shown.ends[0] && s < shown.ends[1] ? 1 : -1; // the body moves the whole
    if (k < 0 || grab || event.button) return;
    const ends = [0, 2].map((edge) => (edge === parts[k] ? seen : places())[edge]); // an edge is where it is seen
    grab = { by: event.pointerId, part: parts[k], s, ends: isPoint ? [s, s] : sides(ends), before: shown.ends };
    if (isPoint) moved(grab.ends, false);
    svg.setPointerCapture(event.pointerId);
    grips[k].focus({ preventScroll: true });
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (grab?.by === event.pointerId) moved(shift(grab.part, grab.ends, value(event) - grab.s), false);
  });
  svg.addEventListener("lostpointercapture", (event) => {
    if (grab?.by !== event.pointerId) return;
    if (grab.before !== shown.ends) moved(shown.ends, true);
    grab = null;
  });
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    moved(shift(+event.target.dataset.part, shown.ends, unit * keys[event.key]), true);
  });
  new ResizeObserver(() => {
    width = Math.max(200, svg.clientWidth);
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
