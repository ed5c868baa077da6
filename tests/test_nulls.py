"""Model nulls, fidelity and membership, on sets whose answer is known."""

from functools import partial

import draws
import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity

from memlib.metrics import copied_items, fidelity, membership, memorized_fraction, model_nulls
from memlib.metrics.nulls import bandwidth, shrunk_covariance

normal = partial(draws.normal, dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(8, 40), (60, 5), (30, 30)])
def test_the_shrunk_covariance_is_that_of_scikit_learn(n, d) -> None:
    x = normal(n, d) * torch.linspace(0.5, 3, d, dtype=torch.float64) + 2
    mean, shrinkage, level = shrunk_covariance(x)
    expected, s = ledoit_wolf(x.numpy())
    assert shrinkage == pytest.approx(s, rel=1e-9) and torch.allclose(mean, x.mean(0))
    covariance = (1 - shrinkage) * torch.cov(x.T, correction=0) + shrinkage * level * torch.eye(d, dtype=torch.float64)
    np.testing.assert_allclose(covariance, expected, rtol=1e-9, atol=1e-12)


def test_gaussian_samples_have_the_shrunk_covariance_and_the_mean() -> None:
    x = normal(12, 4, seed=1) @ normal(4, 4, seed=2)
    made = model_nulls(x, 200_000, torch.Generator().manual_seed(0))["gaussian"]
    expected = ledoit_wolf(x.numpy())[0]
    np.testing.assert_allclose(torch.cov(made.T), expected, atol=0.02 * np.abs(expected).max())
    np.testing.assert_allclose(made.mean(0), x.mean(0), atol=0.02 * np.abs(expected).max() ** 0.5)


def test_the_kernel_bandwidth_is_the_best_by_leaving_one_out() -> None:
    x = normal(20, 3, seed=3)

    def score(h: float) -> float:
        density = [KernelDensity(bandwidth=h).fit(np.delete(x.numpy(), i, 0)) for i in range(len(x))]
        return sum(own.score(x.numpy()[i : i + 1]) for i, own in enumerate(density))

    best = bandwidth(x)
    assert all(score(best) >= score(best * factor) for factor in (0.8, 0.9, 1.1, 1.25))


def test_no_null_copies_and_a_mix_lies_halfway_between_two_items() -> None:
    x = normal(16, 3, 8, 8, seed=4).float()
    made = model_nulls(x, 64, torch.Generator().manual_seed(0))
    assert list(made) == ["gaussian", "mix", "kernel"]
    assert all(each.shape == (64, 3, 8, 8) and each.dtype == x.dtype for each in made.values())
    assert memorized_fraction(made["gaussian"], x).value == memorized_fraction(made["mix"], x).value == 0
    distances = torch.cdist(made["mix"].flatten(1), x.flatten(1)).sort().values
    assert torch.allclose(distances[:, 0], distances[:, 1], atol=1e-4) and (distances[:, 2] > distances[:, 1]).all()
    assert all(torch.equal(made[name], model_nulls(x, 64, torch.Generator().manual_seed(0))[name]) for name in made)
    with pytest.raises(ValueError, match="train"):
        model_nulls(x[:2], 4, torch.Generator())


def test_fidelity_is_one_for_real_data_and_sees_what_is_off_the_curve() -> None:
    reference, fresh, samples = (torch.stack([a.cos(), a.sin()], 1) for a in 3 * normal(3, 2000, seed=5))
    fresh, real = fresh[:500] * 1.01, samples[:500] * 1.01  # one hundredth off a circle
    assert fidelity(real, fresh, reference).value == pytest.approx(1, abs=0.05)
    assert fidelity(samples[:500] * 1.1, fresh, reference).value == pytest.approx(10, rel=0.05)
    seen = torch.cat([fresh, reference[:5]])
    for few, among, named in ((samples, seen, "fresh has 5"), (samples[:1], fresh, "1 item")):
        with pytest.raises(ValueError, match=named):
            fidelity(few, among, reference)


def test_membership_is_the_area_under_the_roc_curve() -> None:
    train, held_out = normal(5, 30, seed=6), normal(5, 40, seed=7) + 0.3
    found, losses = membership(train, held_out), torch.cat([train.mean(0), held_out.mean(0)])
    assert found.value == pytest.approx(roc_auc_score([1] * 30 + [0] * 40, -losses))
    assert found.low < found.value < found.high
    assert membership(train.numpy(), held_out.numpy()) == found
    assert membership(train - 100, held_out).value == 1 and membership(train, train).value == 0.5, "ties count half"
    pairs = [(normal(1, 6, seed=k), normal(1, 6, seed=500 + k) + 2.326) for k in range(200)]  # their true area is 0.95
    assert sum((e := membership(*pair)).low <= 0.95 <= e.high for pair in pairs) > 180, "six items prove little"
    for given, named in ((train / 0, "NaN"), (train[:1], "grids"), (train[:, :0], "empty")):
        with pytest.raises(ValueError, match=named):
            membership(given, held_out)


def test_copies_are_counted_by_the_item_that_is_copied() -> None:
    train = normal(6, 10, seed=8)
    samples = torch.cat([train[[2, 2, 5]] + 1e-3, normal(4, 10, seed=9)])
    assert copied_items(samples, train).tolist() == [0, 0, 2, 0, 0, 1]
    assert copied_items(normal(4, 10, seed=9), train).sum() == 0
