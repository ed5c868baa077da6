"""Measures of the field beside held-out items: of samples, in pixels or features, and of a network's own losses."""

import torch
from torch import Tensor

from memlib.checks import Items, as_tensor, checked
from memlib.metrics.estimates import Estimate, difference_of, mean_of

BLOCKS = 10  # of disjoint items, each set in an order of its own (one order would pair sorted sets), for KID
FLOOR = 1e-6  # smallest variance of a kernel, in units of that of the data: an exact copy would have none
ROUNDS = 50  # of expectation maximisation


def kid(samples: Items, real: Items) -> Estimate:
    """Kernel Inception Distance (Binkowski et al. 1801.01401) of features (B, F) and (N, F): the unbiased squared MMD
    under (x.y / F + 1)^3, the mean over up to ten blocks of disjoint items, drawn at random, with its 95 % interval."""
    sets = (part.flatten(1).double() for part in checked(samples=samples, real=real))
    x, y = (part[torch.randperm(len(part), generator=torch.Generator().manual_seed(k))] for k, part in enumerate(sets))
    if (blocks := min(BLOCKS, len(x) // 2, len(y) // 2)) < 2:
        raise ValueError(f"samples has {len(x)} item(s), real {len(y)}; need at least 4 of each")
    pairs = zip(x.tensor_split(blocks), y.tensor_split(blocks), strict=True)
    return mean_of(torch.stack([_mmd(*pair) for pair in pairs]))


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    kernels = [(a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    one, two = ((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernels[:2])
    return one + two - 2 * kernels[2].mean()


def generalisation_gap(samples: Items, train: Items, held_out: Items) -> Estimate:
    """FLD's generalisation gap (Jiralerspong et al. 2302.04440): 100 times the mean negative log-likelihood of train
    less that of held_out, by dimension, under Gaussians at the samples whose variances are fitted to train. Below 0,
    the samples lie nearer to the training items than to new ones. Fitted by expectation maximisation, with a floor."""
    x, a, b = (part.flatten(1).double() for part in checked(samples=samples, train=train, new=held_out))
    if not (varies := (b != b[0]).any(0)).any():
        raise ValueError(f"held_out has {len(b)} item(s), all equal; need two that differ, for they give the unit")
    x, a, b = ((part[:, varies] - b[:, varies].mean(0)) / b[:, varies].std(0) for part in (x, a, b))
    known, new, dim = torch.cdist(a, x).square(), torch.cdist(b, x).square(), x.shape[1]
    variance = (known.min(0).values / dim).clamp(min=FLOOR)
    for _ in range(ROUNDS):
        weight = (-known / (2 * variance) - dim / 2 * variance.log()).softmax(1)
        fitted = (weight * known).sum(0) / (dim * weight.sum(0).clamp(min=1e-12))
        variance = torch.where(weight.sum(0) > 1e-12, fitted.clamp(min=FLOOR), variance)  # some item
    score = [torch.logsumexp(-d / (2 * variance) - dim / 2 * variance.log(), 1) * 100 / dim for d in (known, new)]
    return difference_of(*score)


def membership(train: Items, held_out: Items) -> Estimate:
    """Area under the ROC curve of "the loss is low" for membership: P(loss of a training item < that of a held-out
    item), ties one half, with the 95 % interval of Newcombe (2006, method 5), good near 1, too. 1/2: nothing memorized.

    Both (t, N): losses by item over one fixed grid of timesteps, as `loss_at` gives them; the mean over t counts."""
    train, held_out = as_tensor(train).double(), as_tensor(held_out).double()
    if train.shape[:-1] != held_out.shape[:-1] or not all(x.numel() and x.isfinite().all() for x in (train, held_out)):
        raise ValueError("train or held_out is empty, or holds NaN or infinity, or grids differ; need losses (t, N)")
    low, high = (x.reshape(-1, x.shape[-1]).mean(0) for x in (train, held_out))
    auc, n, m = float(((high - low[:, None]).sign() + 1).mean() / 2), len(low), len(high)
    a = torch.linspace(0, 1, 10001, dtype=torch.float64)  # areas; in the interval are those that do not exclude `auc`
    variance = a * (1 - a) * (1 + ((n + m) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))) / (n * m)
    inside = a[(a - auc).square() <= 1.96**2 * variance + 1e-8].tolist()  # with the nearest of the grid
    return Estimate(auc, min(auc, inside[0]), max(auc, inside[-1]))
