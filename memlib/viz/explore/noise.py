"""The panel that explorers with a kernel share; the static pictures of the SNR and of an interval."""

import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from memlib import Schedule, TimestepDistribution, gaussian_interval, uniform
from memlib import viz as plots
from memlib.lab import data
from memlib.lab.experiment import SCHEDULES, schedule_named

Drawn = tuple[Figure, str]
UNIFORM, INTERVAL = plots.MEANINGS["uniform"].colour, plots.looks(["interval"])["interval"].colour
TOP = 9  # of T p(t), which is 1 for uniform sampling: one scale for all intervals, so that they compare
LOG_SNR, STEP = "log-SNR (noise grows \u2192)", "timestep t (noise grows \u2192)"
VIEW = "application/vnd.jupyter.widget-view+json"
STILL = "Run this cell to use its sliders. The next figure shows one of their positions."
# JupyterLab's "model not found" in a notebook that is opened again with another kernel: a box without elements
DEAD = ".jp-OutputArea-output.jupyter-widgets:not(:has(*))"
LINE = f'{{content: "{STILL}"; visibility: visible; font-size: 13px}}'
AT_WORK = "explorer-at-work"  # while a picture is drawn; the one before fades if that takes over 0.1 s
STYLE = f"<style>{DEAD} {{visibility: hidden; font-size: 0}} {DEAD}::after {LINE}"
STYLE += f" .{AT_WORK} {{opacity: 0.4; transition: opacity 0.1s 0.1s}}</style>"


def display_widget(widget: widgets.Widget) -> None:
    """Show a widget, with a line of text where it cannot be shown: without a kernel, or in a notebook opened again."""
    display({"text/html": STYLE, "text/plain": ""}, raw=True)
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({VIEW: view, "text/html": f'<p class="explorer">{STILL}</p>', "text/plain": STILL}, raw=True)


class Panel(widgets.VBox):
    """Controls, a reading and a picture; at each move `draw` makes (figure, reading) from the controls' values."""

    def __init__(self, controls: Mapping[str, Any], draw: Callable[..., Drawn], *buttons: widgets.Widget) -> None:
        self.controls, self.draw = controls, draw
        self.places: list[Any] = []
        self.reading, self.picture = widgets.HTML(), widgets.Image(layout={"min_width": "600px"})
        for control in controls.values():
            control.layout.flex = f"1 1 {30 if len(controls) == 3 else 45}%"  # three beside each other, else two
            control.layout.min_width = "200px"
            control.observe(self.move, "value")
        row = widgets.HBox([*controls.values(), *buttons], layout={"flex_flow": "row wrap"})
        super().__init__([row, self.reading, widgets.Box([self.picture], layout={"overflow": "auto"})])
        self.show(*draw(**{name: control.value for name, control in controls.items()}))

    def move(self, _: object) -> None:
        self.picture.add_class(AT_WORK)
        try:
            self.show(*self.draw(**{name: control.value for name, control in self.controls.items()}))
        except Exception as error:  # the reader sees any error where the slider was moved
            self.fail(error)
        self.picture.remove_class(AT_WORK)

    def fail(self, error: Exception) -> None:
        self.reading.value = f"<p><b>{type(error).__name__}</b>: {html.escape(str(error))}</p>"

    def show(self, figure: Figure, text: str) -> None:
        """Replace picture and reading. The axes keep the places they had in the first figure, so that nothing jumps."""
        plt.close(figure)  # else the notebook shows it a second time
        if len(self.places) != len(figure.axes):
            figure.draw_without_rendering()
            self.places = [ax.get_position(original=True) for ax in figure.axes]
        figure.set(layout_engine="none", dpi=144)
        for ax, place in zip(figure.axes, self.places, strict=True):
            ax.set_position(place)
        figure.savefig(file := io.BytesIO(), format="png", pil_kwargs={"compress_level": 1})
        self.picture.layout.width = f"{96 * figure.get_figwidth():.0f}px"
        self.picture.value, self.reading.value = file.getvalue(), f"<p>{html.escape(text)}</p>"

    _ipython_display_ = display_widget


def draw_snr(schedule: str = "linear", T: int = 1000, position: float = 0.25) -> Drawn:
    """log-SNR of the schedules, the density over it of uniform draws, and a spiral at t = position (T-1)."""
    chosen, t = schedule_named(schedule, T), round(position * (T - 1))
    figure, (curves, density, noised) = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained")
    for name, look in plots.looks(SCHEDULES).items():
        width = 2.8 if name == schedule else 1.2
        curves.plot(np.linspace(0, 1, T), schedule_named(name, T).log_snr, label=name, linewidth=width, **look.curve)
    curves.plot(t / (T - 1), chosen.log_snr[t].item(), "ko", markersize=8)
    curves.axhline(0, color="0.4", linewidth=0.8)
    curves.set(xlabel="t / (T \u2212 1) (noise grows \u2192)", ylabel="log-SNR", title="schedules; dot: shown right")
    curves.legend(loc="lower left")
    _dense(density, chosen, uniform(T), UNIFORM, 0.25)
    _noised(noised, data.load("spiral", 256).train, chosen, t, "dot")
    return figure, (
        f"{schedule}, T = {T}, t = {t}: signal share {chosen.alpha_bar[t]:.3g}, SNR {chosen.snr[t]:.3g}, log-SNR "
        f"{chosen.log_snr[t]:.3g}, sigma {chosen.sigma[t]:.3g}. Uniform draws with more noise than signal: "
        f"{(chosen.snr < 1).double().mean():.0%}."
    )


def draw_interval(schedule: Schedule, items: Tensor | np.ndarray, width: float, centre: float) -> Drawn:
    """Above: p(t) and its density over log-SNR, against uniform. Below: items (N, *D) noised at the interval's ends,
    cut to 0..T-1, and at its centre."""
    low, high, even, shown = centre - width / 2, centre + width / 2, uniform(schedule.T), checked(items)
    p = gaussian_interval(schedule.T, low, high)
    figure = plt.figure(figsize=(9.6, 5.0), layout="constrained")
    weight, density, *below = figure.subplot_mosaic("aaabbb;ccddee").values()
    weigh(weight, p)
    for other, colour in ((even, UNIFORM), (p, INTERVAL)):
        _dense(density, schedule, other, colour, TOP * float(even.log_snr_density(schedule)[1].max()))
    figure.legend(handles=weight.lines[:2], loc="outside upper center", ncols=2)
    ends = [round(min(max(t, 0), schedule.T - 1)) for t in (low, centre, high)]
    weight.axvspan(ends[0], ends[2], color=INTERVAL, alpha=0.12, linewidth=0)
    for ax, t, name in zip(below, ends, ("low end", "centre", "high end"), strict=True):
        _noised(ax, shown, schedule, t, name)
    noisy, sigmas = schedule.snr < 1, ", ".join(f"{schedule.sigma[t]:.3g}" for t in ends)
    return figure, (
        f"[{low:g}, {high:g}] holds {p.pmf[ends[0] : ends[2] + 1].sum():.0%} of the draws; "
        f"sigma at its low end, centre and high end: {sigmas}. Draws with more noise than signal: "
        f"{p.pmf[noisy].sum():.0%}, under uniform {even.pmf[noisy].sum():.0%}. Tails: proportional."
    )


def checked(items: Tensor | np.ndarray) -> Tensor:
    """Points, or the first four signals or images, as float32 on the CPU; ValueError if they are none of these."""
    shown = torch.as_tensor(items).detach().cpu().float()
    if shown.shape[1:] != (2,) and shown.ndim != 3 and (shown.ndim != 4 or shown.shape[1] not in (1, 3)):
        wanted = "points (N, 2), signals (N, C, L) or images (N, 1 or 3, H, W)"
        raise ValueError(f"items has shape {tuple(shown.shape)}; need {wanted}")
    return shown if shown.ndim == 2 else shown[:4]


def weigh(ax: Axes, p: TimestepDistribution, name: str = "loss weight") -> None:
    """Draw T p(t) beside that of uniform sampling, or move the curve that is there."""
    if not ax.lines:
        ax.plot(uniform(p.T).effective_weight(), color=UNIFORM, label="uniform sampling")
        ax.plot(p.effective_weight(), color=INTERVAL, label="sampling from the interval")
        ax.set(xlabel=STEP, ylim=(0, TOP))
    ax.lines[1].set_ydata(p.effective_weight())
    ax.set_title(f"{name} T\u00b7p(t), highest {p.effective_weight().max():.3g}")


def window(ax: Axes, middle: Tensor, reach: float) -> None:
    (left, right), (low, high) = ((float(m) - reach, float(m) + reach) for m in middle)
    ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")


def _dense(ax: Axes, schedule: Schedule, p: TimestepDistribution, colour: str, top: float) -> None:
    ax.plot(*p.log_snr_density(schedule), color=colour)
    ax.set(xlabel=LOG_SNR, title="density over log-SNR", xlim=schedule.log_snr[[0, -1]].tolist(), ylim=(0, top))


def _noised(ax: Axes, items: Tensor, schedule: Schedule, t: int, name: str) -> None:
    eps = torch.randn(items.shape, generator=torch.Generator().manual_seed(0))
    plots.grid(schedule.noise(items, torch.full((len(items),), t), eps), label="train", columns=2, ax=ax)
    if items.ndim == 2:  # the noise has unit variance, the data may not
        middle = items.mean(0)
        window(ax, schedule.alpha_bar[t].sqrt() * middle, max(3.5, 1.1 * float((items - middle).abs().max())))
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[], title=f"{name}: t = {t}, \u03c3 = {schedule.sigma[t]:.3g}")
    ax.grid(False)
