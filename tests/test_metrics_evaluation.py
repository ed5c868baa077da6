"""`evaluate` gives what each measure gives alone, and the right values for copies, fresh items and residual noise."""

import hashlib
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from memlib.metrics import (
    PCA,
    Estimate,
    bootstrap,
    closer_to_train,
    energy_distance,
    evaluate,
    memorized_fraction,
    nearest_neighbours,
    pca_jensen_shannon,
    pca_wasserstein,
    residual_noise,
    wilson,
    without_finest_scale,
)

SHAPES = [(2,), (1, 40), (3, 8, 8)]
ids = ["points", "signals", "images"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def items(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Correlated items, as signals and images are: most of the energy is not at the finest scale."""
    x = torch.randn(n, *shape, generator=seeded(seed))
    return x if len(shape) == 1 else x.cumsum(-1) / shape[-1] ** 0.5


def sets(shape: tuple[int, ...], n: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, of which half are noisy copies, then train and held-out."""
    train, held_out = items(20, shape, 2), items(20, shape, 3)
    half = train.repeat(2, *[1] * len(shape))[: n // 2] + 0.05 * items(n // 2, shape, 4)
    return torch.cat([half, items(n - n // 2, shape, 5)]), train, held_out


def read(samples: Tensor, train: Tensor, held_out: Tensor, **options) -> dict[str, Estimate]:
    return evaluate(samples, train, held_out, generator=seeded(), **options)


def expected(samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, float]:
    """Each measure by its own function."""
    real = torch.cat([train, held_out])
    pca = PCA(real)
    smooth = [samples, train, held_out]
    values = {
        "L2 to nearest": nearest_neighbours(samples, train, 1)[0].mean(),
        "memorized": memorized_fraction(samples, train).value,
        "closer to train": closer_to_train(samples, train, held_out).value,
        "PCA-L2 to nearest": nearest_neighbours(pca.transform(samples), pca.transform(train), 1)[0].mean(),
        "PCA-W to train": pca_wasserstein(samples, train, reference=real),
        "PCA-W to held-out": pca_wasserstein(samples, held_out, reference=real),
        "PCA-JS to train": pca_jensen_shannon(samples, train, reference=real),
        "PCA-JS to held-out": pca_jensen_shannon(samples, held_out, reference=real),
        "energy to held-out": energy_distance(samples, held_out),
    }
    if samples.ndim > 2:
        smooth = [without_finest_scale(x) for x in smooth]
        values |= {
            "residual noise": residual_noise(samples, real),
            "smoothed L2 to nearest": nearest_neighbours(smooth[0], smooth[1], 1)[0].mean(),
            "smoothed memorized": memorized_fraction(smooth[0], smooth[1]).value,
            "smoothed closer to train": closer_to_train(*smooth).value,
        }
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_each_value_is_what_its_own_function_says(shape) -> None:
    readings, alone = read(*sets(shape)), expected(*sets(shape))
    assert list(readings) == list(alone)
    for name, value in alone.items():
        assert readings[name].value == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_each_interval_is_that_of_its_own_function_under_a_generator_seeded_by_its_name(shape) -> None:
    """So adding a measure changes no other, and measuring once for all resamples says what measuring each says."""
    samples, train, held_out = sets(shape)
    real = torch.cat([train, held_out])
    pca, readings = PCA(real), read(samples, train, held_out, resamples=20)
    seed = int(torch.randint(2**62, (), generator=seeded()))
    plain = {
        f"PCA-{name} to {which}": lambda x, of=of, distance=distance: distance(x, of, reference=pca)
        for name, distance in {"W": pca_wasserstein, "JS": pca_jensen_shannon}.items()
        for which, of in {"train": train, "held-out": held_out}.items()
    }
    plain["energy to held-out"] = lambda x: energy_distance(x, held_out)
    if len(shape) > 1:
        plain["residual noise"] = lambda x: residual_noise(x, real)
    for name, distance in plain.items():
        own = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
        expected = bootstrap(distance, samples, generator=torch.Generator().manual_seed(own), resamples=20)
        for end in ("value", "low", "high"):
            assert getattr(readings[name], end) == pytest.approx(getattr(expected, end), rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("n", [2, 27, 80])
@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_energy_measured_once_for_all_resamples_is_the_energy_distance(shape, n: int) -> None:
    """Of few and of many samples, and far from the origin, where distances by products lose their digits."""
    samples, train, held_out = sets(shape, n)
    for offset in (0.0, 100.0):
        got = read(samples + offset, train + offset, held_out + offset, resamples=2)["energy to held-out"].value
        assert got == pytest.approx(energy_distance(samples, held_out), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_intervals_contain_the_value_and_have_a_width(shape) -> None:
    for name, e in read(*sets(shape)).items():
        assert e.low < e.value < e.high, name
        assert "memorized" not in name or 0 <= e.low < e.high <= 1


def test_bootstrapped_intervals_are_about_as_wide_as_fresh_samples_scatter() -> None:
    """Half an interval of 95 % is two standard deviations of what other samples of the same kind give."""
    shape = (1, 40)
    _, train, held_out = sets(shape)
    names = ("PCA-W to held-out", "PCA-JS to held-out", "energy to held-out", "residual noise")
    readings = [read(items(40, shape, seed), train, held_out, resamples=40) for seed in range(10, 26)]
    for name in names:
        spread = np.std([r[name].value for r in readings], ddof=1)
        half = np.mean([(r[name].high - r[name].low) / 2 for r in readings])
        assert 0.5 < half / (1.96 * spread) < 2, name


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_copies_read_one_and_fresh_items_one_half(shape) -> None:
    train, held_out = items(200, shape, 2), items(200, shape, 3)
    copies, fresh = read(train, train, held_out, resamples=5), read(items(200, shape, 4), train, held_out, resamples=5)
    for rule in ("memorized", "closer to train", "smoothed memorized", "smoothed closer to train"):
        if rule in copies:
            assert copies[rule].value == copies[rule].high == 1, rule
            assert fresh[rule].value < 0.6, rule
    assert copies["L2 to nearest"].value == copies["PCA-W to train"].value == copies["PCA-JS to train"].value == 0
    assert copies["PCA-W to held-out"].value > 0
    assert fresh["closer to train"].value == pytest.approx(0.5, abs=0.1)
    assert read(held_out, train, held_out, resamples=5)["closer to train"].value == 0


@pytest.mark.parametrize(("shape", "size"), [((1, 140), 3.0), ((3, 16, 16), 1.0)], ids=ids[1:])
def test_residue_hides_copies_from_raw_distances_and_not_from_smoothed_ones(shape, size: float) -> None:
    """Noise at the finest scale only: the rule that calls a copy memorized sees it no more, unless it looks below."""
    train, held_out = items(30, shape, 2), items(30, shape, 3)
    noise = size * torch.randn(30, *shape, generator=seeded(9))
    readings = read(train + noise - without_finest_scale(noise), train, held_out, resamples=5)
    assert readings["residual noise"].value > 2
    assert readings["memorized"].value < 0.2
    assert readings["smoothed memorized"].value > 0.9
    assert read(train, train, held_out, resamples=5)["residual noise"].value == pytest.approx(1, abs=0.3)


def test_points_have_no_finest_scale() -> None:
    assert not [name for name in read(*sets((2,)), resamples=2) if "smooth" in name or "residual" in name]


def test_the_same_generator_gives_the_same_intervals() -> None:
    first, again = (read(*sets((1, 40))) for _ in range(2))
    other = evaluate(*sets((1, 40)), generator=seeded(1))
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {
        *("PCA-W to train", "PCA-W to held-out", "PCA-JS to train", "PCA-JS to held-out"),
        *("energy to held-out", "residual noise"),
    }, "only what is bootstrapped hangs on the generator"


def test_refuses_by_name() -> None:
    samples, train, held_out = sets((1, 40))
    nan = torch.full_like(samples[:1], torch.nan)
    flat = torch.arange(-4.0, 4)[:, None, None, None].expand(8, 3, 8, 8)  # one colour each
    for given, named in (
        ((samples, train, held_out[:3]), "held_out has 3 items"),
        ((torch.cat([samples, nan]), train, held_out), "samples holds 40 value"),
        ((samples[..., :20], train, held_out), "train"),
        ((samples[:1], train, held_out), "samples has 1 item"),
        ((samples, train[:1], held_out[:1]), "train has 1 item"),
        ((samples, train[:1].repeat(5, 1, 1), train[:1].repeat(5, 1, 1)), "train and held_out"),
        ((samples[..., :1], train[..., :1], held_out[..., :1]), "^samples of shape"),
        ((flat, flat + 1, flat + 2), "train and held_out have no energy"),
    ):
        with pytest.raises(ValueError, match=named) as error:
            read(*given)
        assert "cutoff" not in str(error.value) and "None" not in str(error.value)
    with pytest.raises(TypeError, match=r"samples.*uint8"):
        read(samples.byte(), train, held_out)


def test_arrays_and_half_precision_are_evaluated_like_tensors() -> None:
    given = sets((3, 8, 8))
    assert read(*(x.numpy() for x in given), resamples=5) == read(*given, resamples=5)
    half = [x.half() for x in given]
    assert read(*half, resamples=5) == read(*(x.float() for x in half), resamples=5)


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
def test_nothing_is_said_of_fresh_noisy_blurred_or_collapsed_samples(shape) -> None:
    train, held_out, fresh = (items(32, shape, seed) for seed in (2, 3, 4))
    noise = torch.randn(32, *shape, generator=seeded(9))
    collapsed = (train[:1] + 0 * train, train[:1] + 1e-3 * noise, train[:3].repeat(8, *[1] * len(shape)))
    for samples in (train, fresh, fresh[:8], train + 0.1 * noise, *collapsed):
        assert said(samples, train, held_out) == ""
    if len(shape) > 1:
        for size in (0.5, 1.0, 3.0):
            assert said(fresh + size * noise, train, held_out) == ""
        assert said((fresh + without_finest_scale(fresh)) / 2, train, held_out) == ""


@pytest.mark.parametrize("shape", SHAPES[1:], ids=ids[1:])
def test_too_small_a_residual_noise_is_said(shape) -> None:
    train, held_out, fresh = (items(32, shape, seed) for seed in (2, 3, 4))
    assert "residual noise" in said(without_finest_scale(without_finest_scale(fresh)), train, held_out)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_exact_duplicates_in_train_hide_no_copies_and_near_ones_are_said(shape) -> None:
    base, held_out = items(16, shape, 2), items(32, shape, 3)
    twice = base.repeat(2, *[1] * len(shape))
    samples, jitter = (size * torch.randn(twice.shape, generator=seeded(9)) for size in (1e-3, 1e-4))
    samples = base + samples[:16]
    assert said(samples, twice, held_out) == ""
    assert read(samples, twice, held_out)["memorized"].value == 1
    assert "train" in said(samples, twice + jitter, held_out)


@pytest.mark.parametrize("jitter", [0.0, 1e-4])
@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_samples_collapsed_on_one_item_widen_the_interval(shape, jitter: float) -> None:
    train, held_out = items(16, shape, 2), items(16, shape, 3)
    got = read(train[:1] + jitter * torch.randn(train.shape, generator=seeded(9)), train, held_out)
    for rule in ("closer to train", "memorized"):
        assert got[rule] == wilson(16, 16, distinct=1)
