// p(t) as a curve over log-SNR (curve.svg). Its body moves the centre, its edges the width: mouse, touch or keys.

const SPAN = [9.3, -10.2]; // log-SNR at the left and at the right end of the axis
const TOP = 0.5; // share of the draws per unit of log-SNR at the upper end of the axis
const [LEFT, RIGHT, BASE] = [30, 10, 114]; // pixels beside the axis, and where it lies

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
function curveEditor(svg, schedule, moved) {
  const $ = (name) => svg.querySelector(name);
  const grips = [...svg.querySelectorAll(".grip")];
  let [shown, width, grab] = [{}, 300, null];
  const x = (s) => LEFT + ((SPAN[0] - s) / (SPAN[0] - SPAN[1])) * (width - LEFT - RIGHT);
  const y = (density) => BASE - (Math.min(density / TOP, 1.04) * (BASE - 14));
  const places = () => [shown.ends[1], (shown.ends[0] + shown.ends[1]) / 2, shown.ends[0]];
  const trace = (p) => path(Array.from(logSnrDensity(p, schedule), (share, t) => [x(schedule.logSnr[t]), y(share)]));
  function draw() {
    if (!shown.p) return;
    $(".line").setAttribute("d", trace(shown.p));
    $(".area").setAttribute("d", `${trace(shown.p)}V${BASE}H${LEFT}Z`);
    $(".even").setAttribute("d", trace(shown.even));
    grips.forEach((grip, part) => {
      const place = places()[part];
      grip.setAttribute("transform", `translate(${Math.min(Math.max(x(place), LEFT), width - RIGHT)} 0)`);
      grip.setAttribute("aria-valuenow", place.toFixed(1));
    });
    const [low, high] = shown.zone ?? [0, 0];
    $(".zone").setAttribute("x", x(high));
    $(".zone").setAttribute("width", x(low) - x(high));
    $(".zone-text").setAttribute("x", shown.zone ? x((low + high) / 2) : -99);
  }
  const value = (event) => {
    const share = (event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
    return SPAN[0] - share * (SPAN[0] - SPAN[1]);
  };
  const shift = (part, [low, high], by) => [part === 0 ? low : low + by, part === 2 ? high : high + by];
  svg.addEventListener("pointerdown", (event) => {
    const [s, ends] = [value(event), shown.ends];
    const away = places().map((place) => Math.abs(x(place) - x(s)));
    let part = away.indexOf(Math.min(...away));
    if (away[part] > 22) part = s > ends[0] && s < ends[1] ? 1 : -1; // the body moves the whole
    if (part < 0) return;
    grab = { part, s, ends };
    svg.setPointerCapture(event.pointerId);
    grips[part].focus({ preventScroll: true });
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (grab) moved(shift(grab.part, grab.ends, value(event) - grab.s), false);
  });
  svg.addEventListener("lostpointercapture", () => {
    if (grab.ends !== shown.ends) moved(shown.ends, true);
    grab = null;
  });
  grips.forEach((grip, part) =>
    grip.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: 0.2, ArrowRight: -0.2, ArrowUp: 0.2, ArrowDown: -0.2, PageUp: 1, PageDown: -1 };
      if (!(event.key in by)) return;
      event.preventDefault();
      moved(shift(part, shown.ends, by[event.key]), true);
    }),
  );
  new ResizeObserver(() => {
    width = Math.max(200, svg.clientWidth);
    const ticks = [8, 4, 0, -4, -8].map((s) => text(x(s), BASE + 17, "middle", String(s).replace("-", "\u2212")));
    const levels = [0.2, 0.4].map((density) => text(LEFT - 6, y(density) + 4, "end", density));
    const name = text((LEFT + width) / 2, 145, "middle", "log-SNR (noise grows \u2192)");
    $(".axis").innerHTML = `<path d="M${LEFT} ${BASE}H${width - RIGHT}" />${[...ticks, ...levels, name].join("")}`;
    draw();
  }).observe(svg);
  return (what) => {
    Object.assign(shown, what);
    draw();
  };
}
