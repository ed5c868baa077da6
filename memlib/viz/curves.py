"""Numbers against noise level and against each other: schedules, timestep distributions, losses, metrics."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from memlib.metrics import Estimate
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution
from memlib.viz.style import Array, as_array, labelled, looks, new_axes, number, side_legend, top_legend

NOISE_GROWS = "(more noise to the right)"
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
LANE = 0.055  # height of one "never trained" lane, as a share of its axes


def snr_curves(schedules: Mapping[str, Schedule]) -> Figure:
    """SNR and sigma (log y) and log-SNR against t, one line per schedule; a thin line marks where signal equals noise.

    A zero terminal SNR, infinite in log-SNR and sigma, is left out. Raises ValueError if `schedules` is empty.
    """
    schedules = labelled("schedules", schedules)
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
    titles = (
        "SNR = \u03b1\u0305 / (1 \u2212 \u03b1\u0305)",
        "log-SNR \u03bb = ln SNR",
        "noise to signal \u03c3 = 1/\u221aSNR",
    )
    for ax, quantity, title in zip(axes, ("snr", "log_snr", "sigma"), titles, strict=True):
        for label, look in looks(schedules).items():
            t = np.flatnonzero(np.isfinite(np.asarray(schedules[label].log_snr)))
            ax.plot(t, np.asarray(getattr(schedules[label], quantity))[t], label=label, **look.curve)
        linear = quantity == "log_snr"
        ax.axhline(0 if linear else 1, color="0.4", linewidth=0.8, zorder=1)
        ax.set(xlabel="timestep t", title=title, yscale="linear" if linear else "log")
    axes[0].text(0.99, 1.3, "signal = noise", transform=axes[0].get_yaxis_transform(), ha="right", size=8)
    top_legend(figure, axes[0].get_lines()[:-1])
    return figure


def distributions(
    distributions: Mapping[str, TimestepDistribution],
    *,
    schedule: Schedule | None = None,
    weight_axis: bool = False,
    negligible: float = 0.01,
) -> Figure:
    """Probability over t and, given a `schedule`, density over log-SNR: one line per distribution.

    Hatched lanes at the top, one per distribution, mark the steps that it (almost) never trains, where the effective
    loss weight T p(t) is at most `negligible`. `weight_axis` adds T p(t) on the right.
    Raises ValueError if `distributions` is empty, if they differ in T, or if `negligible` is outside [0, 1).
    """
    distributions = labelled("distributions", distributions)
    sizes = {label: distribution.T for label, distribution in distributions.items()}
    T = next(iter(sizes.values()))
    if set(sizes.values()) != {T}:
        raise ValueError(f"distributions: need one common T, got {sizes}")
    if not 0 <= negligible < 1:
        raise ValueError(f"negligible = {negligible}: need a weight in [0, 1), where 1 is that of uniform drawing")
    panels = [{label: (np.arange(T), d.pmf) for label, d in distributions.items()}]
    if schedule is not None:
        panels.append({label: d.log_snr_density(schedule) for label, d in distributions.items()})
    unseen = {label: _runs(np.asarray(d.effective_weight()) <= negligible) for label, d in distributions.items()}

    size = (6.4 if schedule is None else 9.4, 3.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    for ax, curves in zip(axes[0], panels, strict=True):
        _draw_distributions(ax, curves, unseen)
    over_t = axes[0, 0]
    over_t.set(xlabel=f"timestep t  {NOISE_GROWS}", ylabel="probability p(t)")
    if weight_axis:
        right = over_t.secondary_yaxis("right", functions=(lambda p: p * T, lambda weight: weight / T))
        right.set_ylabel("effective loss weight T\u00b7p(t)")
    if schedule is not None:
        axes[0, 1].set(xlabel=f"log-SNR \u03bb  {NOISE_GROWS}", ylabel="density p(\u03bb)")
        axes[0, 1].invert_xaxis()
    handles = [*over_t.get_lines()]
    if any(map(len, unseen.values())):
        mark = f"(almost) never trained: T\u00b7p(t) \u2264 {negligible:g}"
        handles.append(Patch(facecolor="none", edgecolor="0.3", hatch="////", label=mark))
    top_legend(figure, handles)
    return figure


def _runs(mask: np.ndarray) -> np.ndarray:
    """(runs, 2) first and one-past-last index of each stretch of True in `mask` (T,)."""
    return np.flatnonzero(np.diff(np.r_[False, mask, False])).reshape(-1, 2)


def _draw_distributions(ax: Axes, curves: Mapping[str, tuple[Array, Array]], unseen: Mapping[str, np.ndarray]) -> None:
    lanes = [label for label in curves if len(unseen[label])]
    for label, look in looks(curves).items():
        x, density = map(np.asarray, curves[label])
        ax.plot(x, density, label=label, **look.curve)
        ax.fill_between(x, density, color=look.colour, alpha=0.08, linewidth=0)
        edges = np.interp(unseen[label] - 0.5, np.arange(len(x)), x)  # of steps, each from t - 1/2 to t + 1/2
        lane = (1 - LANE * (lanes.index(label) + 1), 0.7 * LANE) if label in lanes else (0, 0)
        ax.broken_barh(
            [(left, right - left) for left, right in edges],
            lane,
            transform=ax.get_xaxis_transform(),
            facecolor="none",
            edgecolor=look.colour,
            linestyle=look.line,
            hatch="//////",
        )
    highest = max(float(density.max()) for _, density in curves.values())
    ax.set_ylim(0, 1.05 * highest / (1 - LANE * len(lanes)))  # the lanes stand above the curves


def loss_per_band(
    losses: Mapping[str, Array],
    *,
    T: int = 1000,
    gap: tuple[str, str] | None = None,
    ylabel: str = "MSE of predicted noise",
    ax: Axes | None = None,
) -> Axes:
    """A value per equal band of t, {label: (bands,)}, at the bands' centres; NaN (no draw in that band) leaves a gap.

    `gap` names two labels, such as ("train", "held-out"), and shades the area between them: where it opens, the network
    knows its training set. y is logarithmic unless a value is <= 0 (a difference of losses).
    Raises ValueError for an empty mapping, unequal numbers of bands, values all NaN, an unknown label in `gap`, T < 1.
    """
    bands = _bands("losses", losses)
    if T < 1:
        raise ValueError(f"T = {T}: need at least 1 timestep")
    if gap is not None and not set(gap) <= set(bands):
        raise ValueError(f"gap = {gap}: both must be among the labels {list(bands)}")
    ax = new_axes(ax, 6.2, 3.2)
    count = len(next(iter(bands.values())))
    centres = (np.arange(count) + 0.5) * T / count
    for label, look in looks(bands).items():
        ax.plot(centres, bands[label], label=label, marker=look.marker, **look.curve)
    if gap is not None:
        ax.fill_between(centres, *(bands[label] for label in gap), color="0.85", label="gap")
    if min(np.nanmin(values) for values in bands.values()) > 0:
        ax.set_yscale("log")
    else:
        ax.axhline(0, color="0.4", linewidth=0.8, zorder=1)
    ax.set(xlim=(0, T), xlabel=f"timestep t  {NOISE_GROWS}", ylabel=ylabel)
    place = ax.get_subplotspec()
    if place and not place.is_last_row() and len(ax.get_shared_x_axes().get_siblings(ax)) > 1:
        ax.set_xlabel("")  # the axes below say it
    side_legend(ax)
    return ax


def band_contributions(contributions: Mapping[str, Array], edges: Sequence[float], *, ax: Axes | None = None) -> Axes:
    """The share of its total that each band of log-SNR takes, {label: (bands,)} >= 0, as grouped bars.

    `edges` (bands + 1,) are the bands' log-SNR limits, rising or falling; noise grows to the right either way. A dotted
    line marks equal shares. Raises ValueError for an empty mapping, values < 0, a total of 0, edges that do not fit.
    """
    bands = _bands("contributions", contributions)
    count = len(next(iter(bands.values())))
    limits = as_array("edges", edges, (count + 1,))
    steps = np.diff(limits)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"edges: must rise or fall throughout, got {limits.tolist()}")
    for label, values in bands.items():
        if not (values.min() >= 0 and values.sum() > 0):
            raise ValueError(f"contributions[{label!r}]: need values >= 0 with a sum > 0, got {values.tolist()}")
    noisier = slice(None, None, -1 if steps[0] > 0 else 1)
    ax = new_axes(ax, 6.6, 3.2)
    width = 0.8 / len(bands)
    for i, (label, look) in enumerate(looks(bands).items()):
        share = 100 * bands[label][noisier] / bands[label].sum()
        left = np.arange(count) + 0.1 + i * width
        hatch = HATCHES[i % len(HATCHES)]
        ax.bar(left, share, width, align="edge", color=look.colour, edgecolor="white", hatch=hatch, label=label)
    ax.axhline(100 / count, color="0.2", linestyle=":", linewidth=1.2, label="equal shares")
    ax.set_xticks(range(count + 1), [number(limit) for limit in limits[noisier]])
    ax.set(xlabel=f"log-SNR \u03bb at the bands' edges  {NOISE_GROWS}", ylabel="share of the total (%)")
    side_legend(ax)
    return ax


def _bands(name: str, mapping: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """{label: (bands,)} checked: equally many bands, none of the labels without a measured one."""
    items = labelled(name, mapping).items()
    bands = {label: as_array(f"{name}[{label!r}]", values, (None,), gaps=True) for label, values in items}
    counts = {label: len(values) for label, values in bands.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name}: need the same number of bands for each label, got {counts}")
    for label, values in bands.items():
        if np.isnan(values).all():
            raise ValueError(f"{name}[{label!r}]: every value is NaN, no band was measured")
    return bands


def compare(
    rows: Mapping[str, Mapping[str, Estimate | float]], metrics: Sequence[str], *, null: str | None = None
) -> Figure:
    """One column per metric, one row per set: a dot, its interval where the value is an Estimate, and the number.

    `null` names the row (fresh real data) whose value and interval run through every column: only what lies off it says
    something. A metric that a row lacks shows as a dash.
    Raises ValueError for empty rows or metrics, a metric that no row has, an unknown `null`, a value not finite.
    """
    rows = labelled("rows", rows)
    if not len(metrics):
        raise ValueError(f"metrics: need a list of at least one name, got {metrics!r}")
    known = sorted({metric for row in rows.values() for metric in row})
    unknown = [metric for metric in metrics if metric not in known]
    if unknown:
        raise ValueError(f"metrics: no row has {unknown}; the rows have {known}")
    if null is not None and null not in rows:
        raise ValueError(f"null = {null!r}: must be one of the rows {list(rows)}")
    cells = [
        {label: _interval(f"rows[{label!r}][{metric!r}]", row[metric]) for label, row in rows.items() if metric in row}
        for metric in metrics
    ]
    size = (1.6 + 2.3 * len(metrics), 1.0 + 0.42 * len(rows))
    figure, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for ax, metric, column in zip(axes[0], metrics, cells, strict=True):
        if null in column:
            low, value, high = column[null]
            ax.axvspan(low, high, color="0.9", linewidth=0, zorder=0)
            ax.axvline(value, color="0.5", linewidth=1, linestyle="--", zorder=1)
        _draw_column(ax, list(rows), column)
        ax.set_xlabel("\n".join(textwrap.wrap(metric, 28)))
    axes[0, 0].set_yticks(range(len(rows)), list(rows))
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.6)
    return figure


def _interval(name: str, value: Estimate | float) -> tuple[float, float, float]:
    """(low, value, high) of an Estimate, or of a number that has no interval."""
    ends = [getattr(value, end, value) for end in ("low", "value", "high")]
    low, middle, high = as_array(name, ends, (3,)).tolist()
    if not low <= middle <= high:
        raise ValueError(f"{name}: {middle:g} lies outside its own interval [{low:g}, {high:g}]")
    return low, middle, high


def _draw_column(ax: Axes, labels: list[str], column: Mapping[str, tuple[float, float, float]]) -> None:
    for row, (label, look) in enumerate(looks(labels).items()):
        if label not in column:
            ax.text(0.5, row, "\u2013", transform=ax.get_yaxis_transform(), ha="center", va="center", color="0.5")
            continue
        low, value, high = column[label]
        error = [[value - low], [high - value]] if high > low else None
        ax.errorbar(value, row, xerr=error, color=look.colour, marker=look.marker, capsize=3, linestyle="none")
        plate = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
        text = number(value)
        ax.annotate(text, (value, row), (0, 5), textcoords="offset points", ha="center", size=7.5, bbox=plate)
    ax.margins(x=0.18)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
