"""Nearest neighbours and duplicates: exact where the quick distance formula is not."""

import numpy as np
import pytest
import torch
from draws import normal, seeded

from memlib.metrics import find_duplicates, nearest_neighbours, neighbours


def brute(samples, train, k):
    """All distances by differences in float64; among equal ones the lower index first."""
    a, b = samples.flatten(1).double().numpy(), train.flatten(1).double().numpy()
    distances = np.stack([np.sqrt(((row - b) ** 2).sum(1)) for row in a])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def near_copies(apart: float = 1e-7, dim: int = 3072, families: int = 6, size: int = 12, norm: float = 500.0):
    """Families of near-copies far from the origin and from each other, and one more sample of each, in float64."""
    g = seeded(1)
    base = torch.randn(families, 1, dim, generator=g, dtype=torch.float64) * norm / dim**0.5
    train = (base + apart * torch.randn(families, size, dim, generator=g, dtype=torch.float64)).flatten(0, 1)
    return (base[:, 0] + apart * torch.randn(families, dim, generator=g, dtype=torch.float64)), train


@pytest.mark.parametrize("shape", [(2,), (1, 140), (3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_equal_to_brute_force(shape, dtype):
    samples, train = (normal(n, *shape, seed=n).to(dtype) + 5 for n in (23, 31))
    for k in (1, 2, 7):
        distances, indices = nearest_neighbours(samples, train, k)
        expected, order = brute(samples, train, k)
        assert distances.dtype == torch.float64 and not distances.requires_grad
        np.testing.assert_array_equal(indices.numpy(), order)
        np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("chunk", [1, 1000, neighbours.CHUNK])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_near_copies_where_the_quick_formula_loses_its_digits(k, chunk, scale, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    samples, train = (scale * x for x in near_copies())
    expected, order = brute(samples, train, k)
    squared = (samples**2).sum(1)[:, None] + (train**2).sum(1) - 2 * samples @ train.T
    quick = squared.clamp(min=0).sqrt().topk(k, largest=False).values
    assert (quick.double() - torch.from_numpy(expected)).abs().max() > 0.2 * expected.max(), "the case is not hard"
    distances, indices = nearest_neighbours(samples, train, k)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)


def test_ties_go_to_the_lower_index_also_at_the_edge_of_the_list():
    corners = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [1, 0]])
    assert nearest_neighbours(torch.zeros(1, 2), corners, 5)[1].tolist() == [[0, 1, 2, 3, 4]]
    assert nearest_neighbours(torch.tensor([[2.0, 0]]), corners, 2)[1].tolist() == [[0, 4]]
    assert nearest_neighbours(torch.zeros(2, 3), torch.ones(50, 3), 3)[1].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("norm", [0.0, 1e3])
@pytest.mark.parametrize("dim", [2, 140, 3072])
def test_the_bound_on_the_quick_formula_holds(dim, norm):
    a = normal(30, dim, seed=1, dtype=torch.float64) + norm
    b = a[:20] + 1e-9 * normal(20, dim, seed=2, dtype=torch.float64)
    true, order = (torch.from_numpy(x) for x in brute(a, b, 20))
    ((start, quick, slack),) = neighbours.scan(a, b)
    assert start == 0 and ((quick.gather(1, order) - true**2).abs() <= slack).all()
    assert slack.max() < 1e-11 * dim**2, "a bound this wide would rule nothing out"


def test_reduced_precision_in_force_elsewhere_changes_nothing():
    samples, train = (x.float() for x in near_copies(1e-4, dim=256))
    expected = nearest_neighbours(samples, train, 3)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = nearest_neighbours(samples, train, 3)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@pytest.mark.parametrize(
    ("samples", "train", "error", "named"),
    [(torch.zeros(3, 2), torch.zeros(1, 2), ValueError, "train has 1 item"),
     (torch.zeros(0, 2), torch.zeros(4, 2), ValueError, "samples"),
     (torch.tensor([[0.0, torch.nan]]), torch.zeros(4, 2), ValueError, "samples"),
     (torch.zeros(3, 2), torch.full((2, 2), torch.inf), ValueError, "train"),
     (torch.zeros(3, 4), torch.zeros(4, 2, 2), ValueError, r"samples \(3, 4\), train \(4, 2, 2\)"),
     (torch.zeros(3, 2), torch.zeros(4, 2, dtype=torch.uint8), TypeError, "train.*uint8.*127.5")],
)  # fmt: skip
def test_bad_input_is_named(samples, train, error, named):
    with pytest.raises(error, match=named):
        nearest_neighbours(samples, train, 2)
    with pytest.raises(ValueError, match="k = 0"):
        nearest_neighbours(torch.zeros(3, 2), torch.zeros(4, 2), 0)


def test_arrays_half_precision_and_strided_views_are_measured_like_tensors():
    x = normal(9, 4).half().float()
    reversed_, strided = x.numpy().astype(">f8")[::-1].copy()[::-1], x.T.contiguous().T
    for other in (x.numpy(), reversed_, strided, x.half(), x.requires_grad_()):
        for got, expected in zip(nearest_neighbours(other, x), nearest_neighbours(x, x), strict=True):
            assert torch.equal(got, expected)


def test_duplicates_and_mirror_images_with_the_smaller_distance_never_an_item_with_itself():
    x = torch.rand(6, 3, 8, 8, generator=seeded()) * 2 - 1
    x[3] = x[1] + 0.01
    x[5] = x[0].flip(-1) - 0.02
    found = find_duplicates(x, 0.05)
    assert [pair[:2] for pair in found] == [(0, 5), (1, 3)]
    assert [pair[2] for pair in found] == pytest.approx([0.02, 0.01], rel=1e-5)
    assert [pair[:2] for pair in find_duplicates(x, 0.015)] == [(1, 3)]
    left = torch.rand(1, 3, 8, 4, generator=seeded())
    nearly = torch.cat([left, left.flip(-1) + 0.01], -1)  # near its own mirror image
    assert find_duplicates(torch.cat([nearly, nearly.flip(-1)]), 0.05) == [(0, 1, 0.0)]
    signals = normal(5, 1, 30)
    signals[4], signals[3] = signals[2], signals[1].flip(-1)
    assert find_duplicates(signals, 0.0) == [(2, 4, 0.0)], "a signal has no mirror image"
    for items, threshold, named in ((x / 0, 0.1, "items"), (x, -1.0, "threshold"), (x, torch.nan, "threshold")):
        with pytest.raises(ValueError, match=named):
            find_duplicates(items, threshold)


def test_duplicates_against_brute_force_and_over_chunks(monkeypatch):
    x = normal(40, 3, seed=3)
    distances = torch.from_numpy(((x[:, None] - x[None]).double().numpy() ** 2).mean(2) ** 0.5)
    expected = [(i, j) for i in range(40) for j in range(i + 1, 40) if distances[i, j] <= 0.4]
    assert len(expected) > 10
    for chunk in (neighbours.CHUNK, 90):
        monkeypatch.setattr(neighbours, "CHUNK", chunk)
        assert [pair[:2] for pair in find_duplicates(x, 0.4)] == expected
