"""What the findings say: forests of comparisons, and the verdicts at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from memlib.lab.claims import PAIRS, Finding, Verdict
from memlib.viz import style
from memlib.viz.style import NONE, Look, given

# Tol's high-contrast colours: filled if a comparison is settled, hollow if not, dashed if it does not count.
SAYS = {
    "supports": Look("#004488", "-", "o"),
    "contradicts": Look("#BB5566", "-", "X"),
    "undecided": Look("0.25", "-", "s"),
    "untestable": Look("0.5", (0, (2, 2)), "D"),
    "exploratory": Look("0.5", (0, (2, 2)), "v"),
}
VERDICTS = {"reproduced": "#004488", "partly": "#B3C6DE", "inconclusive": "0.9", "exploratory": "0.97"}
VERDICTS["not reproduced"] = "#BB5566"


class Scale(NamedTuple):
    """How a measure's axis is read: the words under it, and the least effect that would matter (0: none is drawn)."""

    words: str
    least: float = 0.0


def forest(
    findings: Iterable[Finding], *, scales: Mapping[str, Scale] = NONE, names: Mapping[str, str] = NONE
) -> Figure:
    """A column per measure, a row per comparison: its effect, with the interval if testable; by marker what it says.

    Exploratory rows come last, and only if they have runs. Under each name: the pairs, and the degenerate ones left
    out; above each effect in the family: Holm's p. `scales` and `names` give measures and comparisons their words.
    """
    found = given("findings", list(findings))
    kept = [f for f in found if f.says != "exploratory" or f.pairs or f.broken] or found
    alone = len({(f.dataset, f.measure) for f in kept}) == len(kept)  # a comparison per data set needs no second name
    rows: dict[str, list[Finding]] = {}
    for f in sorted(kept, key=lambda f: f.says == "exploratory"):
        rows.setdefault(f.dataset if alone else f"{f.dataset}: {names.get(f.group, f.group)}", []).append(f)
    labels = ["\n".join([name, *dict.fromkeys(map(_counted, own))]) for name, own in rows.items()]
    measures = {m: scales.get(m, Scale("effect")) for m in dict.fromkeys(f.measure for f in kept)}
    figure, axes = style.panels([scale.words for scale in measures.values()], labels, 2.5)
    for ax, (measure, scale) in zip(axes, measures.items(), strict=True):
        ax.axvline(0, color="0.3", linewidth=0.9, zorder=1)
        ax.axvspan(-scale.least, scale.least, color="0.92", linewidth=0, zorder=0)
        for y, f in ((y, f) for y, own in enumerate(rows.values()) for f in own if f.measure == measure):
            if f.effect is None:
                word = f.says if f.says == "untestable" else "\u2013"
                ax.text(0.5, y, word, transform=ax.get_yaxis_transform(), ha="center", va="center", size=8)
                continue
            if f.says != "untestable" or f.pairs >= PAIRS:  # the interval of fewer pairs would only stretch the axis
                ax.plot((f.effect.low, f.effect.high), (y, y), marker="|", **SAYS[f.says].curve)
            ax.plot(f.effect.value, y, **_mark(f.says))
            if f.p is not None:
                style.note(ax, f.effect.value, y, "p < 0.001" if f.p < 0.001 else f"p = {f.p:.2g}")
        ax.set_title(names.get(measure, measure))
        ax.locator_params(axis="x", nbins=5)
        first = axes[list(measures.values()).index(scale)]
        if ax is not first and measure in scales:
            ax.sharex(first)  # raw and smoothed are compared by eye
    used = {f.says for f in kept if f.effect}
    handles = [Line2D([], [], label=says, **_mark(says)) for says in SAYS if says in used]
    style.legend_above(figure, [*handles, Patch(color="0.92", label="too small to matter")])
    return figure


def _counted(f: Finding) -> str:
    pairs = f"{f.pairs} pair{'s' * (f.pairs != 1)}, {f.broken} degenerate" if f.pairs or f.broken else "not run"
    return f"{pairs}, exploratory" if f.says == "exploratory" else pairs


def _mark(says: str) -> dict[str, Any]:
    colour, _, marker = SAYS[says]
    face = colour if says in ("supports", "contradicts") else "white"
    return {"color": colour, "marker": marker, "markersize": 7, "markerfacecolor": face, "linestyle": "none"}


def verdict_grid(verdicts: Iterable[Verdict]) -> Figure:
    """A row per claim, a column per data set and one for all of them: the verdict as a word on its colour."""
    words = {v.claim: v.by_dataset | {"in all": v.verdict} for v in given("verdicts", list(verdicts))}
    table = pd.DataFrame.from_dict(words, orient="index")
    table.insert(len(table.columns) - 1, "in all", table.pop("in all"))
    figure, ax = plt.subplots(figsize=(2.2 + 1.25 * len(table.columns), 0.8 + 0.42 * len(table)), layout="constrained")
    codes = table.map([*VERDICTS].index, na_action="ignore").astype(float)
    look: dict[str, Any] = {"cmap": [*VERDICTS.values()], "vmin": 0, "vmax": len(VERDICTS) - 1, "cbar": False}
    sns.heatmap(codes, annot=table, fmt="", annot_kws={"size": 8}, linewidths=4, ax=ax, **look)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, labelrotation=0)
    return figure
