"""`evaluate` gives what each measure gives alone, sees copies below residual noise, and says what no value shows."""

import hashlib
import warnings

import pytest
import torch
from draws import normal, seeded
from torch import Tensor

from memlib import metrics
from memlib.metrics import evaluate, finest_scale, without_finest_scale
from memlib.metrics.alignment import jensen_shannon, wasserstein_rows
from memlib.metrics.estimates import mean_of

SHAPES = [(2,), (1, 40), (3, 8, 8)]
ids = ["points", "signals", "images"]


def items(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Correlated items, as signals and images are: most of the energy is not at the finest scale."""
    x = normal(n, *shape, seed=seed)
    return x if len(shape) == 1 else x.cumsum(-1) / shape[-1] ** 0.5


def sets(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, of which 15 are noisy copies of three items, so that 18 are distinct; then train and held-out."""
    train, held_out = items(20, shape, 2), items(20, shape, 3)
    half = train[:3].repeat(5, *[1] * len(shape)) + 1e-3 * items(15, shape, 4)
    return torch.cat([half, items(15, shape, 5)]), train, held_out


def read(samples: Tensor, train: Tensor, held_out: Tensor, **options) -> dict[str, metrics.Estimate]:
    return evaluate(samples, train, held_out, generator=seeded(), **options)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_each_measure_is_its_own_function_with_an_interval_from_a_generator_seeded_by_its_name(shape) -> None:
    """So adding a measure changes no other, and measuring once for all resamples says what measuring each says."""
    samples, train, held_out = sets(shape)
    real, readings = torch.cat([train, held_out]), read(*sets(shape), resamples=20)
    pca, seed = metrics.PCA(real), int(torch.randint(2**62, (), generator=seeded()))
    to = {name: pca.transform(x) for name, x in (("train", train), ("held-out", held_out))}

    def wasserstein(x: Tensor, which: str) -> float:
        return wasserstein_rows(pca.transform(x), to[which], pca.std)(torch.arange(len(x)))

    def energy(x: Tensor) -> float:
        return float(finest_scale(x).square().mean())

    def copied(prefix: str, samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, metrics.Estimate]:
        return {
            f"{prefix}L2 to nearest": mean_of(metrics.nearest_neighbours(samples, train, 1)[0], distinct=18),
            f"{prefix}memorized": metrics.memorized_fraction(samples, train),
            f"{prefix}closer to train": metrics.closer_to_train(samples, train, held_out),
        }

    distances = {f"PCA-W to {which}": lambda x, which=which: wasserstein(x, which) for which in to}
    distances |= {f"PCA-JS to {w}": lambda x, w=w: jensen_shannon(pca.transform(x), to[w]) for w in to}
    distances |= {"energy to held-out": lambda x: metrics.energy_distance(x, held_out)}
    plain = copied("", samples, train, held_out)
    plain["PCA-L2 to nearest"] = mean_of(metrics.nearest_neighbours(pca.transform(samples), to["train"], 1)[0])
    if len(shape) > 1:
        distances |= {"residual noise": lambda x: energy(x) / energy(real)}
        plain |= copied("smoothed ", *(without_finest_scale(x) for x in (samples, train, held_out)))
    assert set(readings) == set(plain) | set(distances)
    assert plain["memorized"] == metrics.wilson(round(30 * plain["memorized"].value), 30, distinct=18)
    for name, estimate in plain.items():
        assert vars(readings[name]) == pytest.approx(vars(estimate), rel=1e-9), name
    for name, distance in distances.items():
        own = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
        expected = metrics.bootstrap(distance, samples, generator=torch.Generator().manual_seed(own), resamples=20)
        assert vars(readings[name]) == pytest.approx(vars(expected), rel=1e-5, abs=1e-7), name
        assert readings[name].low < readings[name].value < readings[name].high


@pytest.mark.parametrize(("shape", "size"), [((1, 140), 3.0), ((3, 16, 16), 1.0)], ids=ids[1:])
def test_residue_hides_copies_from_raw_distances_and_not_from_smoothed_ones(shape, size: float) -> None:
    """Noise at the finest scale only: the rule that calls a copy memorized sees it no more, unless it looks below."""
    train, held_out = items(30, shape, 2), items(30, shape, 3)
    noise = size * normal(30, *shape, seed=9)
    with pytest.warns(UserWarning, match=r"^residual noise is .*: it hides copies from distances$"):
        readings = read(train + noise - without_finest_scale(noise), train, held_out, resamples=5)
    assert readings["residual noise"].value > 2 and readings["memorized"].value < 0.2
    assert readings["smoothed memorized"].value > 0.9
    assert read(train, train, held_out, resamples=5)["residual noise"].value == pytest.approx(1, abs=0.3)


def test_refuses_by_name() -> None:
    samples, train, held_out = sets((1, 40))
    flat = torch.arange(-4.0, 4)[:, None, None, None].expand(8, 3, 8, 8)  # one colour each
    for given, named in (
        ((samples, train, held_out[:3]), "held_out has 3 items"), ((samples / 0, train, held_out), "samples"),
        ((samples[..., :20], train, held_out), "train"), ((samples[:1], train, held_out), "samples has 1 item"),
        ((samples, train[:1], held_out[:1]), "train has 1 item"), ((flat, flat + 1, flat + 2), "no energy"),
        ((samples, train[:1].repeat(5, 1, 1), train[:1].repeat(5, 1, 1)), "item"),
        ((samples[..., :1], train[..., :1], held_out[..., :1]), "^samples of shape"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            read(*given)


def test_arrays_and_half_precision_are_evaluated_like_tensors() -> None:
    given = [x.half() for x in sets((3, 8, 8))]
    expected = read(*(x.float() for x in given), resamples=5)
    assert read(*given, resamples=5) == read(*(x.float().numpy() for x in given), resamples=5) == expected


def said(samples: Tensor, train: Tensor, held_out: Tensor) -> str:
    """What `evaluate` warns of, at most one warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(samples, train, held_out, resamples=2)
    assert len(caught) <= 1
    return str(caught[0].message) if caught else ""


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
@pytest.mark.parametrize(("factor", "shift"), [(0.5, 0.5), (127.5, 127.5), (2.0, -0.4), (1.0, 10.0), (1 / 255, 0.0)])
def test_samples_at_another_scale_than_the_data_are_said_with_both_ranges(shape, factor: float, shift: float) -> None:
    train, held_out, fresh = (items(64, shape, seed) for seed in (2, 3, 4))
    for samples in (train, fresh):
        ranges = [f"[{x.min():.3g}, {x.max():.3g}]" for x in (factor * samples + shift, torch.cat([train, held_out]))]
        text = said(factor * samples + shift, train, held_out)
        assert all(each in text for each in ranges), text


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_nothing_is_said_of_fresh_blurred_or_collapsed_samples_and_of_others_one_thing(shape) -> None:
    train, held_out, fresh = (items(32, shape, seed) for seed in (2, 3, 4))
    noise = normal(32, *shape, seed=9)
    collapsed = (train[:1] + 0 * train, train[:1] + 1e-3 * noise, train[:3].repeat(8, *[1] * len(shape)))
    for samples in (train, fresh, fresh[:8], train + 0.05 * noise, *collapsed):
        assert said(samples, train, held_out) == ""
    assert said(fresh, train, torch.cat([train[:5], held_out[5:]])).startswith("5 held-out items equal training items")
    if len(shape) > 1:
        assert said(fresh + 0.05 * noise, train, held_out) == ""
        head, _, rest = said(fresh + 3 * noise, train, held_out).partition(": ")
        assert head.startswith("residual noise is ") and rest == "it hides copies from distances", "and nothing else"
        assert said((fresh + without_finest_scale(fresh)) / 2, train, held_out) == ""
        assert "residual noise" in said(without_finest_scale(without_finest_scale(fresh)), train, held_out)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_exact_duplicates_in_train_hide_no_copies_and_near_ones_are_said(shape) -> None:
    base, held_out = items(16, shape, 2), items(32, shape, 3)
    twice = base.repeat(2, *[1] * len(shape))
    samples, jitter = (size * normal(*twice.shape, seed=9) for size in (1e-3, 1e-4))
    samples = base + samples[:16]
    assert said(samples, twice, held_out) == ""
    assert read(samples, twice, held_out)["memorized"].value == 1
    assert "train" in said(samples, twice + jitter, held_out)
