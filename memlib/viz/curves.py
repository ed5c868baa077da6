"""Numbers against noise level and against each other: schedules, timestep distributions, losses, metrics, planes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from memlib.metrics import Estimate
from memlib.monitor import Reading
from memlib.schedules import Schedule
from memlib.viz import style
from memlib.viz.style import BESIDE, NEVER, NOISE_GROWS, Arrays, Ax, Controls, given, looks, numbers

MSE = "MSE of predicted noise"


def snr_curves(schedules: Mapping[str, Schedule]) -> Figure:
    """SNR, log-SNR and sigma against t, without a zero terminal SNR; a thin line marks where signal equals noise."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
    titles = {"snr": "SNR = \u03b1\u0305 / (1 \u2212 \u03b1\u0305)", "log_snr": "log-SNR \u03bb = ln SNR"}
    titles["sigma"] = "noise to signal \u03c3 = 1/\u221aSNR"
    for ax, (quantity, title) in zip(axes, titles.items(), strict=True):
        for label, look in looks(given("schedules", schedules)).items():
            t = np.flatnonzero(np.isfinite(np.asarray(schedules[label].log_snr)))
            ax.plot(t, np.asarray(getattr(schedules[label], quantity))[t], label=label, **look.curve)
        linear = quantity == "log_snr"
        ax.axhline(0 if linear else 1, color="0.4", linewidth=0.8, zorder=1)
        ax.set(xlabel="timestep t", title=title, yscale="linear" if linear else "log")
    axes[0].text(0.99, 1.3, "signal = noise", transform=axes[0].get_yaxis_transform(), ha="right", size=8)
    style.legend_above(figure, axes[0].get_lines()[:-1])
    return figure


def distributions(distributions: Controls, *, schedule: Schedule | None = None, weight_axis: bool = False) -> Figure:
    """Probability over t (`weight_axis`: and T p(t), at the right) and, given a `schedule`, density over log-SNR.

    A hatched bar above the axes marks the steps that a distribution (almost) never trains, T p(t) <= 0.01."""
    sizes = {label: d.T for label, d in given("distributions", distributions).items()}
    T = max(sizes.values())
    if min(sizes.values()) < T:
        raise ValueError(f"distributions: need one common T, got {sizes}")
    never = {label: np.asarray(d.effective_weight()) <= NEVER for label, d in distributions.items()}
    lanes = [label for label in reversed(never) if never[label].any()]
    size = (9.4, 3.4) if schedule else (6.4, 3.4)
    figure, axes = plt.subplots(1, 1 + bool(schedule), figsize=size, layout="constrained", squeeze=False)
    for label, look in looks(distributions).items():
        for ax in axes[0]:
            own = distributions[label]
            curve = own.log_snr_density(schedule) if schedule and ax is axes[0, 1] else (np.arange(T), own.pmf)
            x, density = map(np.asarray, curve)
            ax.plot(x, density, label=label, **look.curve)
            ax.fill_between(x, density, color=look.colour, alpha=0.08, linewidth=0)
            if label in lanes:
                low, above = 1.02 + 0.05 * lanes.index(label), ax.get_xaxis_transform()
                bar = ax.fill_between(x, low, low + 0.035, never[label], step="mid", transform=above, clip_on=False)
                bar.set(facecolor="none", edgecolor=look.colour, hatch="//////")
    axes[0, 0].set(xlabel=f"timestep t  {NOISE_GROWS}", ylabel="probability p(t)", ylim=(0, None))
    if weight_axis:
        right = axes[0, 0].secondary_yaxis("right", functions=(lambda p: p * T, lambda weight: weight / T))
        right.set_ylabel("effective loss weight T\u00b7p(t)")
    if schedule:
        axes[0, 1].set(xlabel=f"log-SNR \u03bb  {NOISE_GROWS}", ylabel="density p(\u03bb)", ylim=(0, None))
        axes[0, 1].invert_xaxis()
    words = f"(almost) never trained: T\u00b7p(t) \u2264 {NEVER:g}"
    mark = Patch(facecolor="none", edgecolor="0.3", hatch="////", label=words)
    style.legend_above(figure, [*axes[0, 0].get_lines(), *([mark] if lanes else [])])
    return figure


def loss_per_band(losses: Arrays, *, T: int = 1000, gap: Sequence[str] = (), ylabel: str = MSE, ax: Ax = None) -> Axes:
    """A value per equal band of t, {label: (bands,)}, at the bands' centres; NaN (no draw in that band) leaves a gap.

    The area between the two labels of `gap`, ("train", "held-out"), is shaded: where it opens, the network knows its
    training set. y is logarithmic unless a value is at most 0 (a difference of losses)."""
    count = len(next(iter(given("losses", losses).values())))
    bands = {label: numbers(f"losses[{label!r}]", values, count, gaps=True) for label, values in losses.items()}
    ax = ax or plt.subplots(figsize=(6.2, 3.2), layout="constrained")[1]
    centres = (np.arange(count) + 0.5) * T / count
    for label, look in looks(bands).items():
        ax.plot(centres, bands[label], label=label, marker=look.marker, **look.curve)
    if gap:
        ax.fill_between(centres, bands[gap[0]], bands[gap[1]], color="0.85", label="gap")
    ax.set_yscale("linear" if any((values <= 0).any() for values in bands.values()) else "log")
    place = ax.get_subplotspec()  # in a column of axes, the lowest names t for all of them
    ax.set(xlim=(0, T), ylabel=ylabel, xlabel=f"timestep t  {NOISE_GROWS}" if not place or place.is_last_row() else "")
    ax.legend(**BESIDE)
    return ax


def compare(
    rows: Mapping[str, Mapping[str, Estimate | float]], metrics: Sequence[str], *, null: str | None = None
) -> Figure:
    """One column per metric, one row per set: a dot, its interval where the value is an Estimate, and the number.

    The value and interval of the row `null` (fresh real data) run through every column: only what lies off them says
    something. A metric that a row lacks shows as a dash."""
    if unknown := [m for m in given("metrics", metrics) if not any(m in row for row in given("rows", rows).values())]:
        raise ValueError(f"metrics: no row has {unknown}")
    if null is not None and null not in rows:
        raise ValueError(f"null = {null!r}: must be one of the rows {list(rows)}")
    figure, axes = style.panels(metrics, list(rows), 2.3)
    for ax, metric in zip(axes, metrics, strict=True):
        for y, (label, look) in enumerate(looks(rows).items()):
            if metric not in rows[label]:
                ax.text(0.5, y, "\u2013", transform=ax.get_yaxis_transform(), ha="center", va="center")
                continue
            known = rows[label][metric]
            ends = [getattr(known, end, known) for end in ("low", "value", "high")]
            low, value, high = numbers(f"rows[{label!r}][{metric!r}]", ends, 3)
            if label == null:
                ax.axvspan(low, high, color="0.9", linewidth=0, zorder=0)
                ax.axvline(value, color="0.5", linewidth=1, linestyle="--", zorder=1)
            error = [[value - low], [high - value]] if high > low else None
            ax.errorbar(value, y, xerr=error, color=look.colour, marker=look.marker, capsize=3)
            style.note(ax, value, y, style.number(value))
    return figure


def monitor_curves(readings: Sequence[Reading]) -> Figure:
    """What a `Monitor` has read: near-copies over steps, with the step about which copying begins and its interval; the
    losses on training and held-out items; and, in the last reading, the gap between them by band of t."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3), layout="constrained")
    steps, last = [reading.step for reading in given("readings", readings)], readings[-1]
    look = looks(["sample", "held out", "train"])
    low, share, high = (np.array([getattr(r.copies, end) for r in readings]) for end in ("low", "value", "high"))
    axes[0].fill_between(steps, low, high, color=look["sample"].colour, alpha=0.2, linewidth=0)
    axes[0].plot(steps, share, label="samples", marker=look["sample"].marker, **look["sample"].curve)
    axes[0].axhline(last.null.value, label="held-out items", **look["held out"].curve)
    if last.begin:
        axes[0].axvspan(last.begin.low, last.begin.high, color="0.92", linewidth=0, zorder=0)
        axes[0].axvline(last.begin.value, color="0.3", linestyle=":", label=f"begins about {last.begin.value:.0f}")
    axes[0].set(xlabel="step", ylabel="share of near-copies", ylim=(0, 1))
    for part, label in enumerate(("train", "held out")):
        axes[1].plot(steps, [float(r.losses[part].mean()) for r in readings], label=label, **look[label].curve)
    axes[1].set(xlabel="step", ylabel=MSE)
    gaps = zip(*((band, gap.value, gap.high - gap.value) for band, gap in enumerate(last.gap, 1)), strict=True)
    axes[2].errorbar(*gaps, color=look["train"].colour, marker="o", linestyle="", capsize=3)
    axes[2].axhline(0, color="0.4", linewidth=0.8)
    axes[2].set(xlabel=f"band of t  {NOISE_GROWS}", ylabel=f"held-out less train, step {last.step}")
    for ax in axes[:2]:
        ax.legend(loc="best")
    return figure


def watch(readings: Sequence[Reading], handle: DisplayHandle | None = None) -> DisplayHandle | None:
    """Show `monitor_curves` in a notebook and, given the handle that it returned, in the same place again."""
    figure = monitor_curves(readings)
    if handle is None:
        handle = display(figure, display_id=True)
    else:
        handle.update(figure)
    plt.close(figure)
    return handle
