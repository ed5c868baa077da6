"""A value with its interval: Wilson for shares, Student for means, the bootstrap for distances."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from memlib.checks import Items, as_tensor


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval. Prints as "0.12 [0.08, 0.17]"; `f"{e:.0%}"` as "12% [8%, 17%]"."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str = "") -> str:
        spec = spec or ".2f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    __str__ = __format__


def wilson(successes: float, n: int, confidence: float = 0.95, distinct: int | None = None) -> Estimate:
    """The share successes / n with the score interval of Wilson (1927); a tie that is shared counts one half.

    `distinct`: how many of the n trials are no repeats of others (all, by default); the interval is that of so many."""
    if not (0 <= successes <= n and n >= 1 and 0 < confidence < 1):
        raise ValueError(f"successes = {successes}, n = {n}, confidence = {confidence}; need n >= 1, shares in 0..1")
    z, share, trials = -NormalDist().inv_cdf((1 - confidence) / 2), successes / n, distinct or n
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends centre and half are equal on paper only; rounding would leave 1e-17 where 0 is meant.
    return Estimate(share, 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def mean_of(values: Tensor, distinct: int | None = None, name: str = "samples") -> Estimate:
    """Mean of n >= 2 values with Student's interval of 95 %. `distinct`: as in `wilson`. Errors say `name`."""
    from scipy.special import stdtrit  # here, for it takes longer to load than all of memlib

    if len(values) < 2:
        raise ValueError(f"{name} has 1 item; need at least 2, for their spread gives the intervals")
    n = max(2, distinct or len(values))
    half = float(stdtrit(n - 1, (1 + 0.95) / 2)) * float(values.std()) / math.sqrt(n)
    return Estimate(mean := float(values.mean()), mean - half, mean + half)


def difference_of(a: Tensor, b: Tensor) -> Estimate:
    """Mean of b (held out) less that of a (train), independent values (m,) and (n,), by Newcombe's square-and-add."""
    one, two = mean_of(a, name="train"), mean_of(b, name="held_out")
    gap, half = two.value - one.value, math.hypot(two.high - two.value, one.high - one.value)
    return Estimate(gap, gap - half, gap + half)


def bootstrap(
    distance: Callable[[Tensor], float], samples: Items, *, generator: torch.Generator, resamples: int = 200
) -> Estimate:
    """`distance(samples)` with a bootstrap interval of 95 % over the samples (B, *D) alone: real data drawn again would
    hold duplicates. Resampling lifts distances, so the interval is value + quantile - mean of the resamples."""
    x = as_tensor(samples)
    if min(len(x), resamples) < 2:
        raise ValueError(f"samples has {len(x)} item(s), resamples = {resamples}; need at least 2 of each")
    draws = torch.randint(len(x), (resamples, len(x)), generator=generator, device=generator.device).to(x.device)
    value, *others = (float(distance(drawn)) for drawn in (x, *(x[rows] for rows in draws)))
    values = torch.tensor(others, dtype=torch.float64)
    if not (math.isfinite(value) and values.isfinite().all()):
        raise ValueError(f"distance returns {value} for samples, {values.mean()} for resamples; need finite numbers")
    low, high = (values - values.mean()).quantile(values.new_tensor([(1 - 0.95) / 2, (1 + 0.95) / 2])).tolist()
    return Estimate(value, value + low, value + high)
