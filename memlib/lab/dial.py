"""The dial: from a few pilot runs, which noise to train on and when to stop, for a given level of near-copies."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from tqdm.auto import tqdm

from memlib.lab.courses import Line, measured, seconds_of
from memlib.lab.experiment import Experiment
from memlib.lab.hypotheses import is_degenerate
from memlib.lab.spectrum import Array
from memlib.lab.sweep import sweep
from memlib.lab.yardstick import Yardstick
from memlib.metrics import Estimate
from memlib.timesteps import gaussian_interval, uniform, with_floor

FLOOR = 0.1  # of T p(t) in the intervals that are tried: without it the sampler walks through an untrained band
INTERVALS = ((0, 2000), (-1000, 1000))  # wide ones: a narrow one hardly trains a band, which looks like less copying
GRID = 200  # steps between the readings at which a course is interpolated


@dataclass(frozen=True)
class Setting:
    """Where to look and when to stop. Near-copies and fidelity have the 95 % interval of one new run."""

    control: str
    step: int
    steps: int  # of the whole run, whose learning rate falls at its end
    near_copies: Estimate
    fidelity: Estimate
    residual_noise: float  # the mean over the pilots, 1 for points

    def __str__(self) -> str:
        stop = f"{self.control}, stopped after {self.step:,} of {self.steps:,} steps"
        noise = f", residual noise {self.residual_noise:.2f}" if self.residual_noise != 1 else ""
        return f"{stop}: near-copies {self.near_copies:.1%}, fidelity {self.fidelity:.2f}{noise}"


def pilot(
    experiment: Experiment, seeds: Sequence[int] = (0, 1, 2, 3), *, device: str = "cpu", workers: int | None = None
) -> Iterator[Line]:
    """Courses of uniform sampling and of two wide intervals, drawn, over these seeds, at the experiment's budget: ten
    log-spaced readings each, for `dial` (for several calls keep a `list`). It first prints the estimated minutes."""
    T, last = experiment.timesteps.T, experiment.training.steps
    looks = {"uniform": uniform(T)}
    for a, b in INTERVALS:
        looks[f"interval {a} to {b}"] = with_floor(gaussian_interval(T, a * T / 1000, b * T / 1000), FLOOR)
    own = replace(experiment, course=tuple(sorted({max(1, round(last * 10 ** (k / 9 - 1))) for k in range(9)})))
    runs = [replace(own, timesteps=p, seed=seed, label=name) for seed in seeds for name, p in looks.items()]
    for x in runs:
        _ = Yardstick.of(x).references  # too few items, or pictures of another size, show now
    minutes = seconds_of(runs, device) / (workers or os.cpu_count() or 1) / 60
    tqdm.write(f"{len(runs)} pilot runs, about {minutes:.0f} minutes", file=sys.stderr)
    for x in tqdm(sweep(runs, device=device, workers=workers), "readings", len(runs), unit="run"):
        yield {"control": x.experiment.label, "seed": x.experiment.seed, **measured(x, gradient=False)}


def dial(courses: Iterable[Line], near_copies: float, fidelity: float = 1.2) -> tuple[Setting, Setting | None]:
    """The setting with the best fidelity at which near-copies are as asked, and uniform sampling stopped in time for
    the same (None where its fidelity is above the limit then). `courses`: of at least three seeds, from `pilot`, or
    recorded; near-copies is a share, fidelity 1 for real data. A setting whose samples are degenerate does not count.

    Raises ValueError if no setting reaches both; it names the nearest that can, and its price."""
    if not (0 < near_copies < 1 and fidelity > 1):
        raise ValueError(f"near_copies = {near_copies}, fidelity = {fidelity}; need a share in 0..1, a ratio above 1")
    lines = list(courses)
    by = {name: [x for x in lines if x["control"] == name] for name in dict.fromkeys(x["control"] for x in lines)}
    counts = {name: len({x["seed"] for x in own}) for name, own in by.items()}
    if min(counts.values(), default=0) < 3 or any(len(own) > counts[name] for name, own in by.items()):
        raise ValueError(f"courses has {counts} seeds; need 3 of each control, each seed once")
    if len({tuple(r["step"] for r in x["course"]) for own in by.values() for x in own}) > 1:
        raise ValueError("courses differ in the steps that were read; need those of one data set and budget")
    found = sorted((_stopped(name, own, near_copies) for name, own in by.items()), key=lambda x: x.fidelity.value)
    sound = [x for x in found if not is_degenerate({"residual noise": x.residual_noise})]
    good = [x for x in sound if x.near_copies.value <= near_copies and x.fidelity.value <= fidelity]
    if not good:
        nearest = min(sound or found, key=lambda x: (max(0.0, x.near_copies.value - near_copies), x.fidelity.value))
        raise ValueError(f"near_copies = {near_copies} is not reached at fidelity {fidelity}; the nearest is {nearest}")
    return good[0], next((x for x in good if x.control == "uniform"), None)


def _stopped(control: str, lines: list[Line], near_copies: float) -> Setting:
    """The last step at which the mean of near-copies over seeds, from then on rising, is at most what is asked."""
    steps = np.array([reading["step"] for reading in lines[0]["course"]], dtype=float)
    grid = np.geomspace(steps[0], steps[-1], GRID)
    copies, off, noise = (_on_grid(lines, name, steps, grid) for name in ("near-copies", "fidelity", "residual noise"))
    at = max(0, int((np.maximum.accumulate(copies.mean(0)) <= near_copies).sum()) - 1)
    found = _of_one_run(copies[:, at], most=1.0), _of_one_run(off[:, at])
    return Setting(control, round(grid[at]), int(steps[-1]), *found, float(noise[:, at].mean()))


def _on_grid(lines: list[Line], measure: str, steps: Array, grid: Array) -> Array:
    """(seeds, grid): each seed's course, linear in the logarithm of the step."""
    rows = [[reading["measures"].get(measure, 1.0) for reading in line["course"]] for line in lines]
    return np.array([np.interp(np.log(grid), np.log(steps), row) for row in rows])


def _of_one_run(values: Array, most: float = math.inf) -> Estimate:
    """The mean over seeds with the 95 % prediction interval for one more (Student's t)."""
    mean, spread, n = float(values.mean()), float(values.std(ddof=1)), len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * spread * math.sqrt(1 + 1 / n)
    return Estimate(mean, max(0.0, mean - half), min(most, mean + half))
