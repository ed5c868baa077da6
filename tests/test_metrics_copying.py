"""Memorization figures on sets whose answer is known: copies, held-out data, duplicates, near-copies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memlib.metrics import closer_to_train, memorized_fraction, nearest_neighbours, neighbour_ratio, wilson


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


def test_exact_duplicates_in_train_count_once_and_near_duplicates_hide_copies():
    train = gauss(20, 50)
    near = train + 0.01 * gauss(20, 50, 1)
    for doubled in (torch.cat([train, train]), train.repeat_interleave(3, 0)):
        assert torch.equal(neighbour_ratio(near, doubled), neighbour_ratio(near, train))
        assert memorized_fraction(near, doubled) == memorized_fraction(near, train) == wilson(20, 20)
        assert neighbour_ratio(train, doubled).max() == 0
    assert memorized_fraction(near, torch.cat([train, train + 1e-4])).value == 0
    with pytest.raises(ValueError, match="train has 1 item"):
        neighbour_ratio(near, train[:1].repeat(5, 1))


@pytest.mark.parametrize("jitter", [0.0, 1e-3])
def test_samples_that_repeat_one_another_count_once_in_the_interval(jitter):
    train, held_out = gauss(16), gauss(16, seed=1)
    collapsed = train[:1].repeat(16, 1) + jitter * gauss(16, seed=2)
    for got in (closer_to_train(collapsed, train, held_out), memorized_fraction(collapsed, train)):
        assert got == wilson(16, 16, distinct=1)
    four = train[:4].repeat(4, 1) + jitter * gauss(16, seed=3)
    assert memorized_fraction(four, train) == wilson(16, 16, distinct=4)
    assert memorized_fraction(torch.cat([train, train[:1]]), train) == wilson(17, 17), "chance changes nothing"


@pytest.mark.parametrize("n", [64, 512, 4096])
def test_ordinary_samples_all_count_also_where_many_points_crowd_in_two_dimensions(n):
    train, clusters = spiral(64, 0), (gauss(n, 2, 1) * 0.05 + torch.randint(8, (n, 1), generator=seeded(2)))
    for samples in (spiral(n, 1), clusters, gauss(n, 1, 3), gauss(n, 30, 4)):
        like = train if samples.shape[1] == 2 else gauss(64, samples.shape[1], 5)
        got = memorized_fraction(samples, like)
        assert got == wilson(round(got.value * n), n)


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
    with pytest.raises(ValueError, match="held_out has 6 items and train 5"):
        closer_to_train(gauss(4), gauss(5), gauss(6))


TWO_SETS = [neighbour_ratio, memorized_fraction]


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
    with pytest.raises(TypeError, match="samples"):
        measure([[0.0]], gauss(6))


def test_three_sets_are_checked_alike():
    bad = gauss(6)
    bad[0, 0] = torch.nan
    for sets, named in (((gauss(6), gauss(6), bad), "held_out"), ((gauss(6), gauss(0), gauss(6)), "train")):
        with pytest.raises(ValueError, match=named):
            closer_to_train(*sets)


@pytest.mark.parametrize("threshold", [0, -1, 1.01, math.nan])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        memorized_fraction(gauss(5), gauss(6), threshold)


def test_images_and_signals_are_flattened():
    samples, train = gauss(5, 48), gauss(6, 48, 1)
    assert torch.equal(
        neighbour_ratio(samples.view(5, 3, 4, 4), train.view(6, 3, 4, 4)), neighbour_ratio(samples, train)
    )
    assert nearest_neighbours(samples.view(5, 1, 48), train.view(6, 1, 48))[1].shape == (5, 2)
