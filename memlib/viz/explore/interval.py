"""The explorers of noise, which a hand moves in the browser, with or without a kernel: an interval; the SNR."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from torch import Tensor

from memlib import Schedule, TimestepDistribution, gaussian_interval
from memlib.lab import data
from memlib.timesteps import TAILS
from memlib.viz.explore.noise import TOP, checked
from memlib.viz.explore.playground import SETTINGS, Page, module
from memlib.viz.style import NEVER


class Explorer(Page):
    about = traitlets.Dict().tag(sync=True)
    items = traitlets.Bytes().tag(sync=True)


class IntervalExplorer(Explorer):
    """`low`, `high`, `width` and `centre` agree, whichever is set; sliders can be linked to them (`jslink`)."""

    _esm = module("interval", "panel")
    low, high, width, centre = (traitlets.Float().tag(sync=True) for _ in range(4))
    tails = traitlets.Enum(TAILS, TAILS[0]).tag(sync=True)

    @traitlets.observe("low", "high", "width", "centre")
    def _agree(self, change: Any) -> None:
        low, high = self.low, self.high
        if change.name in ("width", "centre"):
            low, high = self.centre - self.width / 2, self.centre + self.width / 2
        with self.hold_trait_notifications():
            self.low, self.high, self.width, self.centre = low, high, high - low, (low + high) / 2

    @property
    def timesteps(self) -> TimestepDistribution:
        """What is shown now, to train with."""
        return gaussian_interval(len(self.about["logSnr"]), self.low, self.high, tails=self.tails)


class SnrExplorer(Explorer):
    """Sliders can be linked to `position`, t / (T - 1)."""

    _esm = module("snr", "panel")
    schedule = traitlets.Enum(SETTINGS["schedules"], "linear").tag(sync=True)
    T = traitlets.Int(1000).tag(sync=True)
    position = traitlets.Float(0.25).tag(sync=True)


def _sent(items: Tensor | np.ndarray | None, **about: Any) -> dict[str, Any]:
    shown = checked(data.load("spiral", 256).train if items is None else items)
    shown = shown if shown.ndim == 2 else shown[:4]
    return {"about": {"shape": list(shown.shape), **about}, "items": shown.numpy().tobytes()}


def interval_explorer(schedule: Schedule | None = None, items: Tensor | np.ndarray | None = None) -> IntervalExplorer:
    """Drag an interval, or move its width and centre: p(t), noise levels, and items noised at its ends and centre
    (schedule: linear, items: a spiral). `.timesteps` is the distribution shown."""
    schedule = schedule or Schedule.linear()
    sent = _sent(items, logSnr=schedule.log_snr.tolist(), top=TOP, never=NEVER, tails=TAILS)
    return IntervalExplorer(width=schedule.T // 2, centre=schedule.T // 4, **sent)


def snr_explorer(items: Tensor | np.ndarray | None = None) -> SnrExplorer:
    """Schedule, T and a timestep: the SNR there, where uniform sampling spends its draws, and items (a spiral, unless
    given) noised at the same place of three schedules."""
    return SnrExplorer(**_sent(items))
