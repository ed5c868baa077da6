"""Samples beside their nearest training items, sorted and counted as the reader wants."""

from __future__ import annotations

from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from memlib import viz as plots
from memlib.lab.data import Dataset
from memlib.metrics import (
    finest_scale,
    nearest_neighbours,
    neighbour_ratio,
    ratio_of,
    share_below,
    without_finest_scale,
)
from memlib.viz.explore.panel import SAMPLE, Panel

SHOWN = 8
FRESH = plots.MEANINGS["fresh"].colour


class Neighbours(NamedTuple):
    """What is near to each of B samples, and to fresh real items: the null."""

    samples: Tensor
    train: Tensor
    nearest: Tensor
    """(B, 2) indices into train."""
    ratio: np.ndarray
    """(B,) d1/d2."""
    fresh_ratio: np.ndarray
    orders: dict[str, np.ndarray]
    """By the name of a measure, (B,) its value per sample; the smallest is shown first."""


def neighbour_explorer(samples: Tensor, dataset: Dataset) -> widgets.Widget:
    """Samples (B, *D), images or signals, in an order of your choice, and the memorized share at a threshold of your
    choice, beside that of fresh real items: `draw_neighbours`. Raises ValueError as `find_neighbours`."""
    found = find_neighbours(samples, dataset)
    controls = {
        "order": widgets.Dropdown(options=list(found.orders), description="smallest"),
        "first": widgets.IntSlider(0, min=0, max=len(samples) - SHOWN, description="from rank"),
        "threshold": widgets.FloatSlider(0.33, min=0.05, max=1, step=0.01, description="threshold"),
    }
    return Panel(controls, lambda **values: draw_neighbours(found, **values), "threshold")


def find_neighbours(samples: Tensor, dataset: Dataset) -> Neighbours:
    """Measure samples (B, *D) against the set's training items. Raises ValueError for points, fewer than 8 samples."""
    if dataset.kind == "points" or len(samples) < SHOWN:
        raise ValueError(
            f"samples: need at least {SHOWN} signals or images, got {len(samples)} of kind {dataset.kind!r}"
        )
    train, held_out = dataset.train, dataset.held_out
    distances, nearest = nearest_neighbours(samples, train)
    ratio, fresh_ratio = ratio_of(distances).numpy(), neighbour_ratio(dataset.fresh, train).numpy()
    smooth = nearest_neighbours(without_finest_scale(samples), without_finest_scale(train), 1)[0]
    to_held_out = nearest_neighbours(samples, held_out, 1)[0]
    orders = {
        "d1/d2": ratio,
        "L2 to nearest": distances[:, 0].numpy(),
        "L2 without finest scale": smooth[:, 0].numpy(),
        "L2 to train minus to held-out": (distances[:, 0] - to_held_out[:, 0]).numpy(),
        "finest-scale energy": finest_scale(samples).double().square().flatten(1).mean(1).numpy(),
    }
    return Neighbours(samples, train, nearest, ratio, fresh_ratio, orders)


def draw_neighbours(
    found: Neighbours, order: str = "d1/d2", first: int = 0, threshold: float = 1 / 3
) -> tuple[Figure, str]:
    """Eight samples from rank `first` on, smallest `order` first, each with its two nearest training items, framed if
    d1/d2 is below the threshold; and the share below each threshold, of samples and of fresh items.

    Raises ValueError for an order that is not there, a rank or a threshold out of range.
    """
    if order not in found.orders:
        raise ValueError(f"order = {order!r}; choose one of {', '.join(map(repr, found.orders))}")
    if not 0 <= first <= len(found.samples) - SHOWN:
        raise ValueError(f"first = {first}: of {len(found.samples)} samples {SHOWN} are shown from rank `first` on")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold = {threshold}: a ratio d1/d2 lies in (0, 1]")
    shown = np.argsort(found.orders[order], kind="stable")[first : first + SHOWN]
    image = found.samples.ndim == 4
    figure, (panels, shares) = plt.subplots(
        2, 1, figsize=(9.2, 6.0 if image else 4.4), layout="constrained", height_ratios=(2.4, 1) if image else (1, 1)
    )
    nearest, second = (found.train[index] for index in found.nearest[shown].T)
    notes, framed = [f"d\u2081/d\u2082 = {r:.2f}" for r in found.ratio[shown]], found.ratio[shown] < threshold
    plots.beside_nearest(found.samples[shown], nearest, notes, second=second, framed=framed, ax=panels)
    panels.set_title(f"ranks {first} to {first + SHOWN - 1} by {order}, smallest first")
    for ratio, name, colour, line in (
        (found.ratio, "samples", SAMPLE, "-"),
        (found.fresh_ratio, "fresh", FRESH, "-."),
    ):
        shares.ecdf(ratio, label=name, color=colour, linestyle=line)
    shares.axvline(threshold, color="0.4", linestyle=":")
    shares.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold on d\u2081/d\u2082", ylabel="share below")
    shares.legend(loc="upper left")
    ours, null = (share_below(r, threshold) for r in (found.ratio, found.fresh_ratio))
    text = (
        f"threshold {threshold:.2f}: memorized {ours:.0%} of {len(found.ratio)} samples; of {len(found.fresh_ratio)} "
        f"fresh real items, which copy nothing, {null:.0%} (95 % Wilson intervals). Shown: ranks {first} to "
        f"{first + SHOWN - 1} by {order}."
    )
    return figure, text
