"""The whole reading of one set of samples, so that no memorization figure ever stands without a quality figure."""

from collections.abc import Callable

import torch
from torch import Tensor

from memlib.metrics.alignment import PCA, mean_distance, pca_jensen_shannon
from memlib.metrics.checks import checked
from memlib.metrics.estimates import Estimate, bootstrap, normal_mean
from memlib.metrics.finest_scale import finest_scale
from memlib.metrics.memorization import check_equally_many, ratio_of, share_below, share_closer
from memlib.metrics.neighbours import nearest_neighbours


def judge(
    samples: Tensor, train: Tensor, held_out: Tensor, *, generator: torch.Generator, resamples: int = 100
) -> dict[str, Estimate]:
    """Memorization and quality of `samples` (B, *D) against equally large `train` and `held_out` sets (N, *D).

    Read it beside the same for fresh real items (the null), for the training set itself (the copycat) and, where a
    network is judged, for uniform sampling. The principal components are those of train and held-out together. For
    signals and images also "residual noise", 1 for real items, and the distance and shares that do not see it, with
    the finest scale removed from every set. Distances are bootstrapped over the samples.

    Raises ValueError and TypeError as the measures do.
    """
    checked(samples=samples, train=train, held_out=held_out)
    samples, train, held_out = samples.detach(), train.detach(), held_out.detach()
    real = torch.cat([train, held_out])
    pca = PCA(real)
    projected, projected_train, projected_held_out = (pca.transform(x) for x in (samples, train, held_out))
    near = PCA(pca.transform(real))  # the same axes, for sets already projected

    def interval(distance, x=projected):
        return bootstrap(distance, x, generator=generator, resamples=resamples)

    near_train, near_held_out = near.transform(projected_train), near.transform(projected_held_out)
    to_nearest, memorized, closer = _copying(samples, train, held_out)
    readings = {
        "L2 to nearest": to_nearest,
        "memorized": memorized,
        "closer to train": closer,
        "PCA-L2 to nearest": normal_mean(nearest_neighbours(projected, projected_train, 1)[0]),
        "PCA-W to train": interval(*_wasserstein(near.transform(projected), near_train, near.std)),
        "PCA-W to held-out": interval(*_wasserstein(near.transform(projected), near_held_out, near.std)),
        "PCA-JS to train": interval(lambda x: pca_jensen_shannon(x, projected_train, reference=near)),
        "PCA-JS to held-out": interval(lambda x: pca_jensen_shannon(x, projected_held_out, reference=near)),
        "energy to held-out": interval(*_energy(samples, held_out)),
    }
    if samples.ndim > 2:
        fine = [finest_scale(x) for x in (samples, train, held_out)]
        noise, *real_noise = (x.double().square().flatten(1).mean(1) for x in fine)
        level = float(torch.cat(real_noise).mean())
        if not level:
            raise ValueError("train and held_out have no energy at the finest scale, so no ratio to it: check the data")
        smooth = [x - part for x, part in zip((samples, train, held_out), fine, strict=True)]
        to_nearest, memorized, closer = _copying(*smooth)
        readings |= {
            "residual noise": interval(lambda x: float(x.mean() / level), noise[:, None]),
            "smoothed L2 to nearest": to_nearest,
            "smoothed memorized": memorized,
            "smoothed closer to train": closer,
        }
    return readings


def _copying(samples: Tensor, train: Tensor, held_out: Tensor) -> tuple[Estimate, Estimate, Estimate]:
    """The mean distance to the nearest training item, `memorized_fraction` and `closer_to_train`, from one search."""
    check_equally_many(train, held_out)
    to_train, to_held_out = nearest_neighbours(samples, train, 2)[0], nearest_neighbours(samples, held_out, 1)[0]
    nearest = to_train[:, :1]
    return normal_mean(nearest), share_below(ratio_of(to_train)), share_closer(nearest, to_held_out)


def _wasserstein(samples: Tensor, real: Tensor, std: Tensor) -> tuple[Callable[[Tensor], float], Tensor]:
    """`pca_wasserstein` of coordinates (B, K) and (N, K) for a bootstrap of indices (B, 1): they are sorted once."""
    values, order = torch.cat([samples, real]).T.sort()
    gaps, order = values.diff(), order[:, :-1]  # between two neighbours in value the distribution functions are level
    below_real = (order >= len(samples)).cumsum(1).double() / len(real)

    def distance(index: Tensor) -> float:
        times = index.flatten().long().bincount(minlength=len(samples) + len(real))
        below = times[order].cumsum(1).double() / len(index)
        return float((((below - below_real).abs() * gaps).sum(1) / std).mean())

    return distance, _indices(samples)


def _energy(samples: Tensor, real: Tensor) -> tuple[Callable[[Tensor], float], Tensor]:
    """`energy_distance` for a bootstrap of indices (B, 1): the distances of all pairs are measured once."""
    centre = real.double().flatten(1).mean(0)
    x, y = (part.double().flatten(1) - centre for part in (samples, real))
    within, between, base = torch.cdist(x, x), torch.cdist(x, y).mean(1), mean_distance(y, y)

    def distance(index: Tensor) -> float:
        share = index.flatten().long().bincount(minlength=len(x)).double() / len(index)
        return max(0.0, float(2 * share @ between - share @ within @ share) - base)

    return distance, _indices(samples)


def _indices(x: Tensor) -> Tensor:
    return torch.arange(len(x), dtype=torch.float64, device=x.device)[:, None]
