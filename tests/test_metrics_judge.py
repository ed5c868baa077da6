"""The whole reading at once says what each measure says alone, and what it should of copies, fresh items, residue."""

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
    memorized_fraction,
    nearest_neighbours,
    pca_jensen_shannon,
    pca_wasserstein,
    residual_noise,
    without_finest_scale,
)
from memlib.metrics.judge import judge

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
    return judge(samples, train, held_out, generator=seeded(), **options)


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
def test_each_reading_is_what_its_own_function_says(shape) -> None:
    readings, alone = read(*sets(shape)), expected(*sets(shape))
    assert list(readings) == list(alone)
    for name, value in alone.items():
        assert readings[name].value == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_each_interval_is_that_of_its_own_function_bootstrapped(shape) -> None:
    """What is measured once for all resamples says what measuring each resample says, drawn in the same order."""
    samples, train, held_out = sets(shape)
    real = torch.cat([train, held_out])
    pca, readings, generator = PCA(real), read(samples, train, held_out, resamples=20), seeded()
    plain = {
        f"PCA-{name} to {which}": lambda x, of=of, distance=distance: distance(x, of, reference=pca)
        for name, distance in {"W": pca_wasserstein, "JS": pca_jensen_shannon}.items()
        for which, of in {"train": train, "held-out": held_out}.items()
    }
    plain["energy to held-out"] = lambda x: energy_distance(x, held_out)
    if len(shape) > 1:
        plain["residual noise"] = lambda x: residual_noise(x, real)
    for name, distance in plain.items():
        expected = bootstrap(distance, samples, generator=generator, resamples=20)
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


def test_one_generator_one_reading() -> None:
    first, again = (read(*sets((1, 40))) for _ in range(2))
    other = judge(*sets((1, 40)), generator=seeded(1))
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {
        *("PCA-W to train", "PCA-W to held-out", "PCA-JS to train", "PCA-JS to held-out"),
        *("energy to held-out", "residual noise"),
    }, "only what is bootstrapped hangs on the generator"


def test_refuses_by_name() -> None:
    samples, train, held_out = sets((1, 40))
    with pytest.raises(ValueError, match=r"train has 20 items and held_out 19"):
        read(samples, train, held_out[:19])
    with pytest.raises(ValueError, match=r"holds 40 value.*NaN"):
        read(torch.cat([samples, torch.full_like(samples[:1], torch.nan)]), train, held_out)
    with pytest.raises(ValueError, match=r"train has items of shape"):
        read(samples[..., :20], train, held_out)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        judge(samples, train, held_out, generator=None)
    with pytest.raises(ValueError, match="no energy at the finest scale"):
        read(
            *(torch.arange(-4.0, 4)[:, None, None, None].expand(8, 3, 8, 8) + i for i in range(3))
        )  # of one colour each
