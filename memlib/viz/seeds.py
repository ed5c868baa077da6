"""Values that differ by seed: a thin line or a dot for each seed, and their mean."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memlib.viz import style
from memlib.viz.style import MEANINGS, NONE, Array, Arrays, Ax, given, looks, numbers


def seed_lines(curves: Arrays, x: Array, *, ax: Ax = None) -> Axes:
    """A thin line per seed and their mean in bold, {label: (seeds, n)} over `x` (n,), numbers or names in order.

    NaN (not run) leaves a gap.
    """
    ax = ax or plt.subplots(figsize=(6.2, 3.2), layout="constrained")[1]
    names: Any = list(x) if isinstance(given("x", x)[0], str) else None
    places = np.arange(len(x), dtype=float) if names else numbers("x", x, None)
    for label, look in looks(given("curves", curves)).items():
        values = numbers(f"curves[{label!r}]", curves[label], None, len(places), gaps=True)
        mean = np.ma.masked_invalid(values).mean(0).filled(np.nan)
        ax.plot(places, values.T, color=look.colour, linewidth=0.7, alpha=0.5)
        ax.plot(places, mean, label=label, linewidth=2.2, marker=look.marker, zorder=5, **look.curve)
    if names:
        ax.set_xticks(places, names)
    return ax


def seed_dots(panels: Mapping[str, Arrays], *, null: Mapping[str, float] = NONE) -> Figure:
    """A panel per measure, a row per control, {panel: {control: (seeds,)}}: a dot per seed, and the mean as a bar with
    its value. A seed keeps its height within each row. `null` runs a dashed line through a panel (fresh real data)."""
    rows = list(dict.fromkeys(row for panel in given("panels", panels).values() for row in panel))
    figure, axes = style.panels(list(panels), rows, 1.8)
    fresh: dict[str, Any] = {"color": MEANINGS["fresh"].colour, "linestyle": "--", "linewidth": 1.2}
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        if name in null:
            ax.axvline(null[name], zorder=1, **fresh)
        for label, seeds in panel.items():
            values, y = numbers(f"panels[{name!r}][{label!r}]", seeds, None), rows.index(label)
            look, mean = style.meaning(label) or style.FALLBACK[2], values.mean()
            heights = y + 0.4 * (np.arange(len(values)) / len(values) - 0.5)
            ax.scatter(values, heights, s=18, color=look.colour, marker=look.marker)
            ax.plot((mean, mean), (y - 0.32, y + 0.32), color="0.15")
            style.note(ax, mean, y - 0.3, style.number(mean))
    handles = [Line2D([], [], marker="|", markersize=10, color="0.15", linestyle="none", label="mean")]
    handles += [Line2D([], [], label="fresh real items", **fresh)] if null else []
    style.legend_above(figure, handles)
    return figure
