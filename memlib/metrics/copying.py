"""How much of the training set the samples repeat. Fresh real data give the null; poor samples look un-memorized."""

import math

import torch
from torch import Tensor

from memlib.checks import Items, as_tensor, checked, vector
from memlib.metrics.estimates import Estimate, wilson
from memlib.metrics.neighbours import measure, nearest_neighbours, scan

NEAR = 0.01  # nearly equal: this far apart, as a share of how far training items lie from their mean (RMS)
CHANCE = 0.1  # share of nearly equal items up to which nothing is made of them


def neighbour_ratio(samples: Items, train: Items) -> Tensor:
    """d1 / d2 of each sample, (B,) in [0, 1]: distance to the nearest training item over that to the second nearest; 0
    is a copy. Equal items count as one; nearly equal ones hide copies: drop them first (`find_duplicates`)."""
    samples, train = (x.flatten(1) for x in checked(samples=samples, train=train))
    return ratio_of(two_nearest(samples, train)[0])


def two_nearest(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, 2) of flat samples to the two nearest *different* training items, and between those two, (B,)."""
    distances, indices = nearest_neighbours(samples, train, 2)
    between = measure(train, train, *indices.unbind(1))
    return (distances, between) if between.all() else two_nearest(samples, train.unique(dim=0))


def ratio_of(distances: Items) -> Tensor:
    """`neighbour_ratio` of distances (..., 2) to the nearest and the second nearest."""
    d1, d2 = as_tensor(distances).unbind(-1)
    return torch.where(d1 == 0, 0.0, d1 / d2)


def memorized_fraction(samples: Items, train: Items, threshold: float = 1 / 3) -> Estimate:
    """Share of samples (B, *D) with d1 / d2 < threshold, with its Wilson interval (Yoon et al. 2023; Gu 2310.02664).
    Its null is about threshold^d in d intrinsic dimensions: report it for fresh real data too."""
    samples, train = (x.flatten(1) for x in checked(samples=samples, train=train))
    return share_below(ratio_of(two_nearest(samples, train)[0]), threshold, count_distinct(samples, train))


def share_below(ratio: Items, threshold: float = 1 / 3, distinct: int | None = None) -> Estimate:
    """`memorized_fraction` of ratios (B,)."""
    ratio = vector(ratio, "ratio")  # NaN would count as no copy
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold = {threshold}; need (0, 1]: it bounds d1 / d2, which is at most 1")
    return wilson(int((ratio < threshold).sum()), len(ratio), distinct=distinct)


def excess(share: Estimate, null: Estimate) -> Estimate:
    """(share - null) / (1 - null): the share that copies, beyond what fresh items give by chance, with the interval of
    Newcombe (1998, method 10) for the difference; below 0 where fewer samples than fresh items pass."""
    difference, rest = share.value - null.value, 1 - null.value
    if rest <= 0:
        raise ValueError(f"null = {null}; need less than 1, else no copy can be told from a fresh item")
    low = difference - math.hypot(share.value - share.low, null.high - null.value)
    high = difference + math.hypot(share.high - share.value, null.value - null.low)
    return Estimate(difference / rest, low / rest, high / rest)


def copied_items(samples: Items, train: Items, threshold: float = 1 / 3) -> Tensor:
    """(N,) how often each item of `train` is copied: the samples with d1 / d2 < threshold whose nearest item it is."""
    share_below(ratio := neighbour_ratio(samples, train), threshold)  # refuses a threshold that makes no sense
    copies = as_tensor(samples)[ratio < threshold]
    near = nearest_neighbours(copies, train, 1)[1][:, 0] if len(copies) else torch.zeros(0, dtype=torch.int64)
    return near.bincount(minlength=len(train)).cpu()


def closer_to_train(samples: Items, train: Items, held_out: Items) -> Estimate:
    """Share of samples nearer to `train` than to `held_out`, two sets of equal size, with its Wilson interval; a tie
    counts one half (after Meehan et al. 2004.05675). Fresh data are near 1/2 only on average over splits."""
    samples, train, held_out = (x.flatten(1) for x in checked(samples=samples, train=train, held_out=held_out))
    to_train, to_held_out = (nearest_neighbours(samples, real, 1)[0] for real in (train, held_out))
    return share_closer(to_train, to_held_out, count_distinct(samples, train))


def share_closer(to_train: Tensor, to_held_out: Tensor, distinct: int | None = None) -> Estimate:
    """`closer_to_train` of the distances to the nearest item of each set."""
    return wilson(float((to_held_out - to_train).sign().add(1).sum() / 2), len(to_train), distinct=distinct)


def count_distinct(samples: Tensor, train: Tensor) -> int:
    """How many flat samples are not nearly equal (`NEAR`) to an earlier one. All count if few (`CHANCE`) are, or if as
    many pairs again lie within three times that distance: these are coincidences of many samples in few dimensions."""
    limit = NEAR**2 * (train - train.mean(0)).square().sum(1).mean()
    new = close = around = 0
    for start, quick, _ in scan(samples, samples):
        squares = quick.masked_fill_(torch.ones_like(quick, dtype=torch.bool).triu(start), torch.inf)  # earlier ones
        new += int((squares.amin(1) > limit).sum())
        close, around = close + int((squares <= limit).sum()), around + int((squares <= 9 * limit).sum())
    return new if new < (1 - CHANCE) * len(samples) and 2 * close > around else len(samples)
