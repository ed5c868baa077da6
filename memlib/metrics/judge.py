"""The whole reading of one set of samples, so that no memorization figure ever stands without a quality figure."""

import torch
from torch import Tensor

from memlib.metrics.alignment import PCA, energy_distance, pca_jensen_shannon, pca_wasserstein
from memlib.metrics.estimates import Estimate, bootstrap, normal_mean
from memlib.metrics.finest_scale import residual_noise, without_finest_scale
from memlib.metrics.memorization import closer_to_train, memorized_fraction
from memlib.metrics.neighbours import nearest_neighbours


def judge(
    samples: Tensor, train: Tensor, held_out: Tensor, *, generator: torch.Generator, resamples: int = 100
) -> dict[str, Estimate]:
    """Memorization and quality of `samples` (B, *D) against equally large `train` and `held_out` sets (N, *D).

    Read it beside the same for fresh real items (the null), for the training set itself (the copycat) and, where a
    network is judged, for uniform sampling. The principal components are those of train and held-out together. For
    signals and images also "residual noise", 1 for real items, and the distance and share that do not see it, with
    the finest scale removed from every set. Distances are bootstrapped over the samples.

    Raises ValueError and TypeError as the measures do.
    """
    pca = PCA(torch.cat([train, held_out]))
    projected, projected_train, projected_held_out = (pca.transform(x) for x in (samples, train, held_out))
    near = PCA(pca.transform(torch.cat([train, held_out])))  # the same axes, for sets already projected

    def interval(distance):
        return lambda x: bootstrap(distance, x, generator=generator, resamples=resamples)

    readings = {
        "L2 to nearest": normal_mean(nearest_neighbours(samples, train, 1)[0]),
        "memorized": memorized_fraction(samples, train),
        "closer to train": closer_to_train(samples, train, held_out),
        "PCA-L2 to nearest": normal_mean(nearest_neighbours(projected, projected_train, 1)[0]),
        "PCA-W to train": interval(lambda x: pca_wasserstein(x, projected_train, reference=near))(projected),
        "PCA-W to held-out": interval(lambda x: pca_wasserstein(x, projected_held_out, reference=near))(projected),
        "PCA-JS to held-out": interval(lambda x: pca_jensen_shannon(x, projected_held_out, reference=near))(projected),
        "energy to held-out": interval(lambda x: energy_distance(x, held_out))(samples),
    }
    if samples.ndim > 2:
        real = torch.cat([train, held_out])
        smooth = [without_finest_scale(x) for x in (samples, train, held_out)]
        readings |= {
            "residual noise": interval(lambda x: residual_noise(x, real))(samples),
            "smoothed L2 to nearest": normal_mean(nearest_neighbours(smooth[0], smooth[1], 1)[0]),
            "smoothed closer to train": closer_to_train(*smooth),
        }
    return readings
