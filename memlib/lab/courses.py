"""Time courses: the runs that a plan asks for, measured also at intermediate steps; one line of JSON per run."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from memlib.lab import data, runs
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.files import append_line, read_lines
from memlib.lab.plans import Plan
from memlib.lab.provenance import provenance, uncommitted
from memlib.lab.sweep import SweepError, sweep
from memlib.lab.yardstick import Yardstick
from memlib.models import Spliced
from memlib.training import train

COURSES = data.DATA / "results" / "courses"
EXPLORATORY = data.DATA / "results" / "exploratory"  # the runs of release 0.2, made before there were predictions
Line = dict[str, Any]
FIELDS = "plan", "control", "seed", "config", "content", "key", "course"  # of a line, at least


def record(
    plan: Plan, *, out: Path = COURSES, device: str = "cpu", workers: int = 1, fleet: int = 24, progress: bool = True
) -> Iterator[Line]:
    """Run what is not recorded for the data as they are now, seed by seed; yield each line once it is written.

    SweepError at the end names runs that could not be measured; all others are recorded by then. Their networks stay in
    the folder of runs, as do those of a plan's first seed; others are deleted when their lines are written. A plan in
    the clone must be committed first: it says what is expected before it is known."""
    if uncommitted(plan.path):
        raise ValueError(f"{plan.path} differs from what is committed; commit the plan before its runs")
    out.mkdir(parents=True, exist_ok=True)
    (out / f".{plan.name}.jsonl.lock").touch()  # what forbids to write here shows now, not after an hour
    lines, failed = read(out), list[str]()
    have = {(x["key"], x["content"]) for x in lines}
    size = max(1, workers * fleet // len(plan.controls))
    for start in range(0, len(plan.seeds), size):
        made, (missing, spliced) = [], plan.missing(plan.seeds[start : start + size], have)
        check_data([*lines, *({"config": x.to_dict(), "content": Yardstick.of(x).dataset.sha256} for x in missing)])
        before = set(runs.runs_folder().glob("*.pt"))  # a reader's own runs, which stay
        try:
            for result in sweep(missing, device=device, workers=workers, fleet=fleet, progress=progress):
                for line in _measure_and_append(out, failed, plan, result.experiment.label, result):
                    made.append(result)
                    yield line
        except SweepError as error:  # the other seeds are still to come
            failed.append(str(error))
        for name, seed in spliced:
            parts = [runs.run(part, device=device) for part in plan.parts(name, seed)]
            for line in _measure_and_append(out, failed, plan, name, *parts):
                made += parts
                yield line
        for result in made:
            if result.experiment.seed != plan.seeds[0] and result.path not in before:
                result.path.unlink(missing_ok=True)
    if failed:
        raise SweepError(f"{plan.name}: {len(failed)} runs could not be measured\n" + "\n".join(failed))


def seconds_of(experiments: Sequence[Experiment], device: str = "cpu") -> float:
    """A guess for one process, from five training steps of each budget. Three network calls of a sampler cost about as
    much as a step at the same number of items; a reading on the way has half the samples and half the calls."""
    per_run: dict[Any, float] = {}
    for own in experiments:
        if own.alike() not in per_run:
            dataset, generator = own.load_data(), torch.Generator().manual_seed(own.seed)
            network = own.network.build(tuple(dataset.train.shape[1:]), own.seed)
            made = network, dataset.train, own.build_schedule(), own.timesteps, own.training
            steps = train(*made, generator=generator, device=device)
            next(steps)
            start = time.monotonic()
            count = sum(1 for _ in islice(steps, 5))
            calls = own.n_samples * own.sampler_steps * (1 + len(own.course) / 4)
            all_steps = own.training.steps + calls / own.training.batch_size / 3
            per_run[own.alike()] = all_steps * (time.monotonic() - start) / max(1, count)
    return sum(per_run[own.alike()] for own in experiments)


def read(folder: Path = COURSES) -> list[Line]:
    """All lines, file by file; a last line cut short by a kill is left out, any other damaged one is named."""
    return [line for path in sorted(folder.glob("*.jsonl")) for line in read_lines(path, FIELDS)]


def check_data(lines: Iterable[Line]) -> None:
    """Raise ValueError if two lines name the same data, but their content or their VERSION differs: they must not be
    compared."""
    seen: dict[tuple[Any, ...], tuple[str, int]] = {}
    for line in lines:
        config = line["config"]
        own = (config["n_train"], config["seed"]) if config["dataset"] in data.MADE else ()  # made for each
        made = line["content"], line.get("version", VERSION)
        if seen.setdefault((config["dataset"], config["image_size"], *own), made) != made:
            held = f"runs of {config['dataset']} were made with different data or VERSION ({made[0][:8]}, {made[1]}"
            raise ValueError(f"{held}; others not); keep them in folders of their own (--out)")


def tidy(lines: list[Line]) -> pd.DataFrame:
    """A row per run, step and measure: plan, dataset, control, seed, n_train, step, views (of an item, in all bands
    together), measure, value."""
    check_data(lines)
    rows = []
    for line in lines:
        config = line["config"]
        head = [line["plan"], line["control"], line["seed"], config["dataset"], config["n_train"]]
        views = config["training"]["batch_size"] / config["n_train"]
        for reading in line["course"]:
            step = reading["step"]
            rows += [[*head, step, step * views, name, value] for name, value in reading["measures"].items()]
    names = ["plan", "control", "seed", "dataset", "n_train", "step", "views", "measure", "value"]
    return pd.DataFrame(rows, columns=names)


def summary(lines: list[Line]) -> pd.DataFrame:
    """By plan, data set, size and control: the number of seeds, and the means over them at the last step."""
    frame = tidy(lines)
    last: Any = frame[frame.step == frame.groupby(["plan", "control", "seed"]).step.transform("max")]
    names = ["near-copies", "fidelity", "energy", "closer to train", "membership", "residual noise"]
    groups = ["plan", "dataset", "n_train", "control"]
    seeds = last.groupby(groups, sort=False).seed.nunique().rename("seeds")
    means = last[last.measure.isin(names)].pivot_table(index=groups, columns="measure", values="value", sort=False)
    return pd.concat([seeds, means[[name for name in names if name in means]].round(3)], axis=1)


def measured(*parts: runs.Result, at: int = 0, gradient: bool = True) -> Line:
    """What is recorded of a run at each of its steps, or of a splice of two at the last one."""
    own = parts[0].experiment
    yardstick, course = Yardstick.of(own), []
    for step in parts[0].steps if len(parts) == 1 else parts[0].steps[-1:]:
        last = step == own.training.steps
        denoiser, *below = (part.denoiser(step=step) for part in parts)
        if below:
            denoiser = Spliced(denoiser, below[0], at)
        # on the way half the samples and half the calls give the same near-copies (tests/test_courses.py)
        less = own if last else replace(own, n_samples=own.n_samples // 2, sampler_steps=max(1, own.sampler_steps // 2))
        samples: Tensor = parts[0].samples if last and not below else runs.draw(denoiser, less, yardstick.dataset)
        network, losses = yardstick.of_network(denoiser)
        reading = {"step": step, "measures": yardstick.of_samples(samples, full=last) | network, "loss": losses}
        course.append(reading if below or not gradient else reading | {"gradient": yardstick.gradient_norms(denoiser)})
    return {"course": course, "references": yardstick.references}


def line_of(plan: Plan, name: str, *parts: runs.Result) -> Line:
    """The line of a control's run, or of a splice of two, measured now."""
    own, history = parts[0].experiment, parts[0].history
    key, content = plan.identity(name, own.seed)
    line: Line = {"plan": plan.name, "plan_sha256": plan.sha256, "key": key, "control": name, "seed": own.seed}
    line |= {"config": own.to_dict(), "content": content, "version": VERSION}
    line |= measured(*parts, at=plan.splices.get(name, (0,))[-1])
    line |= {"seconds": round(history["seconds"], 1), **{k: history[k] for k in ("fleet", "device", "precision")}}
    # numbers to five digits: what is left out is far below the noise of a seed
    text = json.dumps(line | {"t": Yardstick.of(own).times, **provenance()}, allow_nan=False)
    return json.loads(text, parse_float=lambda digits: float(f"{float(digits):.5g}")) | {"config": line["config"]}


def _measure_and_append(out: Path, failed: list[str], plan: Plan, name: str, *parts: runs.Result) -> Iterator[Line]:
    """The line of a run, once it is written; a run that cannot be measured, as its samples are not finite, is named in
    `failed` and does not stop the others."""
    try:
        line = line_of(plan, name, *parts)
    except FileNotFoundError:  # another process has measured this run and deleted its network
        if not {plan.identity(name, parts[0].experiment.seed)} & {(x["key"], x["content"]) for x in read(out)}:
            again = (runs.run(part.experiment, device=part.history["device"]) for part in parts)  # for another plan
            yield from _measure_and_append(out, failed, plan, name, *again)
    except ValueError as error:
        failed.append(f"{name}, seed {parts[0].experiment.seed}: {error}")
    else:
        yield append(out, line)


def append(out: Path, line: Line) -> Line:
    """Add the line to its plan's file, unless the run is there already; return the line that is there afterwards."""
    path = out / f"{line['plan']}.jsonl"
    with FileLock(out / f".{path.name}.lock"):
        for there in read_lines(path) if path.exists() else ():
            if (there["key"], there["content"]) == (line["key"], line["content"]):
                return there  # another process has recorded this run meanwhile
        append_line(path, json.dumps(line, allow_nan=False).encode())
    return line
