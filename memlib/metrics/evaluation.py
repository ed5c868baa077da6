"""All measures of one set of samples at once, so that no value of memorization stands without one of quality."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from memlib.metrics import copying
from memlib.metrics.alignment import PCA, energy_rows, jensen_shannon, wasserstein_rows
from memlib.metrics.checks import Items, check_items, checked
from memlib.metrics.estimates import Estimate, bootstrap, normal_mean
from memlib.metrics.finest_scale import finest_scales
from memlib.metrics.neighbours import nearest_neighbours

Measure = Estimate | Callable[[Tensor], float]  # a function of the rows of samples is bootstrapped
SMOOTH = 0.2  # residual noise below this is warned of: the blurriest of 438 recorded networks had 0.29


def evaluate(
    samples: Items, train: Items, held_out: Items, *, generator: torch.Generator, resamples: int = 100
) -> dict[str, Estimate]:
    """Memorization and quality of `samples` (B, *D) against equally large `train` and `held_out` sets (N, *D).

    Compare with fresh real items (the null), the training set (the memorizing baseline) and, for a network, uniform
    sampling. Principal components are those of both real sets together; signals and images are also measured with the
    finest scale removed. Each distance is bootstrapped by a generator seeded by one draw of `generator` and its name.

    Exactly equal training items count as one in "memorized", repeated samples as one in the width of its interval. One
    warning says what no value shows: another scale, too little residual noise (below 0.2), near-duplicates in `train`.
    """
    samples, train, held_out = sets = checked(samples=samples, train=train, held_out=held_out)
    check_items("samples", samples, 2, "their spread gives the intervals")
    real = torch.cat([train, held_out])
    if (real == real[0]).all():
        raise ValueError("train and held_out hold one and the same item many times; check the data")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    pca = PCA(real)
    projected, to_train, to_held_out = (pca.transform(x) for x in sets)
    copies, between = _copying("", *sets)
    measures: dict[str, Measure] = {
        **copies,
        "PCA-L2 to nearest": normal_mean(nearest_neighbours(projected, to_train, 1)[0]),
        "PCA-W to train": wasserstein_rows(projected, to_train, pca.std),
        "PCA-W to held-out": wasserstein_rows(projected, to_held_out, pca.std),
        "PCA-JS to train": lambda rows: jensen_shannon(projected[rows], to_train),
        "PCA-JS to held-out": lambda rows: jensen_shannon(projected[rows], to_held_out),
        "energy to held-out": energy_rows(samples, held_out),
    }
    spreads = [float(samples.var(0).sum() / real.var(0).sum()) ** 0.5]
    if samples.ndim > 2:
        fine = finest_scales(samples=samples, train=train, held_out=held_out)
        noise, *real_noise = (x.double().square().flatten(1).mean(1) for x in fine)
        level = float(torch.cat(real_noise).mean())
        if not level:
            raise ValueError("train and held_out have no energy at the finest scale, so no ratio to it; check the data")
        measures["residual noise"] = lambda rows: float(noise[rows].mean() / level)
        measures |= _copying("smoothed ", *(x - part for x, part in zip(sets, fine, strict=True)))[0]
        spreads.append(float(noise.mean() / level) ** 0.5)
    if problems := _problems(samples, train, real, spreads, between):
        warnings.warn("; ".join(problems), stacklevel=2)
    return {name: _interval(name, measure, samples, seed, resamples) for name, measure in measures.items()}


def _interval(name: str, measure: Measure, samples: Tensor, seed: int, resamples: int) -> Estimate:
    """Each from a generator of its own, seeded by its name, so that a new measure changes no interval of another."""
    if isinstance(measure, Estimate):
        return measure
    own = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big"))
    rows = torch.arange(len(samples), device=samples.device, dtype=torch.float64)[:, None]
    return bootstrap(lambda drawn: measure(drawn[:, 0].long()), rows, generator=own, resamples=resamples)


def _copying(prefix: str, samples: Tensor, train: Tensor, held_out: Tensor) -> tuple[dict[str, Measure], Tensor]:
    """L2, `memorized_fraction`, `closer_to_train`, by one search; the gap between each sample's two nearest items."""
    samples, train, held_out = (x.flatten(1) for x in (samples, train, held_out))
    (to_two, between), distinct = copying.two_nearest(samples, train), copying.count_distinct(samples, train)
    nearest, to_held_out = to_two[:, :1], nearest_neighbours(samples, held_out, 1)[0]
    return {
        f"{prefix}L2 to nearest": normal_mean(nearest, distinct=distinct),
        f"{prefix}memorized": copying.share_below(copying.ratio_of(to_two), distinct=distinct),
        f"{prefix}closer to train": copying.share_closer(nearest, to_held_out, distinct=distinct),
    }, between


def _problems(samples: Tensor, train: Tensor, real: Tensor, spreads: list[float], between: Tensor) -> list[str]:
    """Another scale changes the range, the spread and the energy at the finest scale by one factor, and a shift moves
    both ends of the range one way; noise, blur and collapse do neither. `spreads`: the samples' over the data's.
    """
    (low, high), (least, most) = ((float(x.min()), float(x.max())) for x in (samples, real))
    width = most - least
    ratios, moved = [(high - low) / width, *spreads], ((low - least) / width, (high - most) / width)
    scaled = min(ratios) > 1.5 or max(ratios) < 1 / 1.5 or min(moved) > 0.25 or max(moved) < -0.25
    problems = []
    if scaled and max(ratios) < 1.3 * min(ratios):
        ranges = f"samples lie in [{low:.3g}, {high:.3g}], the data in [{least:.3g}, {most:.3g}]"
        problems.append(f"{ranges}: bring both to one scale, else copies are not seen")
    if samples.ndim > 2 and spreads[1] ** 2 < SMOOTH:
        problems.append(f"residual noise is only {spreads[1] ** 2:.2g}: the samples are blurred or at a smaller scale")
    near = copying.NEAR * float((real - real.mean(0)).flatten(1).square().sum(1).mean()) ** 0.5
    if (share := float((between < near).double().mean())) > copying.CHANCE:
        items = train.flatten(1).unique(dim=0)
        if copying.count_distinct(items, items) < len(items):
            hidden = f"{share:.0%} of samples lie nearest to two nearly equal items of train, so that no copy is seen"
            problems.append(f"{hidden}: drop one of each pair (find_duplicates)")
    return problems
