"""Nearest neighbours and duplicates: exact where the quick distance formula is not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memlib.metrics import Duplicate, find_duplicates, nearest_neighbours, neighbours
from memlib.metrics.neighbours import scan


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brute(samples, train, k):
    """All distances by differences in float64; among equal ones the lower index first."""
    a, b = samples.flatten(1).double().numpy(), train.flatten(1).double().numpy()
    distances = np.stack([np.sqrt(((row - b) ** 2).sum(1)) for row in a])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def near_copies(apart: float = 1e-4, dim: int = 3072, families: int = 6, size: int = 12, norm: float = 500.0):
    """Families of near-copies far from the origin and from each other, and one more sample of each."""
    g = seeded(1)
    base = torch.randn(families, 1, dim, generator=g) * norm / dim**0.5
    train = (base + apart * torch.randn(families, size, dim, generator=g)).flatten(0, 1)
    return (base[:, 0] + apart * torch.randn(families, dim, generator=g)), train


@pytest.mark.parametrize("shape", [(2,), (1, 140), (3, 8, 8)])
@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_brute_force(shape, k, dtype):
    g = seeded()
    samples = torch.randn(23, *shape, generator=g).to(dtype)
    train = torch.randn(31, *shape, generator=g).to(dtype) + 5
    distances, indices = nearest_neighbours(samples, train, k)
    expected, order = brute(samples, train, k)
    assert distances.dtype == torch.float64
    assert distances.shape == indices.shape == (23, k)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_near_copies_where_the_quick_formula_loses_its_digits(k):
    samples, train = near_copies()
    expected, order = brute(samples, train, k)
    squared = (samples**2).sum(1)[:, None] + (train**2).sum(1) - 2 * samples @ train.T
    quick = squared.clamp(min=0).sqrt().topk(k, largest=False).values
    assert (quick.double() - torch.from_numpy(expected)).abs().max() > 0.5 * expected.max(), "the case is not hard"
    distances, indices = nearest_neighbours(samples, train, k)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)


def test_copies_are_at_exactly_zero_also_far_from_the_origin():
    train = torch.randn(40, 3072, generator=seeded()) + 1000
    distances, indices = nearest_neighbours(train, train, 1)
    assert torch.equal(distances, torch.zeros(40, 1, dtype=torch.float64))
    assert torch.equal(indices[:, 0], torch.arange(40))


def test_ties_go_to_the_lower_index():
    corners = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [1, 0]])
    _, indices = nearest_neighbours(torch.zeros(1, 2), corners, 5)
    assert indices.tolist() == [[0, 1, 2, 3, 4]]
    _, indices = nearest_neighbours(torch.tensor([[2.0, 0]]), corners, 2)
    assert indices.tolist() == [[0, 4]]


def test_ties_at_the_edge_of_the_list_are_seen():
    train = torch.ones(50, 3)  # every item is a tie for every place
    distances, indices = nearest_neighbours(torch.zeros(2, 3), train, 3)
    assert indices.tolist() == [[0, 1, 2]] * 2
    np.testing.assert_allclose(distances.numpy(), 3**0.5, rtol=1e-15)


@pytest.mark.parametrize("norm", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("dim", [2, 140, 3072])
def test_the_bound_on_the_quick_formula_holds(dim, norm):
    g = seeded(dim)
    a = torch.randn(30, dim, generator=g) + norm * torch.randn(dim, generator=g)
    b = a[:20] + 1e-3 * torch.randn(20, dim, generator=g)
    true = torch.from_numpy(brute(a, b, 20)[0] ** 2)
    order = torch.from_numpy(brute(a, b, 20)[1])
    ((start, quick, slack),) = scan(a, b)
    assert start == 0
    assert ((quick.gather(1, order).double() - true).abs() <= slack.double()).all()
    a_norms, b_norms = ((x - b.mean(0)).double().norm(dim=1) for x in (a, b))
    assert (slack[:, 0] >= dim * 2.0**-24 * (a_norms + b_norms.max()) ** 2).all(), "the worst case is not covered"
    assert slack.max() < 1e-3 * (a - b.mean(0)).square().sum(1).max() * 4, "a bound this wide would rule nothing out"


@pytest.mark.parametrize("chunk", [1, 100, 1000])
def test_the_result_does_not_depend_on_the_chunk(chunk, monkeypatch):
    samples, train = near_copies(dim=50)
    whole = nearest_neighbours(samples, train, 4)
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    for got, expected in zip(nearest_neighbours(samples, train, 4), whole, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("exponent", [-73, -72, -70, 0, 62, 80])  # squares from underflow to overflow in float32
def test_scale_by_a_power_of_two_is_exact(exponent):
    g = seeded()
    samples, train = torch.randn(60, 3, generator=g), torch.randn(200, 3, generator=g)
    distances, indices = nearest_neighbours(samples, train, 3)
    scaled, same = nearest_neighbours(samples * 2.0**exponent, train * 2.0**exponent, 3)
    assert torch.equal(same, indices)
    assert torch.equal(scaled, distances * 2.0**exponent)


def test_reduced_precision_in_force_elsewhere_changes_nothing():
    samples, train = near_copies(dim=256)
    expected = nearest_neighbours(samples, train, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = nearest_neighbours(samples, train, 3)
    torch.set_float32_matmul_precision("medium")
    try:
        under_medium = nearest_neighbours(samples, train, 3)
    finally:
        torch.set_float32_matmul_precision("highest")
    for got in (under_autocast, under_medium):
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


def test_half_precision_items_are_measured_as_they_are():
    g = seeded()
    samples, train = (torch.randn(n, 64, generator=g).to(torch.bfloat16) for n in (8, 20))
    got = nearest_neighbours(samples, train, 2)
    expected = nearest_neighbours(samples.double(), train.double(), 2)
    assert torch.equal(got[1], expected[1])
    assert torch.equal(got[0], expected[0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), dim=st.sampled_from([2, 30, 400]), n=st.integers(2, 30))
def test_order_of_the_training_set_does_not_matter(seed, dim, n):
    g = seeded(seed)
    samples, train = torch.randn(5, dim, generator=g), torch.randn(n, dim, generator=g)
    order = torch.randperm(n, generator=g)
    distances, indices = nearest_neighbours(samples, train, 2)
    shuffled, at = nearest_neighbours(samples, train[order], 2)
    assert torch.equal(shuffled, distances)
    assert torch.equal(order[at], indices)


def test_gradients_are_left_out():
    samples = torch.randn(3, 4, generator=seeded(), requires_grad=True)
    assert not nearest_neighbours(samples, torch.zeros(2, 4))[0].requires_grad


@pytest.mark.parametrize(
    ("samples", "train", "error", "named"),
    [
        (torch.zeros(3, 2), torch.zeros(1, 2), ValueError, "train has 1 item"),
        (torch.zeros(0, 2), torch.zeros(4, 2), ValueError, "samples is empty"),
        (torch.zeros(3, 2), torch.zeros(0, 2), ValueError, "train is empty"),
        (torch.tensor([[0.0, torch.nan]]), torch.zeros(4, 2), ValueError, "samples holds 1 value"),
        (torch.zeros(3, 2), torch.tensor([[torch.inf, -torch.inf]] * 2), ValueError, "train holds 4 value"),
        (torch.zeros(3, 2), torch.zeros(4, 3), ValueError, r"train.*\(3,\).*samples.*\(2,\)"),
        (torch.zeros(3, 4), torch.zeros(4, 2, 2), ValueError, "train"),
        (torch.zeros(3, 2), torch.zeros(4, 2, device="meta"), ValueError, "meta"),
        (torch.zeros(3), torch.zeros(4), ValueError, "samples"),
        ([[0.0, 0.0]], torch.zeros(4, 2), TypeError, "samples.*list"),
        (torch.zeros(3, 2), torch.zeros(4, 2, dtype=torch.uint8), TypeError, "train.*uint8.*127.5"),
        (np.zeros((3, 2), int), np.zeros((4, 2)), TypeError, "samples.*int64.*float"),
    ],
)
def test_bad_input_is_named(samples, train, error, named):
    with pytest.raises(error, match=named):
        nearest_neighbours(samples, train, 2)


def test_arrays_half_precision_and_strided_views_are_measured_like_tensors():
    x = torch.randn(9, 4, generator=seeded())
    for other in (x.numpy(), x.numpy().astype(np.float64)[::-1][::-1], x.T.contiguous().T):
        for got, expected in zip(nearest_neighbours(other, x), nearest_neighbours(x, x), strict=True):
            assert torch.equal(got, expected)
    assert torch.equal(nearest_neighbours(x.half(), x.half())[0], nearest_neighbours(x.half().float(), x.half())[0])
    assert nearest_neighbours(x.numpy().astype(np.float16), x.half())[0][:, 0].max() == 0


def test_large_but_finite_values_are_not_taken_for_infinite():
    x = torch.full((4, 2), 3e38)
    assert nearest_neighbours(x, x, 2)[0].max() == 0


def images(n=6, seed=0):
    return torch.rand(n, 3, 8, 8, generator=seeded(seed)) * 2 - 1


def test_duplicates_mirror_images_and_their_distance():
    x = images()
    x[3] = x[1] + 0.01
    x[5] = x[0].flip(-1) - 0.02
    found = find_duplicates(x, 0.05)
    assert [(d.i, d.j, d.mirrored) for d in found] == [(0, 5, True), (1, 3, False)]
    assert found[0].distance == pytest.approx(0.02, rel=1e-5)
    assert found[1].distance == pytest.approx(0.01, rel=1e-5)
    assert [(d.i, d.j) for d in find_duplicates(x, 0.05, mirror=False)] == [(1, 3)]
    assert [(d.i, d.j) for d in find_duplicates(x, 0.015)] == [(1, 3)]


def test_a_symmetric_picture_is_listed_once_and_never_with_itself():
    x = images(3)
    x[0] = (x[0] + x[0].flip(-1)) / 2
    x[2] = x[0]
    assert find_duplicates(x, 0.0) == [Duplicate(0, 2, 0.0, False)]


def test_a_pair_near_both_ways_takes_the_nearer():
    left = torch.rand(1, 3, 8, 4, generator=seeded())
    nearly = torch.cat([left, left.flip(-1) + 0.01], -1)
    (pair,) = find_duplicates(torch.cat([nearly, nearly.flip(-1)]), 0.05)
    assert pair == Duplicate(0, 1, 0.0, True)
    assert find_duplicates(torch.cat([nearly, nearly]), 0.05) == [Duplicate(0, 1, 0.0, False)]


def test_exact_copies_at_threshold_zero_and_signals_without_mirror():
    x = torch.randn(5, 1, 30, generator=seeded())
    x[4] = x[2]
    x[3] = x[1].flip(-1)
    assert find_duplicates(x, 0.0) == [Duplicate(2, 4, 0.0, False)]


def test_duplicates_against_brute_force_and_over_chunks(monkeypatch):
    x = torch.randn(40, 3, generator=seeded(3))
    distances = torch.from_numpy(((x[:, None] - x[None]).double().numpy() ** 2).mean(2) ** 0.5)
    expected = [(i, j) for i in range(40) for j in range(i + 1, 40) if distances[i, j] <= 0.4]
    assert len(expected) > 10
    for chunk in (neighbours.CHUNK, 90):
        monkeypatch.setattr(neighbours, "CHUNK", chunk)
        assert [(d.i, d.j) for d in find_duplicates(x, 0.4)] == expected


def test_duplicates_refuse_bad_input():
    with pytest.raises(ValueError, match="threshold"):
        find_duplicates(images(), -1)
    with pytest.raises(ValueError, match="items holds 1 value"):
        find_duplicates(torch.tensor([[torch.nan], [0.0]]), 0.1)
    assert find_duplicates(images(1), 10.0) == []
