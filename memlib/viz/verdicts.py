"""What recorded seeds say: forests of findings, verdicts at a glance, every seed as a dot or a line."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from memlib.lab.claims import PAIRS, Finding, Verdict
from memlib.viz.style import (
    FALLBACK,
    MEANINGS,
    Array,
    Look,
    all_or_none,
    as_array,
    labelled,
    logarithmic,
    looks,
    meaning,
    new_axes,
    number,
    top_legend,
)

# Tol's high-contrast colours: filled where a comparison is settled, hollow where not, dashed where it does not count
SAYS: dict[str, Look] = {
    "supports": Look("#004488", "-", "o"),
    "contradicts": Look("#BB5566", "-", "X"),
    "undecided": Look("0.25", "-", "s"),
    "untestable": Look("0.5", (0, (2, 2)), "D"),
    "exploratory": Look("0.5", (0, (2, 2)), "v"),
}
VERDICTS = {  # ground and ink
    "reproduced": ("#004488", "white"),
    "partly": ("#B3C6DE", "black"),
    "not reproduced": ("#BB5566", "white"),
    "inconclusive": ("0.93", "black"),
    "exploratory": ("white", "0.35"),
}
PLATE = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.4}  # under a number that lies on lines


class Scale(NamedTuple):
    """How a measure's axis is read: the words under it, and the least effect that would matter (0: none is drawn)."""

    words: str
    least: float = 0.0


def forest(
    findings: Iterable[Finding], *, scales: Mapping[str, Scale] | None = None, names: Mapping[str, str] | None = None
) -> Figure:
    """A column per measure, a row per comparison: its effect, with the interval if testable; by marker what it says.

    Rows stand under their data set, those that are exploratory apart below the others, and of these only comparisons
    that have a run, if any has. Beside each row: the pairs it rests on and the broken ones left out; above each judged
    effect Holm's p. A grey band is what is too small to matter. `scales` and `names` give measures and comparisons
    their words. Raises ValueError if there is nothing to draw.
    """
    findings = list(findings)
    if not findings:
        raise ValueError("findings: empty, there is nothing to draw")
    kept = [f for f in findings if f.says != "exploratory" or f.pairs or f.broken] or findings
    scales, names = dict(scales or {}), dict(names or {})
    measures = list(dict.fromkeys(f.measure for f in kept))
    alone = len({(f.dataset, f.measure) for f in kept}) == len(kept)  # a comparison per data set needs no second name
    rows = _rows(kept, alone, names)
    size = (2.6 + 2.5 * len(measures), 1.65 + 0.36 * len(rows))
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, layout="constrained", squeeze=False)
    alike: dict[Scale, Axes] = {}
    for ax, measure in zip(axes[0], measures, strict=True):
        scale = scales.get(measure, Scale("effect"))
        ax.axvline(0, color="0.3", linewidth=0.9, zorder=1)
        if scale.least:
            ax.axvspan(-scale.least, scale.least, color="0.92", linewidth=0, zorder=0)
        for y, (_, own) in enumerate(rows):
            for finding in (f for f in own if f.measure == measure):
                _draw_finding(ax, finding, y)
        ax.set_title(names.get(measure, measure))
        ax.set_xlabel("\n".join(textwrap.wrap(scale.words, 34)))
        ax.margins(x=0.14)
        ax.locator_params(axis="x", nbins=5)
        if measure in scales and alike.setdefault(scale, ax) is not ax:
            ax.sharex(alike[scale])  # raw and smoothed are compared by eye
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
    first, last = axes[0, 0], axes[0, -1]
    first.set_yticks(range(len(rows)), [name for name, _ in rows])
    first.set_ylim(len(rows) - 0.5, -0.7)
    for y, ((_, own), tick) in enumerate(zip(rows, first.get_yticklabels(), strict=True)):
        if own:
            last.text(1.03, y, _counted(own), transform=last.get_yaxis_transform(), va="center", size=8, color="0.3")
        else:
            tick.set_fontweight("bold")
    used = {f.says for f in kept if f.effect}
    handles: list[Artist] = [Line2D([], [], label=says, **_mark(says)) for says in SAYS if says in used]
    if any(measure in scales and scales[measure].least for measure in measures):
        handles.append(Patch(color="0.92", label="too small to matter"))
    top_legend(figure, handles)
    return figure


def _rows(findings: Sequence[Finding], alone: bool, names: Mapping[str, str]) -> list[tuple[str, list[Finding]]]:
    """The forest's rows, top down: a name and its findings; a headline has none."""
    rows: list[tuple[str, list[Finding]]] = []
    for apart in (False, True):
        part = [f for f in findings if (f.says == "exploratory") == apart]
        if part and apart:
            rows.append(("exploratory, never counted", []))
        for dataset in dict.fromkeys(f.dataset for f in part):
            own = [f for f in part if f.dataset == dataset]
            if alone:
                rows.append((dataset, own))
                continue
            rows.append((dataset, []))
            for group in dict.fromkeys(f.group for f in own):
                rows.append((names.get(group, group), [f for f in own if f.group == group]))
    return rows


def _draw_finding(ax: Axes, finding: Finding, y: int) -> None:
    if finding.effect is None:
        word = finding.says if finding.says == "untestable" else "\u2013"
        place = {"transform": ax.get_yaxis_transform(), "ha": "center", "va": "center", "bbox": PLATE}
        ax.text(0.5, y, word, size=8, color="0.4", **place)
        return
    colour, line, _ = SAYS[finding.says]
    ends = finding.effect.low, finding.effect.high
    if finding.says != "untestable" or finding.pairs >= PAIRS:  # of fewer pairs it would only stretch the axis
        ax.plot(ends, (y, y), color=colour, linestyle=line, linewidth=1.6)
        ax.plot(ends, (y, y), "|", color=colour, markersize=6)
    ax.plot(finding.effect.value, y, **_mark(finding.says))
    if finding.p is not None:
        p = "p < 0.001" if finding.p < 0.001 else f"p = {finding.p:.2g}"
        place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "bbox": PLATE}
        ax.annotate(p, (finding.effect.value, y), size=7, color="0.3", **place)


def _mark(says: str) -> dict[str, Any]:
    colour, _, marker = SAYS[says]
    face = colour if says in ("supports", "contradicts") else "white"
    return {"color": colour, "marker": marker, "markersize": 7, "markerfacecolor": face, "linestyle": "none"}


def _counted(findings: Sequence[Finding]) -> str:
    """The pairs and the broken ones of a row, once where its measures agree."""
    pairs = {f: f"{f.pairs} pair{'s' * (f.pairs != 1)}, {f.broken} broken" for f in findings if f.pairs or f.broken}
    texts = [pairs.get(f, "not run") for f in findings]
    return "\n".join(dict.fromkeys(texts))


def verdict_grid(verdicts: Iterable[Verdict]) -> Figure:
    """A row per claim, a column per data set and one for all of them: the verdict as a word on its colour.

    Raises ValueError if there is no verdict.
    """
    verdicts = list(verdicts)
    if not verdicts:
        raise ValueError("verdicts: empty, there is nothing to draw")
    datasets = list(dict.fromkeys(d for v in verdicts for d in v.by_dataset))
    columns, places = [*datasets, "in all"], [*range(len(datasets)), len(datasets) + 0.12]
    size = (2.2 + 1.25 * len(columns), 0.8 + 0.42 * len(verdicts))
    ax = new_axes(None, *size)
    for y, verdict in enumerate(verdicts):
        for x, column in enumerate(columns):
            word = verdict.verdict if column == "in all" else verdict.by_dataset.get(column)
            if word is not None:
                ground, ink = VERDICTS[word]
                ax.add_patch(Rectangle((places[x] - 0.46, y - 0.44), 0.92, 0.88, facecolor=ground, edgecolor="0.6"))
                ax.text(places[x], y, word, ha="center", va="center", size=8, color=ink)
    ax.set(xlim=(-0.5, places[-1] + 0.5), ylim=(len(verdicts) - 0.5, -0.5))
    ax.set_xticks(places, columns)
    ax.set_yticks(range(len(verdicts)), [v.claim for v in verdicts])
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax.figure


@all_or_none()
def seed_lines(
    curves: Mapping[str, Array],
    x: Sequence[float] | Sequence[str],
    *,
    hollow: Mapping[str, Array] | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """A thin line per seed and their mean in bold, {label: (seeds, n)} over `x` (n,), numbers or names in order.

    `hollow` marks values {label: (seeds, n) or (n,) bool}, such as broken runs or steps never trained: left out of the
    mean where another seed has one that is not, and drawn hollow. NaN leaves a gap; `log` makes y logarithmic.
    Raises ValueError for an empty mapping, shapes that do not fit, or an infinite value.
    """
    curves, hollow = labelled("curves", curves), dict(hollow or {})
    ax = new_axes(ax, 6.2, 3.2)
    if not len(x):
        raise ValueError("x: empty, there is nothing to draw")
    named = isinstance(x[0], str)
    places = np.arange(len(x), dtype=float) if named else as_array("x", x, (None,))
    if log:
        logarithmic(ax, "y")
    for label, look in looks(curves).items():
        values = as_array(f"curves[{label!r}]", curves[label], (None, len(places)), gaps=True)
        known = ~np.isnan(values)
        out = known & _marked(f"hollow[{label!r}]", hollow.get(label, False), values.shape)
        alone = ~(known & ~out).any(0)  # columns that hold hollow values only
        mean = np.ma.masked_array(values, ~known | (out & ~alone)).mean(0).filled(np.nan)
        ax.plot(places, values.T, color=look.colour, linewidth=0.7, alpha=0.5, zorder=2)
        lone = out & ~alone
        dots = {"s": 13, "color": "white", "edgecolor": look.colour, "linewidth": 0.7, "marker": look.marker}
        ax.scatter(np.broadcast_to(places, values.shape)[lone], values[lone], zorder=3, **dots)
        ax.plot(places, mean, label=label, linewidth=2.2, zorder=4, **look.curve)
        faces = {"marker": look.marker, "s": 38, "edgecolor": look.colour, "linewidth": 1.2, "zorder": 5}
        ax.scatter(places, mean, color=np.where(alone, "white", look.colour), **faces)
    if named:
        ax.set_xticks(places, x)
        ax.set_xlim(-0.4, len(x) - 0.6)
    return ax


def _marked(name: str, marks: Array | bool, shape: tuple[int, ...]) -> np.ndarray:
    """`marks` as bool of `shape`."""
    try:
        return np.broadcast_to(np.asarray(marks, dtype=bool), shape)
    except ValueError as error:
        raise ValueError(f"{name}: expected shape {shape}, got {np.shape(marks)}") from error


@all_or_none()
def seed_dots(
    panels: Mapping[str, Mapping[str, Array]],
    *,
    broken: Mapping[str, Mapping[str, Array]] | None = None,
    null: Mapping[str, float] | None = None,
    log: Collection[str] = (),
) -> Figure:
    """A panel per measure, a row per control, {panel: {control: (seeds,)}}: a dot per seed, hollow for a broken run.

    A seed keeps its height within each row. The bar is the mean of the unbroken runs, with its value; without any it is
    that of the broken ones, dotted. `null` runs a dashed line through a panel (fresh real data); `log` names the panels
    whose axis is logarithmic. Raises ValueError for an empty mapping or for values that are not finite.
    """
    panels, broken, null = labelled("panels", panels), dict(broken or {}), dict(null or {})
    rows = list(dict.fromkeys(row for panel in panels.values() for row in panel))
    size = (2.0 + 1.8 * len(panels), 1.1 + 0.4 * len(rows))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for ax, (name, panel) in zip(axes[0], panels.items(), strict=True):
        if name in log:
            logarithmic(ax, "x")
        if name in null:
            ax.axvline(null[name], color=MEANINGS["fresh"].colour, linestyle="--", linewidth=1.2, zorder=1)
        for control, values in panel.items():
            values = as_array(f"panels[{name!r}][{control!r}]", values, (None,))
            out = _marked(f"broken[{name!r}][{control!r}]", broken.get(name, {}).get(control, False), values.shape)
            _draw_seeds(ax, rows.index(control), control, values, out)
        ax.set_xlabel("\n".join(textwrap.wrap(name, 24)))
        ax.margins(x=0.12)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=8)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.6)
    dot = {"color": "0.15", "linestyle": "none"}
    handles = [Line2D([], [], marker="|", markersize=10, label="mean of unbroken runs (dotted: all are broken)", **dot)]
    if any(np.any(row) for panel in broken.values() for row in panel.values()):
        handles.append(Line2D([], [], marker="o", markerfacecolor="white", label="broken", **dot))
    if null:
        fresh = {"color": MEANINGS["fresh"].colour, "linestyle": "--", "linewidth": 1.2}
        handles.append(Line2D([], [], label="fresh real items", **fresh))
    top_legend(figure, handles)
    return figure


def _draw_seeds(ax: Axes, y: int, control: str, values: np.ndarray, broken: np.ndarray) -> None:
    look = meaning(control) or FALLBACK[2]
    heights = y + (np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1))
    for part, face in ((~broken, look.colour), (broken, "white")):
        dots = {"s": 18, "color": face, "edgecolor": look.colour, "linewidth": 0.9, "marker": look.marker}
        ax.scatter(values[part], heights[part], zorder=3, **dots)
    mean = values[~broken if (~broken).any() else broken].mean()
    ax.plot((mean, mean), (y - 0.32, y + 0.32), color="0.15", linestyle=":" if broken.all() else "-", linewidth=1.6)
    ax.annotate(number(mean), (mean, y - 0.3), (0, 1), textcoords="offset points", ha="center", size=7.5, bbox=PLATE)
