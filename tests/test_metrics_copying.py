"""Memorization figures on sets whose answer is known: copies, held-out data, duplicates, near-copies."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from draws import normal, seeded

from memlib.metrics import closer_to_train, copied_items, memorized_fraction, neighbour_ratio, ratio_of, wilson
from memlib.metrics.copying import share_below


def gauss(n: int, dim: int = 20, seed: int = 0) -> torch.Tensor:
    return normal(n, dim, seed=seed)


def spiral(n: int, seed: int) -> torch.Tensor:
    g = seeded(seed)
    angle = 3 * math.pi * torch.rand(n, generator=g).sqrt()
    points = torch.stack([angle.cos(), angle.sin()], 1) * angle[:, None] / (3 * math.pi)
    return points + 0.02 * torch.randn(n, 2, generator=g)


def test_ratio_by_hand_and_the_threshold_itself_is_not_memorized():
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    samples = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(neighbour_ratio(samples, train), [1 / 3, 1.0, 0.0, 3 / 5], rtol=1e-15)
    assert ratio_of(np.array([[1.0, 3.0]])).tolist() == [1 / 3]
    assert memorized_fraction(samples[:1], train, 1 / 3).value == 0
    assert memorized_fraction(samples[:1] * 0.99, train, 1 / 3).value == 1
    for measure, threshold in product((memorized_fraction, copied_items), (0, -1, 1.01, math.nan)):
        with pytest.raises(ValueError, match="threshold"):
            measure(samples, train, threshold)
    with pytest.raises(ValueError, match=r"ratio .* NaN"):
        share_below(torch.tensor([0.5, math.nan]))


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
        got = memorized_fraction(samples, (train if samples.shape[1] == 2 else gauss(64, samples.shape[1], 5)))
        assert got == wilson(round(got.value * n), n)


def test_the_null_of_the_one_third_rule_in_two_dimensions():
    shares = [memorized_fraction(spiral(200, 2 * seed + 1), spiral(32, 2 * seed)).value for seed in range(20)]
    assert 0.15 < np.mean(shares) < 0.35  # about 24 % of honest samples
    assert memorized_fraction(gauss(200, 30, 1), gauss(32, 30)).value == 0


def test_closer_to_train_for_copies_of_either_set_and_fresh_data():
    train, held_out = gauss(64), gauss(64, seed=1)
    assert closer_to_train(train, train, held_out).value == 1
    assert closer_to_train(held_out, train, held_out).value == 0
    shares = [closer_to_train(*(gauss(64, seed=3 * i + k) for k in range(3))).value for i in range(20)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)  # 20 splits of 64: standard error about 0.02
    with pytest.raises(ValueError, match="held_out has 6 items and train 5"):
        closer_to_train(gauss(4), gauss(5), gauss(6))


def test_a_tie_between_train_and_held_out_counts_one_half():
    train, held_out = torch.tensor([[0.0], [9.0]]), torch.tensor([[2.0], [9.0]])
    samples = torch.tensor([[1.0], [9.0], [0.0], [0.1]])
    assert closer_to_train(samples, train, held_out) == wilson(3, 4)
    assert closer_to_train(samples, held_out, train).value == 0.25
