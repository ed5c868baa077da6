"""The explorers of noise, which a hand moves in the browser, with or without a kernel: an interval; the SNR."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from torch import Tensor

from memlib import Schedule, TimestepDistribution, gaussian_interval, uniform
from memlib.lab import data
from memlib.lab.spectrum import Spectrum
from memlib.timesteps import TAILS
from memlib.viz.explore.noise import TOP, checked
from memlib.viz.explore.playground import SETTINGS, Page, module
from memlib.viz.style import NEVER


class IntervalExplorer(Page):
    """Sliders can be linked to `width` and `centre`, in timesteps (`jslink`)."""

    _esm = module("interval", "panel")
    width, centre = (traitlets.Float().tag(sync=True) for _ in range(2))
    tails = traitlets.Enum(TAILS, TAILS[0]).tag(sync=True)
    spectra = traitlets.Dict().tag(sync=True)

    @property
    def timesteps(self) -> TimestepDistribution:
        """What is shown now, to train with."""
        low, high = self.centre - self.width / 2, self.centre + self.width / 2
        return gaussian_interval(len(self.about["logSnr"]), low, high, tails=self.tails)


class SnrExplorer(Page):
    """Sliders can be linked to `position`, t / (T - 1)."""

    _esm = module("snr", "panel")
    schedule = traitlets.Enum(SETTINGS["schedules"], "linear").tag(sync=True)
    T = traitlets.Int(1000).tag(sync=True)
    position = traitlets.Float(0.25).tag(sync=True)


def _sent(items: Tensor | np.ndarray | None, **about: Any) -> dict[str, Any]:
    shown = checked(data.load("spiral", 256).train if items is None else items)
    return {"about": {"shape": list(shown.shape), **about}, "items": shown.numpy().tobytes()}


def interval_explorer(
    schedule: Schedule | None = None, items: Tensor | np.ndarray | None = None,
    spectra: Mapping[str, Spectrum] | None = None,
) -> IntervalExplorer:  # fmt: skip
    """Drag an interval, or move its width and centre: p(t), noise levels, and items noised at its ends and centre
    (schedule: linear, items: a spiral). `.timesteps` is the distribution shown. With `spectra` of runs on this
    schedule, by the name of the data set, it shows their zones and predicts near-copies."""
    schedule = schedule or Schedule.linear()
    log_snr, _ = uniform(schedule.T).log_snr_density(schedule)  # it refuses an end without signal
    sent = _sent(items, logSnr=log_snr.tolist(), top=TOP, never=NEVER, tails=TAILS)
    sent["spectra"] = {name: _coefficients(spectrum, schedule.T) for name, spectrum in (spectra or {}).items()}
    return IntervalExplorer(width=schedule.T // 2, centre=schedule.T // 4, **sent)


def _coefficients(spectrum: Spectrum, T: int) -> dict[str, Any]:
    """What predicts near-copies at the last step, and the bands whose interval lies above zero."""
    if spectrum.T != T:
        raise ValueError(f"spectra are of T = {spectrum.T}, the schedule has T = {T}; need one of those runs")
    return {
        "edges": spectrum.edges,
        "shares": spectrum.mean_shares.tolist(),
        "copies": float(spectrum.mean_copies[-1]),
        "residual": spectrum.residual,
        "views": float(spectrum.views[-1]),
        "fits": spectrum.coefficients[:, -1].round(7).tolist(),
        "zone": spectrum.zone and [spectrum.zone[0], spectrum.zone[1] - 1],
    }


def snr_explorer(items: Tensor | np.ndarray | None = None) -> SnrExplorer:
    """Schedule, T and a timestep: the SNR there, where uniform sampling spends its draws, and items (a spiral, unless
    given) noised at the same place of three schedules."""
    return SnrExplorer(**_sent(items))
