"""What a network made: its reverse process step by step, and its samples beside their nearest training items."""

from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from memlib import Frame, metrics, samplers
from memlib import viz as plots
from memlib.lab import Result, data
from memlib.lab.experiment import SAMPLERS
from memlib.metrics.copying import ratio_of, share_below
from memlib.viz.explore.noise import Drawn, Panel, window

SHOWN = 8  # samples beside each other, or to choose from


class Process(NamedTuple):
    """The reverse process of B samples in F frames, and what each predicted x0 is nearest to."""

    frames: list[Frame]
    distances: Tensor  # (F, B, 2) from the predicted x0 to the nearest and the second nearest training item
    nearest: Tensor  # (F, B) which training item is nearest
    committed: list[int]  # (B,) the frame from which on the nearest training item stays the same
    sigma: list[float]  # (F,) noise over signal in each frame, 0 in the last


def denoising_explorer(result: Result) -> widgets.Widget:
    """One run, step by step: `draw_denoising`. It opens at a middle noise level, on the sample that ends nearest to a
    training item."""
    dataset, process = result.experiment.load_data(), follow(result)
    copied, middle = int(ratio_of(process.distances)[-1].argmin()), int(np.abs(np.array(process.sigma) - 1).argmin())
    steps = [(_moment(frame), i) for i, frame in enumerate(process.frames)]
    controls = {
        "sample": widgets.IntSlider(copied, 0, len(process.committed) - 1, description="sample"),
        "step": widgets.SelectionSlider(options=steps, value=middle, description="t"),
    }
    return Panel(controls, lambda sample, step: draw_denoising(process, dataset, sample, step))


def follow(result: Result, count: int = SHOWN) -> Process:
    """The reverse process of the run's first `count` samples."""
    experiment, dataset, schedule = result.experiment, result.experiment.load_data(), result.experiment.build_schedule()
    generators = samplers.sample_generators(min(count, experiment.n_samples), experiment.seed)
    noise, steps = samplers.initial_noise(dataset.train.shape[1:], generators), experiment.sampler_steps
    walk = SAMPLERS[experiment.sampler]  # the run's own: each process ends in one of its samples
    frames = list(walk(result.denoiser(), schedule, noise, steps=steps, generators=generators, clip=dataset.clip))
    found = [metrics.nearest_neighbours(frame.x0, dataset.train) for frame in frames]
    distances, nearest = torch.stack([d for d, _ in found]), torch.stack([i[:, 0] for _, i in found])
    committed = [int(other.nonzero().max()) + 1 if other.any() else 0 for other in (nearest != nearest[-1]).T]
    sigma = [float(schedule.sigma[frame.t]) if frame.t >= 0 else 0.0 for frame in frames]
    return Process(frames, distances, nearest, committed, sigma)


def draw_denoising(process: Process, dataset: data.Dataset, sample: int = 0, step: int | None = None) -> Drawn:
    """Above: x_t, the predicted x0, the training item nearest to it, at `step` (unless given, the one at which the
    sample commits). Below: how near, over the whole process."""
    commits, ratio = process.committed[sample], ratio_of(process.distances)[:, sample]
    step = commits if step is None else step
    now, item, end = process.frames[step], int(process.nearest[step, sample]), int(process.nearest[-1, sample])
    figure = plt.figure(figsize=(9.2, 4.8), layout="constrained")
    axes = figure.subplot_mosaic([["x_t", "x0", "near"], ["curve"] * 3], height_ratios=(3, 2))
    moment = f"t = {_moment(now)}, \u03c3 = {process.sigma[step]:.3g}"
    for name, x, label, title in (
        ("x_t", now.x[sample], "samples", f"x\u209c: {moment}"),
        ("x0", now.x0[sample], "samples", "predicted x\u2080"),
        ("near", dataset.train[item], "train", f"nearest training item: number {item}"),
    ):
        if dataset.kind == "points":
            plots.points(dataset.train, x[None], name=label, ax=axes[name]).legend_ = None
            window(axes[name], dataset.train.mean(0), max(3.0, 1.2 * float((dataset.train - x).abs().max())))
        else:
            plots.grid(x[None], label=label, ax=axes[name])
        axes[name].set(title=title, xlabel="")
    curve, ticks = axes["curve"], range(0, len(process.frames), max(1, len(process.frames) // 8))
    curve.plot(ratio, color=plots.MEANINGS["sample"].colour)
    curve.axvline(commits, color="0.4", linestyle=":", label="commits")
    curve.plot(step, ratio[step], "kv", markersize=9, label="shown above")
    curve.set_xticks(ticks, [_moment(process.frames[i]) for i in ticks])
    curve.set(xlabel="t of the reverse process (noise falls \u2192)", ylabel="d\u2081/d\u2082 of predicted x\u2080")
    curve.set_ylim(0, 1.05)
    curve.legend(loc="lower left")
    return figure, (
        f"sample {sample}, {moment}: the predicted x0 is nearest to training item {item}, d1/d2 = {ratio[step]:.2f}. "
        f"It commits to item {end} at t = {_moment(process.frames[commits])}: from there on no other is nearer. "
        f"At the end d1/d2 = {ratio[-1]:.2f}."
    )


def _moment(frame: Frame) -> str:
    return f"{frame.t}" if frame.t >= 0 else "clean"


class Neighbours(NamedTuple):
    """What is near to each of B samples, and to fresh real items: the null."""

    samples: Tensor
    train: Tensor
    nearest: Tensor  # (B, 2) indices into train
    ratio: np.ndarray  # (B,) d1/d2
    fresh_ratio: np.ndarray
    orders: dict[str, np.ndarray]  # by the name of a measure, (B,) its value per sample; the smallest is shown first


def neighbour_explorer(samples: Tensor, dataset: data.Dataset) -> widgets.Widget:
    """Samples (B, *D), signals or images, in an order of your choice, and the share below a threshold of your choice,
    beside that of fresh real items. At least one sample is below the threshold with which it opens."""
    found = find_neighbours(samples, dataset)
    start = round(min(1.0, max(0.33, float(found.ratio.min()) + 0.01)), 2)
    controls = {
        "order": widgets.Dropdown(options=list(found.orders), description="smallest"),
        "first": widgets.IntSlider(0, 0, len(found.samples) - SHOWN, description="from rank"),
        "threshold": widgets.FloatSlider(start, min=0.05, max=1, step=0.01, description="threshold"),
    }
    return Panel(controls, lambda **values: draw_neighbours(found, **values))


def find_neighbours(samples: Tensor, dataset: data.Dataset) -> Neighbours:
    """Measure samples (B >= 8, *D) against the set's training items, signals or images."""
    samples, train = torch.as_tensor(samples).detach().cpu(), dataset.train
    if dataset.kind == "points" or len(samples) < SHOWN:
        raise ValueError(f"samples: need {SHOWN} signals or images, got {len(samples)} of kind {dataset.kind!r}")
    distances, nearest = metrics.nearest_neighbours(samples, train)
    smooth, smooth_train = metrics.without_finest_scale(samples), metrics.without_finest_scale(train)
    to_held_out = metrics.nearest_neighbours(samples, dataset.held_out, 1)[0]
    measured = {
        "d1/d2": ratio_of(distances),
        "L2 to nearest": distances[:, 0],
        "L2 without finest scale": metrics.nearest_neighbours(smooth, smooth_train, 1)[0][:, 0],
        "L2 to train minus to held-out": distances[:, 0] - to_held_out[:, 0],
        "finest-scale energy": metrics.finest_scale(samples).double().square().flatten(1).mean(1),
    }
    orders = {name: x.numpy() for name, x in measured.items()}
    fresh = metrics.neighbour_ratio(dataset.fresh, train).numpy()
    return Neighbours(samples, train, nearest, orders["d1/d2"], fresh, orders)


def draw_neighbours(found: Neighbours, order: str = "d1/d2", first: int = 0, threshold: float = 1 / 3) -> Drawn:
    """Eight samples from rank `first` on, smallest `order` first, each with its two nearest training items, framed if
    d1/d2 is below the threshold; and the share below each threshold, of samples and of fresh items."""
    shown = np.argsort(found.orders[order], kind="stable")[first : first + SHOWN]
    size, ratios = ((9.2, 5.4), (2.4, 1)) if found.samples.ndim == 4 else ((9.2, 4.2), (1, 1))
    figure, (panels, shares) = plt.subplots(2, 1, figsize=size, layout="constrained", height_ratios=ratios)
    nearest, second = (found.train[index] for index in found.nearest[shown].T)
    ratio = found.ratio[shown].tolist()
    notes, framed = [f"d\u2081/d\u2082 = {r:.2f}" for r in ratio], [r < threshold for r in ratio]
    plots.beside_nearest(found.samples[shown], nearest, notes, second=second, framed=framed, ax=panels)
    panels.set_title(f"ranks {first} to {first + SHOWN - 1} by {order}, smallest first")
    for values, name in ((found.ratio, "sample"), (found.fresh_ratio, "fresh")):
        shares.ecdf(values, label=name, **plots.MEANINGS[name].curve)
    shares.axvline(threshold, color="0.4", linestyle=":")
    shares.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold on d\u2081/d\u2082", ylabel="share below")
    shares.legend(loc="upper left")
    ours, null = (share_below(r, threshold) for r in (found.ratio, found.fresh_ratio))
    return figure, (
        f"threshold {threshold:.2f}: near-copies {ours:.0%} of {len(found.ratio)} samples; of {len(found.fresh_ratio)} "
        f"fresh real items, which copy nothing, {null:.0%} (95 % Wilson intervals). Shown: ranks {first} to "
        f"{first + SHOWN - 1} by {order}."
    )
