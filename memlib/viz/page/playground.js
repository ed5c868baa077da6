// The playground: its state, two workers in lockstep, and what the reader sees of them.

// A message to a worker, then its answer.
const ask = (worker, message) =>
  new Promise((resolve, reject) => {
    Object.assign(worker, { onmessage: ({ data }) => resolve(data), onerror: reject }).postMessage(message);
  });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function render({ model, el }) {
  el.insertAdjacentHTML("beforeend", TEMPLATE);
  const root = el.lastElementChild;
  const $ = (selector) => root.querySelector(selector);
  const schedule = linearSchedule(SETTINGS.T);
  const times = timestepList(SETTINGS.T, SETTINGS.samplerSteps);
  const last = SETTINGS.samplerSteps; // the frame of the finished samples
  const { state, wrong } = readLink(model.get("link"));
  const view = { frame: last, pick: -1, exact: false, playing: true, renew: true, alive: true, step: 0 };
  view.stop = +state.steps || SETTINGS.pause;
  let [course, latest, first, data, chunk, wake] = [[], null, null, null, 4, () => {}];
  const say = (words) => void ($(".word").textContent = words);
  const planes = LANES.map((lane) => plane($(`[data-plane=${lane}] canvas`), { picked, drawn, keyed }));
  const curves = LANES.map((lane) =>
    curveEditor($(`[data-lane=${lane}] .curve`), overLogSnr(schedule), (moved, done) => {
      const { ends, changed } = limited(moved);
      say(changed ? "An interval is 3 to 18 wide, and its centre lies between log-SNR \u22128 and 8." : "");
      state[lane] = ends.map((x) => x.toFixed(1)).join("..");
      showCurves();
      if (done) renew();
    }),
  );
  function showCurves() {
    LANES.forEach((lane, k) => {
      const p = probabilities(state[lane], schedule);
      const ends = bell(state[lane]) ?? limited(interval(p, schedule)).ends;
      const [curve, even] = [p, uniform(schedule)].map((q) => logSnrDensity(q, schedule));
      curves[k]({ curve, ends, even: [even], zones: first?.zone ? [first.zone] : [] });
      $(`[data-set=${lane}]`).value = state[lane] in timesteps ? state[lane] : "own";
    });
  }
  function show() {
    const t = times[Math.min(view.frame, last - 1)]; // finished samples are seen as with the last noise
    const words = LANES.map((lane, k) => {
      const [frames, size] = [view.exact ? first?.exact : latest?.[k].frames, 2 * SETTINGS.samples];
      const samples = data?.wrong ? null : frames?.subarray(view.frame * size, (view.frame + 1) * size);
      const drawable = state.data === "drawn" && k === 0;
      const at = { alphaBar: schedule.alphaBar[t], finished: view.frame === last };
      planes[k]({ data, pick: view.pick, drawable, samples, ...at });
      const measured = ({ copies, off }) => `near-copies ${percent(copies)}, ${two(off)} off the curve`;
      const made = view.exact ? "the exact denoiser" : latest && measured(latest[k]);
      $(`[data-plane=${lane}] output`).textContent = latest ? made : "";
      return view.pick >= 0 && samples ? tell("AB"[k], samples.subarray(2 * view.pick), t) : "";
    });
    if (words[0]) $(".told").textContent = words.join(" ");
    $("[data-set=frame]").value = view.frame;
    $(".time output").textContent = view.frame === last ? "finished" : `t = ${t}`;
    $("[data-do=play]").textContent = view.playing ? "Pause" : "Play";
    $(".count").textContent = `step ${view.step}`;
  }
  function tell(name, [x, y], t) {
    const { first, second, d1, d2 } = nearest(data.train, x, y);
    const weight = percent(posterior(data.train, x, y, schedule.alphaBar[t])[first]);
    const points = `point ${first + 1} at ${two(d1)}, then point ${second + 1} at ${two(d2)}`;
    return `${name}: nearest is ${points}; the first has posterior weight ${weight} at t = ${t}.`;
  }
  function picked(pick) {
    if (pick === view.pick) return;
    view.pick = pick;
    show();
  }
  // A point is drawn in plane A, the first of a stroke or another; without a point the stroke ends.
  function drawn(point, begins) {
    if (!point) return renew();
    const place = point.map((x) => two(clamp(x, -2.4, 2.4))).join(",");
    if (!begins && distance(point, data.all[data.all.length - 1]) < 0.22) return;
    state.drawn += (!begins ? ";" : state.drawn && "|") + place;
    data = readDrawn(state.drawn);
    show();
  }
  function keyed(cursor, deed) {
    if (deed === "add") drawn(cursor, true);
    if (deed === "take") state.drawn = withoutNearest(state.drawn, cursor);
    if (deed) renew();
    say(`Cursor at ${cursor.map(two).join(", ")}; ${readDrawn(state.drawn).all.length} points.`);
  }
  // Both networks begin anew.
  function renew() {
    Object.assign(view, { renew: true, playing: true, stop: SETTINGS.pause });
    model.set("link", writeLink({ ...state, steps: "" }));
    model.save_changes();
    wake();
  }
  function record(replies) {
    latest = replies;
    const seen = replies.map(({ copies, off, loss }) => ({ copies, off, loss }));
    course.push({ step: view.step, seen });
    if (course.length > 240) course = course.filter((_, i) => i % 2 === 0); // the first and the last stay
    for (const key in seen[0]) chart($(`[data-chart=${key}]`), course, key, first.nulls[key]);
  }
  // The one place that talks to the workers: a message to each, then an answer from each, so they stay in lockstep.
  async function train() {
    const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    const workers = LANES.map(() => new Worker(url));
    const both = (message) => Promise.all(LANES.map((lane, k) => ask(workers[k], message(lane))));
    let [looked, pause] = [0, 0];
    while (view.alive) {
      if (view.renew) {
        const { points, noise } = SETTINGS;
        Object.assign(view, { renew: false, step: 0, pick: -1 });
        data = state.data === "drawn" ? readDrawn(state.drawn) : makePoints(state.data, +state.seed, points, noise);
        if (data.wrong) latest = say(`Draw in plane A, with the mouse, a finger, or arrow keys and Enter: ${data.wrong}.`);
        if (data.wrong) continue;
        const start = (lane) => ({ ...data, seed: +state.seed, p: probabilities(state[lane], schedule) });
        const replies = await both((lane) => ({ start: start(lane), steps: 0, look: true }));
        [course, first] = [[], replies[0]];
        record(replies);
        showCurves();
        show();
      } else if (data.wrong || !(view.playing || view.once)) {
        show();
        await new Promise((resolve) => (wake = resolve));
      } else {
        const [begun, rate] = [performance.now(), +state.speed || Infinity];
        const steps = view.once ? 1 : Math.min(chunk, Math.ceil(rate / 10), view.stop - view.step);
        const look = view.once || begun - looked > pause || view.step + steps >= view.stop;
        view.once = false;
        const replies = await both(() => ({ steps, look }));
        view.step += steps;
        const slower = (what) => Math.max(...replies.map((reply) => reply[what]));
        chunk = clamp(Math.round((100 * steps) / slower("training")), 1, 2 * chunk); // 0.1 s of training
        if (look) [looked, pause] = [performance.now(), Math.max(250, 4 * slower("looking"))];
        if (look && !view.renew) record(replies);
        if (view.step >= view.stop) Object.assign(view, { playing: false, stop: view.step + SETTINGS.pause });
        show();
        await sleep((1000 * steps) / rate - performance.now() + begun);
      }
    }
    workers.forEach((worker) => worker.terminate());
  }
  function hand(words) {
    Object.assign($(".text"), { value: words, style: "" }).select();
    navigator.clipboard?.writeText(words).then(() => say("Copied."), () => {});
  }
  const actions = {
    play: () => (view.playing = !view.playing),
    step: () => Object.assign(view, { playing: false, once: true }),
    restart: renew,
    reverse: async () => {
      for (view.frame = 0; view.alive && view.frame < last; view.frame = Math.min(view.frame + 1, last)) {
        show();
        await sleep(70);
      }
      show();
    },
    clear: () => choose("drawn", ""),
    link: () => {
      const link = writeLink({ ...state, steps: view.playing ? "" : String(view.step || "") });
      hand(model.get("standalone") ? `${location.href.replace(/#.*/, "")}#${link}` : `explore.playground("${link}")`);
    },
    python: () => hand(python(state, data.train, view.step)),
  };
  function choose(key, value) {
    if (key === "seed" && !/^\d{1,4}$/.test(value)) return say("A seed is a whole number from 0 to 9999.");
    say("");
    state[key] = value;
    showCurves();
    if (key !== "speed") renew();
  }
  root.addEventListener("click", ({ target }) => {
    actions[target.dataset.do]?.();
    wake();
    show();
  });
  root.addEventListener("input", ({ target }) => {
    const [{ set }, { value }] = [target.dataset, target];
    if (set in state && value !== "own") choose(set, value);
    else if (set in view) view[set] = +value; // frame, exact
    show();
  });
  for (const lane of LANES) {
    const options = Object.entries(timesteps).map(([spec, { name }]) => new Option(name, spec));
    $(`[data-set=${lane}]`).append(...options);
  }
  for (const key of ["data", "seed", "speed"]) $(`[data-set=${key}]`).value = state[key];
  $("[data-set=frame]").max = last;
  if (wrong.length) say(`The link has wrong values, which are left out: ${wrong.join(", ")}.`);
  showCurves();
  show();
  train().catch(({ message }) => say(`Nothing is trained: the page can start no web worker (${message ?? ""}).`));
  return () => {
    view.alive = false;
    wake();
  };
}

export default { render };
