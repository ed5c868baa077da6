"""Sliders over what needs no network: schedules and their SNR, the interval and what it trains."""

from __future__ import annotations

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .. import data, experiment, plots
from ..schedules import Schedule
from ..timesteps import TAILS, TimestepDistribution, gaussian_interval, uniform
from .panel import DATA, INTERVAL, UNIFORM, Panel

SCHEDULES = {name: getattr(Schedule, name) for name in experiment.SCHEDULES}
BANDS = 8


def snr_explorer() -> widgets.Widget:
    """Schedule, T and a timestep: the SNR there, what uniform drawing spends on each noise band, data so noised."""
    controls = {
        "schedule": widgets.Dropdown(options=list(SCHEDULES), description="schedule"),
        "T": widgets.Dropdown(options=[50, 100, 500, 1000], value=1000, description="T"),
        "position": widgets.FloatSlider(0.25, min=0, max=1, step=0.01, description="t / (T-1)"),
    }
    return Panel(controls, draw_snr, "position")


def draw_snr(schedule: str = "linear", T: int = 1000, position: float = 0.25) -> tuple[Figure, str]:
    """log-SNR of the schedules, uniform drawing's share of equal log-SNR bands, and a spiral at t = position (T-1)."""
    chosen, t = SCHEDULES[schedule](T), round(position * (T - 1))
    figure, (curves, bars, picture) = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained")
    for name, build in SCHEDULES.items():
        look = {"color": UNIFORM, "linewidth": 2.4} if name == schedule else {"color": "0.7", "linewidth": 1.2}
        curves.plot(np.linspace(0, 1, T), build(T).log_snr, label=name, **look)
    log_snr = chosen.log_snr[t].item()
    curves.axhline(0, color="0.4", linewidth=0.8)
    curves.plot(t / (T - 1), log_snr, "o", color=INTERVAL, markersize=8)
    curves.set(xlabel="t / (T-1)", ylabel="log-SNR", title=f"log-SNR; {schedule} in blue")
    _draw_bands(bars, chosen)
    bars.set_title("share of uniform draws per log-SNR band")
    _draw_noised(picture, data.load("spiral", 256).train, chosen, t)
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
    return Panel(controls, lambda **values: draw_interval(schedule, items, **values), "width")


def draw_interval(
    schedule: Schedule, items: Tensor, width: float = 500, centre: float = 250, confidence: float = 0.95,
    tails: str = "proportional",
) -> tuple[Figure, str]:  # fmt: skip
    """Above: p(t), density over log-SNR, share of draws per band, against uniform. Below: items (N, *D) noised at the
    interval's ends, cut to 0..T-1, and at its centre. Raises ValueError for values that make no interval."""
    low, high = centre - width / 2, centre + width / 2
    drawn, even = gaussian_interval(schedule.T, low, high, confidence, tails), uniform(schedule.T)
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.6), layout="constrained")
    for p, colour in ((even, UNIFORM), (drawn, INTERVAL)):
        for ax, (x, y) in zip(axes[0], ((range(p.T), p.effective_weight()), p.log_snr_density(schedule)), strict=False):
            ax.plot(x, y, color=colour)
    axes[0, 0].axvspan(max(low, 0), min(high, schedule.T - 1), color=INTERVAL, alpha=0.1, linewidth=0)
    axes[0, 0].set(xlabel="timestep t (noise grows)", title="effective loss weight T p(t)", ylim=(0, None))
    axes[0, 1].set(xlabel="log-SNR (noise grows)", title="density over log-SNR", ylim=(0, None))
    axes[0, 1].invert_xaxis()
    _draw_bands(axes[0, 2], schedule, drawn)
    axes[0, 2].set_title("share of draws; blue: uniform")
    ends = [round(min(max(t, 0), schedule.T - 1)) for t in (low, centre, high)]
    for ax, t in zip(axes[1], ends, strict=True):
        _draw_noised(ax, items, schedule, t)
    sigmas = ", ".join(f"{schedule.sigma_at(t):.3g}" for t in ends)
    text = (
        f"[{low:g}, {high:g}] holds {drawn.pmf[ends[0] : ends[2] + 1].sum():.0%} of the draws; sigma at its low end, "
        f"centre and high end: {sigmas}. Draws with more noise than signal: {drawn.pmf[schedule.snr < 1].sum():.0%}, "
        f"under uniform {even.pmf[schedule.snr < 1].sum():.0%}. Tails: {tails}."
    )
    return figure, text


def _draw_bands(ax: Axes, schedule: Schedule, drawn: TimestepDistribution | None = None) -> None:
    """Shares of the draws, uniform and from `drawn`, in equal bands of log-SNR."""
    shown = {UNIFORM: uniform(schedule.T)} | ({INTERVAL: drawn} if drawn else {})
    for i, (colour, p) in enumerate(shown.items()):
        share, edges = np.histogram(schedule.log_snr, BANDS, weights=p.pmf)
        width = 0.8 * np.diff(edges) / len(shown)
        right = edges[1:] - 0.1 * np.diff(edges) - i * width
        ax.bar(right, 100 * share, -width, align="edge", color=colour)
    ax.set(xlabel="log-SNR (noise grows)", ylabel="%")
    ax.invert_xaxis()


def _draw_noised(ax: Axes, items: Tensor, schedule: Schedule, t: int) -> None:
    """Points (N, 2) as a cloud; of signals the first, of images the first four, (N, C, ...), all at timestep t."""
    items = items if items.ndim == 2 else items[: 4 if items.ndim == 4 else 1]
    eps = torch.randn(items.shape, generator=torch.Generator().manual_seed(0))
    noised = schedule.noise(items, torch.full((len(items),), t), eps)
    if items.ndim == 2:
        ax.scatter(*noised.T, s=6, color=DATA, linewidth=0)
        ax.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    elif items.ndim == 3:
        ax.plot(noised[0].T, color=DATA)
    else:
        ax.imshow(np.hstack([plots.style.picture(image) for image in noised.numpy()]))
        ax.grid(False)
    ax.set(xticks=[], yticks=[], title=f"t = {t}, \u03c3 = {schedule.sigma[t]:.3g}")
