"""The whole reading of one set of samples, so that no memorization figure ever stands without a quality figure."""

from collections.abc import Callable

import torch
from torch import Tensor

from memlib.metrics.alignment import PCA, pca_jensen_shannon, pca_wasserstein
from memlib.metrics.checks import checked
from memlib.metrics.estimates import Estimate, bootstrap, normal_mean
from memlib.metrics.finest_scale import finest_scale, without_finest_scale
from memlib.metrics.memorization import closer_to_train, memorized_fraction
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

    readings = {
        "L2 to nearest": normal_mean(nearest_neighbours(samples, train, 1)[0]),
        "memorized": memorized_fraction(samples, train),
        "closer to train": closer_to_train(samples, train, held_out),
        "PCA-L2 to nearest": normal_mean(nearest_neighbours(projected, projected_train, 1)[0]),
        "PCA-W to train": interval(lambda x: pca_wasserstein(x, projected_train, reference=near)),
        "PCA-W to held-out": interval(lambda x: pca_wasserstein(x, projected_held_out, reference=near)),
        "PCA-JS to train": interval(lambda x: pca_jensen_shannon(x, projected_train, reference=near)),
        "PCA-JS to held-out": interval(lambda x: pca_jensen_shannon(x, projected_held_out, reference=near)),
        "energy to held-out": interval(*_energy(samples, held_out)),
    }
    if samples.ndim > 2:
        noise, real_noise = (finest_scale(x).double().square().flatten(1).mean(1) for x in (samples, real))
        smooth = [without_finest_scale(x) for x in (samples, train, held_out)]
        readings |= {
            "residual noise": interval(lambda x: float(x.mean() / real_noise.mean()), noise[:, None]),
            "smoothed L2 to nearest": normal_mean(nearest_neighbours(smooth[0], smooth[1], 1)[0]),
            "smoothed memorized": memorized_fraction(smooth[0], smooth[1]),
            "smoothed closer to train": closer_to_train(*smooth),
        }
    return readings


def _energy(samples: Tensor, real: Tensor) -> tuple[Callable[[Tensor], float], Tensor]:
    """`energy_distance` for a bootstrap, which draws indices (B, 1): the distances of all pairs are measured once."""
    centre = real.double().flatten(1).mean(0)
    x, y = (part.double().flatten(1) - centre for part in (samples, real))
    within, between, base = torch.cdist(x, x), torch.cdist(x, y), float(torch.cdist(y, y).mean())

    def distance(index: Tensor) -> float:
        i = index[:, 0].long()
        return max(0.0, 2 * float(between[i].mean()) - float(within[i][:, i].mean()) - base)

    return distance, torch.arange(len(x), dtype=torch.float64, device=x.device)[:, None]
