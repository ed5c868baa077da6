"""Intervals against scipy, and the bootstrap against repeated draws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from memlib.metrics import Estimate, bootstrap, wilson


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (40, 40), (999, 1000)])
def test_against_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    got = wilson(successes, n, confidence)
    assert got.value == successes / n
    assert got.low == pytest.approx(expected.low, abs=1e-10)
    assert got.high == pytest.approx(expected.high, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 10**4), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_bounds_symmetry_and_nesting(n, share, confidence):
    successes = round(share * n)
    got, mirrored = wilson(successes, n, confidence), wilson(n - successes, n, confidence)
    assert 0 <= got.low <= got.value <= got.high <= 1
    assert got.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    wider = wilson(successes, n, (1 + confidence) / 2)
    assert wider.low <= got.low + 1e-12


def test_repeated_trials_keep_the_share_and_take_the_width_of_the_distinct_ones():
    got, four = wilson(6, 8, distinct=4), wilson(3, 4)
    assert (got.value, got.low, got.high) == (four.value, four.low, four.high)
    assert wilson(16, 16, distinct=1).low < 0.25
    assert wilson(5, 8, distinct=8) == wilson(5, 8)


def test_the_ends_are_exact():
    assert wilson(0, 7).low == 0
    assert wilson(7, 7).high == 1
    assert wilson(2.5, 5).value == 0.5
    assert 0 < wilson(3, 10, 0.9999999999999999).low < wilson(3, 10, 0.99).low, "(1 + confidence) / 2 is rounded to 1"


def test_bad_counts_are_refused():
    for successes, n in ((0, 0), (6, 5), (-1, 5)):
        with pytest.raises(ValueError, match="successes"):
            wilson(successes, n)
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(ValueError, match="confidence"):
            wilson(1, 5, confidence)


def test_estimates_print_and_take_a_format():
    estimate = Estimate(0.1234, 0.0801, 0.1666)
    assert str(estimate) == f"{estimate}" == "0.12 [0.08, 0.17]"
    assert f"{estimate:.0%}" == "12% [8%, 17%]"
    assert f"{estimate:.3f}" == "0.123 [0.080, 0.167]"


def mean(x: torch.Tensor) -> float:
    return float(x.mean())


def test_bootstrap_of_a_mean_is_the_textbook_interval():
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 3
    got = bootstrap(mean, x, generator=torch.Generator().manual_seed(1), resamples=2000, confidence=0.9)
    half = 1.644854 * float(x.std()) / math.sqrt(400)
    assert got.value == mean(x)
    assert got.low == pytest.approx(got.value - half, rel=0.01)
    assert got.high == pytest.approx(got.value + half, rel=0.01)


def test_bootstrap_covers_the_expected_distance_at_that_size():
    """A plug-in distance, biased upwards; resampling lifts it again, and the interval must not follow."""
    g = torch.Generator().manual_seed(0)

    def distance(x: torch.Tensor) -> float:
        return float(x.mean(0).norm())  # of 0 from the mean of n points: about sqrt(dim / n), not 0

    def draw() -> torch.Tensor:
        return torch.randn(30, 20, generator=g)

    expected = sum(distance(draw()) for _ in range(400)) / 400
    intervals = [bootstrap(distance, draw(), generator=g, resamples=100) for _ in range(60)]
    covered = sum(e.low <= expected <= e.high for e in intervals)
    assert covered >= 51  # of 60; at 95 % fewer come about once in 4,000


def test_bootstrap_repeats_with_its_generator_and_leaves_the_global_one_alone():
    x = torch.arange(12.0)[:, None]
    before = torch.get_rng_state()
    first, second, other = (bootstrap(mean, x, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == second
    assert first != other
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("distance", "samples", "options", "named"),
    [
        (mean, torch.ones(1, 1), {}, "samples"),
        (mean, torch.tensor([[1.0], [torch.nan]]), {}, "samples"),
        (mean, torch.ones(4, 1), {"resamples": 1}, "resamples"),
        (mean, torch.ones(4, 1), {"confidence": 0}, "confidence"),
        (lambda x: math.nan, torch.ones(4, 1), {}, "distance"),
    ],
)
def test_bootstrap_refuses_bad_input(distance, samples, options, named):
    with pytest.raises(ValueError, match=named):
        bootstrap(distance, samples, generator=torch.Generator(), **options)
