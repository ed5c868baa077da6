// The playground: its state, two workers in lockstep, and what the reader sees of them.

// A message to a worker, then its answer.
const ask = (worker, message) =>
  new Promise((resolve, reject) => {
    Object.assign(worker, { onmessage: ({ data }) => resolve(data), onerror: reject }).postMessage(message);
  });

function render({ model, el }) {
  const root = placed(el);
  const $ = (selector) => root.querySelector(selector);
  const schedule = scheduleNamed("linear", SETTINGS.T);
  const last = SETTINGS.samplerSteps; // the frame of the finished samples
  const times = timestepList(SETTINGS.T, last);
  const { state, wrong } = readLink(model.get("link"));
  const view = { pick: -1, playing: true, renew: true, step: 0, stop: +state.steps || SETTINGS.pause };
  const [workers, hint] = [[], $(".told").textContent];
  let [course, latest, first, data, wake] = [[], null, null, pointsOf(state), () => {}];
  const say = (words, kind = "warning") => Object.assign($(".said"), { textContent: words, className: `said ${kind}` });
  const planes = LANES.map((lane) => plane($(`[data-plane=${lane}] canvas`), { picked, drawn, renew, keyed }));
  const curves = LANES.map((lane) => {
    const moved = ({ ends, changed }) => {
      say(changed ? "An interval is 3 to 18 wide, and its centre lies between log-SNR \u22128 and 8." : "");
      state[lane] = ends.map((x) => (Math.round(10 * x) / 10).toFixed(1)).join("..");
      show();
    };
    return curveEditor($(`[data-lane=${lane}] .curve`), { ...SETTINGS.axes.logSnr, at: schedule.logSnr }, moved, renew);
  });
  // All that follows from the state, or all but the curves, which stand still while networks learn.
  function show(all = true) {
    const t = times[Math.min(state.frame, last - 1)]; // finished samples are seen as with the last noise
    const [alphaBar, finished] = [schedule.alphaBar[t], state.frame === last];
    const words = LANES.map((lane, k) => {
      const p = probabilities(state[lane], schedule);
      const [curve, even] = [p, uniform(schedule)].map((q) => logSnrDensity(q, schedule));
      const ends = bell(state[lane]) ?? limited(interval(p, schedule), SETTINGS.axes.logSnr).ends;
      if (all) curves[k]({ curve, ends, even: [even], zones: data.wrong || !first?.zone ? [] : [first.zone] });
      const select = $(`[data-set=${lane}]`);
      select.value = state[lane];
      select.value ||= "own"; // an interval that has no name
      const frames = state.exact ? first?.exact : latest?.[k].frames;
      const samples = data.wrong ? null : frames?.[state.frame];
      planes[k]({ data, pick: view.pick, drawable: state.data === "drawn" && k === 0, samples, alphaBar, finished });
      const end = finished ? "" : "in the end: ";
      const measured = ({ copies, off }) => `${end}near-copies ${percent(copies)}, ${two(off)}\u00a0off the curve`;
      const made = state.exact ? "the exact denoiser" : latest && measured(latest[k].seen);
      $(`[data-plane=${lane}] output`).textContent = course.length ? made : "";
      return view.pick >= 0 && samples ? tell("AB"[k], samples.subarray(2 * view.pick), t) : "";
    });
    if (words[0]) $(".told").textContent = words.join(" ");
    $("[data-set=frame]").value = state.frame;
    $(".time output").textContent = $("[data-set=frame]").ariaValueText = finished ? "finished" : `t = ${t}`;
    $(".told").ariaLive = view.playing ? "off" : "polite"; // not at each picture of a training
    $("[data-do=play]").textContent = view.playing && !data.wrong ? "Pause" : "Play";
    $(".count").textContent = `step ${course.at(-1)?.step ?? 0}`; // that of the measures and samples shown
    $(".needs span").textContent = data.wrong ?? "";
    $(".paused").hidden = view.step < view.stop;
  }
  function tell(name, [x, y], t) {
    const { first, second, d1, d2 } = nearest(data.train, x, y);
    const weight = percent(posterior(data.train, x, y, schedule.alphaBar[t])[first]);
    const points = `point ${first + 1} at ${two(d1)}, then point ${second + 1} at ${two(d2)}`;
    return `${name}: nearest is ${points}; at t = ${t} it came from the first with ${weight}.`;
  }
  function picked(pick) {
    if (pick === view.pick) return;
    view.pick = pick;
    show();
  }
  // A point is drawn in plane A, the first of a stroke or another.
  function drawn(point, begins) {
    const place = point.map((x) => clamp(x, -2.4, 2.4));
    if (!begins && distance(place, data.all.at(-1)) < 0.22) return;
    state.drawn += (!begins ? ";" : state.drawn && "|") + place.map(two).join(",");
    data = readDrawn(state.drawn);
    show();
  }
  function keyed(cursor, deed) {
    if (deed === "add") drawn(cursor, true);
    if (deed === "take") state.drawn = withoutNearest(state.drawn, cursor);
    say(`Cursor at ${cursor.map(two).join(", ")}; ${counted(readDrawn(state.drawn).all)}.`, "note");
    if (deed) renew();
  }
  // Both networks begin anew.
  function renew() {
    [data, course] = [pointsOf(state), []];
    Object.assign(view, { renew: true, playing: true, stop: SETTINGS.pause, step: 0, pick: -1 });
    root.querySelectorAll(".chart path").forEach((line) => line.removeAttribute("d")); // no more of other points
    $(".told").textContent = hint;
    $(".text").value = $(".copied").textContent = ""; // a link, or lines, of what was before
    keep();
    wake();
    show(); // step 0, and no measures of it yet
  }
  function keep() {
    if (state.drawn || !data.wrong) model.set("link", writeLink({ ...state, steps: "" })); // which can be read again
    model.save_changes();
  }
  // The one place that talks to the workers: a message to each, then an answer from each, so they stay in lockstep.
  async function train() {
    const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    workers.push(...LANES.map(() => new Worker(url)));
    const start = (lane) => ({ ...data, seed: +state.seed, p: probabilities(state[lane], schedule) });
    let [chunk, trained, looked, pause] = [4, 0, 0, 0]; // steps at a time; milliseconds
    while (true) {
      while (data.wrong || !(view.renew || view.playing || view.once)) await new Promise((resolve) => (wake = resolve));
      const [anew, once] = [view.renew, view.once];
      const [begun, rate] = [performance.now(), +state.speed || Infinity];
      const steps = anew ? 0 : once ? 1 : Math.min(chunk, Math.ceil(rate / 10), view.stop - view.step);
      const look = anew || once || begun - looked > pause || view.step + steps >= view.stop;
      Object.assign(view, { renew: false, once: anew && once });
      const message = (lane) => ({ start: anew && start(lane), steps, look });
      const replies = await Promise.all(LANES.map((lane, k) => ask(workers[k], message(lane))));
      if (view.renew) continue; // these were of points that are shown no more
      const took = performance.now() - begun;
      view.step += steps;
      if (anew) first = replies[0];
      if (look) {
        latest = replies;
        course.push({ step: view.step, seen: replies.map(({ seen }) => seen) });
        if (course.length > 240) course = course.filter((_, i) => i % 2 === 0); // the first and the last stay
        for (const key in latest[0].seen) chart($(`[data-chart=${key}]`), course, key, first.nulls[key]);
        [looked, pause] = [performance.now(), anew ? 0 : Math.max(250, 4 * (took - trained))];
      } else [trained, chunk] = [took, clamp(Math.round((100 * steps) / took), 1, 2 * chunk)]; // 0.1 s of training
      if (view.step >= view.stop) view.playing = false;
      show(anew);
      await new Promise((resolve) => setTimeout(resolve, (1000 * steps) / rate - took));
    }
  }
  function hand(words) {
    if (data.wrong) return;
    Object.assign($(".text"), { value: words }).select();
    $(".copied").textContent = "";
    const copied = () => ($(".copied").textContent = "Copied.");
    navigator.clipboard?.writeText(words).then(copied, () => {});
  }
  const actions = {
    // where training is paused, one more step is looked at
    play: () => Object.assign(view, { playing: !view.playing, once: view.playing, stop: view.step + SETTINGS.pause }),
    step: () => Object.assign(view, { playing: false, once: true }),
    restart: () => choose("seed", state.seed),
    reverse: () => {
      clearInterval(view.fall);
      state.frame = 0;
      view.fall = setInterval(() => {
        if (++state.frame === last) clearInterval(view.fall);
        show();
      }, 70);
    },
    clear: () => choose("drawn", ""),
    link: () => {
      const link = writeLink({ ...state, steps: view.playing ? "" : String(view.step || "") });
      hand(model.get("standalone") ? `${location.href.replace(/#.*/, "")}#${link}` : `explore.playground("${link}")`);
    },
    python: () => hand(python(state, data.train, view.step)),
  };
  function choose(key, value) {
    const refused = key === "seed" && !/^\d{1,4}$/.test(value);
    say(refused ? "A seed is a whole number from 0 to 9999." : "");
    if (!refused) state[key] = value;
    $("[data-set=seed]").value = state.seed;
    if (!refused) (key === "speed" ? keep : renew)();
  }
  root.addEventListener("click", ({ target }) => {
    actions[target.dataset.do]?.();
    wake();
    show();
  });
  root.addEventListener("input", ({ target: { dataset, value } }) => {
    if (dataset.set === "seed") return; // until it is typed whole
    if (dataset.set === "frame") clearInterval(view.fall); // samples that fall stop where they are put
    const isView = ["frame", "exact"].includes(dataset.set); // trains nothing anew
    if (isView) state[dataset.set] = +value;
    else choose(dataset.set, value);
    show();
  });
  $("[data-set=seed]").addEventListener("change", ({ target }) => choose("seed", target.value));
  $("[data-set=b]").innerHTML = $("[data-set=a]").innerHTML;
  for (const key of ["data", "seed", "speed", "exact"]) $(`[data-set=${key}]`).value = state[key];
  $("[data-set=frame]").max = last;
  if (wrong.length) say(`The link has wrong values, which are left out: ${wrong.join(", ").slice(0, 300)}.`);
  show();
  train().catch((e) => $(".fault span").append(e.message || e.type));
  return () => workers.forEach((worker) => worker.terminate());
}

export default { render };
