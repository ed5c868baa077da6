"""Where training looks: a probability vector over timesteps.

The paper's method is one vector. Training draws from it, plots draw it, tests integrate it; nothing in memlib needs to
know how it was made. Because E_{t~p}[L_t] = E_{t~U}[T p(t) L_t], drawing from p *is* uniform drawing with the loss
weight T p(t): correcting with 1/(T p(t)) would cancel the method, and where p is zero the network is never trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtr

from memlib.checks import check_count
from memlib.schedules import Schedule, vector

TAILS = ("proportional", "uniform", "interval", "clip")


@dataclass(frozen=True, eq=False)
class TimestepDistribution:
    """A probability vector over the timesteps 0..T-1: pmf (T,) float64, >= 0, sums to 1 within 1e-9.

    Raises TypeError if `pmf` is no sequence of numbers and ValueError if it is not such a vector.
    """

    pmf: Tensor

    def __post_init__(self) -> None:
        pmf = vector(self.pmf, "pmf")
        if len(pmf) < 2:
            raise ValueError(f"pmf has {len(pmf)} entry; need T >= 2 timesteps")
        if pmf.min() < 0:
            raise ValueError(f"pmf holds {pmf.min().item():g}; probabilities must be >= 0")
        if abs(pmf.sum().item() - 1) > 1e-9:
            raise ValueError(f"pmf sums to {pmf.sum().item():.12g}; need 1 (divide by its sum, or use from_weights)")
        object.__setattr__(self, "pmf", pmf)

    @property
    def T(self) -> int:
        """Number of timesteps."""
        return len(self.pmf)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n,) int64 timesteps, independent, on the generator's device, by inversion of the cumulative sum."""
        check_count(n, "n", 0)
        cdf = self.pmf.cumsum(0).to(generator.device)
        # scaled by the sum as accumulated, so that rounding can neither reach index T nor a final step of probability 0
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64) * cdf[-1]
        return torch.searchsorted(cdf, u, right=True)

    def interval(self, confidence: float = 0.95) -> tuple[int, int]:
        """The central interval: the timesteps at the quantiles (1 -/+ confidence)/2; ValueError outside (0, 1)."""
        check_confidence(confidence)
        cdf = self.pmf.cumsum(0)
        quantiles = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64) * cdf[-1]
        low, high = torch.searchsorted(cdf, quantiles).tolist()
        return low, high

    def effective_weight(self) -> Tensor:
        """(T,) T p(t): the loss weight under uniform drawing that this distribution amounts to."""
        return self.T * self.pmf

    def log_snr_density(self, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """log-SNR (T,) of each timestep and the density over it, p(t) / |d log-SNR / dt| (change of variables).

        The derivative is taken by central differences. Raises ValueError where the schedule has another T or a zero
        terminal SNR, whose log is infinite.
        """
        log_snr = finite_log_snr(schedule, self.T)
        return log_snr, self.pmf / log_snr_step(log_snr)


def uniform(T: int = 1000) -> TimestepDistribution:
    """Every timestep equally likely: the baseline, and the wide limit of `gaussian_interval`."""
    check_count(T, "T", 2)
    return TimestepDistribution(torch.full((T,), 1 / T, dtype=torch.float64))


def gaussian_interval(
    T: int, low: float, high: float, confidence: float = 0.95, tails: str = "proportional"
) -> TimestepDistribution:
    """A Gaussian over t of which [low, high] is the central `confidence` interval (Vu et al. 2601.21348).

    Mean (low + high)/2, standard deviation (high - low)/(2 z); p(t) is its mass over [t - 1/2, t + 1/2]. `low` and
    `high` are timesteps, real-valued, and may leave 0..T-1 as long as the interval touches it; give them in other units
    as `schedule.t_at_sigma(...)` or `schedule.t_at_snr(...)`. What the paper does with the mass cut off is open:

    - "proportional" (default): cut to 0..T-1 and renormalised; uniform in the wide limit
    - "uniform": the mass cut off is spread evenly over 0..T-1
    - "interval": all mass of the steps outside [low, high] is spread evenly over the steps inside
    - "clip": what falls below 0 is put on 0 and what falls above T-1 on T-1; kept to show what goes wrong

    Raises ValueError for low >= high, an interval wholly outside 0..T-1, a confidence outside (0, 1), unknown tails and
    T < 2.
    """
    check_count(T, "T", 2)
    check_confidence(confidence)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low = {low}, high = {high}; need finite low < high: the interval's width must be positive")
    if high < 0 or low > T - 1:
        raise ValueError(f"the interval [{low}, {high}] lies wholly outside the timesteps 0..{T - 1}")
    if not math.isfinite((high - low) / z_value(confidence)):
        raise ValueError(f"low = {low}, high = {high}, confidence = {confidence}; the interval is too wide")
    if tails not in TAILS:
        raise ValueError(f"tails = {tails!r}; choose one of {', '.join(map(repr, TAILS))}")

    low, high, t = float(low), float(high), torch.arange(T, dtype=torch.float64)
    mean, std = (low + high) / 2, (high - low) / (2 * z_value(confidence))
    a, b = (t - 0.5 - mean) / std, (t + 0.5 - mean) / std
    if std < 1e4:  # the mass of a bin, taken on the side of the mean where ndtr does not cancel
        mass = torch.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
    else:  # a bin so narrow that the difference cancels but the midpoint rule is exact to 1e-9
        mass = torch.exp(-0.5 * ((t - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    below, above = ndtr(a[0]), ndtr(-b[-1])

    if tails == "proportional":
        pmf = mass
    elif tails == "uniform":
        pmf = mass + (below + above) / T
    elif tails == "clip":
        pmf = mass.clone()
        pmf[0] += below
        pmf[-1] += above
    else:
        inside = (t >= low) & (t <= high)
        if not inside.any():
            raise ValueError(f"no whole timestep of 0..{T - 1} lies in [{low}, {high}]; tails='interval' needs one")
        kept = mass * inside
        pmf = kept + inside * (1 - kept.sum()) / inside.sum()
    return TimestepDistribution(pmf / pmf.sum())


def from_weights(weights: Tensor) -> TimestepDistribution:
    """p(t) proportional to `weights` (T,), finite, >= 0: e.g. 1/L_t, which equalises the contributions to the loss."""
    weights = vector(weights, "weights")
    if weights.min() < 0 or weights.max() <= 0:
        raise ValueError(f"weights span [{weights.min():g}, {weights.max():g}]; need >= 0 and one above 0")
    weights = weights / weights.max()  # so that the sum cannot overflow
    return TimestepDistribution(weights / weights.sum())


def from_log_snr(schedule: Schedule, density: Callable[[Tensor], Tensor]) -> TimestepDistribution:
    """p(t) proportional to density(log-SNR_t) |d log-SNR / dt|: carries a density over noise levels to timesteps.

    For example `lambda s: (-s.abs() / b).exp()` is the Laplace density of Hang et al. 2407.03297, and
    `lambda s: (-0.5 * ((-s / 2 + 1.2) / 1.2) ** 2).exp()` the log-normal noise level of Karras et al. 2206.00364
    (for data in [-1, 1], as theirs). Raises ValueError at a zero terminal SNR and for values that are no density,
    TypeError if `density` is no function of log-SNR (T,) -> (T,).
    """
    log_snr = finite_log_snr(schedule, schedule.T)
    values = vector(density(log_snr), "what density returns")
    if values.shape != log_snr.shape or values.min() < 0 or values.max() <= 0:
        span = f"{len(values)} values from {values.min():g} to {values.max():g}"
        raise ValueError(f"density returns {span}; need one per timestep, T = {schedule.T}, all >= 0 and one above 0")
    return from_weights(values * log_snr_step(log_snr))


def min_snr_weight(schedule: Schedule, gamma: float = 5.0) -> Tensor:
    """(T,) min(SNR, gamma)/SNR, the Min-SNR weight on the eps loss (Hang et al. 2303.09556), gamma > 0."""
    if not gamma > 0:
        raise ValueError(f"gamma = {gamma}; need > 0")
    return (float(gamma) / schedule.snr).clamp(max=1)


def p2_weight(schedule: Schedule, k: float = 1.0, gamma: float = 1.0) -> Tensor:
    """(T,) 1/(k + SNR)^gamma on the eps loss, unnormalised, k > 0, gamma >= 0 (Choi et al. 2204.00227)."""
    if not (k > 0 and gamma >= 0):
        raise ValueError(f"k = {k}, gamma = {gamma}; need k > 0 and gamma >= 0")
    return (float(k) + schedule.snr) ** -float(gamma)


def z_value(confidence: float) -> float:
    """The two-sided standard normal quantile: 1.959964 at 95 %."""
    return math.sqrt(2) * torch.special.erfinv(torch.tensor(confidence, dtype=torch.float64)).item()


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}; need a share strictly between 0 and 1, such as 0.95")


def finite_log_snr(schedule: Schedule, T: int) -> Tensor:
    if schedule.T != T:
        raise ValueError(f"the schedule has T = {schedule.T}, the distribution T = {T}; they must be equal")
    if schedule.alpha_bar[-1] == 0:
        raise ValueError("the schedule has zero terminal SNR, where log-SNR is infinite; use one with alpha_bar > 0")
    return schedule.log_snr


def log_snr_step(log_snr: Tensor) -> Tensor:
    """|d log-SNR / dt| by central differences, one-sided at the ends."""
    return torch.gradient(log_snr)[0].abs()
