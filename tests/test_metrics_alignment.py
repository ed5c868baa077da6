"""Distances between two sets against scipy, principal components against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA as SklearnPCA

from memlib.metrics import PCA, energy_distance, pca_jensen_shannon, pca_wasserstein, sliced_wasserstein


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(n: int, dim: int = 12, seed: int = 0) -> torch.Tensor:
    mixing = torch.randn(dim, dim, generator=seeded(99), dtype=torch.float64)
    return torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64) @ mixing + 3


@pytest.mark.parametrize(("n", "dim"), [(50, 12), (15, 40), (13, 12)])
def test_pca_equals_scikit_learn(n, dim):
    x, other = correlated(n, dim), correlated(9, dim, 1)
    ours, theirs = PCA(x, 5), SklearnPCA(5, svd_solver="full").fit(x.numpy())
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-12)
    np.testing.assert_allclose(ours.components, theirs.components_, atol=1e-8)
    np.testing.assert_allclose(ours.std, theirs.explained_variance_**0.5, rtol=1e-10)
    np.testing.assert_allclose(ours.transform(other), theirs.transform(other.numpy()), atol=1e-7)


def test_pca_takes_ten_components_or_as_many_as_there_are_and_no_more():
    assert len(PCA(correlated(50)).std) == 10
    assert len(PCA(correlated(4)).std) == 3  # four points span three directions
    assert len(PCA(torch.randn(20, 2, generator=seeded())).std) == 2
    assert len(PCA(correlated(20, 2) @ correlated(2, 30)).std) == 2
    for reference, components in ((correlated(4), 4), (torch.ones(5, 3), None), (torch.ones(1, 3), None)):
        with pytest.raises(ValueError, match="reference") as error:
            PCA(reference, components)
        assert "None" not in str(error.value)
    with pytest.raises(ValueError, match="components"):
        PCA(correlated(5), 0)
    with pytest.raises(ValueError, match="x has items of 3 elements"):
        PCA(correlated(5)).transform(torch.ones(2, 3))


def test_pca_takes_images_and_does_not_flip_with_the_order_of_its_reference():
    x = correlated(30).view(30, 3, 2, 2)
    first, second = PCA(x, 4), PCA(x.flip(0), 4)
    np.testing.assert_allclose(first.components, second.components, atol=1e-9)
    assert first.transform(x).shape == (30, 4)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (37, 51), (1, 9)])
def test_pca_wasserstein_against_scipy(n, m):
    samples, real, reference = correlated(n, seed=1) * 1.3, correlated(m, seed=2), correlated(60, seed=3)
    pca = SklearnPCA(4, svd_solver="full").fit(reference.numpy())
    a, b = pca.transform(samples.numpy()), pca.transform(real.numpy())
    expected = np.mean([wasserstein_distance(a[:, i], b[:, i]) / pca.explained_variance_[i] ** 0.5 for i in range(4)])
    got = pca_wasserstein(samples, real, reference=reference, components=4)
    assert got == pytest.approx(expected, rel=1e-9)
    assert pca_wasserstein(samples, real, reference=PCA(reference, 4)) == got


def test_the_reference_is_real_by_default_and_a_fitted_one_keeps_its_components():
    samples, real = correlated(20, seed=1), correlated(30, seed=2)
    for distance in (pca_wasserstein, pca_jensen_shannon):
        assert distance(samples, real, components=3) == distance(samples, real, reference=PCA(real, 3))
        assert distance(samples, real, components=3) != distance(samples, real, reference=PCA(samples, 3))
        with pytest.raises(ValueError, match="components = 4, but the fitted reference has 3"):
            distance(samples, real, reference=PCA(real, 3), components=4)


@pytest.mark.parametrize("bins", [2, 15])
def test_pca_jensen_shannon_against_scipy(bins):
    samples, real = correlated(80, seed=1) + 1, correlated(70, seed=2)
    pca = SklearnPCA(3, svd_solver="full").fit(real.numpy())
    a, b = pca.transform(samples.numpy()), pca.transform(real.numpy())
    ranges = [(min(a[:, i].min(), b[:, i].min()), max(a[:, i].max(), b[:, i].max())) for i in range(3)]

    def histogram(x, i):
        return np.histogram(x[:, i], bins, ranges[i])[0]

    expected = np.mean([jensenshannon(histogram(a, i), histogram(b, i), base=2) for i in range(3)])
    assert pca_jensen_shannon(samples, real, components=3, bins=bins) == pytest.approx(expected, abs=1e-9)
    planes = [np.histogram2d(x[:, 0], x[:, 1], bins, ranges[:2])[0].ravel() for x in (a, b)]
    expected = jensenshannon(*planes, base=2)
    assert pca_jensen_shannon(samples, real, components=3, bins=bins, joint=True) == pytest.approx(expected, abs=1e-9)


def test_jensen_shannon_is_zero_for_equal_and_one_for_disjoint_sets():
    real = correlated(30)
    assert pca_jensen_shannon(real, real) == 0
    assert pca_jensen_shannon(real + 1000 * PCA(real, 1).components[0], real, components=1) == pytest.approx(
        1, abs=1e-12
    )
    with pytest.raises(ValueError, match="bins"):
        pca_jensen_shannon(real, real, bins=1)
    with pytest.raises(ValueError, match="joint"):
        pca_jensen_shannon(real, real, components=1, joint=True)


def test_a_set_collapsed_to_one_point_has_its_distance():
    real = correlated(30)
    assert pca_wasserstein(real[:1].repeat(5, 1), real) > 0.3
    assert pca_jensen_shannon(real[:1].repeat(5, 1), real[:1].repeat(7, 1), reference=real) == 0


def test_sliced_wasserstein_against_scipy_over_the_same_directions():
    samples, real = correlated(30, seed=1), correlated(41, seed=2)
    directions = torch.randn(12, 50, generator=seeded(5), dtype=torch.float64)
    directions = (directions / directions.norm(dim=0)).numpy()
    a, b = samples.numpy() @ directions, real.numpy() @ directions
    expected = np.mean([wasserstein_distance(a[:, i], b[:, i]) for i in range(50)])
    got = sliced_wasserstein(samples, real, generator=seeded(5), projections=50)
    assert got == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    real = correlated(20)
    shift = torch.zeros(12, dtype=torch.float64)
    shift[0] = 2.0
    got = sliced_wasserstein(real + shift, real, generator=seeded(), projections=4000)
    # E|u_1| of a unit vector in d dimensions: Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)), 0.2353 at d = 12
    assert got == pytest.approx(2 * 0.23527, rel=0.05)
    assert sliced_wasserstein(real, real.flip(0), generator=seeded()) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="projections"):
        sliced_wasserstein(real, real, generator=seeded(), projections=0)


def brute_energy(x, y):
    a, b = x.double().numpy(), y.double().numpy()
    return 2 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean()


@pytest.mark.parametrize(("n", "m", "dim"), [(40, 40, 2), (30, 55, 12), (1, 6, 12), (60, 50, 500)])
def test_energy_distance_against_brute_force(n, m, dim, monkeypatch):
    x, y = correlated(n, dim, 1), correlated(m, dim, 2)
    expected = brute_energy(x, y)
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert energy_distance(x + 1e6, y + 1e6) == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr("memlib.metrics.alignment.CHUNK", 64)
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_energy_distance_of_equal_sets_is_zero_and_its_floor_is_as_stated():
    x = correlated(50, seed=1)
    assert energy_distance(x, x) == 0
    floors = [energy_distance(correlated(50, seed=2 * i), correlated(80, seed=2 * i + 1)) for i in range(100)]
    spread = cdist(*(correlated(500, seed=s).numpy() for s in (7, 8))).mean()
    assert np.mean(floors) == pytest.approx((1 / 50 + 1 / 80) * spread, rel=0.1)


def sliced(samples, real):
    return sliced_wasserstein(samples, real, generator=seeded(3), projections=16)


DISTANCES = [pca_wasserstein, pca_jensen_shannon, energy_distance, sliced]


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), scale=st.floats(0.1, 10))
def test_distances_are_positive_free_of_order_and_keep_their_units(distance, seed, n, scale):
    g = seeded(seed)
    samples, real = (torch.randn(k, 3, generator=g, dtype=torch.float64) for k in (n, 25))
    value = distance(samples, real)
    assert value >= 0
    assert distance(samples[torch.randperm(n, generator=g)], real[torch.randperm(25, generator=g)]) == pytest.approx(
        value, rel=1e-6, abs=1e-9
    )
    if distance in (energy_distance, sliced):
        assert distance(samples * scale, real * scale) == pytest.approx(scale * value, rel=1e-6, abs=1e-9)
    if distance is pca_wasserstein:
        assert distance(samples * scale, real * scale) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_bad_input_is_named(distance):
    real = correlated(20)
    bad = real.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"samples holds 1 value.*NaN"):
        distance(bad, real)
    with pytest.raises(ValueError, match="real holds 1 value"):
        distance(real, bad)
    with pytest.raises(ValueError, match="samples is empty"):
        distance(real[:0], real)
    with pytest.raises(ValueError, match="items of shape"):
        distance(real[:, :5], real)
    with pytest.raises(TypeError, match="real"):
        distance(real, real.tolist())


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_copycat_beats_fresh_data_against_the_training_set(distance):
    """Fact 3 of the paper page: distance to the training set rewards copying, so it is never read alone."""
    train, fresh = correlated(60, seed=1), correlated(60, seed=2)
    assert distance(train, train) < distance(fresh, train)
