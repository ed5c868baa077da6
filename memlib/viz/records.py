"""What recorded runs say. Degenerate runs are drawn hollow or grey and never averaged with the others."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from memlib import timesteps
from memlib.schedules import Schedule
from memlib.viz import style
from memlib.viz.style import MEANINGS, NONE, Array, Arrays, Ax, Controls, given, looks, numbers

Table: TypeAlias = pd.DataFrame
Curves = Mapping[str, Mapping[Any, Table]]
Panels = Mapping[str, Arrays]
REFERENCES = {"fresh": "fresh", "copycat": "memorizing baseline"}  # key in records: label
_HOLLOW: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": "0.3", "markerfacecolor": "white"}


def tradeoff(
    curves: Curves, pairs: Sequence[tuple[str, str]], *, uniform: Table | None = None, grows: str = "wider"
) -> Figure:
    """A panel for each pair (x, y) of measures: distance to held-out data against memorization, say.

    `curves` holds {label: {point: its runs}}: markers grow along the points, and `grows` says what that means. Every
    curve ends in `uniform`. Marks are means over seeds, with bars from the smallest to the largest.
    """
    end = {} if uniform is None or uniform.empty else {"uniform": uniform}
    tables = {label: _joined({**points, **end}) for label, points in given("curves", curves).items()}
    tables |= {label: _joined({label: runs}).assign(size=10) for label, runs in end.items()}
    _add_references(tables, ["seed"], at="", size=7)
    size = (max(6, 3.5 * len(given("pairs", pairs))), 3.6)
    figure, axes = plt.subplots(1, len(pairs), figsize=size, layout="constrained", squeeze=False)
    for ax, (x, y) in zip(axes[0], pairs, strict=True):
        _draw_runs(ax, tables, x, y)
        ax.set(xlabel=f"{x} (less is better)", ylabel=y)
        style.logarithmic(ax, "x")
    return _legend(figure, tables, f"larger marker: {grows}")


def along(curves: Curves, measures: Sequence[str], *, xlabel: str) -> Figure:
    """A panel for each measure along the points of `curves`, {label: {point: its runs}}, with its reference values.

    Points that are numbers (steps, sizes) stand on a logarithmic scale and are joined, others stand side by side.
    """
    names = list(dict.fromkeys(name for points in given("curves", curves).values() for name in points))
    numeric = not any(isinstance(name, str) for name in names)
    at = {n: float(n if numeric else i) for i, n in enumerate(sorted(names) if numeric else names)}
    tables = {label: _joined({at[n]: points[n] for n in at if n in points}) for label, points in curves.items()}
    _add_references(tables, ["at", "seed"], size=3)
    for i, label in enumerate(curves):
        shift = 0 if numeric else 0.2 * (i - (len(curves) - 1) / 2)
        tables[label] = tables[label].assign(at=tables[label]["at"] + shift, size=6)
    size = (min(3.8, max(3.0, 0.9 + 0.7 * len(names))) * len(given("measures", measures)), 3.2)
    figure, axes = plt.subplots(1, len(measures), figsize=size, layout="constrained", squeeze=False)
    for ax, measure in zip(axes[0], measures, strict=True):
        _draw_runs(ax, tables, "at", measure, joined=numeric)
        ax.set(xlabel=xlabel, title=measure, xscale="log" if numeric else "linear")
        ax.minorticks_off()
        ax.set_xticks([*at.values()], [f"{n:,}" if numeric else textwrap.fill(n, 13) for n in at], size=8)
        values: Any = pd.concat(tables.values())[measure]
        if 0 < 10 * values.min() < values.max():  # one bad run would flatten all others
            style.logarithmic(ax, "y")
    return _legend(figure, tables)


def _joined(points: Mapping[Any, Table]) -> Table:
    """The runs of a curve as one table: `at` names their point, `size` is the marker's, which grows along the curve."""
    sizes = np.linspace(4, 9, len(points))
    own = [runs.assign(at=at, size=size) for (at, runs), size in zip(points.items(), sizes, strict=True) if len(runs)]
    return pd.concat(given("curves", own))


def _add_references(tables: dict[str, Table], by: list[str], **same: Any) -> None:
    """A table of fresh data and one of the memorizing baseline, whose values stand in the rows of the runs."""
    runs = pd.concat(tables.values()).drop_duplicates(by).assign(broken=False, **same)
    for kind, label in REFERENCES.items():
        own = runs.filter(like=f"{kind}: ").rename(columns=lambda name: name.split(": ", 1)[1])
        tables[label] = pd.concat([own, runs[["at", "size", "broken"]]], axis=1)


def _draw_runs(ax: Axes, tables: Mapping[str, Table], x: str, y: str, *, joined: bool = True) -> None:
    """A mark per point: the mean of its runs with bars to the outermost, and a hollow one for its degenerate runs."""
    for label, look in looks(tables).items():
        runs, reference = tables[label], label in REFERENCES.values()
        if reference and y not in runs:
            continue
        xy = numbers(f"curves[{label!r}]: {x}, {y}", runs[[x, y]], None, 2)
        own = runs[["at", "size", "broken"]].assign(x=xy[:, 0], y=xy[:, 1])
        path: Any = own[~own["broken"] | own.groupby("at")["broken"].transform("all")].groupby("at", sort=False).mean()
        if joined or reference:
            ax.plot(path["x"], path["y"], linewidth=1.2, **look.curve)
        for hollow, part in own.groupby("broken"):
            spread: Any = part.groupby("at", sort=False)
            low, mean, high = spread.min(), spread.mean(), spread.max()
            look_of: dict[str, Any] = {"edgecolor": look.colour, "marker": look.marker, "s": mean["size"] ** 2}
            ax.scatter(mean["x"], mean["y"], color="white" if hollow else look.colour, zorder=3, **look_of)
            if not hollow and not (reference and x == "at"):
                bars: Any = {f"{k}err": [(mean[k] - low[k]).abs(), (high[k] - mean[k]).abs()] for k in "xy"}
                ax.errorbar(mean["x"], mean["y"], fmt="none", ecolor=look.colour, elinewidth=0.6, **bars)


def _legend(figure: Figure, tables: Mapping[str, Table], *more: str) -> Figure:
    handles = [Line2D([], [], marker=look.marker, label=label, **look.curve) for label, look in looks(tables).items()]
    handles += [Line2D([], [], label=words, marker="o", markersize=9, color="0.7", linestyle="none") for words in more]
    if any(runs["broken"].any() for runs in tables.values()):
        handles.append(Line2D([], [], label="hollow: degenerate", **_HOLLOW))
    style.legend_above(figure, handles)
    return figure


def where_learned(distributions: Controls, schedule: Schedule, changes: Mapping[str, Table], broken: Table) -> Figure:
    """Left: the density of each control's draws over log-SNR, and below it, thick, the steps that the control trains.

    Right: a map for each of `changes`, {title: table}, a row per control, a column per seed, NaN if there is no run:
    the change against uniform, below 0 if less. Runs that are `broken` (bool, same rows and columns) are grey.
    """
    rows = list(given("distributions", distributions))
    widths = [2.1, *(max(1.4, 0.1 + 0.3 * len(table.columns)) for table in given("changes", changes).values())]
    size = (2.4 + sum(widths), 1.6 + 0.27 * len(rows))
    figure, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths, sharey=True, layout="constrained")
    curves = [[np.asarray(part) for part in d.log_snr_density(schedule)] for d in distributions.values()]
    even = np.asarray(timesteps.uniform(schedule.T).log_snr_density(schedule)[1])
    scale = 1.3 / max(density.max() for _, density in curves)  # of the height of a row
    for y, (own, (x, density)) in enumerate(zip(distributions.values(), curves, strict=True), 1):
        axes[0].fill_between(x, y, y - scale * density, color="0.55", linewidth=0)
        axes[0].plot(x, y - scale * even, linewidth=0.8, **MEANINGS["uniform"].curve)
        axes[0].plot(x, np.where(np.asarray(own.effective_weight()) > style.NEVER, y, np.nan), color="0.1")
    for ax, (title, table), width in zip(axes[1:], changes.items(), widths[1:], strict=True):
        shown, out = table.loc[rows], broken.loc[rows, table.columns].astype(bool)
        limit = max(10, shown.mask(out).abs().max(axis=None))
        words = shown.map(lambda v: ">999" if v > 999 else f"{v:+.0f}".replace("-", "\u2212") if abs(v) >= 0.5 else "0")
        look: dict[str, Any] = {"annot": words, "fmt": "", "cbar": False, "annot_kws": {"size": 7.5}, "ax": ax}
        sns.heatmap(shown.mask(out), cmap="PuOr_r", vmin=-limit, vmax=limit, **look)
        sns.heatmap(shown.where(out), cmap=["0.8"], vmin=0, vmax=1, **look)
        ax.set_title(textwrap.fill(title, int(14 * width)), size=9)
        ax.set(xlabel="seed", ylabel="")
    axes[0].set(xlabel=f"log-SNR \u03bb\n{style.NOISE_GROWS}", title="where it draws", ylim=(len(rows) + 0.1, -0.6))
    axes[0].set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes[0].invert_xaxis()
    for ax in axes:
        ax.grid(False)
        ax.tick_params(axis="y", length=0)
    uniform = Line2D([], [], linewidth=1, label="uniform's density", **MEANINGS["uniform"].curve)
    style.legend_above(figure, [uniform, Patch(color="0.8", label="degenerate run")])
    return figure


def seed_lines(curves: Arrays, x: Array, *, hollow: Arrays = NONE, log: bool = False, ax: Ax = None) -> Axes:
    """A thin line per seed and their mean in bold, {label: (seeds, n)} over `x` (n,), numbers or names in order.

    `hollow` marks values {label: (seeds, n) or (n,) bool}, such as degenerate runs or steps never trained: drawn hollow
    and left out of the mean unless no seed has another there. NaN (not run) leaves a gap.
    """
    ax = ax or plt.subplots(figsize=(6.2, 3.2), layout="constrained")[1]
    names: Any = list(x) if isinstance(given("x", x)[0], str) else None
    places = np.arange(len(x), dtype=float) if names else numbers("x", x, None)
    for label, look in looks(given("curves", curves)).items():
        values = numbers(f"curves[{label!r}]", curves[label], None, len(places), gaps=True)
        out = np.broadcast_to(np.asarray(hollow.get(label, False), dtype=bool), values.shape)
        alone = (out | np.isnan(values)).all(0)  # no seed has a value that is not hollow
        mean = np.ma.masked_invalid(np.where(out & ~alone, np.nan, values)).mean(0).filled(np.nan)
        ax.plot(places, values.T, color=look.colour, linewidth=0.7, alpha=0.5)
        dots: dict[str, Any] = {"edgecolor": look.colour, "marker": look.marker, "zorder": 5}
        for own in np.where(out & ~alone, values, np.nan):
            ax.scatter(places, own, s=13, color="white", linewidth=0.7, **dots)
        ax.plot(places, mean, label=label, linewidth=2.2, **look.curve)
        ax.scatter(places, mean, s=38, color=np.where(alone, "white", look.colour), **dots)
    if log:
        style.logarithmic(ax, "y")
    if names:
        ax.set_xticks(places, names)
    return ax


def seed_dots(
    panels: Panels, *, broken: Panels = NONE, null: Mapping[str, float] = NONE, log: Collection[str] = ()
) -> Figure:
    """A panel per measure, a row per control, {panel: {control: (seeds,)}}: a dot per seed, hollow if degenerate.

    A seed keeps its height within each row. The bar is the mean of the runs that are not degenerate, with its value; if
    all are, it is theirs, dotted. `null` runs a dashed line through a panel (fresh real data).
    """
    rows = list(dict.fromkeys(row for panel in given("panels", panels).values() for row in panel))
    figure, axes = style.panels(list(panels), rows, 1.8)
    fresh: dict[str, Any] = {"color": MEANINGS["fresh"].colour, "linestyle": "--", "linewidth": 1.2}
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        if name in null:
            ax.axvline(null[name], zorder=1, **fresh)
        for label, seeds in panel.items():
            values, y = numbers(f"panels[{name!r}][{label!r}]", seeds, None), rows.index(label)
            out = np.broadcast_to(np.asarray(broken.get(name, NONE).get(label, False), dtype=bool), values.shape)
            look, heights = (
                style.meaning(label) or style.FALLBACK[2],
                y + 0.4 * (np.arange(len(values)) / len(values) - 0.5),
            )
            face: dict[str, Any] = {"color": np.where(out, "white", look.colour), "edgecolor": look.colour}
            ax.scatter(values, heights, s=18, linewidth=0.9, marker=look.marker, **face)
            mean = values[out.all() | ~out].mean()
            ax.plot((mean, mean), (y - 0.32, y + 0.32), color="0.15", linestyle=":" if out.all() else "-")
            style.note(ax, mean, y - 0.3, style.number(mean))
        if name in log:
            style.logarithmic(ax, "x")
    words = "mean of the others (dotted: all are degenerate)"
    handles = [Line2D([], [], marker="|", markersize=10, color="0.15", linestyle="none", label=words)]
    handles += [Line2D([], [], label="fresh real items", **fresh)] if null else []
    style.legend_above(figure, [Line2D([], [], label="degenerate", **_HOLLOW), *handles])
    return figure
