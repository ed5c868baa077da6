// The playground: its state, two workers in lockstep, and what the reader sees of them.

import * as maths from "./maths.js";
import { curveEditor, limited } from "./curve.js";
import { chart, plane } from "./plane.js";

const { defaults, shapes, bells } = SETTINGS;
const MAKE = { uniform, notch, "u-shape": uShape, "min-snr": minSnr };
const LANES = ["a", "b"];
const percent = (share) => `${Math.round(100 * share)} %`;

// --- the state is text, as in a link. A p(t) is the name of a shape, or the ends of a bell over log-SNR, "-2.3..7.1".

const bell = (spec) => (/^-?[\d.]+\.\.-?[\d.]+$/.test(spec) ? spec.split("..").map(Number) : null);
const spell = (ends) => ends.map((x) => x.toFixed(1)).join("..");
const probabilities = (spec, schedule) => MAKE[spec]?.(schedule) ?? logSnrBell(schedule, ...bell(spec));

// Strokes "x,y;x,y|x,y" as training points, held-out points and a curve; `wrong` says why not.
function readDrawn(words) {
  const strokes = words.split("|").map((s) => s.split(";").filter(Boolean).map((pair) => pair.split(",").map(Number)));
  const all = strokes.flat();
  const between = ([x, y], [x1, y1]) => [0, 1, 2, 3, 4, 5].map((i) => [x + ((x1 - x) * i) / 6, y + ((y1 - y) * i) / 6]);
  const curve = strokes.flatMap((s) => s.flatMap((point, i) => (i + 1 < s.length ? between(point, s[i + 1]) : [point])));
  const part = (k) => Float64Array.from(all.filter((_, i) => i % 2 === k).flat());
  let wrong = "";
  if (all.length < 4 || all.length > 200) wrong = `${all.length} points; need 4 to 200, as every second one is held out`;
  else if (!all.every((p) => p.length === 2 && p.every((x) => Math.abs(x) <= 2.5))) wrong = "a point outside the plane";
  return { all, train: part(0), heldOut: part(1), curve, wrong };
}

function readLink(words) {
  const given = Object.fromEntries(new URLSearchParams(words.replace(/^.*#/, "")));
  const timesteps = (v) => v in shapes || (bell(v) !== null && !limited(bell(v)).changed);
  const right = {
    data: (v) => v in CURVES || (v === "drawn" && !readDrawn(given.drawn ?? "").wrong),
    drawn: (v) => !readDrawn(v).wrong,
    seed: (v) => /^\d{1,4}$/.test(v),
    a: timesteps,
    b: timesteps,
    speed: (v) => /^(full|60|10)$/.test(v),
    steps: (v) => /^[1-9]\d{0,4}$/.test(v),
  };
  const known = Object.keys(right).filter((key) => key in given);
  const wrong = known.filter((key) => !right[key](given[key]));
  const kept = known.filter((key) => right[key](given[key])).map((key) => [key, given[key]]);
  return { state: { ...defaults, ...Object.fromEntries(kept) }, wrong: wrong.map((key) => `${key} = ${given[key]}`) };
}

const writeLink = (state) => {
  const told = Object.keys(state).filter((key) => state[key] !== defaults[key]);
  return told.map((key) => `${key}=${state[key]}`).join("&");
};

function python(state, train, step) {
  const { batch, width, depth, learningRate, warmup, emaDecay, samples, samplerSteps, threshold } = SETTINGS;
  const points = Array.from({ length: train.length / 2 }, (_, i) => `[${train[2 * i].toFixed(3)}, ${train[2 * i + 1].toFixed(3)}]`);
  const made = LANES.map((lane) => {
    const [mean, std] = bellOf(...(bell(state[lane]) ?? [0, 0])).map((x) => x.toFixed(3));
    return shapes[state[lane]]?.python ?? `from_log_snr(schedule, lambda s: (-0.5 * ((s - ${mean}) / ${std}) ** 2).exp())`;
  });
  const budget = `TrainConfig(${step || 1000}, ${batch}, ${learningRate}, ${warmup}, ema_decay=${emaDecay})`;
  return `import torch
from memlib import MLP, Schedule, TrainConfig, from_log_snr, from_weights, metrics, min_snr_weight, sample, train, uniform
schedule, x0 = Schedule.linear(1000), torch.tensor([${points.join(", ")}])
for timesteps in (${made.join(", ")}):
    *_, last = train(MLP(2, ${width}, ${depth}), x0, schedule, timesteps, ${budget}, generator=torch.Generator().manual_seed(${state.seed}))
    print(metrics.memorized_fraction(sample(last.ema, schedule, (2,), ${samples}, seed=${state.seed}, steps=${samplerSteps}), x0, ${threshold}))`;
}

// --- a worker with one network: a message, then its answer

function startWorker() {
  const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
  const worker = new Worker(url);
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
      worker.postMessage(message);
    });
  return { ask, end: () => worker.terminate() };
}

export function render({ model, el }) {
  el.insertAdjacentHTML("beforeend", TEMPLATE);
  const root = el.lastElementChild;
  const $ = (selector) => root.querySelector(selector);
  const schedule = linearSchedule(SETTINGS.T);
  const times = timestepList(SETTINGS.T, SETTINGS.samplerSteps);
  const { state, wrong } = readLink(model.get("link"));
  const view = { frame: times.length - 1, pick: -1, exact: false, playing: true, renew: true, alive: true, step: 0 };
  const course = { steps: [], copies: [[], []], off: [[], []], loss: [[], []] };
  let [latest, first, data, sketch, wake, chunk] = [null, null, null, null, () => {}, 4];
  const say = (words) => ($(".word").textContent = words);

  const planes = LANES.map((lane) => plane($(`[data-plane=${lane}] canvas`), schedule, times, picked, drawn));
  const curves = LANES.map((lane) =>
    curveEditor($(`[data-lane=${lane}] .curve`), schedule, (ends, done) => {
      const kept = limited(ends);
      say(kept.changed ? "An interval is 3 to 18 wide, and its centre lies between log-SNR \u22128 and 8." : "");
      state[lane] = spell(kept.ends);
      showCurves();
      if (done) renew();
    }),
  );

  function showCurves() {
    LANES.forEach((lane, k) => {
      const p = probabilities(state[lane], schedule);
      const ends = bell(state[lane]) ?? limited(interval(p, schedule)).ends;
      curves[k]({ p, ends, even: uniform(schedule), zone: first?.zone });
      const select = $(`[data-set=${lane}]`);
      select.value = state[lane];
      if (select.selectedIndex < 0) select.value = "own";
    });
  }

  function show() {
    const told = [];
    LANES.forEach((lane, k) => {
      const [frames, size] = [view.exact ? first?.exact : latest?.[k].frames, 2 * SETTINGS.samples];
      const samples = frames?.subarray(view.frame * size, (view.frame + 1) * size);
      planes[k]({ data: sketch ?? data, frame: view.frame, pick: view.pick, sketching: Boolean(sketch), samples });
      if (!latest) return;
      const { copies, off } = latest[k];
      const measured = `near-copies ${percent(copies)}, ${off.toFixed(2)} off the curve`;
      $(`[data-plane=${lane}] output`).textContent = view.exact ? "the exact denoiser" : measured;
      if (view.pick >= 0) told.push(tell("AB"[k], samples[2 * view.pick], samples[2 * view.pick + 1]));
    });
    if (told.length) $(".told").textContent = told.join(" ");
    $("[data-set=frame]").value = view.frame;
    $(".time output").textContent = times[view.frame] < 0 ? "finished" : `t = ${times[view.frame]}`;
    $("[data-do=play]").textContent = view.playing ? "Pause" : "Play";
    $(".count").textContent = `step ${view.step}`;
  }

  function tell(name, x, y) {
    const { first: one, second, d1, d2 } = nearest(data.train, x, y);
    const t = Math.max(times[view.frame], times[times.length - 2]);
    const weight = percent(posterior(data.train, x, y, schedule.alphaBar[t])[one]);
    const two = `point ${one + 1} at ${d1.toFixed(2)}, then point ${second + 1} at ${d2.toFixed(2)}`;
    return `${name}: nearest is ${two}; the first has posterior weight ${weight} at t = ${t}.`;
  }

  function picked(pick) {
    if (pick === view.pick) return;
    view.pick = pick;
    show();
  }

  function drawn(point, begins) {
    const last = sketch.all[sketch.all.length - 1];
    if (!begins && last && Math.hypot(point[0] - last[0], point[1] - last[1]) < 0.22) return;
    const words = point.map((x) => Math.min(Math.max(x, -2.4), 2.4).toFixed(2)).join(",");
    state.drawn += (begins && state.drawn ? "|" : ";") + words;
    sketched();
  }

  function sketched() {
    sketch = readDrawn(state.drawn);
    say(`${sketch.all.length} points drawn.`);
    show();
  }

  function sketching(on) {
    sketch = null;
    $(".sketching").style.display = on ? "" : "none";
    $("[data-plane=a] canvas").classList.toggle("pad", on);
    if (on) sketched();
  }

  // Both networks begin anew.
  function renew() {
    view.renew = true;
    model.set("link", writeLink({ ...state, steps: "" }));
    model.save_changes();
    wake();
  }

  function record(replies) {
    course.steps.push(view.step);
    for (const key of ["copies", "off", "loss"]) replies.forEach((reply, k) => course[key][k].push(reply[key]));
    if (course.steps.length > 240) {
      for (const list of [course.steps, ...course.copies, ...course.off, ...course.loss]) {
        list.splice(0, 240, ...list.slice(0, 240).filter((_, i) => i % 2 === 0));
      }
    }
    const draw = (key, ...axis) => chart($(`[data-chart=${key}]`), course.steps, course[key], first.nulls[key], ...axis);
    draw("copies", 1, true, percent);
    draw("off", 1, false, (x) => x.toFixed(2));
    draw("loss", 1.5, false, (x) => x.toFixed(2));
    latest = replies;
  }

  // The one place that talks to the workers: a message to each, then an answer from each, so they stay in lockstep.
  async function train() {
    const workers = LANES.map(startWorker);
    const ask = (message) => Promise.all(workers.map((worker, k) => worker.ask(message(LANES[k]))));
    let [looked, pause, stop] = [0, 0, +state.steps || SETTINGS.pause];
    while (view.alive) {
      if (view.renew) {
        data = state.data === "drawn" ? readDrawn(state.drawn) : makePoints(state.data, +state.seed, SETTINGS.points, SETTINGS.noise);
        Object.assign(view, { renew: false, step: 0 });
        for (const list of [course.steps, ...course.copies, ...course.off, ...course.loss]) list.length = 0;
        const { train, heldOut, curve } = data;
        const start = (lane) => ({ train, heldOut, curve, seed: +state.seed, p: probabilities(state[lane], schedule) });
        const replies = await ask((lane) => ({ start: start(lane), steps: 0, look: true }));
        first = replies[0];
        record(replies);
        showCurves();
        show();
      } else if (sketch || !(view.playing || view.once)) {
        await new Promise((resolve) => (wake = resolve));
      } else {
        const [begun, rate] = [performance.now(), +state.speed || Infinity];
        const steps = view.once ? 1 : Math.min(chunk, Math.ceil(rate / 10), stop - view.step);
        const look = view.once || begun - looked > pause || view.step + steps >= stop;
        view.once = false;
        const replies = await ask(() => ({ steps, look }));
        view.step += steps;
        const slower = (what) => Math.max(...replies.map((reply) => reply[what]));
        chunk = Math.min(Math.max(Math.round((100 * steps) / slower("training")), 1), 2 * chunk); // 0.1 s of training
        if (look) [looked, pause] = [performance.now(), Math.max(250, 4 * slower("looking"))];
        if (look && !view.renew) record(replies);
        if (view.step >= stop) [view.playing, stop] = [false, view.step + SETTINGS.pause];
        show();
        await new Promise((resolve) => setTimeout(resolve, (1000 * steps) / rate - performance.now() + begun));
      }
    }
    workers.forEach((worker) => worker.end());
  }

  function hand(words) {
    Object.assign($(".text"), { value: words, style: "" }).select();
    navigator.clipboard?.writeText(words).then(() => say("Copied."), () => {});
  }

  const actions = {
    play: () => (view.playing = !view.playing),
    step: () => Object.assign(view, { playing: false, once: true }),
    restart: renew,
    reverse: () => {
      view.frame = -1;
      const timer = setInterval(() => {
        view.frame += 1;
        if (view.frame === times.length - 1 || !view.alive) clearInterval(timer);
        show();
      }, 70);
    },
    done: () => {
      if (sketch.wrong) return say(`Not yet: ${sketch.wrong}.`);
      sketching(false);
      say("");
      renew();
    },
    clear: () => {
      state.drawn = "";
      sketched();
    },
    link: () => {
      const link = writeLink({ ...state, steps: view.playing ? "" : String(view.step || "") });
      hand(model.get("standalone") ? `${location.href.replace(/#.*/, "")}#${link}` : `explore.playground("${link}")`);
    },
    python: () => hand(python(state, data.train, view.step)),
  };
  root.addEventListener("click", ({ target }) => {
    actions[target.dataset.do]?.();
    wake();
    if (["play", "step"].includes(target.dataset.do)) show();
  });
  root.addEventListener("input", ({ target }) => {
    const { set } = target.dataset;
    if (set === "frame") view.frame = +target.value;
    if (set === "exact") view.exact = target.value === "1";
    if (set in state && target.value !== "own") choose(set, target.value);
    else show();
  });

  function choose(key, value) {
    if (key === "seed" && !/^\d{1,4}$/.test(value)) return say("A seed is a whole number from 0 to 9999.");
    say("");
    state[key] = value;
    showCurves();
    if (key === "data") sketching(value === "drawn");
    if (key !== "speed" && !sketch) renew();
  }

  for (const [name, colour] of Object.entries(SETTINGS.colours)) root.style.setProperty(`--${name.replace(" ", "-")}`, colour);
  for (const lane of LANES) {
    const named = [...Object.entries(shapes).map(([spec, { name }]) => [spec, name]), ...Object.entries(bells), ["own", "an interval"]];
    $(`[data-set=${lane}]`).append(...named.map(([spec, name]) => new Option(name, spec)));
  }
  for (const key of ["data", "seed", "speed"]) $(`[data-set=${key}]`).value = state[key];
  $("[data-set=frame]").max = times.length - 1;
  if (wrong.length) say(`The link has wrong values, which are left out: ${wrong.join(", ")}.`);
  showCurves();
  show();
  train().catch((error) => say(`Nothing can be trained here: the browser runs no web worker (${error.message ?? "refused"}).`));
  return () => {
    view.alive = false;
    wake();
  };
}

export default { render };
