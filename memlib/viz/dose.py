"""What time courses say: the spectrum, the dose, the frontier of copying against fidelity, predictions, and seeds."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from memlib.lab.hypotheses import Finding
from memlib.lab.spectrum import Spectrum
from memlib.schedules import Schedule
from memlib.viz import style
from memlib.viz.style import MEANINGS, Array, Arrays, Ax, Controls, given, legend_above, looks, numbers

VERDICTS = {"supported": "#009E73", "refuted": "#D55E00", "undecided": "0.55"}


def spectrum(own: Spectrum, schedule: Schedule, controls: Controls, predicted: tuple[int, int] | None = None) -> Figure:
    """Above, each band's coefficient at the last number of views with its 95 % interval over controls; below, where
    each of `controls` looks. `predicted`: a zone, first timestep and the one after its last, as a coloured strip."""
    size: dict[str, Any] = {"figsize": (6.4, 4.8), "sharex": True, "height_ratios": [3, 2], "layout": "constrained"}
    figure, (above, below) = plt.subplots(2, 1, **size)
    last, starts, (low, high) = own.coefficients[:, -1], [0, *own.edges], own.intervals
    black = MEANINGS["train"].colour
    for k, (first, after) in enumerate(zip(starts, [*own.edges, schedule.T], strict=True)):
        ends = schedule.log_snr[[after - 1, first]].tolist()
        above.fill_between(ends, low[k], high[k], color=black, alpha=0.15, linewidth=0)
        above.plot(ends, [last[0, k]] * 2, color=black, linewidth=2)
        words: dict[str, Any] = {"textcoords": "offset points", "size": 7, "ha": "center", "color": "0.35"}
        above.annotate(f"t {first}..{after - 1}", (np.mean(ends), high[k]), (0, 3), rotation=90, va="bottom", **words)
    above.axhline(0, color="0.6", linewidth=0.8)
    if predicted:
        ends = schedule.log_snr[[predicted[1] - 1, predicted[0]]].tolist()
        above.axvspan(*ends, color=MEANINGS["sample"].colour, alpha=0.15, linewidth=0, label="zone by geometry")
        above.legend(loc="upper right", fontsize=7.5)
    above.margins(y=0.42)
    above.set(ylabel="near-copies added, if all\nof p(t) lay in the band")
    for label, look in looks(given("controls", controls)).items():
        below.plot(*controls[label].log_snr_density(schedule), label=label, linewidth=1.6, **look.curve)
    below.set(xlabel=f"log-SNR \u03bb  {style.NOISE_GROWS}", ylabel="density of p", ylim=(0, None))
    below.invert_xaxis()  # of both
    legend_above(figure, below.get_lines())
    return figure


def dose(courses: pd.DataFrame, zone: dict[str, float], groups: Mapping[str, Sequence[str]]) -> Figure:
    """Near-copies at the last step against views of an item in the zone, a mark for each control (the mean over seeds,
    with its standard error). `zone`: the share of each control in the zone; `groups`: controls of one colour."""
    last: Any = courses[(courses.measure == "near-copies") & (courses.step == courses.step.max())]
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for label, look in looks(given("groups", groups)).items():
        by = last[last.control.isin(groups[label])].groupby("control")
        x, y = by.views.first(), by.value.agg(["mean", "sem"])
        ax.errorbar(x * x.index.map(zone), y["mean"], y["sem"], fmt=look.marker, color=look.colour, label=label)
    ax.set(xlabel="views of an item in the zone (steps x batch / items x share)", ylabel="near-copies")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    legend_above(figure, ax.get_legend_handles_labels()[0])
    return figure


def frontier(courses: pd.DataFrame, controls: Sequence[str]) -> Figure:
    """Near-copies against fidelity along training, a line for each control, means over seeds; a mark at each reading.
    Lower at the same fidelity is better."""
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    wide = courses.pivot_table(index=["control", "step"], columns="measure", values="value")
    for label, look in looks(given("controls", controls)).items():
        path = wide.loc[label]
        width = 2.6 if label == "uniform" else 1.4
        ax.plot(path["fidelity"], path["near-copies"], label=label, linewidth=width, marker=look.marker, **look.curve)
    legend_above(figure, ax.get_lines())
    ax.axvline(1, color=MEANINGS["fresh"].colour, linewidth=0.8, linestyle=":")
    ax.annotate("real data", (1, ax.get_ylim()[1]), (3, -9), textcoords="offset points", size=7.5, color="0.35")
    ax.set(xlabel="fidelity (real data: 1)", ylabel="near-copies")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def predictions(findings: Sequence[Finding], xlabel: str = "difference in near-copies") -> Figure:
    """The effect of each prediction with its interval at Holm's level; grey within its margin. The colour of a mark is
    its verdict, the number on the right its seeds; each data set has a panel."""
    shown = given("findings with an effect", [f for f in findings if f.effect is not None])
    rows = list(dict.fromkeys(_row(f) for f in shown))
    datasets = list(dict.fromkeys(f.dataset for f in shown))
    size = (min(10.4, 3.6 + 2.8 * len(datasets)), 1.2 + 0.24 * len(rows))
    figure, axes = plt.subplots(1, len(datasets), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, dataset in zip(axes[0], datasets, strict=True):
        for f, effect in ((f, f.effect) for f in shown if f.dataset == dataset and f.effect):
            row, colour, seeds = rows.index(_row(f)), VERDICTS[f.verdict], f"{f.seeds} seeds"
            ax.fill_betweenx([row - 0.5, row + 0.5], -f.margin, f.margin, color="0.93", linewidth=0)
            ax.plot([effect.low, effect.high], [row, row], color=colour, linewidth=1.4)
            ax.plot(effect.value, row, "o", color=colour, markersize=4.5)
            ax.text(1.01, row, seeds, transform=ax.get_yaxis_transform(), va="center", size=6.5, color="0.35")
        ax.axvline(0, color="0.5", linewidth=0.8)
        ax.set(title=dataset if len(datasets) > 1 else "", xlabel=fill(xlabel, 25))  # a panel has room for no more
        ax.tick_params(axis="y", length=0, grid_alpha=0)
    axes[0, 0].set_yticks(range(len(rows)), rows, size=7.5)
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    legend_above(figure, [Line2D([], [], color=c, marker="o", label=verdict) for verdict, c in VERDICTS.items()])
    return figure


def _row(f: Finding) -> str:
    """Hypothesis and prediction, without saying twice where they are compared."""
    return f"{f.hypothesis}   {f.says.partition(', at ')[0] if ', at ' in f.hypothesis else f.says}"


def seed_lines(curves: Arrays, x: Array, *, ax: Ax = None) -> Axes:
    """A thin line per seed and their mean in bold, {label: (seeds, n)} over `x` (n,), numbers or names in order. NaN
    (not run) leaves a gap."""
    ax = ax or plt.subplots(figsize=(6.2, 3.2), layout="constrained")[1]
    for label, look in looks(given("curves", curves)).items():
        values = numbers(f"curves[{label!r}]", curves[label], None, len(x), gaps=True)
        mean = np.ma.masked_invalid(values).mean(0).filled(np.nan)
        ax.plot(x, values.T, color=look.colour, linewidth=0.7, alpha=0.5)
        ax.plot(x, mean, label=label, linewidth=2.2, marker=look.marker, zorder=5, **look.curve)
    return ax


def seed_dots(panels: Mapping[str, Arrays], *, null: Mapping[str, float] | None = None) -> Figure:
    """A panel per measure, a row per control, {panel: {control: (seeds,)}}: a dot per seed, and the mean as a bar with
    its value. A seed keeps its height within each row. `null` runs a dashed line through a panel (fresh real data)."""
    rows = list(dict.fromkeys(row for panel in given("panels", panels).values() for row in panel))
    figure, axes = style.panels(list(panels), rows, 1.8)
    fresh: dict[str, Any] = {"color": MEANINGS["fresh"].colour, "linestyle": "--", "linewidth": 1.2}
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        if null and name in null:
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
    legend_above(figure, handles)
    return figure
