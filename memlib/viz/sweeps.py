"""Many runs at once: memorization against alignment, along a budget, and per seed beside where each control learns.

Runs are rows of `results.table`, which bring their floors along. A mark is the mean over seeds, its bars reach from the
smallest to the largest seed; broken runs have a hollow mark of their own and are never averaged with the others.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution, uniform
from memlib.viz.curves import NOISE_GROWS
from memlib.viz.style import (
    MEANINGS,
    Look,
    all_or_none,
    labelled,
    logarithmic,
    looks,
    top_legend,
)

Curves = Mapping[str, Mapping[Any, pd.DataFrame]]
FLOORS = ("fresh", "copycat")
SMALLEST, LARGEST = 4.0, 9.0  # points, of the first and last marker along a curve
NEVER = 0.01  # T p(t), below which a step counts as never trained
DECADE = 10  # the largest value over the smallest, above which an axis is logarithmic
PALEST = 10.0  # points or per cent: the least range that the colours of a map span


def tradeoff(
    curves: Curves,
    pairs: Sequence[tuple[str, str]],
    *,
    uniform: pd.DataFrame | None = None,
    grows: str = "wider",
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """One panel for each pair (x, y) of measures: distance to held-out data against memorization, say.

    `curves` holds {label: {point: its runs}}, the points in order; markers grow along it, and `grows` says what that
    means. `uniform`, where every width ends, is the last point of every curve. The floors of x and y are drawn with
    them. Raises ValueError for no run, for runs that lack a measure or its floor, for another number of `axes`.
    """
    if not len(pairs):
        raise ValueError("pairs: empty, there is nothing to draw")
    limit = [] if uniform is None else [uniform]
    points = {c: [r for r in runs.values() if len(r)] for c, runs in labelled("curves", curves).items()}
    measures = {measure for pair in pairs for measure in pair}
    wanted = [*measures, *(f"{kind}: {measure}" for kind in FLOORS for measure in measures)]
    everything = _together([*limit, *(runs for each in points.values() for runs in each)], wanted)
    if axes is None:
        size = (max(6.0, 3.5 * len(pairs)), 3.4)
        axes = plt.subplots(1, len(pairs), figsize=size, layout="constrained", squeeze=False)[1][0]
    if len(axes) != len(pairs):
        raise ValueError(f"axes: need one for each of the {len(pairs)} pairs, got {len(axes)}")
    for ax, (x, y) in zip(axes, pairs, strict=True):
        for label, look in looks(points).items():
            sizes = np.linspace(SMALLEST, LARGEST, len(points[label]) + len(limit))
            sizes[len(points[label]) :] = 0  # uniform has a mark of its own
            _draw_curve(ax, points[label] + limit, x, y, look, sizes)
        _draw_curve(ax, limit, x, y, MEANINGS["uniform"], [LARGEST] * len(limit))
        for kind in FLOORS:  # those of one seed are the same for all of its runs
            floor = everything.drop_duplicates("seed").assign(broken=False)
            _draw_curve(ax, [floor], f"{kind}: {x}", f"{kind}: {y}", MEANINGS[kind], [7.0])
        ax.set(xlabel=f"{x} (less is better)", ylabel=y)
        logarithmic(ax, "x")
        _scale(ax, y)
    known = [*points, *(["uniform"] if limit else []), *FLOORS]
    top_legend(axes[0].figure, _handles(known, everything, f"larger marker: {grows}"))
    return axes[0].figure


def along(curves: Curves, measures: Sequence[str], *, xlabel: str) -> Figure:
    """One panel for each measure along the points of `curves`, {label: {point: its runs}}, with the measure's floors.

    Points that are numbers (steps, sizes) stand on a logarithmic scale and are joined, others side by side. A measure
    that spans over a decade has a logarithmic scale, too.
    Raises ValueError for no run and for runs that lack a measure.
    """
    curves = labelled("curves", curves)
    if not len(measures):
        raise ValueError("measures: empty, there is nothing to draw")
    names = list(dict.fromkeys(point for points in curves.values() for point in points))
    numeric = not any(isinstance(name, str) for name in names)
    at = {name: float(name if numeric else i) for i, name in enumerate(sorted(names) if numeric else names)}
    everything = _together([r.assign(at=at[n]) for runs in curves.values() for n, r in runs.items()], measures)
    floors = [kind for kind in FLOORS if any(f"{kind}: {measure}" in everything for measure in measures)]
    size = (min(3.8, max(3.0, 0.9 + 0.7 * len(names))) * len(measures), 3.0)
    figure, axes = plt.subplots(1, len(measures), figsize=size, layout="constrained", squeeze=False)
    for ax, measure in zip(axes[0], measures, strict=True):
        for kind in (kind for kind in floors if f"{kind}: {measure}" in everything):
            means = everything.drop_duplicates(["at", "seed"]).groupby("at")[f"{kind}: {measure}"].mean()
            ax.plot(means, marker=MEANINGS[kind].marker, markersize=3, linewidth=1, zorder=1, **MEANINGS[kind].curve)
        for i, (label, look) in enumerate(looks(curves).items()):
            shift = 0.0 if numeric else 0.2 * (i - (len(curves) - 1) / 2)
            points = [curves[label][n].assign(at=at[n] + shift) for n in at if n in curves[label]]
            _draw_curve(ax, points, "at", measure, look, [6.0] * len(points), joined=numeric)
        ax.set_xscale("log" if numeric else "linear")
        ax.minorticks_off()
        ax.set_xticks([*at.values()], [f"{n:,}" if numeric else "\n".join(textwrap.wrap(n, 13)) for n in at], size=8)
        ax.set(xlabel=xlabel, title=measure)
        ax.margins(x=0.12)
        _scale(ax, measure)
        drawn = everything[measure]
        if drawn.min() > 0 and drawn.max() > DECADE * drawn.min():  # else one bad run flattens all others
            logarithmic(ax, "y")
    top_legend(figure, _handles([*curves, *floors], everything))
    return figure


@all_or_none()
def where_learned(
    distributions: Mapping[str, TimestepDistribution],
    schedule: Schedule,
    changes: Mapping[str, pd.DataFrame],
    broken: pd.DataFrame,
) -> Figure:
    """Left: the density of each control's draws over log-SNR. Right: a map for each of `changes`, per control and seed.

    `changes` holds {title: table}, a row per control, a column per seed, NaN where there is no run: the change against
    uniform, in points or per cent, below 0 if less. `broken` (bool, same rows and columns) is hatched; its cells do not
    set the range of colours. A thick line under a density marks the steps that the control trains, T p(t) > 0.01.
    Raises ValueError for nothing to draw and for tables that lack a control or a seed.
    """
    rows = list(labelled("distributions", distributions))
    for title, table in labelled("changes", changes).items():
        if missing := set(rows) - set(table.index) or set(rows) - set(broken.index) or set(table) - set(broken):
            raise ValueError(f"changes[{title!r}] and broken: no row or column for {sorted(map(str, missing))}")
    widths = [2.1, *(max(1.4, 0.1 + 0.3 * len(table.columns)) for table in changes.values())]
    size = (2.4 + sum(widths), 1.6 + 0.27 * len(rows))
    figure, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths, sharey=True, layout="constrained")
    _draw_ridges(axes[0], distributions, schedule)
    for ax, (title, table), width in zip(axes[1:], changes.items(), widths[1:], strict=True):
        _draw_cells(ax, table.loc[rows], broken.loc[rows, table.columns].to_numpy(dtype=bool))
        ax.set_title("\n".join(textwrap.wrap(title, int(14 * width))), size=9)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.4, -1.0)
    hatched = Patch(facecolor="white", edgecolor="0.3", hatch="////", label="broken run")
    even = Line2D([], [], linewidth=1, label="uniform's density", **MEANINGS["uniform"].curve)
    top_legend(figure, [even, hatched] if broken.to_numpy(dtype=bool).any() else [even])
    return figure


def _together(parts: Sequence[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """All runs as one table. Raises ValueError for none, or if some lack one of `columns`."""
    if not sum(map(len, parts)):
        raise ValueError("curves: there is no run in any of them, so nothing to draw")
    for runs in parts:
        if missing := [name for name in ("seed", "broken", *columns) if name not in runs]:
            raise ValueError(f"curves: runs without {missing}; they have {sorted(map(str, runs.columns))}")
    return pd.concat(parts)


def _draw_curve(
    ax: Axes,
    points: Sequence[pd.DataFrame],
    x: str,
    y: str,
    look: Look,
    sizes: Sequence[float],
    *,
    joined: bool = True,
) -> None:
    """A mark per point (none at size 0), hollow and without bars for its broken runs, which reach anywhere; the line is
    faint where it meets a hollow one."""
    path, thin = [], {"ecolor": to_rgba(look.colour, 0.55), "elinewidth": 0.6}
    for runs, size in zip(points, sizes, strict=True):
        if not len(runs):
            continue
        for hollow in (True, False):  # the whole ones last: on top, and on the line
            part = runs.loc[runs["broken"].astype(bool) == hollow, [x, y]]
            if not len(part):
                continue
            mean = part.mean()
            end = (mean[x], mean[y], hollow)
            if size:
                bars = np.abs(np.stack([mean - part.min(), part.max() - mean])).T[:, :, None]
                ax.errorbar(
                    mean[x], mean[y], **({"xerr": bars[0], "yerr": bars[1]} if len(part) > 1 and not hollow else {}),
                    color=look.colour, marker=look.marker, markersize=size, zorder=3 if hollow else 4,
                    markerfacecolor="white" if hollow else look.colour, **thin,
                )  # fmt: skip
        path.append(end)
    for (x0, y0, a), (x1, y1, b) in pairwise(path) if joined else ():
        faint = {"linewidth": 0.9, "alpha": 0.6} if a or b else {"linewidth": 1.6}
        ax.plot([x0, x1], [y0, y1], zorder=2, **look.curve, **faint)


def _scale(ax: Axes, measure: str) -> None:
    """Shares on one scale in every figure, unless a run falls out of it."""
    if measure.endswith("closer to train"):
        ax.set_ylim(min(0.4, ax.get_ylim()[0]), 1.03)


def _handles(labels: Iterable[str], runs: pd.DataFrame, note: str = "") -> list[Line2D]:
    handles = [
        Line2D([], [], color=k.colour, marker=k.marker, linestyle="none" if label in FLOORS else k.line, label=label)
        for label, k in looks(labels).items()
    ]
    if note:
        handles.append(Line2D([], [], linestyle="none", marker="o", markersize=LARGEST, color="0.7", label=note))
    if runs["broken"].any():
        hollow = {"color": "0.3", "markerfacecolor": "white", "marker": "o", "linestyle": "none"}
        handles.append(Line2D([], [], label="hollow: broken", **hollow))
    return handles


def _draw_ridges(ax: Axes, distributions: Mapping[str, TimestepDistribution], schedule: Schedule) -> None:
    curves = [tuple(map(np.asarray, d.log_snr_density(schedule))) for d in distributions.values()]
    even = np.asarray(uniform(schedule.T).log_snr_density(schedule)[1])
    scale = 1.3 / max(density.max() for _, density in curves)  # of a row's height
    for row, ((log_snr, density), chosen) in enumerate(zip(curves, distributions.values(), strict=True)):
        ax.fill_between(log_snr, row + 0.35, row + 0.35 - scale * density, color="0.55", linewidth=0)
        ax.plot(log_snr, row + 0.35 - scale * even, linewidth=0.8, **MEANINGS["uniform"].curve)
        trained = np.where(np.asarray(chosen.effective_weight()) > NEVER, row + 0.38, np.nan)
        ax.plot(log_snr, trained, color="0.1", linewidth=1.8, solid_capstyle="butt")
    ax.set(xlabel=f"log-SNR \u03bb\n{NOISE_GROWS}", title="where it draws")
    ax.invert_xaxis()
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)


def _draw_cells(ax: Axes, table: pd.DataFrame, broken: np.ndarray) -> None:
    values = table.to_numpy(dtype=float)
    known = np.isfinite(values)
    limit = np.abs(values[known & ~broken]).max(initial=PALEST)
    ax.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for row, column in np.argwhere(known & broken):
        cell = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="///", edgecolor="0.45", linewidth=0)
        ax.add_patch(cell)
    for row, column in np.argwhere(known):
        value, plate = round(values[row, column]), None
        ink = "white" if abs(value) > 0.7 * limit else "black"
        if broken[row, column]:  # hatched: the number needs a plain ground
            ink, plate = "black", {"facecolor": "white", "linewidth": 0, "pad": 0.8}
        text = ">999" if value > 999 else f"{value:+d}".replace("-", "\u2212") if value else "0"
        ax.text(column, row, text, ha="center", va="center", size=7.5, color=ink, bbox=plate)
    ax.set_xticks(range(len(table.columns)), [str(seed) for seed in table.columns])
    ax.set_xlabel("seed")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
