"""Where training looks: one probability vector over timesteps. This is the paper's method.

Training draws from it, plots show it, tests integrate it; nothing in memlib needs to know how it was made. Because
E_{t~p}[L_t] = E_{t~U}[T p(t) L_t], drawing from p has the objective of uniform drawing with the weight T p(t), though
not its copies (docs/findings.md). Correcting with 1/(T p(t)) would cancel it; where p is zero nothing is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr

from memlib.checks import vector
from memlib.schedules import Schedule

TAILS = ("proportional", "uniform", "interval", "clip")
OBJECTIVES = ("eps", "x0", "v", "flow")
Recipe = dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class TimestepDistribution:
    """A probability vector over the timesteps 0..T-1: pmf (T,) float64, >= 0, with sum 1 to within 1e-9. `recipe` names
    the function of this module that made it, with its arguments; None for any other vector."""

    pmf: Tensor
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        pmf = vector(self.pmf, "pmf")
        if len(pmf) < 2 or pmf.min() < 0 or abs(pmf.sum().item() - 1) > 1e-9:
            given = f"{len(pmf)} probabilities from {pmf.min().item():g} with sum {pmf.sum().item():.12g}"
            raise ValueError(f"pmf has {given}; need T >= 2, all >= 0, sum 1 (or use from_weights)")
        object.__setattr__(self, "pmf", pmf)

    @property
    def T(self) -> int:
        return len(self.pmf)

    def __repr__(self) -> str:
        if self.recipe is None:
            return f"TimestepDistribution(T={self.T}, t={self.interval()[0]}..{self.interval()[1]})"
        said = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v!r}" for k, v in self.recipe.items() if k != "name"]
        first = "schedule" if self.recipe["name"] in OF_SCHEDULE else str(self.T)
        return f"{self.recipe['name']}({', '.join([first, *said])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimestepDistribution) and torch.equal(self.pmf, other.pmf)

    def __hash__(self) -> int:
        return hash(self.pmf.numpy().tobytes())

    def sample(self, n: int, generator: torch.Generator, stratified: bool = False) -> Tensor:
        """(n,) int64 timesteps on the generator's device, by inversion of the cumulative sum: independent, or
        `stratified`, one from each of n equally probable parts, in random order (the same mean, with less noise)."""
        cdf = self.pmf.cumsum(0).to(generator.device)
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        if stratified:
            u = ((torch.randperm(n, generator=generator, device=generator.device) + u) / n).clamp(max=1 - 2**-53)
        # scaled by the accumulated sum: rounding can then reach neither index T nor a last step of probability 0
        return torch.searchsorted(cdf, u * cdf[-1], right=True)

    def interval(self) -> tuple[int, int]:
        """The central interval of 95 %: the timesteps at the quantiles 0.025 and 0.975."""
        cdf, tail = self.pmf.cumsum(0), (1 - 0.95) / 2
        low, high = torch.searchsorted(cdf, torch.tensor([tail, 1 - tail], dtype=torch.float64) * cdf[-1]).tolist()
        return low, high

    def effective_weight(
        self, objective: str = "eps", schedule: Schedule | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """(T,) T p(t): with this weight on the eps loss, uniform drawing has the objective of drawing from p.

        For the loss of another `objective`, times `weight` (T,), this is still the weight on the eps loss: an
        error e of eps is one of sigma e in "x0", sqrt(1 + sigma^2) e in "v" and (1 + sigma) e in "flow", eps - x0."""
        if objective not in OBJECTIVES or (schedule is None and objective != "eps"):
            given = f"objective = {objective!r}, schedule = {schedule!r}"
            raise ValueError(f"{given}; choose one of {', '.join(OBJECTIVES)}; all but eps need a schedule")
        sigma = torch.zeros(self.T, dtype=torch.float64) if schedule is None else schedule.sigma
        factor = {"eps": sigma**0, "x0": sigma**2, "v": 1 + sigma**2, "flow": (1 + sigma) ** 2}[objective]
        weight = torch.ones_like(self.pmf) if weight is None else vector(weight, "weight")
        if not len(factor) == len(weight) == self.T:
            raise ValueError(f"schedule has {len(factor)} values, weight {len(weight)}; need T = {self.T}, as in p(t)")
        return torch.where(self.pmf > 0, self.T * self.pmf * (factor * weight), 0.0)  # also where a factor is infinite

    def log_snr_density(self, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """log-SNR (T,) of each timestep and the density over it, p(t) / |d log-SNR / dt| by central differences."""
        log_snr, step = _log_snr(schedule)
        return log_snr, self.pmf / step


def uniform(T: int = 1000) -> TimestepDistribution:
    """Every timestep equally likely: the baseline, and the wide limit of `gaussian_interval`."""
    return TimestepDistribution(torch.ones(T, dtype=torch.float64) / T, {"name": "uniform"})


def gaussian_interval(
    T: int, low: float, high: float, confidence: float = 0.95, tails: str = "proportional"
) -> TimestepDistribution:
    """A Gaussian over t of which [low, high] is the central `confidence` interval (Vu et al. 2601.21348).

    Mean (low + high)/2, standard deviation (high - low)/(2 z); p(t) is its mass over [t - 1/2, t + 1/2]. `low` and
    `high` are real-valued timesteps; the interval must touch 0..T-1. The paper leaves open what happens to the mass
    outside, `tails`:
    - "proportional": the Gaussian is cut to 0..T-1 and renormalised; uniform in the wide limit
    - "uniform": the mass outside is spread evenly over 0..T-1
    - "interval": all mass outside [low, high] is spread evenly over the timesteps inside
    - "clip": mass below 0 goes to 0, mass above T-1 to T-1; kept only to show what goes wrong"""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}; need a share strictly between 0 and 1, such as 0.95")
    shares = low >= 0 and high <= 1 < T / 20  # of T: a likely slip, of which nothing but t = 0 and 1 would be left
    between = tails == "interval" and low // 1 == high // 1 and low % 1 > 0  # two timesteps, with none inside
    if shares or between or not (low < high and 0 <= high < math.inf and -math.inf < low <= T - 1):
        raise ValueError(f"low = {low}, high = {high}; need timesteps, no shares: low < high, around one of 0..{T - 1}")
    if tails not in TAILS:
        raise ValueError(f"tails = {tails!r}; choose one of {', '.join(map(repr, TAILS))}")
    z = math.sqrt(2) * torch.special.erfinv(torch.tensor(confidence, dtype=torch.float64)).item()
    low, high = float(low), float(high)
    mean, std = (low + high) / 2, (high - low) / (2 * z)
    t = torch.arange(T, dtype=torch.float64)
    a, b = (t - 0.5 - mean) / std, (t + 0.5 - mean) / std
    if std < 1e4:  # the mass of a bin, taken on the side of the mean where ndtr does not cancel
        mass = torch.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
    else:  # a bin so narrow that the difference cancels but the midpoint rule is exact to 1e-9
        mass = torch.exp(-0.5 * ((t - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    below, above = ndtr(a[0]), ndtr(-b[-1])
    if tails == "uniform":
        mass = mass + (below + above) / T
    elif tails == "clip":
        mass[0] += below
        mass[-1] += above
    elif tails == "interval":
        inside = (t >= low) & (t <= high)
        kept = mass * inside
        mass = kept + inside * (1 - kept.sum()) / inside.sum()
    usual, given = {"confidence": 0.95, "tails": "proportional"}, {"confidence": float(confidence), "tails": tails}
    options = {name: value for name, value in given.items() if value != usual[name]}
    return TimestepDistribution(mass / mass.sum(), {"name": "gaussian_interval", "low": low, "high": high} | options)


def log_snr_interval(schedule: Schedule, low: float, high: float) -> TimestepDistribution:
    """`gaussian_interval` between the timesteps of two values of log-SNR: equal widths in noise, not in t."""
    if not low < high:
        raise ValueError(f"low = {low}, high = {high}; need log-SNR low < high")
    first, last = (schedule.t_at_snr(math.exp(min(s, 700))) for s in (high, low))  # beyond any schedule's end
    recipe = {"name": "log_snr_interval", "low": float(low), "high": float(high)}
    return TimestepDistribution(gaussian_interval(schedule.T, first, last).pmf, recipe)


def interpolated(T: int, at: Sequence[float], weights: Sequence[float]) -> TimestepDistribution:
    """p(t) proportional to `weights` given at the rising timesteps `at`, linear between them and level beyond."""
    if len(at) != len(weights) or not (np.diff(at) > 0).all():
        raise ValueError(f"at = {list(at)}; need rising timesteps, one for each of the {len(weights)} weights")
    recipe = {"name": "interpolated", "at": [float(x) for x in at], "weights": [float(x) for x in weights]}
    return TimestepDistribution(from_weights(torch.from_numpy(np.interp(np.arange(T), at, weights))).pmf, recipe)


def banded(T: int, edges: Sequence[float], shares: Sequence[float]) -> TimestepDistribution:
    """`shares` of p(t), rescaled to sum 1, in the bands between the rising `edges` inside 0..T; level within a band."""
    ends = [0, *edges, T]
    if len(shares) != len(ends) - 1 or any(a >= b or b % 1 for a, b in pairwise(ends)):
        raise ValueError(f"edges = {list(edges)}; need rising integers in 0..{T}, for {len(shares)} shares one less")
    widths = torch.tensor(ends).long().diff()
    recipe = {"name": "banded", "edges": [int(x) for x in edges], "shares": [float(x) for x in shares]}
    return TimestepDistribution(from_weights((vector(shares, "shares") / widths).repeat_interleave(widths)).pmf, recipe)


def with_floor(p: TimestepDistribution, floor: float) -> TimestepDistribution:
    """(1 - floor) p + floor uniform, so that T p(t) >= floor: a band that is never trained breaks the sampler."""
    if not 0 < floor <= 1:
        raise ValueError(f"floor = {floor}; need a share above 0, at most 1")
    recipe = p.recipe | {"floor": float(floor)} if p.recipe and "floor" not in p.recipe else None  # of one floor only
    return TimestepDistribution((1 - floor) * p.pmf + floor / p.T, recipe)


def from_weights(weights: Tensor | Sequence[float]) -> TimestepDistribution:
    """p(t) proportional to `weights` (T,), finite, >= 0: e.g. 1/L_t, which equalises the contributions to the loss."""
    weights = vector(weights, "weights")
    if weights.min() < 0 or weights.max() <= 0:
        raise ValueError(f"weights span [{weights.min():g}, {weights.max():g}]; need >= 0 and one above 0")
    weights = weights / weights.max()  # so that the sum cannot overflow
    return TimestepDistribution(weights / weights.sum())


def from_log_snr(schedule: Schedule, density: Callable[[Tensor], Tensor]) -> TimestepDistribution:
    """p(t) proportional to density(log-SNR_t) |d log-SNR / dt|: carries a density over noise levels to timesteps, as
    `memlib.rivals` does those of Hang et al. 2407.03297 and Karras et al. 2206.00364."""
    log_snr, step = _log_snr(schedule)
    return from_weights(density(log_snr) * step)


def from_recipe(recipe: Recipe | Sequence[float], schedule: Schedule) -> TimestepDistribution:
    """The distribution that a recipe describes, over the schedule's timesteps; a list of numbers is the vector."""
    if not isinstance(recipe, Mapping):
        return TimestepDistribution(vector(recipe, "timesteps"))
    arguments = dict(recipe)
    if (floor := arguments.pop("floor", None)) is not None:
        return with_floor(from_recipe(arguments, schedule), floor)
    if (function := RECIPES.get(arguments.pop("name", None))) is None:
        raise ValueError(f"timesteps = {recipe!r}; need a name, one of {', '.join(RECIPES)}")
    try:
        return function(schedule if recipe["name"] in OF_SCHEDULE else schedule.T, **arguments)
    except TypeError as error:
        raise ValueError(f"timesteps = {recipe!r}; {error}") from error


RECIPES: dict[Any, Callable[..., TimestepDistribution]]  # `memlib.rivals` adds one
RECIPES = {made.__name__: made for made in (uniform, gaussian_interval, log_snr_interval, interpolated, banded)}
OF_SCHEDULE = {"log_snr_interval", "published"}  # take the schedule, the others T


def _log_snr(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(T,) log-SNR and |d log-SNR / dt| by central differences, one-sided at the ends."""
    if schedule.alpha_bar[-1] == 0:
        raise ValueError("the schedule has zero terminal SNR, where log-SNR is infinite; use one with alpha_bar > 0")
    return schedule.log_snr, torch.gradient(schedule.log_snr)[0].abs()
