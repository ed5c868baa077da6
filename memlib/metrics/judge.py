"""The whole reading of one set of samples, so that no memorization figure ever stands without a quality figure."""

from collections.abc import Callable

import torch
from torch import Tensor

from memlib.metrics.alignment import PCA, jensen_shannon, mean_distance
from memlib.metrics.checks import checked
from memlib.metrics.estimates import Estimate, bootstrap_rows, normal_mean
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
    pca = PCA(torch.cat([train, held_out]))
    projected, to_train, to_held_out = (pca.transform(x) for x in (samples, train, held_out))

    def interval(distance: Callable[[Tensor], float]) -> Estimate:
        return bootstrap_rows(distance, samples, generator, resamples)

    to_nearest, memorized, closer = _copying(samples, train, held_out)
    readings = {
        "L2 to nearest": to_nearest,
        "memorized": memorized,
        "closer to train": closer,
        "PCA-L2 to nearest": normal_mean(nearest_neighbours(projected, to_train, 1)[0]),
        "PCA-W to train": interval(_wasserstein(projected, to_train, pca.std)),
        "PCA-W to held-out": interval(_wasserstein(projected, to_held_out, pca.std)),
        "PCA-JS to train": interval(lambda rows: jensen_shannon(projected[rows], to_train)),
        "PCA-JS to held-out": interval(lambda rows: jensen_shannon(projected[rows], to_held_out)),
        "energy to held-out": interval(_energy(samples, held_out)),
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
            "residual noise": interval(lambda rows: float(noise[rows].mean() / level)),
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


def _wasserstein(samples: Tensor, real: Tensor, std: Tensor) -> Callable[[Tensor], float]:
    """`pca_wasserstein` of coordinates (B, K) and (N, K) for `bootstrap_rows`: they are sorted once."""
    values, order = torch.cat([samples, real]).T.sort()
    gaps, order = values.diff(), order[:, :-1]  # between two neighbours in value the distribution functions are level
    below_real = (order >= len(samples)).cumsum(1).double() / len(real)

    def distance(rows: Tensor) -> float:
        times = rows.bincount(minlength=len(samples) + len(real))
        below = times[order].cumsum(1).double() / len(rows)
        return float((((below - below_real).abs() * gaps).sum(1) / std).mean())

    return distance


def _energy(samples: Tensor, real: Tensor) -> Callable[[Tensor], float]:
    """`energy_distance` for `bootstrap_rows`: the distances of all pairs are measured once."""
    centre = real.double().flatten(1).mean(0)
    x, y = (part.double().flatten(1) - centre for part in (samples, real))
    within, between, base = torch.cdist(x, x), torch.cdist(x, y).mean(1), mean_distance(y, y)

    def distance(rows: Tensor) -> float:
        share = rows.bincount(minlength=len(x)).double() / len(rows)
        return max(0.0, float(2 * share @ between - share @ within @ share) - base)

    return distance
