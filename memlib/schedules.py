"""Noise schedules: how much signal is left at each timestep.

x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps: nearly clean at t = 0, nearly pure noise at t = T-1.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memlib.checks import as_tensor, check_batch, vector


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """The share of signal variance alpha_bar at T timesteps, strictly decreasing in [0, 1). Warns if the last still
    carries signal, since samplers start there from pure noise (Lin et al. 2305.08891)."""

    alpha_bar: Tensor  # (T,) float64

    def __post_init__(self) -> None:
        alpha_bar = vector(self.alpha_bar, "alpha_bar")
        if len(alpha_bar) < 2 or alpha_bar.min() < 0 or alpha_bar.max() >= 1 or (alpha_bar.diff() >= 0).any():
            span = f"{len(alpha_bar)} values in [{alpha_bar.min():g}, {alpha_bar.max():g}]"
            raise ValueError(f"alpha_bar has {span}; need T >= 2 values in [0, 1) that strictly decrease")
        object.__setattr__(self, "alpha_bar", alpha_bar)
        if (signal := math.sqrt(alpha_bar[-1].item())) > 0.05:  # sampling starts visibly from the wrong place
            text = f"the last timestep still carries signal, sqrt(alpha_bar) = {signal:.3f}: samples will be off"
            warnings.warn(f"{text}. Use a schedule that ends with at most 0.05.", stacklevel=3)

    def __repr__(self) -> str:
        return f"Schedule(T={self.T}, SNR {self.snr[0]:.3g} to {self.snr[-1]:.3g})"

    def __eq__(self, other: object) -> bool:
        return torch.equal(self.alpha_bar, other.alpha_bar) if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.alpha_bar.tolist()))

    @classmethod
    def from_betas(cls, betas: Tensor) -> Schedule:
        """alpha_bar_t = prod_{s <= t} (1 - beta_s), betas (T,) in (0, 1); the last may be 1."""
        return cls((1 - vector(betas, "betas")).cumprod(0))

    @classmethod
    def linear(cls, T: int = 1000) -> Schedule:
        """Betas rising linearly from 1e-4 to 0.02, times 1000/T, for T > 20 (Ho et al. 2006.11239)."""
        scale = 1000 / T
        return cls.from_betas(torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> Schedule:
        """beta_t = min(1 - f(t+1)/f(t), .999), f(u) = cos^2(((u/T) + s)/(1 + s) pi/2) (Nichol 2102.09672)."""
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))

    @classmethod
    def sigmoid(cls, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
        """alpha_bar(u) = (g(end) - g(start + u (end - start))) / (g(end) - g(start)), g = sigmoid(./tau), u = (t+1)/T,
        with betas of at most .999, as in the cosine schedule (Jabri et al. 2212.11972, algorithm 4)."""
        u = torch.arange(T + 1, dtype=torch.float64) / T
        g = torch.sigmoid((float(start) + u * float(end - start)) / float(tau))
        alpha_bar = (g[-1] - g) / (g[-1] - g[0])
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))

    def zero_terminal_snr(self) -> Schedule:
        """sqrt(alpha_bar) shifted and scaled so that the last step is pure noise and the first is kept (Lin et al.
        2305.08891 alg. 1). There a noise-predicting model cannot give x0: samplers refuse to start from that step."""
        root = self.alpha_bar.sqrt()
        return Schedule(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)

    @property
    def T(self) -> int:
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
        """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps: (B, *D), (B,) int64, (B, *D) -> (B, *D)."""
        x0, t, eps = as_tensor(x0), as_tensor(t), as_tensor(eps)
        check_batch(x0, t, self.T)
        if eps.shape != x0.shape:
            raise ValueError(f"eps has shape {(*eps.shape,)}; need that of x0, {(*x0.shape,)}")
        return mix(x0, self.alpha_bar.to(t.device)[t], eps)

    def t_at_snr(self, snr: float) -> float:
        """The real-valued timestep at which the SNR is `snr`, linear in log-SNR between timesteps."""
        known = self.log_snr[self.log_snr.isfinite()].flip(0).numpy()  # np.interp wants rising abscissae
        low, high, log_snr = known[0].item(), known[-1].item(), math.log(snr) if 0 < snr < math.inf else math.nan
        if not low - 1e-12 <= log_snr <= high + 1e-12:
            spans = [f"{math.exp(low * k):.3g} to {math.exp(high * k):.3g}" for k in (1, -0.5)]
            raise ValueError(f"snr = {snr}; this schedule spans SNR {spans[0]}, sigma {spans[1]}")
        return float(np.interp(log_snr, known, np.arange(len(known))[::-1]))

    def t_at_sigma(self, sigma: float) -> float:
        """The real-valued timestep at which the noise-to-signal ratio is `sigma`."""
        return self.t_at_snr(sigma**-2 if sigma > 0 else math.nan)


def mix(x0: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps in x0's dtype; alpha_bar has the leading axes of x0."""
    alpha_bar = alpha_bar.reshape(*alpha_bar.shape, *[1] * (x0.ndim - alpha_bar.ndim))
    return alpha_bar.sqrt().to(x0) * x0 + (1 - alpha_bar).sqrt().to(x0) * eps
