"""Intervals against scipy, and the bootstrap against repeated draws."""

import math

import pytest
import torch
from scipy import stats

from memlib.metrics.estimates import Estimate, bootstrap, mean_of, wilson


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (40, 40), (999, 1000)])
def test_against_scipy(successes, n, confidence):
    got, expected = wilson(successes, n, confidence), stats.binomtest(successes, n).proportion_ci(confidence, "wilson")
    assert got.value == successes / n
    assert got.low == pytest.approx(expected.low, abs=1e-10) and got.high == pytest.approx(expected.high, abs=1e-10)


def test_the_ends_are_exact_and_bad_counts_are_refused():
    assert wilson(0, 7).low == 0 and wilson(7, 7).high == 1 and wilson(2.5, 5).value == 0.5
    for arguments in ((0, 0), (6, 5), (-1, 5), (1, 5, 0), (1, 5, 95), (1, 5, math.nan)):
        with pytest.raises(ValueError, match="successes"):
            wilson(*arguments)


def test_repeated_trials_keep_the_share_and_take_the_width_of_the_distinct_ones():
    assert wilson(6, 8, distinct=4) == wilson(3, 4) and wilson(16, 16, distinct=1).low < 0.25
    assert wilson(5, 8, distinct=8) == wilson(5, 8)


def test_estimates_print_and_take_a_format():
    estimate = Estimate(0.1234, 0.0801, 0.1666)
    assert str(estimate) == f"{estimate}" == "0.12 [0.08, 0.17]"
    assert f"{estimate:.0%}" == "12% [8%, 17%]"


def mean(x: torch.Tensor) -> float:
    return float(x.mean())


def test_bootstrap_of_a_mean_is_the_textbook_interval_and_repeats_with_its_generator():
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 3
    first, second = (bootstrap(mean, x, generator=torch.Generator().manual_seed(1), resamples=2000) for _ in range(2))
    assert first == second and first.value == mean(x)
    half = 1.959964 * float(x.std()) / math.sqrt(400)
    assert (first.low, first.high) == pytest.approx((first.value - half, first.value + half), rel=0.01)
    few, student = mean_of(x[:3, 0]), stats.ttest_1samp(x[:3, 0], 0).confidence_interval()
    assert (few.low, few.high) == pytest.approx((student.low, student.high))


def test_bootstrap_covers_the_expected_distance_at_that_size():
    """A plug-in distance, biased upwards; resampling lifts it again, and the interval must not follow."""
    g = torch.Generator().manual_seed(0)

    def distance(x: torch.Tensor) -> float:
        return float(x.mean(0).norm())  # of 0 from the mean of n points: about sqrt(dim / n), not 0

    def draw() -> torch.Tensor:
        return torch.randn(30, 20, generator=g)

    expected = sum(distance(draw()) for _ in range(400)) / 400
    intervals = [bootstrap(distance, draw(), generator=g, resamples=100) for _ in range(60)]
    assert sum(e.low <= expected <= e.high for e in intervals) >= 51  # of 60; at 95 % fewer come about once in 4,000


@pytest.mark.parametrize(
    ("distance", "samples", "resamples", "named"),
    [(mean, torch.ones(1, 1), 100, "samples"), (mean, torch.tensor([[1.0], [torch.nan]]), 100, "samples"),
     (mean, torch.ones(4, 1), 1, "resamples"), (lambda x: math.nan, torch.ones(4, 1), 100, "distance")],
)  # fmt: skip
def test_bootstrap_refuses_bad_input(distance, samples, resamples, named):
    with pytest.raises(ValueError, match=named):
        bootstrap(distance, samples, generator=torch.Generator(), resamples=resamples)
