"""Where copies should be decided, from the geometry of the data alone: nothing is trained (hypothesis H8).

Two things must meet at a noise level: memorizing must pay, and noisy versions of *other* items must lie in the shells
about the training items, where training samples lie (Dodson et al., arXiv 2602.17846). `pull` is their product; it has
one peak, and what lies above half of it is the predicted zone."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from memlib.lab.experiment import Experiment
from memlib.schedules import Schedule

SHELL = 3.0  # half-width of a shell, in standard deviations of the squared length of noise
FRESH = 256  # noisy items on either side
STRIDE = 5  # timesteps between those that are computed


def pull(train: Tensor, reference: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """What memorizing gains at t = 0, 5, 10, ..., times the share of other items that feel it.

    train (n, *D), reference (N, *D). Gain: the loss (of the noise, per dimension) of the best linear denoiser of the
    reference less that of the exact denoiser of train, on train. Felt: the noisy reference items y with
    | |y - x_i|^2 / sigma^2 - d | < SHELL sqrt(2 d) for a training item x_i; the clean item in y has weight 1."""
    items, others = train.flatten(1).double(), reference.flatten(1).double()
    n, d = items.shape
    variances = torch.linalg.eigvalsh(torch.cov(others.T)).clamp(min=0)
    others = others[torch.randperm(len(others), generator=generator)[:FRESH]]
    clean = items.repeat(-(-FRESH // n), 1)
    found = []
    for t in range(0, schedule.T, STRIDE):
        sigma = float(schedule.sigma[t])
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        weights = torch.softmax(-torch.cdist(noisy, items).square() / (2 * sigma**2), 1)
        memorizer = (weights @ items - clean).square().mean() / sigma**2
        linear = (variances / (variances + sigma**2)).sum() / d
        noisy = others + sigma * torch.randn(others.shape, generator=generator)
        lengths = torch.cdist(noisy, items).square() / sigma**2
        found.append(((lengths - d).abs() < SHELL * math.sqrt(2 * d)).any(1).double().mean() * (linear - memorizer))
    return torch.stack(found)


def zone(pulls: Tensor) -> tuple[int, int]:
    """The first timestep of the predicted zone and the one after its last."""
    above = (pulls >= pulls.max() / 2).nonzero().flatten()
    return int(above[0]) * STRIDE, (int(above[-1]) + 1) * STRIDE


def predicted_zone(experiment: Experiment, seeds: Iterable[int]) -> tuple[int, int]:
    """The zone of the mean `pull` over the splits of these seeds, each with a generator of its seed: the rule of H8."""
    pulls = []
    for own in (replace(experiment, seed=seed) for seed in seeds):
        made, generator = own.load_data(), torch.Generator().manual_seed(own.seed)
        pulls.append(pull(made.train, made.reference, own.build_schedule(), generator))
    return zone(torch.stack(pulls).mean(0))
