"""A figure with its interval: binomial intervals for fractions, the bootstrap for distances."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from memlib.checks import check_count
from memlib.metrics.checks import check_between, check_generator, check_number, check_points, checked


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval. Prints as "0.12 [0.08, 0.17]"; `f"{e:.0%}"` as "12% [8%, 17%]"."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self)


def _check_fraction(successes: float, n: int, confidence: float) -> None:
    check_count(n, "n", 1)
    check_number("successes", successes)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n = 0..{n}, got {successes}")
    check_between("confidence", confidence, 0, 1)


def wilson(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """The share successes / n with the score interval of Wilson (1927).

    `successes` may hold halves (a tie that is shared). Raises ValueError for successes outside 0..n, n below 1, or a
    confidence outside (0, 1).
    """
    _check_fraction(successes, n, confidence)
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends centre and half are equal on paper only; rounding would leave 1e-17 where 0 is meant.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high)


def clopper_pearson(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """The share successes / n with the exact interval of Clopper & Pearson (1934): it never covers less than it says.

    Raises as `wilson` does.
    """
    from scipy.special import betaincinv

    _check_fraction(successes, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Estimate(successes / n, low, high)


def normal_mean(values: Tensor, confidence: float = 0.95) -> Estimate:
    """Mean of (n,) values, n at least 2, with the interval mean +- z s / sqrt(n)."""
    check_between("confidence", confidence, 0, 1)
    mean = float(values.mean())
    half = -NormalDist().inv_cdf((1 - confidence) / 2) * float(values.std()) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def bootstrap(
    distance: Callable[[Tensor], float],
    samples: Tensor,
    *,
    generator: torch.Generator,
    resamples: int = 200,
    confidence: float = 0.95,
) -> Estimate:
    """`distance(samples)` with a bootstrap interval over the generated samples (B, *D).

    Only the generated samples are drawn again: drawing the reference again would make duplicates in it. Drawing again
    repeats samples all the same, and that lifts plug-in distances; so the spread of the resamples about *their* mean
    is laid about the value: value + quantile - mean. The interval speaks of the distance at this sample size, to be
    compared with others at equal size and with the floor of fresh real data.

    Raises ValueError for fewer than two samples or two resamples, a confidence outside (0, 1), or a distance that
    is not finite.
    """
    checked(samples=samples)
    if not callable(distance):
        raise TypeError(f"distance must be a function of samples, got {distance!r:.100}")
    return bootstrap_rows(lambda rows: distance(samples[rows]), samples, generator, resamples, confidence)


def bootstrap_rows(
    distance: Callable[[Tensor], float],
    samples: Tensor,
    generator: torch.Generator,
    resamples: int,
    confidence: float = 0.95,
) -> Estimate:
    """`bootstrap` of a function of which rows (B,) of the samples are taken, so that it can measure them all once."""
    check_points("samples", samples, 2, "a bootstrap draws among several")
    check_count(resamples, "resamples", 2)
    check_between("confidence", confidence, 0, 1)
    check_generator(generator)
    every = torch.arange(len(samples), device=samples.device)
    draws = torch.randint(len(samples), (resamples, len(samples)), generator=generator, device=generator.device)
    found = [distance(rows) for rows in (every, *draws.to(samples.device))]
    for each in found:
        check_number("what distance returns", each)
    value, *others = map(float, found)
    values = torch.tensor(others, dtype=torch.float64)
    if not (math.isfinite(value) and torch.isfinite(values).all()):
        raise ValueError(f"distance must return finite numbers, got {value} for samples and {values.tolist()}")
    tail = (1 - confidence) / 2
    low, high = (values - values.mean()).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(value, value + low, value + high)
