"""Simple models of the training set, for the null of a measure: two copy nothing, the kernel draws noisy copies.

Fresh real items are too weak a null: a Gaussian fitted to 16 pictures lies nearer to them than to 16 others."""

import math
from functools import partial

import torch
from torch import Tensor

from memlib.checks import Items, checked

BANDWIDTHS = 60  # tried by `kernel`, from a hundredth of the spread to the spread


def model_nulls(train: Items, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """`n` samples (n, *D) of each model fitted to `train` (N, *D), N >= 3 distinct items: "gaussian", "mix", "kernel",
    drawn from the CPU `generator` in this order."""
    (x,) = checked(train=train)
    if len(x) < 3 or not x.var(0).sum() > 0:
        raise ValueError(f"train has {len(x)} item(s) or all are equal; a null needs at least 3 that differ")
    flat, draw = x.flatten(1).double().cpu(), partial(torch.randn, generator=generator, dtype=torch.float64)
    mean, shrinkage, level = shrunk_covariance(flat)
    # (1 - s) S + s level I needs no D x D matrix: S = Z'Z / N of the centred items Z
    inside, outside = draw(n, len(flat)) @ (flat - mean) / math.sqrt(len(flat)), draw(n, flat.shape[1])
    made = {"gaussian": mean + math.sqrt(1 - shrinkage) * inside + math.sqrt(shrinkage * level) * outside}
    made["mix"] = flat[torch.rand(n, len(flat), generator=generator).topk(2).indices].mean(1)
    centres = torch.randint(len(flat), (n,), generator=generator)
    made["kernel"] = flat[centres] + bandwidth(flat) * draw(n, flat.shape[1])
    return {name: samples.reshape(n, *x.shape[1:]).to(x) for name, samples in made.items()}


def shrunk_covariance(x: Tensor) -> tuple[Tensor, float, float]:
    """The mean (D,) of `x` (N, D), and the shrinkage s and level m of Ledoit & Wolf (2004): the covariance is
    (1 - s) S + s m I, with S the covariance of divisor N and m its mean variance."""
    mean, (n, d) = x.mean(0), x.shape
    gram = (x - mean) @ (x - mean).T / n  # has the spectrum of S
    level = float(gram.trace()) / d
    square = float(gram.square().sum())  # |S|^2
    noise = (n * float(gram.diagonal().square().sum()) - square) / n  # of S as an estimate
    distance = square - d * level**2
    return mean, min(1.0, max(0.0, noise / distance)) if distance > 0 else 1.0, level


def bandwidth(x: Tensor) -> float:
    """The standard deviation of a Gaussian kernel on each of `x` (N, D) that makes the density of an item under the
    kernels of all others largest, by the mean log over items; the best of 60 values."""
    squares = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square().fill_diagonal_(torch.inf)
    spread = float((x - x.mean(0)).square().sum(1).mean() / x.shape[1]) ** 0.5
    tried = spread * torch.logspace(-2, 0, BANDWIDTHS, dtype=torch.float64)
    scores = [torch.logsumexp(-squares / (2 * h * h), 1).mean() - x.shape[1] * h.log() for h in tried]
    return float(tried[torch.stack(scores).argmax()])
