"""Intervals and p values against scipy, and against how often they err on made-up data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memlib.lab.statistics import holm, paired_difference


@pytest.mark.parametrize("n", [2, 3, 6, 40])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.2])
def test_paired_difference_is_students(n: int, shift: float) -> None:
    x = np.random.default_rng(n).normal(shift, 1.5, n)
    expected = stats.ttest_1samp(x, 0)
    interval = expected.confidence_interval()
    effect, p = paired_difference(x.tolist())
    assert p == pytest.approx(expected.pvalue, rel=1e-9)
    np.testing.assert_allclose([effect.value, effect.low, effect.high], [x.mean(), *interval], rtol=1e-9)


def test_equal_differences_are_certain_unless_they_are_zero() -> None:
    effect, p = paired_difference([0.25] * 6)
    assert (effect.value, effect.low, effect.high, p) == (0.25, 0.25, 0.25, 0.0)
    effect, p = paired_difference([0.0] * 6)
    assert (effect.value, effect.low, effect.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_by_hand() -> None:
    """Smallest first: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not be below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (holm([0.5, 0.6]), holm([0.02]), holm([])) == ([1.0, 1.0], [0.02], [])


def step_down(p: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as he wrote it: from the smallest on, reject as long as p_(k) <= alpha / (m - k + 1)."""
    rejected = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] * (len(p) - k) > alpha:
            break
        rejected[i] = True
    return rejected


@settings(max_examples=200, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12), alpha=st.floats(0, 0.999))
def test_holm_rejects_what_the_procedure_rejects(p, alpha: float) -> None:
    adjusted = holm(p)
    assert [x <= alpha for x in adjusted] == step_down(p, alpha)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True)) and max(adjusted) <= 1


def test_what_has_no_statistic_is_refused() -> None:
    for values in ([], [1.0], [1.0, math.nan, 2.0]):
        with pytest.raises(ValueError, match="values"):
            paired_difference(values)
    for bad in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="p = "):
            holm([0.5, bad, 0.1])
