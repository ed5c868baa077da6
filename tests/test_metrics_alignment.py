"""Distances between two sets against scipy, principal components against scikit-learn, the finest scale by its DCT."""

from functools import partial

import numpy as np
import pytest
import torch
from draws import normal, seeded
from scipy.fft import dct
from scipy.ndimage import convolve1d
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA as SklearnPCA

from memlib.metrics import PCA, energy_distance, finest_scale, without_finest_scale
from memlib.metrics.alignment import jensen_shannon, wasserstein_rows

noise = partial(normal, dtype=torch.float64)


def correlated(n: int, dim: int = 12, seed: int = 0) -> torch.Tensor:
    return noise(n, dim, seed=seed) @ noise(dim, dim, seed=99) + 3


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
    assert len(PCA(correlated(20, 2) @ correlated(2, 30)).std) == 2
    assert PCA(correlated(30).view(30, 3, 2, 2), 4).transform(correlated(5).view(5, 3, 2, 2)).shape == (5, 4)
    flat = (torch.ones(n, 3) for n in (5, 1))
    for reference, components in ((correlated(4), 4), (correlated(5), 0), *((x, None) for x in flat)):
        with pytest.raises(ValueError, match="components"):
            PCA(reference, components)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (37, 51), (1, 9)])
def test_distances_along_components_against_scipy(n, m):
    samples, real = correlated(n, 3, 1) * 1.3, correlated(m, 3, 2)
    scale, rows = torch.tensor([0.5, 1.0, 2.0]).double(), torch.randint(n, (n,), generator=seeded(4))
    for drawn in (torch.arange(n), rows):
        expected = [wasserstein_distance(samples[drawn, i], real[:, i]) / scale[i].item() for i in range(3)]
        assert wasserstein_rows(samples, real, scale)(drawn) == pytest.approx(np.mean(expected), rel=1e-9)
    both = torch.cat([samples, real]).numpy()
    expected = []
    for i, values in enumerate(both.T):
        counts = [np.histogram(x[:, i], 20, (values.min(), values.max()))[0] for x in (samples, real)]
        expected.append(jensenshannon(*counts, base=2))
    assert jensen_shannon(samples, real) == pytest.approx(np.mean(expected), abs=1e-9)


def test_jensen_shannon_is_zero_for_equal_and_one_for_disjoint_sets():
    real = correlated(30)
    assert jensen_shannon(real, real) == jensen_shannon(real[:1].repeat(5, 1), real[:1].repeat(7, 1)) == 0
    assert jensen_shannon(real + 1000, real) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "dim"), [(40, 40, 2), (30, 55, 12), (1, 6, 12), (60, 50, 500)])
def test_energy_distance_against_brute_force_also_far_from_the_origin(n, m, dim):
    x, y = correlated(n, dim, 1), correlated(m, dim, 2)
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    for offset in (0, 1e6):
        assert energy_distance(x + offset, y + offset) == pytest.approx(expected, rel=1e-6)
    assert energy_distance(y, y) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("length", [2, 139, 140])
def test_signal_band_is_the_upper_half_of_the_cosine_transform(length):
    x = noise(3, 2, length)
    spectrum, below = dct(x.numpy(), norm="ortho"), np.arange(length) < length / 2
    fine, rest = (dct(part.numpy(), norm="ortho") for part in (finest_scale(x), without_finest_scale(x)))
    np.testing.assert_allclose(fine, np.where(below, 0, spectrum), atol=1e-12)
    np.testing.assert_allclose(rest, np.where(below, spectrum, 0), atol=1e-12)


def test_image_band_is_the_image_less_its_binomial_blur():
    x = noise(2, 3, 9, 7)
    taps = np.array([1, 4, 6, 4, 1]) / 16
    blurred = convolve1d(convolve1d(x.numpy(), taps, axis=2, mode="mirror"), taps, axis=3, mode="mirror")
    np.testing.assert_allclose(finest_scale(x), x.numpy() - blurred, atol=1e-14)
    np.testing.assert_allclose(without_finest_scale(x), blurred, atol=1e-14)
    board = torch.tensor([[(-1.0) ** (i + j) for j in range(8)] for i in range(8)]).view(1, 1, 8, 8)
    assert torch.equal(finest_scale(board), board), "a checkerboard is all of it"


@pytest.mark.parametrize("x", [noise(5, 2), noise(5, 1, 2, 8), noise(5, 1, 1), noise(0, 1, 8), noise(2, 1, 8) / 0])
def test_what_has_no_finest_scale_is_refused_by_name(x):
    with pytest.raises(ValueError, match=r"^mine "):
        finest_scale(x, "mine")
