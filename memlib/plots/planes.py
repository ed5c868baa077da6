"""Sets of items as clouds of points in a plane: principal components, and data that is two-dimensional itself."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from memlib.plots.style import SAMPLE, TRAIN, Array, as_array, labelled, looks, new_axes, side_legend, top_legend


def pca_scatter(projected: Mapping[str, Array], *, bins: int = 24) -> Figure:
    """The first two principal components of several sets, {label: (N, >= 2)}, with a histogram of each at the sides.

    Later labels lie on top. Histograms share their bins and are densities, so that sets of unequal size compare.
    Raises ValueError for an empty mapping, fewer than two components, NaN, bins < 1.
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}: need at least 1")
    clouds = {}
    for label, values in labelled("projected", projected).items():
        cloud = as_array(f"projected[{label!r}]", values, (None, None))
        if cloud.shape[1] < 2:
            raise ValueError(f"projected[{label!r}]: need at least two components, (N, >= 2), got shape {cloud.shape}")
        clouds[label] = cloud[:, :2]
    figure, axes = plt.subplots(
        2,
        2,
        figsize=(5.6, 5.2),
        width_ratios=(4, 1),
        height_ratios=(1, 4),
        sharex="col",
        sharey="row",
        layout="constrained",
    )
    top, corner, main, right = axes.flat
    corner.set_visible(False)
    low, high = (f(np.concatenate(list(clouds.values())), 0) for f in (np.min, np.max))
    for label, look in looks(clouds).items():
        cloud = clouds[label]
        main.scatter(*cloud.T, s=20, color=look.colour, marker=look.marker, alpha=0.6, linewidth=0, label=label)
        for ax, k, orientation in ((top, 0, "vertical"), (right, 1, "horizontal")):
            ax.hist(
                cloud[:, k],
                bins=np.linspace(low[k], high[k], bins + 1),
                density=True,
                histtype="step",
                orientation=orientation,
                linewidth=1.4,
                **look.curve,
            )
    main.set(xlabel="principal component 1", ylabel="principal component 2")
    for ax in (top, right):
        ax.grid(False)
        ax.set_axis_off()
    top_legend(figure, main.get_legend_handles_labels()[0])
    return figure


def points(
    train: Array,
    samples: Array | None = None,
    *,
    nearest: Array | None = None,
    field: tuple[Array, Array] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Training points (N, 2) and samples (B, 2) in the plane.

    `nearest` (B,) int, the index of each sample's nearest training point, draws the line to it; `field`, positions
    (M, 2) and vectors (M, 2), draws arrows (of the denoiser, say).
    Raises ValueError for other shapes, indices outside train, `nearest` without samples.
    """
    known = as_array("train", train, (None, 2))
    shown = None if samples is None else as_array("samples", samples, (None, 2))
    arrows = (
        None if field is None else [as_array(f"field[{i}]", part, (len(field[0]), 2)) for i, part in enumerate(field)]
    )
    lines = None
    if nearest is not None:
        if shown is None:
            raise ValueError("nearest: there are no samples to draw lines from; give samples (B, 2) too")
        who = as_array("nearest", nearest, (len(shown),)).astype(int)
        if who.min() < 0 or who.max() >= len(known):
            raise ValueError(
                f"nearest: must lie in 0..{len(known) - 1}, the training set, got {who.min()} to {who.max()}"
            )
        lines = np.stack([shown, known[who]], 1)
    ax = new_axes(ax, 5.4, 4)
    if arrows is not None:
        ax.quiver(*arrows[0].T, *arrows[1].T, color="0.65", angles="xy", width=0.003, zorder=1)
    if lines is not None:
        ax.add_collection(LineCollection(lines, colors="0.5", linewidths=0.8, zorder=2))
    ax.scatter(*known.T, s=36, facecolor="white", edgecolor=TRAIN.colour, label="train", zorder=3)
    if shown is not None:
        ax.scatter(*shown.T, s=14, color=SAMPLE.colour, marker=SAMPLE.marker, linewidth=0, label="samples", zorder=4)
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    side_legend(ax)
    return ax
