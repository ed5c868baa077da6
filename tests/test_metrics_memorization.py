"""Memorization figures on sets whose answer is known: copies, held-out data, duplicates, near-copies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from memlib.metrics import (
    authenticity,
    calibrated_l2,
    closer_to_train,
    data_copying_test,
    memorized_fraction,
    nearest_neighbours,
    neighbour_ratio,
    wilson,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gauss(n: int, dim: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=seeded(seed))


def spiral(n: int, seed: int) -> torch.Tensor:
    g = seeded(seed)
    angle = 3 * math.pi * torch.rand(n, generator=g).sqrt()
    points = torch.stack([angle.cos(), angle.sin()], 1) * angle[:, None] / (3 * math.pi)
    return points + 0.02 * torch.randn(n, 2, generator=g)


def distances(a, b):
    return torch.from_numpy(np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=2))


def test_ratio_by_hand():
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    ratio = neighbour_ratio(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 3.0]]), train)
    np.testing.assert_allclose(ratio.numpy(), [1 / 3, 1.0, 0.0, 3 / 5], rtol=1e-15)


def test_the_threshold_itself_is_not_memorized():
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    samples = torch.tensor([[1.0, 0.0], [0.99, 0.0]])
    assert memorized_fraction(samples[:1], train, 1 / 3).value == 0
    assert memorized_fraction(samples, train, 1 / 3).value == 0.5
    assert memorized_fraction(samples, train, 0.5).value == 1


def test_copies_are_memorized_and_fresh_data_are_not():
    train = gauss(50, 100)
    assert memorized_fraction(train, train) == wilson(50, 50)
    assert memorized_fraction(train + 1e-4 * gauss(50, 100, 1), train) == wilson(50, 50)
    assert memorized_fraction(gauss(200, 100, 2), train) == wilson(0, 200)


def test_near_copies_far_from_the_origin_are_memorized():
    train = gauss(30, 3072) + 100  # norm 5,500: in float32 the quick formula is off by about 1, the copies by 0.006
    copies = train.double() + 1e-4 * gauss(30, 3072, 1).double()
    ratio = neighbour_ratio(copies, train.double())
    assert ratio.max() < 1e-3
    assert ratio.min() > 1e-5
    assert memorized_fraction(copies, train.double()).value == 1


def test_exact_copies_of_duplicated_items_count_and_near_copies_of_them_hide():
    train = gauss(20, 50)
    doubled = torch.cat([train, train])
    assert neighbour_ratio(train, doubled).max() == 0
    assert memorized_fraction(train, doubled).value == 1
    near = train + 0.01 * gauss(20, 50, 1)
    assert memorized_fraction(near, train).value == 1
    assert memorized_fraction(near, doubled).value == 0


def test_the_null_of_the_one_third_rule_in_two_dimensions():
    shares = [memorized_fraction(spiral(200, 2 * seed + 1), spiral(32, 2 * seed)).value for seed in range(20)]
    assert 0.15 < np.mean(shares) < 0.35  # about 24 % of honest samples
    in_many_dimensions = memorized_fraction(gauss(200, 30, 1), gauss(32, 30))
    assert in_many_dimensions.value == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), dim=st.integers(1, 40), scale=st.floats(1e-3, 1e3))
def test_ratio_is_bounded_and_free_of_scale_shift_and_order(seed, dim, scale):
    g = seeded(seed)
    samples, train = (torch.randn(n, dim, generator=g, dtype=torch.float64) for n in (6, 9))
    ratio = neighbour_ratio(samples, train)
    assert ((ratio >= 0) & (ratio <= 1)).all()
    np.testing.assert_allclose(neighbour_ratio(samples * scale, train * scale), ratio, rtol=1e-9)
    np.testing.assert_allclose(neighbour_ratio(samples + scale, train + scale), ratio, rtol=1e-6)
    assert torch.equal(neighbour_ratio(samples, train[torch.randperm(9, generator=g)]), ratio)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.floats(0.05, 0.5), more=st.floats(0, 0.5))
def test_a_higher_threshold_calls_no_fewer_memorized(seed, low, more):
    g = seeded(seed)
    samples, train = torch.randn(30, 2, generator=g), torch.randn(12, 2, generator=g)
    assert memorized_fraction(samples, train, low).value <= memorized_fraction(samples, train, low + more).value


def test_the_interval_is_that_of_the_count():
    samples, train = spiral(100, 1), spiral(32, 0)
    d = distances(samples, train).sort(1).values
    count = int((d[:, 0] / d[:, 1] < 1 / 3).sum())
    assert 5 < count < 60
    interval = binomtest(count, 100).proportion_ci(0.9, method="wilson")
    got = memorized_fraction(samples, train, confidence=0.9)
    assert got.value == count / 100
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_closer_to_train_for_copies_of_either_set_and_fresh_data():
    train, held_out = gauss(64), gauss(64, seed=1)
    assert closer_to_train(train, train, held_out).value == 1
    assert closer_to_train(held_out, train, held_out).value == 0
    shares = [
        closer_to_train(gauss(64, seed=3 * i), gauss(64, seed=3 * i + 1), gauss(64, seed=3 * i + 2)).value
        for i in range(20)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)  # 20 splits of 64: standard error about 0.02


def test_a_tie_between_train_and_held_out_counts_one_half():
    train, held_out = torch.tensor([[0.0], [9.0]]), torch.tensor([[2.0], [9.0]])
    samples = torch.tensor([[1.0], [9.0], [0.0], [0.1]])
    got = closer_to_train(samples, train, held_out)
    assert got.value == 0.75
    assert closer_to_train(samples, held_out, train).value == 0.25
    assert got == wilson(3, 4)


def test_unequal_sets_are_refused_with_both_sizes():
    with pytest.raises(ValueError, match="train has 5 items and held_out 6"):
        closer_to_train(gauss(4), gauss(5), gauss(6))


def test_calibrated_l2_against_brute_force_and_by_hand():
    samples, train = gauss(10), gauss(60, seed=1)
    nearest = distances(samples, train).sort(1).values
    np.testing.assert_allclose(
        calibrated_l2(samples, train), nearest[:, 0] / (0.5 * nearest[:, :50].mean(1)), rtol=1e-12
    )
    by_hand = calibrated_l2(torch.tensor([[1.0]]), torch.tensor([[0.0], [4.0], [9.0]]), alpha=0.25, n=2)
    assert by_hand.item() == pytest.approx(1 / (0.25 * 2), rel=1e-15)
    assert calibrated_l2(train, train).max() == 0
    assert calibrated_l2(train[:1], train[:1].repeat(50, 1)).item() == 0
    with pytest.raises(ValueError, match=r"train has 49 item.*at least 50"):
        calibrated_l2(samples, train[:49])
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and inf, got 0"):
        calibrated_l2(samples, train, alpha=0)


def test_authenticity_by_hand_and_on_copies():
    train = torch.tensor([[0.0], [1.0], [5.0]])  # own nearest: 1, 1, 4
    samples = torch.tensor([[-2.0], [0.4], [8.0], [10.0], [-1.0]])  # to train 2 > 1, .4, 3, 5 > 4, 1 (equal)
    assert authenticity(samples, train) == wilson(2, 5)
    train = gauss(40)
    assert authenticity(train, train).value == 0
    # Of n + 1 points alike, which one is the sample is chance; its nearest points back at it less often than not.
    assert 0.3 < authenticity(gauss(300, seed=1), train).value < 0.8
    assert authenticity(train[:5] + 1e-3, torch.cat([train, train])).value == 1  # duplicates hide copying here too


def test_data_copying_one_cell_is_the_z_score_of_mann_whitney():
    samples, train, test = gauss(40, seed=1) * 0.9, gauss(50), gauss(30, seed=2)
    ours, theirs = (distances(x, train).min(1).values.numpy() for x in (samples, test))
    u = mannwhitneyu(ours, theirs, method="asymptotic", use_continuity=False)
    z = math.copysign(math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - u.pvalue))), u.statistic - 600)
    assert data_copying_test(samples, train, test, cells=1) == pytest.approx(z, abs=1e-6)


def test_data_copying_tells_copies_from_fresh_data_and_from_noise():
    train, test = spiral(90, 0), spiral(90, 1)
    copies = train[torch.randint(90, (90,), generator=seeded(2))] + 1e-3 * gauss(90, 2, 3)
    assert data_copying_test(copies, train, test) < -5
    assert data_copying_test(train, train, test) < -5
    assert data_copying_test(spiral(90, 4) + 0.3 * gauss(90, 2, 5), train, test) > 3
    fresh = [data_copying_test(spiral(90, 100 + i), train, spiral(90, 200 + i)) for i in range(20)]
    assert abs(np.mean(fresh)) < 0.5
    assert data_copying_test(test, train, test) == 0


def test_data_copying_weighs_the_cells_by_their_test_share():
    """Two far clusters, copies in one and noise in the other: 3/4 of the test items lie in the second."""
    shift = torch.tensor([100.0, 0.0])
    train = torch.cat([gauss(30, 2), gauss(30, 2, 1) + shift])
    test = torch.cat([gauss(10, 2, 2), gauss(30, 2, 3) + shift])
    samples = torch.cat([train[:25], 3 * gauss(25, 2, 4) + shift])
    left = data_copying_test(samples[:25], train[:30], test[:10], cells=1)
    right = data_copying_test(samples[25:], train[30:], test[10:], cells=1)
    assert left < -3 < 3 < right
    assert data_copying_test(samples, train, test, cells=2) == pytest.approx((left + 3 * right) / 4, abs=1e-12)
    twenty = data_copying_test(samples[25:45], train[30:], test[10:], cells=1)  # as many as are asked for, just enough
    assert data_copying_test(samples[:45], train, test, cells=2) == pytest.approx((left + 3 * twenty) / 4, abs=1e-12)
    assert data_copying_test(samples[:44], train, test, cells=2) == pytest.approx(left, abs=1e-12)  # 19 are too few
    with pytest.raises(ValueError, match="no cell holds least = 26 of the 50 samples"):
        data_copying_test(samples, train, test, cells=2, least=26)


def column(**counts: int) -> torch.Tensor:
    """Points on a line: column(x3=2) is two points at 3; a little apart, to have no ties."""
    at = torch.cat([torch.full((n,), float(name[1:])) for name, n in counts.items()])
    return at[:, None] + 1e-3 * torch.linspace(0, 1, len(at))[:, None]


def test_data_copying_measures_within_the_cell():
    """At 1.8 the nearest training items are at 1 (0.8 away), but those of the cell are at 3 (1.2 away)."""
    train, test = column(x0=10, x1=10, x3=20), column(x4=30)
    assert data_copying_test(column(x1=20) + 0.8, train, test, cells=2) > 5
    assert data_copying_test(column(x4=30), train, column(x1=20) + 0.8, cells=2) < -5


def test_data_copying_moves_its_cells_to_the_clusters():
    """Equal slices of 10 and 30 points have their means at 5 and 10; k-means ends at 0 and 10, so 6 goes with 10."""
    assert data_copying_test(column(x6=25), column(x0=10, x10=30), column(x15=30), cells=2) < -5


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_data_copying_does_not_depend_on_the_order_of_any_set(seed):
    g = seeded(seed)
    samples, train, test = (torch.randn(40, 3, generator=g, dtype=torch.float64) for _ in range(3))
    shuffled = [x[torch.randperm(40, generator=g)] for x in (samples, train, test)]
    expected = data_copying_test(samples, train, test, cells=2, least=1)
    assert data_copying_test(*shuffled, cells=2, least=1) == pytest.approx(expected, abs=1e-9)


TWO_SETS = [neighbour_ratio, memorized_fraction, authenticity, lambda s, t: calibrated_l2(s, t, n=2)]


@pytest.mark.parametrize("measure", TWO_SETS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_is_never_counted(measure, bad):
    samples, train = gauss(5), gauss(6)
    samples[3, 2] = bad
    with pytest.raises(ValueError, match="samples holds 1 value"):
        measure(samples, train)
    with pytest.raises(ValueError, match="train holds 1 value"):
        measure(gauss(5), samples)


@pytest.mark.parametrize("measure", TWO_SETS)
def test_a_single_training_item_and_empty_sets_are_refused(measure):
    with pytest.raises(ValueError, match="train has 1 item"):
        measure(gauss(5), gauss(1))
    with pytest.raises(ValueError, match="samples is empty"):
        measure(gauss(0), gauss(6))
    with pytest.raises(ValueError, match="items of shape"):
        measure(gauss(5), gauss(6, 3))
    with pytest.raises(TypeError, match=r"samples must be a torch.Tensor"):
        measure([[0.0]], gauss(6))


@pytest.mark.parametrize("measure", [closer_to_train, data_copying_test])
def test_three_sets_are_checked_alike(measure):
    bad = gauss(6)
    bad[0, 0] = torch.nan
    with pytest.raises(ValueError, match="holds 1 value"):
        measure(gauss(6), gauss(6), bad)
    with pytest.raises(ValueError, match="train is empty"):
        measure(gauss(6), gauss(0), gauss(6))


@pytest.mark.parametrize("threshold", [0, -1, 1.01, math.nan])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold must lie in"):
        memorized_fraction(gauss(5), gauss(6), threshold)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1"):
        memorized_fraction(gauss(5), gauss(6), confidence=confidence)


def test_more_cells_than_training_items_are_refused():
    with pytest.raises(ValueError, match=r"train has 3 item.*cells = 4"):
        data_copying_test(gauss(30), gauss(3), gauss(30), cells=4)


def test_images_and_signals_are_flattened():
    samples, train = gauss(5, 48), gauss(6, 48, 1)
    assert torch.equal(
        neighbour_ratio(samples.view(5, 3, 4, 4), train.view(6, 3, 4, 4)), neighbour_ratio(samples, train)
    )
    assert nearest_neighbours(samples.view(5, 1, 48), train.view(6, 1, 48))[1].shape == (5, 2)
