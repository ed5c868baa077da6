"""A slider over recorded runs: where each width lies on the trade-off, and what its samples look like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from memlib import viz as plots
from memlib.lab import data
from memlib.lab.claims import HIGH, LOW, WIDTHS
from memlib.lab.plans import Config, describe, distribution, is_splice
from memlib.lab.records import RESULTS, Line, read_samples, table
from memlib.metrics import nearest_neighbours, ratio_of
from memlib.schedules import Schedule
from memlib.viz.explore.panel import INTERVAL, Panel
from memlib.viz.sweeps import NEVER

FAMILIES = {
    "middle noise, about t = 500": WIDTHS,
    "low noise": (*LOW[:2], "uniform"),
    "high noise": (*HIGH[:2], "uniform"),
}
PAIRS = (("PCA-W to held-out", "closer to train"), ("energy to held-out", "closer to train"))
READ = ("closer to train", "smoothed closer to train", "PCA-W to held-out", "energy to held-out", "residual noise")
SHOWN = 8


class _Recorded(NamedTuple):
    """Lines of one budget by data set, seed and control, as a table, and where their samples lie."""

    runs: dict[tuple[str, int, str], Line]
    frame: pd.DataFrame
    folder: Path

    def of(self, dataset: str, seed: int, control: str) -> pd.DataFrame:
        frame = self.frame
        return frame[(frame["dataset"] == dataset) & (frame["seed"] == seed) & (frame["control"] == control)]


class _Stage(NamedTuple):
    """A figure in which only the rings and the samples change from one control to the next."""

    figure: Figure
    rings: list[Line2D]
    samples: Axes | None


def tradeoff_explorer(lines: Sequence[Line], folder: Path = RESULTS) -> widgets.Widget:
    """Data set, seed, emphasis (either reading of "later"), and the widths recorded for them: `draw_tradeoff`.

    `folder` is where the lines were read. Raises ValueError for lines of which none is of uniform sampling, or two are
    of the same control.
    """
    recorded = _recorded(lines, folder)
    seeds: dict[str, list[int]] = {}
    for dataset, seed, _ in sorted(name for name in recorded.runs if name[2] == "uniform"):
        seeds.setdefault(dataset, []).append(seed)
    if not seeds:
        raise ValueError("lines: none is of uniform sampling, against which every other run is read")
    controls = {
        "dataset": widgets.Dropdown(options=list(seeds), description="data set"),
        "seed": widgets.Dropdown(options=next(iter(seeds.values())), description="seed"),
        "emphasis": widgets.Dropdown(options=list(FAMILIES), description="emphasis"),
        "control": widgets.SelectionSlider(options=["uniform"], description="width"),
    }

    def follow(_: object = None) -> None:
        dataset, seed, emphasis = (controls[name].value for name in ("dataset", "seed", "emphasis"))
        controls["seed"].options = seeds[dataset]
        if seed == controls["seed"].value:  # else its change has come back here already
            have = [(_width(c), c) for c in FAMILIES[emphasis] if (dataset, seed, c) in recorded.runs]
            controls["control"].options = have

    for name in ("dataset", "seed", "emphasis"):
        controls[name].observe(follow, "value")
    follow()

    stage = lru_cache(maxsize=8)(lambda *names: _build(recorded, *names))

    def draw(dataset: str, seed: int, emphasis: str, control: str) -> tuple[Figure, str]:
        built = stage(dataset, seed, emphasis)
        return built.figure, _choose(built, recorded, dataset, seed, control)

    return Panel(controls, draw, "control")


@plots.style.all_or_none()
def draw_tradeoff(
    lines: Sequence[Line], dataset: str, seed: int, control: str, emphasis: str = "", folder: Path = RESULTS
) -> tuple[Figure, str]:
    """Above: one seed's runs by emphasis and width, the chosen control ringed. Below, where its samples were kept: the
    first of them, each with the training item nearest to it; sample by sample, all controls start from the same noise.

    `emphasis` picks one of FAMILIES to draw, all if empty. Raises ValueError for another emphasis, for a run that is
    not among the lines or that has no uniform one beside it, and for two lines of the same control; FileNotFoundError
    as `data.load` does.
    """
    if emphasis and emphasis not in FAMILIES:
        raise ValueError(f"emphasis = {emphasis!r}; choose one of {', '.join(map(repr, FAMILIES))}, or none")
    recorded = _recorded(lines, folder)
    for name in (control, "uniform"):
        if (dataset, seed, name) not in recorded.runs:
            raise ValueError(f"lines: no run of {name!r} on {dataset!r} with seed {seed}")
    stage = _build(recorded, dataset, seed, emphasis)
    return stage.figure, _choose(stage, recorded, dataset, seed, control)


def _recorded(lines: Sequence[Line], folder: Path) -> _Recorded:
    runs: dict[tuple[str, int, str], Line] = {}
    for line in lines:
        if not is_splice(config := line["config"]):  # which has no width
            name = (config["dataset"], config["seed"], describe(config))
            if name in runs:
                raise ValueError(f"lines: two runs of {name}; give those of one budget")
            runs[name] = line
    return _Recorded(runs, table(lines), folder)


def _width(control: str) -> str:
    """What the slider shows: the interval's width in steps."""
    low, _, high = control.removeprefix("interval ").partition(" to ")
    return f"{int(high) - int(low):,}" if high else control


def _build(recorded: _Recorded, dataset: str, seed: int, emphasis: str) -> _Stage:
    families = {emphasis: FAMILIES[emphasis]} if emphasis else FAMILIES
    curves = {f: {c: recorded.of(dataset, seed, c) for c in controls[:-1]} for f, controls in families.items()}
    kept = any("samples_sha256" in line for name, line in recorded.runs.items() if name[:2] == (dataset, seed))
    figure = plt.figure(figsize=(9.2, 5.0 if kept else 3.2), layout="constrained")
    rows = [["PCA-W", "energy"], ["samples"] * 2][: 1 + kept]
    axes = figure.subplot_mosaic(rows, height_ratios=(3, 2)[: len(rows)])
    panels = [axes["PCA-W"], axes["energy"]]
    plots.tradeoff(curves, PAIRS, uniform=recorded.of(dataset, seed, "uniform"), axes=panels)
    ring = {
        "color": INTERVAL,
        "markerfacecolor": "none",
        "markersize": 17,
        "markeredgewidth": 2.2,
        "zorder": 5,
        "clip_on": False,
    }
    rings = [line for ax in panels for line in ax.plot([], [], "o", **ring)]
    if kept:  # any items of the right kind, so that the layout has room for them
        config = recorded.runs[dataset, seed, "uniform"]["config"]
        _draw_samples(axes["samples"], _train(config)[:SHOWN], config)
    return _Stage(figure, rings, axes.get("samples"))


def _choose(stage: _Stage, recorded: _Recorded, dataset: str, seed: int, control: str) -> str:
    """Ring the control and draw its samples; what is to be read of it."""
    line, chosen = recorded.runs[dataset, seed, control], recorded.of(dataset, seed, control)
    for ring, (x, y) in zip(stage.rings, PAIRS, strict=True):
        ring.set_data(chosen[x], chosen[y])
    text = _reading(line, chosen.iloc[0], recorded.of(dataset, seed, "uniform").iloc[0])
    samples = read_samples(line, recorded.folder)
    if stage.samples:
        stage.samples.set_visible(samples is not None)
    if samples is None:
        return f"{text} Its samples were not kept."
    _draw_samples(stage.samples, samples[:SHOWN], line["config"])
    return f"{text} Below: its first {SHOWN} samples, not selected, each with the training item nearest to it."


def _draw_samples(ax: Axes, samples: Tensor, config: Config) -> None:
    train = _train(config)
    distances, indices = nearest_neighbours(samples, train)
    ax.clear()
    notes = [f"d\u2081/d\u2082 = {ratio:.2f}" for ratio in ratio_of(distances)]
    plots.beside_nearest(samples, train[indices[:, 0]], notes, ax=ax)


def _train(config: Config) -> Tensor:
    return _load(config["dataset"], config["n_train"], config["seed"], config["image_size"])


@lru_cache(maxsize=4)
def _load(dataset: str, n_train: int, seed: int, image_size: int) -> Tensor:
    return data.load(dataset, n_train, seed=seed, image_size=image_size).train


def _reading(line: Line, chosen: pd.Series, even: pd.Series) -> str:
    """The measures beside uniform's, fresh items' and copies'; whether it is broken; what it trains."""
    values = "; ".join(
        f"{name} {chosen[name]:.3g} (uniform {even[name]:.3g}, fresh {chosen[f'fresh: {name}']:.3g}, "
        f"copycat {chosen[f'copycat: {name}']:.3g})"
        for name in READ
        if name in chosen
    )
    weight = distribution(line["config"]["timesteps"], Schedule.linear()).effective_weight()
    trained = np.flatnonzero(weight > NEVER)
    text = f"{chosen['control']}, seed {chosen['seed']}: {values}."
    if chosen["broken"]:
        text += " Broken: it neither memorizes nor generalises."
    if len(trained) < len(weight):
        text += f" Trained on t = {trained[0]} to {trained[-1]} only (T p(t) > {NEVER:g})."
    return text
