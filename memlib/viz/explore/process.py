"""A slider through the reverse process: what the sample is, what it is taken for, and when it is decided."""

from __future__ import annotations

from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from memlib import samplers
from memlib import viz as plots
from memlib.lab.data import Dataset
from memlib.lab.runs import Result
from memlib.metrics import nearest_neighbours, ratio_of
from memlib.viz.explore.panel import DATA, SAMPLE, Panel

SHOWN = 8  # samples to choose from


class Process(NamedTuple):
    """The reverse process of B samples in F frames, and what each predicted x0 is nearest to."""

    frames: list[samplers.Frame]
    distances: Tensor
    """(F, B, 2) from the predicted x0 to the nearest and the second nearest training item."""
    nearest: Tensor
    """(F, B) which training item is nearest."""
    committed: list[int]
    """(B,) the frame from which on the nearest training item stays the same."""
    sigma: list[float]
    """(F,) noise over signal in each frame, 0 in the last."""


def denoising_explorer(result: Result) -> widgets.Widget:
    """One run, step by step: x_t, the x0 predicted from it and the training item nearest to that: `draw_denoising`."""
    dataset, process = result.experiment.load_data(), follow(result)
    steps = [(_moment(frame.t), i) for i, frame in enumerate(process.frames)]
    controls = {
        "sample": widgets.IntSlider(0, min=0, max=min(SHOWN, result.experiment.n_samples) - 1, description="sample"),
        "step": widgets.SelectionSlider(options=steps, value=process.committed[0], description="t"),
    }
    return Panel(controls, lambda sample, step: draw_denoising(process, dataset, sample, step), "step")


def follow(result: Result, count: int = SHOWN) -> Process:
    """The reverse process of the run's first `count` samples. Raises ValueError for count < 1."""
    if count < 1:
        raise ValueError(f"count = {count}: need at least one sample to follow")
    experiment, dataset = result.experiment, result.experiment.load_data()
    schedule = experiment.build_schedule()
    generators = samplers.sample_generators(min(count, experiment.n_samples), experiment.seed)
    frames = list(
        samplers.ddim(
            result.denoiser(), schedule, samplers.initial_noise(dataset.train.shape[1:], generators),
            steps=experiment.sampler_steps, clip=dataset.clip,
        )
    )  # fmt: skip
    found = [nearest_neighbours(frame.x0, dataset.train) for frame in frames]
    distances, nearest = torch.stack([d for d, _ in found]), torch.stack([i[:, 0] for _, i in found])
    other = nearest != nearest[-1]
    committed = [int(column.nonzero().max()) + 1 if column.any() else 0 for column in other.T]
    sigma = [float(schedule.sigma[frame.t]) if frame.t >= 0 else 0.0 for frame in frames]
    return Process(frames, distances, nearest, committed, sigma)


def draw_denoising(process: Process, dataset: Dataset, sample: int = 0, step: int | None = None) -> tuple[Figure, str]:
    """Above: x_t, the predicted x0, the training item nearest to it. Below: how near, over the whole process.

    step: the one at which the sample commits, unless given. Raises ValueError for a sample or a step that is not there.
    """
    for name, value, count in (("sample", sample, len(process.committed)), ("step", step, len(process.frames))):
        if value is not None and not 0 <= value < count:
            raise ValueError(f"{name} = {value}: there are {count}, counted from 0")
    step = process.committed[sample] if step is None else step
    frame, item = process.frames[step], int(process.nearest[step, sample])
    figure = plt.figure(figsize=(9.2, 5.2), layout="constrained")
    axes = figure.subplot_mosaic([["x_t", "x0", "near"], ["curve"] * 3], height_ratios=(3, 2))
    moment = f"t = {frame.t}, \u03c3 = {plots.style.number(process.sigma[step])}" if frame.t >= 0 else "the sample"
    shown = {
        "x_t": (frame.x[sample], f"x\u209c: {moment}", SAMPLE),
        "x0": (frame.x0[sample], "predicted x\u2080", SAMPLE),
        "near": (dataset.train[item], f"nearest training item: number {item}", DATA),
    }
    for name, (x, title, colour) in shown.items():
        _draw_item(axes[name], x, dataset, colour)
        axes[name].set_title(title)
    if dataset.kind == "signal":
        axes["near"].sharey(axes["x0"])
    _draw_curve(axes["curve"], process, sample, step)
    end, committed = int(process.nearest[-1, sample]), process.frames[process.committed[sample]].t
    ratio = ratio_of(process.distances)[:, sample]
    when = f"at t = {committed}" if committed >= 0 else "with the last step only"
    text = (
        f"sample {sample}, {moment}: the predicted x0 is nearest to training item {item}, d1/d2 = {ratio[step]:.2f}. "
        f"It commits to item {end} {when}: from there on no other is nearer. At the end d1/d2 = {ratio[-1]:.2f}."
    )
    return figure, text


def _draw_item(ax: Axes, x: Tensor, dataset: Dataset, colour: str) -> None:
    if dataset.kind == "image":
        ax.imshow(plots.style.picture(x.numpy()), interpolation="nearest")
        ax.spines[:].set_visible(False)
    elif dataset.kind == "signal":
        ax.plot(x.T, color=colour, linewidth=1.2)
    else:
        ax.scatter(*dataset.train.T, s=14, facecolor="white", edgecolor=DATA)
        ax.scatter(*x, s=60, color=colour, zorder=3)
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    ax.grid(False)
    ax.set(xticks=[], yticks=[])


def _draw_curve(ax: Axes, process: Process, sample: int, step: int) -> None:
    ratio = ratio_of(process.distances)[:, sample]
    ax.plot(ratio, color=SAMPLE)
    ax.axvline(process.committed[sample], color="0.4", linestyle=":", label="commits")
    ax.plot(step, ratio[step], "v", color=SAMPLE, markersize=9, label="shown above")
    ticks = range(0, len(process.frames), max(1, len(process.frames) // 8))
    ax.set_xticks(ticks, [_moment(process.frames[i].t) for i in ticks])
    ax.set(
        xlabel="timestep t of the reverse process (noise falls \u2192)",
        ylabel="d\u2081/d\u2082 of predicted x\u2080",
        ylim=(0, 1.05),
    )
    ax.legend(loc="lower left")


def _moment(t: int) -> str:
    return f"{t}" if t >= 0 else "clean"
