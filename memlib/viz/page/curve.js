// A curve over t or log-SNR (curve.svg). Its body moves the centre, its edges the width: mouse, touch or keys.

const [LEFT, RIGHT, BASE] = [30, 10, 114]; // pixels beside the axis, and where it lies
// An axis: its two ends; the value of each step; what an arrow key adds; the height at its upper end; its labels.
const overLogSnr = (schedule) => ({
  ...{ from: 9.3, to: -10.2, at: schedule.logSnr, unit: 0.2, top: 0.5, levels: [0.2, 0.4] },
  ...{ ticks: [8, 4, 0, -4, -8], name: "log-SNR (noise grows \u2192)" },
});

const percent = (share) => `${Math.round(100 * share)} %`;
const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
const text = (x, y, anchor, words) => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;

// The interval within its limits: 3 to 18 wide, the centre from -8 to 8; and whether that changed it.
function limited([low, high]) {
  const half = Math.min(Math.max(high - low, 3), 18) / 2;
  const centre = Math.min(Math.max((low + high) / 2, -8), 8);
  const ends = [centre - half, centre + half].map((x) => Math.round(10 * x) / 10);
  return { ends, changed: !(Math.abs(ends[0] - low) + Math.abs(ends[1] - high) <= 0.2) };
}

// `moved(ends, done)` is called with the interval at each move, and with done = true when the hand lets go.
function curveEditor(svg, axis, moved) {
  const $ = (name) => svg.querySelector(name);
  const grips = [...svg.querySelectorAll(".grip")];
  let [shown, width, grab] = [{}, 300, null];
  const { from, to, at, unit } = axis;
  const x = (s) => LEFT + ((s - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (height) => BASE - (Math.min(height / axis.top, 1.04) * (BASE - 14));
  const sides = ([low, high]) => (from > to ? [high, low] : [low, high]); // left and right, and back
  const within = (s) => Math.min(Math.max(s, Math.min(from, to)), Math.max(from, to));
  const places = ([left, right] = sides(shown.ends)) => [left, (left + right) / 2, right];
  const trace = (heights) => path(Array.from(heights, (height, t) => [x(at[t]), y(height)]));
  function draw() {
    if (!shown.curve) return;
    $(".line").setAttribute("d", trace(shown.curve));
    $(".area").setAttribute("d", `${trace(shown.curve)}V${BASE}H${LEFT}Z`);
    $(".even").setAttribute("d", trace(shown.even));
    grips.forEach((grip, part) => {
      const place = places()[part];
      grip.setAttribute("transform", `translate(${x(within(place))} 0)`);
      grip.setAttribute("aria-valuenow", place.toFixed(1));
    });
    const dashes = shown.bare?.reduce((d, bare, t) => d + (bare ? `M${x(at[t])} ${BASE}h${width / at.length}` : ""), "");
    $(".bare").setAttribute("d", dashes ?? "");
    const [low, high] = shown.zone ?? [0, 0];
    $(".zone").setAttribute("x", Math.min(x(low), x(high)));
    $(".zone").setAttribute("width", Math.abs(x(low) - x(high)));
    $(".zone-text").setAttribute("x", shown.zone ? x((low + high) / 2) : -99);
  }
  const value = (event) => {
    const share = (event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
    return from + share * (to - from);
  };
  const shift = (part, ends, by) => sides(sides(ends).map((s, side) => (part === 2 - 2 * side ? s : s + by)));
  svg.addEventListener("pointerdown", (event) => {
    const [s, seen] = [value(event), places().map(within)];
    const away = seen.map((place) => Math.abs(x(place) - x(s)));
    let part = grips.length ? away.indexOf(Math.min(...away)) : -1;
    if (away[part] > 22) part = s > shown.ends[0] && s < shown.ends[1] ? 1 : -1; // the body moves the whole
    if (part < 0) return;
    const ends = sides([0, 2].map((edge) => (edge === part ? seen : places())[edge])); // an edge is where it is seen
    grab = { part, s, ends, before: shown.ends };
    svg.setPointerCapture(event.pointerId);
    grips[part].focus({ preventScroll: true });
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (grab) moved(shift(grab.part, grab.ends, value(event) - grab.s), false);
  });
  svg.addEventListener("lostpointercapture", () => {
    if (grab.before !== shown.ends) moved(shown.ends, true);
    grab = null;
  });
  grips.forEach((grip, part) =>
    grip.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: Math.sign(from - to), ArrowRight: Math.sign(to - from), ArrowUp: 1, ArrowDown: -1 };
      Object.assign(by, { PageUp: 5, PageDown: -5 });
      if (!(event.key in by)) return;
      event.preventDefault();
      moved(shift(part, shown.ends, unit * by[event.key]), true);
    }),
  );
  new ResizeObserver(() => {
    width = Math.max(200, svg.clientWidth);
    const ticks = axis.ticks.map((s) => text(x(s), BASE + 17, "middle", String(s).replace("-", "\u2212")));
    const levels = axis.levels.map((height) => text(LEFT - 6, y(height) + 4, "end", height));
    const name = text((LEFT + width) / 2, 145, "middle", axis.name);
    $(".axis").innerHTML = `<path d="M${LEFT} ${BASE}H${width - RIGHT}" />${[...ticks, ...levels, name].join("")}`;
    draw();
  }).observe(svg);
  return (what) => {
    Object.assign(shown, what);
    draw();
  };
}
