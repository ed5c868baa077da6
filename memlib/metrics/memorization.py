"""How much of the training set the samples repeat. Lower is less memorization, except where a docstring says otherwise.

None of these figures stands alone: the same rule applied to fresh real data gives its null, and samples that are merely
poor look un-memorized, so a quality figure belongs beside each.
"""

import math

import numpy as np
import torch
from torch import Tensor

from memlib.checks import check_count
from memlib.metrics.alignment import PCA
from memlib.metrics.checks import check_between, check_number, check_points, checked
from memlib.metrics.estimates import Estimate, wilson
from memlib.metrics.neighbours import nearest_neighbours


def neighbour_ratio(samples: Tensor, train: Tensor) -> Tensor:
    """d1 / d2 of each sample: distance to the nearest over that to the second nearest training item, (B,) in [0, 1].

    0 is an exact copy, near 1 a sample that no training item claims. A sample that equals *two* training items gives
    0/0, which is counted as 0: it is an exact copy. A sample only *near* two near-identical items gives a ratio near
    1: so duplicates hide memorization, and `train` should be deduplicated first (`find_duplicates`).

    Raises TypeError and ValueError as `checked`, and ValueError for fewer than two training items.
    """
    return ratio_of(nearest_neighbours(samples, train, 2)[0])


def ratio_of(distances: Tensor) -> Tensor:
    """`neighbour_ratio` of distances (..., 2) to the nearest and the second nearest."""
    d1, d2 = distances.unbind(-1)
    return torch.where(d1 == 0, 0.0, d1 / d2)


def memorized_fraction(samples: Tensor, train: Tensor, threshold: float = 1 / 3, confidence: float = 0.95) -> Estimate:
    """Share of samples (B, *D) with d1 / d2 < threshold, with its Wilson interval (Yoon et al. 2023; Gu 2310.02664).

    It has a null: of the order of threshold^d of honest samples fall below the threshold in d intrinsic dimensions.
    Report it for fresh real data beside. For 0/0 and duplicates see `neighbour_ratio`.

    Raises as `neighbour_ratio`, and ValueError for a threshold outside (0, 1] or a confidence outside (0, 1).
    """
    check_number("threshold", threshold)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}: it bounds d1 / d2, which is at most 1")
    return share_below(neighbour_ratio(samples, train), threshold, confidence)


def share_below(ratio: Tensor | np.ndarray, threshold: float = 1 / 3, confidence: float = 0.95) -> Estimate:
    """`memorized_fraction` of ratios (B,)."""
    return wilson(int((ratio < threshold).sum()), len(ratio), confidence)


def closer_to_train(samples: Tensor, train: Tensor, held_out: Tensor, confidence: float = 0.95) -> Estimate:
    """Share of samples nearer to `train` than to `held_out`, two sets of equal size, with its Wilson interval.

    A two-sample reading of Meehan et al. (2004.05675). A tie counts one half, so that exchanging the two sets gives one
    minus the share. Fresh real data give the null, near 1/2 only on average over splits.

    Raises TypeError and ValueError as `checked`, and ValueError for sets of unequal size (the larger one is nearer by
    chance) or a confidence outside (0, 1).
    """
    samples, train, held_out = checked(samples=samples, train=train, held_out=held_out)
    check_equally_many(train, held_out)
    return share_closer(*(nearest_neighbours(samples, real, 1)[0] for real in (train, held_out)), confidence)


def check_equally_many(train: Tensor, held_out: Tensor) -> None:
    """Raise unless the two sets have as many items."""
    if len(train) != len(held_out):
        raise ValueError(
            f"train has {len(train)} items and held_out {len(held_out)}: they must be equally many, "
            "for the larger set is nearer by chance"
        )


def share_closer(to_train: Tensor, to_held_out: Tensor, confidence: float = 0.95) -> Estimate:
    """`closer_to_train` of the distances to the nearest item of each set, of equal shape."""
    closer = int((to_train < to_held_out).sum()) + int((to_train == to_held_out).sum()) / 2
    return wilson(closer, len(to_train), confidence)


def calibrated_l2(samples: Tensor, train: Tensor, alpha: float = 0.5, n: int = 50) -> Tensor:
    """d1 / (alpha * mean of d1..dn) of each sample, (B,): below 1 is suspiciously near (Carlini et al. 2301.13188).

    The mean runs over the n nearest training items. 0/0, a sample that equals n training items, is counted as 0.
    Raises TypeError and ValueError as `checked`, and ValueError for alpha <= 0 or fewer than n training items.
    """
    check_between("alpha", alpha, 0, math.inf)
    check_count(n, "n", 1)
    distances = nearest_neighbours(samples, train, n)[0]
    return torch.where(distances[:, 0] == 0, 0.0, distances[:, 0] / (float(alpha) * distances.mean(1)))


def authenticity(samples: Tensor, train: Tensor, confidence: float = 0.95) -> Estimate:
    """Share of samples farther from their nearest training item than that item is from its own nearest; high is good.

    Alaa et al. (2102.08921), with a Wilson interval. An equal distance is not authentic. Raises TypeError and
    ValueError as `checked`, and ValueError for fewer than two training items or a confidence outside (0, 1).
    """
    samples, train = checked(samples=samples, train=train)
    check_points("train", train, 2, "a training item needs another to be compared with")
    distances, indices = nearest_neighbours(samples, train, 1)
    own = nearest_neighbours(train, train, 2)[0][:, 1]  # the first is the item itself, at 0
    return wilson(int((distances > own[indices]).sum()), len(samples), confidence)


def data_copying_test(samples: Tensor, train: Tensor, test: Tensor, *, cells: int = 3, least: int = 20) -> float:
    """C_T of Meehan et al. (2004.05675), a mean z-score: far below 0 the samples copy, far above 0 they underfit.

    Space is cut into `cells` by k-means on `train`. In each, a Mann-Whitney U compares the distances of samples with
    those of `test` (real, not trained on) to the training items *of that cell*: z = (U - mn/2) / sqrt(mn (m+n+1) /
    12), ties counted one half, without continuity correction. C_T is the mean of z, weighted by the share of `test`
    in each cell, over the cells with at least `least` samples. Nothing random: k-means starts from equal slices of
    `train` along its first principal component.

    Raises TypeError and ValueError as `checked`, and ValueError for more cells than training items, or where no cell
    holds both `least` samples and a test item.
    """
    samples, train, test = checked(samples=samples, train=train, test=test)
    check_count(cells, "cells", 1)
    check_count(least, "least", 1)
    check_points("train", train, cells, f"cells = {cells} were asked for")
    centres = _k_means(train, cells)
    sample_cell, train_cell, test_cell = (nearest_neighbours(x, centres, 1)[1][:, 0] for x in (samples, train, test))
    total = weights = 0.0
    for cell in range(len(centres)):
        ours, theirs, base = samples[sample_cell == cell], test[test_cell == cell], train[train_cell == cell]
        if len(ours) >= least and len(theirs) and len(base):
            z = _mann_whitney_z(nearest_neighbours(ours, base, 1)[0], nearest_neighbours(theirs, base, 1)[0])
            total += len(theirs) * z
            weights += len(theirs)
    if not weights:
        raise ValueError(
            f"no cell holds least = {least} of the {len(samples)} samples and any of the {len(test)} test items: "
            f"lower least or cells (now {cells}), or draw more samples"
        )
    return total / weights


def _mann_whitney_z(ours: Tensor, theirs: Tensor) -> float:
    """z-score of the number of pairs in which one of `ours` (m, 1) is larger than one of `theirs` (n, 1)."""
    m, n = len(ours), len(theirs)
    ours, theirs = ours.flatten(), theirs.flatten().sort().values
    below, not_above = (torch.searchsorted(theirs, ours, right=right).sum().item() for right in (False, True))
    return ((below + not_above) / 2 - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def _k_means(x: Tensor, cells: int, rounds: int = 50) -> Tensor:
    """Centres (cells, D) float64 of Lloyd's algorithm from equal slices along the first principal component."""
    x = x.double()
    if cells == 1:
        return x.mean(0, keepdim=True)
    slices = PCA(x, 1).transform(x)[:, 0].argsort(stable=True).tensor_split(cells)
    centres = torch.stack([x[part].mean(0) for part in slices])
    for _ in range(rounds):
        label = nearest_neighbours(x, centres, 1)[1][:, 0]
        # A cell that lost all its items keeps its centre: it may win some back.
        moved = torch.stack([x[label == c].mean(0) if (label == c).any() else centres[c] for c in range(cells)])
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
