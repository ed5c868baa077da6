"""Sliders over what needs no network: schedules and their SNR, the interval and what it trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from memlib import viz as plots
from memlib.lab import data, experiment
from memlib.schedules import Schedule
from memlib.timesteps import TAILS, TimestepDistribution, gaussian_interval, uniform
from memlib.viz.explore.panel import DATA, INTERVAL, NOISE_GROWS, UNIFORM, Panel

SCHEDULES = {name: getattr(Schedule, name) for name in experiment.SCHEDULES}
BANDS = 8


class _Stage(NamedTuple):
    """The interval's figure, in which only what depends on the interval changes from one to the next."""

    figure: Figure
    curves: list[Line2D]
    bars: BarContainer
    peaks: list[float]
    """The highest value of uniform drawing in each of the upper axes."""
    span: Rectangle
    noised: list[Callable[[int], None]]


def snr_explorer() -> widgets.Widget:
    """Schedule, T and a timestep: the SNR there, what uniform drawing spends on each noise band, data so noised."""
    controls = {
        "schedule": widgets.Dropdown(options=list(SCHEDULES), description="schedule"),
        "T": widgets.Dropdown(options=[50, 100, 500, 1000], value=1000, description="T"),
        "position": widgets.FloatSlider(0.25, min=0, max=1, step=0.01, description="t / (T-1)"),
    }
    return Panel(controls, draw_snr, "position")


def draw_snr(schedule: str = "linear", T: int = 1000, position: float = 0.25) -> tuple[Figure, str]:
    """log-SNR of the schedules, uniform drawing's share of equal log-SNR bands, and a spiral at t = position (T-1).

    Raises ValueError for an unknown schedule, a T that it cannot have, or a position outside [0, 1]."""
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule = {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    if not 0 <= position <= 1:
        raise ValueError(f"position = {position}; need a share of T-1, in [0, 1]")
    chosen, t = SCHEDULES[schedule](T), round(position * (T - 1))
    figure, (curves, bars, picture) = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained")
    for name, look in plots.looks(SCHEDULES).items():
        width = 2.8 if name == schedule else 1.2
        curves.plot(np.linspace(0, 1, T), SCHEDULES[name](T).log_snr, label=name, linewidth=width, **look.curve)
    log_snr = chosen.log_snr[t].item()
    curves.axhline(0, color="0.4", linewidth=0.8)
    curves.plot(t / (T - 1), log_snr, "o", color=DATA, markersize=8)
    curves.set(xlabel=f"t / (T \u2212 1) {NOISE_GROWS}", ylabel="log-SNR", title="the schedules; dot: shown right")
    curves.legend(loc="lower left")
    _draw_bands(bars, chosen, _shares(chosen, uniform(T)), UNIFORM)
    bars.set_title("where uniform drawing spends its draws")
    _noiser(picture, data.load("spiral", 256).train, chosen, "dot")(t)
    text = (
        f"{schedule}, T = {T}, t = {t}: signal share {chosen.alpha_bar[t]:.3g}, SNR {chosen.snr[t]:.3g}, log-SNR "
        f"{log_snr:.2f}, sigma {chosen.sigma[t]:.3g}. Uniform draws with more noise than signal: "
        f"{(chosen.snr < 1).double().mean():.0%}."
    )
    return figure, text


def interval_explorer(schedule: Schedule | None = None, items: Tensor | None = None) -> widgets.Widget:
    """Width, centre, confidence and tails of the interval, and what it trains: `draw_interval`.

    schedule: linear, and items (N, *D): a spiral, unless given.
    """
    schedule = schedule or Schedule.linear()
    items = data.load("spiral", 256).train if items is None else items
    controls = {
        "width": widgets.IntSlider(500, min=10, max=2000, step=10, description="width"),
        "centre": widgets.IntSlider(250, min=0, max=schedule.T - 1, step=1, description="centre"),
        "confidence": widgets.FloatSlider(0.95, min=0.5, max=0.99, step=0.01, description="confidence"),
        "tails": widgets.Dropdown(options=TAILS, description="tails"),
    }
    stage = cache(lambda: _build(schedule, items))
    return Panel(controls, lambda **values: (stage().figure, _choose(stage(), schedule, **values)), "width")


@plots.style.all_or_none()
def draw_interval(
    schedule: Schedule, items: Tensor, width: float = 500, centre: float = 250, confidence: float = 0.95,
    tails: str = "proportional",
) -> tuple[Figure, str]:  # fmt: skip
    """Above: p(t), density over log-SNR, share of draws per band, against uniform. Below: items (N, *D) noised at the
    interval's ends, cut to 0..T-1, and at its centre. Raises ValueError for values that make no interval."""
    plots.style.as_items("items", items)
    stage = _build(schedule, items.float())
    return stage.figure, _choose(stage, schedule, width, centre, confidence, tails)


def _build(schedule: Schedule, items: Tensor) -> _Stage:
    """Uniform drawing, and the artists that will show the interval: to begin with, they show uniform drawing, too."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.6), layout="constrained")
    weight, density, bands = axes[0]
    even = uniform(schedule.T)
    loss, (log_snr, dense), share = _profile(schedule, even)
    curves = []
    for ax, x, y in ((weight, range(schedule.T), loss), (density, log_snr, dense)):
        ax.plot(x, y, color=UNIFORM, label="uniform drawing")
        curves += ax.plot(x, y, color=INTERVAL, label="drawing from the interval (shaded)")
    span = weight.axvspan(0, schedule.T - 1, color=INTERVAL, alpha=0.12, linewidth=0)
    weight.set(xlabel=f"timestep t {NOISE_GROWS}", title="effective loss weight T\u00b7p(t)")
    density.set(xlabel=f"log-SNR {NOISE_GROWS}", title="density over log-SNR")
    density.invert_xaxis()
    _draw_bands(bands, schedule, share, UNIFORM, 0, 2)
    bars = _draw_bands(bands, schedule, share, INTERVAL, 1, 2)
    bands.set_title("where the draws are spent")
    for ax in axes[0]:
        ax.locator_params(nbins=5)
    figure.legend(handles=weight.get_lines(), loc="outside upper center", ncols=2)
    peaks = [float(values.max()) for values in (loss, dense, share)]
    names = ("low end", "centre", "high end")
    noised = [_noiser(ax, items, schedule, name) for ax, name in zip(axes[1], names, strict=True)]
    return _Stage(figure, curves, bars, peaks, span, noised)


def _choose(stage: _Stage, schedule: Schedule, width: float, centre: float, confidence: float, tails: str) -> str:
    """Show this interval on the stage; what is to be read of it."""
    low, high = centre - width / 2, centre + width / 2
    drawn, even = gaussian_interval(schedule.T, low, high, confidence, tails), uniform(schedule.T)
    loss, (_, dense), share = _profile(schedule, drawn)
    for line, values in zip(stage.curves, (loss, dense), strict=True):
        line.set_ydata(values)
    for bar, height in zip(stage.bars, share, strict=True):
        bar.set_height(height)
    for ax, values, peak in zip(stage.figure.axes, (loss, dense, share), stage.peaks, strict=False):
        ax.set_ylim(0, 1.05 * max(float(values.max()), peak))
    ends = [round(min(max(t, 0), schedule.T - 1)) for t in (low, centre, high)]
    stage.span.set(x=ends[0], width=ends[2] - ends[0])
    for show, t in zip(stage.noised, ends, strict=True):
        show(t)
    sigmas = ", ".join(f"{schedule.sigma_at(t):.3g}" for t in ends)
    return (
        f"[{low:g}, {high:g}] holds {drawn.pmf[ends[0] : ends[2] + 1].sum():.0%} of the draws; sigma at its low end, "
        f"centre and high end: {sigmas}. Draws with more noise than signal: {drawn.pmf[schedule.snr < 1].sum():.0%}, "
        f"under uniform {even.pmf[schedule.snr < 1].sum():.0%}. Tails: {tails}."
    )


def _profile(schedule: Schedule, p: TimestepDistribution) -> tuple[Tensor, tuple[Tensor, Tensor], np.ndarray]:
    """Effective loss weight over t; log-SNR and the density over it; share of the draws (%) in equal bands of it."""
    return p.effective_weight(), p.log_snr_density(schedule), _shares(schedule, p)


def _shares(schedule: Schedule, p: TimestepDistribution) -> np.ndarray:
    return 100 * np.histogram(schedule.log_snr, BANDS, weights=p.pmf)[0]


def _draw_bands(
    ax: Axes, schedule: Schedule, share: np.ndarray, colour: str, place: int = 0, places: int = 1
) -> BarContainer:
    """The shares in equal bands of log-SNR as bars, the `place`-th of `places` side by side in each band."""
    edges = np.histogram_bin_edges(schedule.log_snr, BANDS)
    width = 0.8 * np.diff(edges) / places
    right = edges[1:] - 0.1 * np.diff(edges) - place * width
    ax.set(xlabel=f"log-SNR {NOISE_GROWS}", ylabel="share of draws (%)", xlim=edges[[-1, 0]])
    return ax.bar(right, share, -width, align="edge", color=colour)


def _noiser(ax: Axes, items: Tensor, schedule: Schedule, name: str) -> Callable[[int], None]:
    """Prepare `ax`; what is returned shows the items (N, ...) noised at the timestep it is given: points (N, 2) as a
    cloud; of signals the first, of images the first four."""
    items = items if items.ndim == 2 else items[: 4 if items.ndim == 4 else 1]
    eps = torch.randn(items.shape, generator=torch.Generator().manual_seed(0))
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=items.ndim < 4, color="0.8")
    reach = max(3.5, float(items.abs().max()))  # of noised items: they are mixed with noise of unit variance
    if items.ndim == 2:
        cloud = ax.plot([], [], "o", color=DATA, markersize=2.4, markeredgewidth=0)[0].set_data
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    elif items.ndim == 3:
        curves = ax.plot(items[0].T, color=DATA, linewidth=1.2)
        ax.set_ylim(-reach, reach)
    else:
        image = ax.imshow(_together(items))

    def show(t: int) -> None:
        noised = schedule.noise(items, torch.full((len(items),), t), eps)
        if items.ndim == 2:
            cloud(noised.T)
        elif items.ndim == 3:
            for curve, channel in zip(curves, noised[0], strict=True):
                curve.set_ydata(channel)
        else:
            image.set_data(_together(noised))
        ax.set_title(f"{name}: t = {t}, \u03c3 = {schedule.sigma[t]:.3g}")

    return show


def _together(images: Tensor) -> np.ndarray:
    """Four images two by two, fewer in a row."""
    pictures = [plots.style.picture(image) for image in images.numpy()]
    rows = (pictures[:2], pictures[2:]) if len(pictures) == 4 else (pictures,)
    return np.vstack([np.hstack(row) for row in rows])
