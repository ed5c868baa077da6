"""Noise schedules: how much signal is left at each timestep.

Conventions: t = 0 is nearly clean and t = T-1 nearly pure noise, alpha_bar falls with t, and
x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps. Everything is kept in float64.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memlib.checks import INDICES, check_count

SIGNAL_LEFT = 0.05  # sqrt(alpha_bar) at the last step above which sampling starts visibly from the wrong place


@dataclass(frozen=True, eq=False)
class Schedule:
    """The share of signal variance alpha_bar, (T,), strictly decreasing in [0, 1); 0 is allowed at the last step only.

    Raises TypeError if `alpha_bar` is no sequence of numbers and ValueError if it is not such a curve. Warns where
    the last step still carries signal, since a sampler starts there from pure noise (Lin et al. 2305.08891).
    """

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        alpha_bar = vector(self.alpha_bar, "alpha_bar")
        if len(alpha_bar) < 2:
            raise ValueError(f"alpha_bar has {len(alpha_bar)} timestep(s); a schedule needs T >= 2")
        if not (alpha_bar.min() >= 0 and alpha_bar.max() < 1):
            low, high = alpha_bar.min().item(), alpha_bar.max().item()
            raise ValueError(f"alpha_bar spans [{low:g}, {high:g}]; it must stay in [0, 1)")
        rises = (alpha_bar.diff() >= 0).nonzero()
        if len(rises):
            raise ValueError(
                f"alpha_bar does not fall from t = {rises[0].item()} to the next; it must strictly decrease"
            )
        object.__setattr__(self, "alpha_bar", alpha_bar)
        signal = math.sqrt(alpha_bar[-1].item())
        if signal > SIGNAL_LEFT:
            warnings.warn(
                f"the last timestep still carries signal: sqrt(alpha_bar) = {signal:.3f} > {SIGNAL_LEFT}; samplers "
                "start from pure noise there, so samples will be off. Use a schedule that ends with more noise.",
                stacklevel=3,
            )

    @classmethod
    def from_betas(cls, betas: Tensor) -> Schedule:
        """alpha_bar_t = prod_{s <= t} (1 - beta_s) from betas (T,) in (0, 1), the last in (0, 1]; else ValueError."""
        betas = vector(betas, "betas")
        if not (betas > 0).all() or not (betas[:-1] < 1).all() or not (betas[-1:] <= 1).all():
            low, high = betas.min().item(), betas.max().item()
            raise ValueError(f"betas span [{low:g}, {high:g}]; each must lie in (0, 1), the last in (0, 1]")
        return cls((1 - betas).cumprod(0))

    @classmethod
    def linear(cls, T: int = 1000) -> Schedule:
        """Betas rising linearly from 1e-4 to 0.02, times 1000/T (Ho et al. 2006.11239).

        Raises ValueError where T is so small that a beta would reach 1 (T <= 20).
        """
        check_count(T, "T", 2)
        scale = 1000 / T
        if 0.02 * scale >= 1:
            raise ValueError(f"T = {T} makes the last beta {0.02 * scale:g} >= 1; the linear schedule needs T > 20")
        return cls.from_betas(torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> Schedule:
        """beta_t = min(1 - f(t+1)/f(t), .999), f(u) = cos^2(((u/T) + s)/(1 + s) pi/2) (Nichol 2102.09672).

        Raises ValueError for an offset s outside [0, 1].
        """
        check_count(T, "T", 2)
        if not 0 <= s <= 1:
            raise ValueError(f"s = {s}; need an offset in [0, 1], such as 0.008")
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))

    @classmethod
    def sigmoid(cls, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
        """alpha_bar(u) = (g(end) - g(start + u (end - start))) / (g(end) - g(start)), g = sigmoid(./tau), u = (t+1)/T,
        with beta clipped at .999 as in the cosine schedule (Jabri et al. 2212.11972, algorithm 4).

        Raises ValueError unless start < end and tau > 0, and for a curve so steep that it is flat.
        """
        check_count(T, "T", 2)
        if not (start < end and tau > 0):
            raise ValueError(f"start = {start}, end = {end}, tau = {tau}; need start < end and tau > 0")
        u = torch.arange(T + 1, dtype=torch.float64) / T
        g = torch.sigmoid((float(start) + u * float(end - start)) / float(tau))
        alpha_bar = (g[-1] - g) / (g[-1] - g[0])
        betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
        if not (betas > 0).all():
            raise ValueError(f"start = {start}, end = {end}, tau = {tau}; alpha_bar would not fall at every timestep")
        return cls.from_betas(betas)

    def zero_terminal_snr(self) -> Schedule:
        """The schedule with sqrt(alpha_bar) shifted and scaled: the last step is pure noise, the first is kept
        (Lin et al. 2305.08891 alg. 1). A noise-predicting model cannot give x0 there: samplers refuse it by name."""
        root = self.alpha_bar.sqrt()
        return Schedule(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)

    @property
    def T(self) -> int:
        """Number of timesteps."""
        return len(self.alpha_bar)

    @property
    def snr(self) -> Tensor:
        """(T,) signal-to-noise ratio alpha_bar / (1 - alpha_bar) (Kingma et al. 2107.00630)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Tensor:
        """(T,) natural logarithm of the SNR; -inf at a zero terminal SNR."""
        return self.snr.log()

    @property
    def sigma(self) -> Tensor:
        """(T,) noise-to-signal ratio 1 / sqrt(SNR); inf at a zero terminal SNR."""
        return self.snr.rsqrt()

    def noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps: (B, *D), (B,) int64, (B, *D) -> (B, *D).

        Raises ValueError where shapes disagree or a timestep leaves 0..T-1, and TypeError unless t is int64 or int32.
        """
        if eps.shape != x0.shape or t.shape != x0.shape[:1]:
            shapes = f"x0 {tuple(x0.shape)}, t {tuple(t.shape)}, eps {tuple(eps.shape)}"
            raise ValueError(f"{shapes}: need x0 (B, *D), t (B,), eps (B, *D)")
        if t.dtype not in INDICES or not x0.is_floating_point():
            raise TypeError(f"t has dtype {t.dtype}, x0 {x0.dtype}; need int64 timesteps and floating-point data")
        if len(t) and not (t.min() >= 0 and t.max() < self.T):
            raise ValueError(f"t spans [{t.min().item()}, {t.max().item()}]; timesteps lie in 0..{self.T - 1}")
        return mix(x0, self.alpha_bar.to(t.device)[t], eps)

    def t_at_snr(self, snr: float) -> float:
        """The real-valued timestep at which the SNR is `snr`, linear in log-SNR between timesteps.

        So an interval can be given in SNR: `gaussian_interval(T, schedule.t_at_snr(high), schedule.t_at_snr(low))`.
        Raises ValueError outside the schedule's range.
        """
        if not 0 < snr < math.inf:
            raise ValueError(f"snr = {snr}; need a positive, finite signal-to-noise ratio")
        return self._t_at(math.log(snr), f"snr = {snr}")

    def t_at_sigma(self, sigma: float) -> float:
        """The real-valued timestep at which the noise-to-signal ratio is `sigma`; ValueError outside the range."""
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma = {sigma}; need a positive, finite noise-to-signal ratio")
        return self._t_at(-2 * math.log(sigma), f"sigma = {sigma}")

    def _t_at(self, log_snr: float, given: str) -> float:
        known = self.log_snr[torch.isfinite(self.log_snr)].flip(0)  # np.interp wants rising abscissae
        low, high = known[0].item(), known[-1].item()
        if not low - 1e-12 <= log_snr <= high + 1e-12:
            sigmas = f"sigma {math.exp(-high / 2):.3g} to {math.exp(-low / 2):.3g}"
            raise ValueError(f"{given}; this schedule spans SNR {math.exp(low):.3g} to {math.exp(high):.3g}, {sigmas}")
        return float(np.interp(log_snr, known, np.arange(len(known))[::-1]))

    def snr_at(self, t: float) -> float:
        """The SNR at a real-valued timestep in 0..T-1, the inverse of `t_at_snr`. Raises ValueError outside."""
        if not 0 <= t <= self.T - 1:
            raise ValueError(f"t = {t}; timesteps lie in 0..{self.T - 1}")
        return math.exp(np.interp(t, np.arange(self.T), self.log_snr))

    def sigma_at(self, t: float) -> float:
        """The noise-to-signal ratio at a real-valued timestep in 0..T-1. Raises ValueError outside."""
        snr = self.snr_at(t)
        return snr**-0.5 if snr > 0 else math.inf


def mix(x0: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, of x0's dtype, with an alpha_bar for each example: leading axes."""
    alpha_bar = alpha_bar.reshape(*alpha_bar.shape, *[1] * (x0.ndim - alpha_bar.ndim))
    return alpha_bar.sqrt().to(x0) * x0 + (1 - alpha_bar).sqrt().to(x0) * eps


def vector(values: Tensor, name: str) -> Tensor:
    """`values` as a finite (n,) float64 tensor on the CPU; TypeError or ValueError naming the argument otherwise."""
    try:
        out = torch.as_tensor(values, dtype=torch.float64).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is a {type(values).__name__}; need a sequence of numbers") from error
    if out.ndim != 1 or len(out) == 0:
        raise ValueError(f"{name} has shape {tuple(out.shape)}; need one non-empty dimension")
    if not out.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity; every value must be finite")
    return out


def check_shape(eps: Tensor, x: Tensor) -> None:
    """Raise ValueError where a model's output is not of its input's shape: broadcasting would hide it."""
    if eps.shape != x.shape:
        raise ValueError(f"the model turns x {tuple(x.shape)} into {tuple(eps.shape)}; need x's shape")
