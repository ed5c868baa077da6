"""Sets of items as clouds of points in a plane: principal components, and data that is two-dimensional itself."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from memlib.viz.style import (
    TRAIN,
    Array,
    as_array,
    as_indices,
    labelled,
    looks,
    new_axes,
    side_legend,
    top_legend,
)


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
    edges = [np.histogram_bin_edges(component, bins) for component in np.concatenate(list(clouds.values())).T]
    figure = plt.figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.subplot_mosaic([["top", "."], ["main", "right"]], width_ratios=(4, 1), height_ratios=(1, 4))
    main, sides = axes["main"], (axes["top"], axes["right"])
    for label, look in looks(clouds).items():
        cloud = clouds[label]
        main.scatter(*cloud.T, s=20, color=look.colour, marker=look.marker, alpha=0.75, linewidth=0, label=label)
        for ax, values, limits, along in zip(sides, cloud.T, edges, ("vertical", "horizontal"), strict=True):
            density = np.histogram(values, limits, density=True)[0]
            ax.stairs(density, limits, orientation=along, linewidth=1.4, **look.curve)
    main.set(xlabel="principal component 1", ylabel="principal component 2")
    sides[0].sharex(main)
    sides[1].sharey(main)
    for ax in sides:
        ax.set_axis_off()
    top_legend(figure, main.get_legend_handles_labels()[0])
    return figure


def points(
    train: Array,
    samples: Array | None = None,
    *,
    name: str = "samples",
    nearest: Array | None = None,
    field: tuple[Array, Array] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Training points (N, 2) and samples (B, 2) in the plane; `name` is what the samples are, and so their colour.

    `nearest` (B,) int, the index of each sample's nearest training point, draws the line to it; `field`, positions
    (M, 2) and vectors (M, 2), draws arrows (of the denoiser, say).
    Raises ValueError for other shapes, indices outside train, `nearest` without samples.
    """
    known = as_array("train", train, (None, 2))
    shown = None if samples is None else as_array("samples", samples, (None, 2))
    arrows = lines = None
    if field is not None:
        positions, vectors = field
        arrows = as_array("field[0]", positions, (None, 2))
        arrows = np.hstack([arrows, as_array("field[1]", vectors, arrows.shape)])
    if nearest is not None:
        if shown is None:
            raise ValueError("nearest: there are no samples to draw lines from; give samples (B, 2) too")
        lines = np.stack([shown, known[as_indices("nearest", nearest, (len(shown),), len(known))]], 1)
    ax = new_axes(ax, 5.4, 4)
    if arrows is not None:
        ax.quiver(*arrows.T, color="0.65", angles="xy", width=0.003, zorder=1)
    if lines is not None:
        ax.add_collection(LineCollection(lines, colors="0.5", linewidths=0.8, zorder=2))
    ax.scatter(*known.T, s=36, facecolor="white", edgecolor=TRAIN.colour, label="train", zorder=3)
    if shown is not None:
        look = looks([name])[name]
        ax.scatter(*shown.T, s=14, color=look.colour, marker=look.marker, linewidth=0, label=name, zorder=4)
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    side_legend(ax)
    return ax
