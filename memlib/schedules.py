"""Noise schedules: how much signal is left at each timestep.

x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps: nearly clean at t = 0, nearly pure noise at t = T-1."""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from memlib.checks import as_tensor, check_batch, check_count, vector

ROUNDING = 0.01  # in log-SNR
Level = TypeVar("Level", float, Tensor)  # one, or many: what goes in as a tensor comes out as one, in float64


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
    def from_betas(cls, betas: Tensor) -> Self:
        """alpha_bar_t = prod_{s <= t} (1 - beta_s), betas (T,) in (0, 1); the last may be 1."""
        betas = vector(betas, "betas")
        if betas[0] > betas[-1].clamp(min=0.5):
            raise ValueError(f"betas fall from {betas[0]:g} to {betas[-1]:g}: alphas_cumprod go into Schedule(...)")
        return cls((1 - betas).cumprod(0))

    @classmethod
    def from_sigmas(cls, sigmas: Tensor) -> Self:
        """alpha_bar = 1 / (1 + sigma^2) of noise-to-signal ratios (T,), which all rise or all fall, as in EDM."""
        sigmas = vector(sigmas, "sigmas")
        if sigmas.min() <= 0:
            raise ValueError(f"sigmas go down to {sigmas.min():g}; need all > 0: leave out clean data, sigma = 0")
        return cls(1 / (1 + (sigmas if sigmas[0] < sigmas[-1] else sigmas.flip(0)) ** 2))

    @classmethod
    def from_diffusers(cls, scheduler: Any) -> Self:
        """The noise levels that a scheduler of `diffusers` adds in training, least first: `alphas_cumprod` of DDPM and
        its kin (there t is its timestep), `sigmas` of EDM's, or of a flow-matching one, (1 - u) x0 + u eps."""
        name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
        fresh: Any = type(scheduler).from_config(config) if config else None
        if "FlowMatch" in name and hasattr(fresh, "sigmas"):
            u = vector(fresh.sigmas, "sigmas").flip(0)
            u = u[u > 0]  # without clean data, which ends a list for sampling
            return cls((1 - u) ** 2 / ((1 - u) ** 2 + u**2))
        if "sigma_data" in config and hasattr(fresh, "sigmas"):
            return cls.from_sigmas(fresh.sigmas[fresh.sigmas > 0].double().unique())
        if hasattr(fresh, "alphas_cumprod") and not config.get("use_flow_sigmas"):
            if config.get("rescale_betas_zero_snr"):
                fresh.alphas_cumprod[-1] = 0  # where some schedulers keep a tiny rest, above the value before
            return cls(fresh.alphas_cumprod)
        cure = "for any other pass its noise-to-signal ratios to Schedule.from_sigmas"
        raise TypeError(f"scheduler is a {name}; need one of the DDPM, EDM or flow-matching kind of diffusers; {cure}")

    @classmethod
    def linear(cls, T: int = 1000) -> Self:
        """Betas rising linearly from 1e-4 to 0.02, times 1000/T, for T > 20 (Ho et al. 2006.11239)."""
        check_count(T, "T", 21)
        scale = 1000 / T
        return cls.from_betas(torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> Self:
        """beta_t = min(1 - f(t+1)/f(t), .999), f(u) = cos^2(((u/T) + s)/(1 + s) pi/2) (Nichol 2102.09672)."""
        f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))

    @classmethod
    def sigmoid(cls, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Self:
        """alpha_bar(u) = (g(end) - g(start + u (end - start))) / (g(end) - g(start)), g = sigmoid(./tau), u = (t+1)/T,
        with betas of at most .999, as in the cosine schedule (Jabri et al. 2212.11972, algorithm 4)."""
        u = torch.arange(T + 1, dtype=torch.float64) / T
        g = torch.sigmoid((float(start) + u * float(end - start)) / float(tau))
        alpha_bar = (g[-1] - g) / (g[-1] - g[0])
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))

    def zero_terminal_snr(self) -> Self:
        """sqrt(alpha_bar) shifted and scaled so that the last step is pure noise and the first is kept (Lin et al.
        2305.08891 alg. 1). A model of the noise cannot give x0 there: samplers refuse it. `Denoiser` of v or x0 can."""
        root = self.alpha_bar.sqrt()
        return type(self)(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)

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

    def t_at_snr(self, snr: Level) -> Level:
        """The real-valued timestep at which the SNR is `snr`, linear in log-SNR between timesteps; before a last one of
        SNR 0, linear in sqrt(SNR). An SNR up to 1 % beyond an end (rounding in float32 or flow time) counts as it."""
        known, ends_in_noise = self._known()
        low, high = -math.inf if ends_in_noise else known[-1].item(), known[0].item()
        log_snr = torch.as_tensor(snr, dtype=torch.float64).detach().cpu().log().numpy()
        if not ((low - ROUNDING <= log_snr) & (log_snr <= high + ROUNDING)).all():
            say, ends = "{:.3g} to {:.3g}, sigma {:.3g} to {:.3g}".format, ((log_snr.min(), log_snr.max()), (low, high))
            given, spans = (say(*np.exp([a, b, -a / 2, -b / 2])) for a, b in ends)
            raise ValueError(f"snr = {given}; this schedule spans SNR {spans}: clamp to it")
        t = np.interp(log_snr, known[::-1], np.arange(len(known))[::-1])  # which wants rising abscissae
        if ends_in_noise:
            t = t + 1 - np.exp(np.minimum(log_snr - known[-1], 0) / 2)
        return _like(snr, t)

    def t_at_sigma(self, sigma: Level) -> Level:
        """The real-valued timestep at which the noise-to-signal ratio is `sigma`."""
        known = torch.as_tensor(sigma, dtype=torch.float64)
        return _like(sigma, self.t_at_snr(torch.where(known >= 0, known**-2, math.nan)))

    def snr_at(self, t: Level) -> Level:
        """The SNR at a real-valued timestep in 0..T-1: the inverse of `t_at_snr`."""
        known, ends_in_noise = self._known()
        at = t.detach().cpu().double().numpy() if isinstance(t, Tensor) else np.float64(t)
        if not ((at >= 0) & (at <= self.T - 1)).all():
            raise ValueError(f"t = {t}; timesteps lie in 0..{self.T - 1}")
        snr = np.exp(np.interp(at, np.arange(len(known)), known))
        if ends_in_noise:
            snr = snr * np.minimum(self.T - 1 - at, 1) ** 2
        return _like(t, snr)

    def sigma_at(self, t: Level) -> Level:
        """The noise-to-signal ratio at a real-valued timestep in 0..T-1: the inverse of `t_at_sigma`."""
        return _like(t, torch.as_tensor(self.snr_at(t), dtype=torch.float64).rsqrt())

    def _known(self) -> tuple[np.ndarray, bool]:
        """The finite log-SNRs, and whether an infinite one follows."""
        finite = self.log_snr.isfinite()
        return self.log_snr[finite].numpy(), not bool(finite.all())


def _like(given: Any, values: Any) -> Any:
    return float(values) if np.isscalar(given) else torch.as_tensor(values, device=getattr(given, "device", None))


def mix(x0: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps in x0's dtype; alpha_bar has the leading axes of x0."""
    alpha_bar = alpha_bar.reshape(*alpha_bar.shape, *[1] * (x0.ndim - alpha_bar.ndim))
    return alpha_bar.sqrt().to(x0) * x0 + (1 - alpha_bar).sqrt().to(x0) * eps
