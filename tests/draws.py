"""Numbers that tests draw: each call's own generator begins with the seed."""

import numpy as np
import torch
from scipy import stats


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def follow(draws: torch.Tensor, pmf: torch.Tensor) -> bool:
    """Whether integers have these probabilities, by a chi-square test, in which the rare ones count as one."""
    expected = len(draws) * pmf.numpy()
    cell = np.where(expected < 5, len(pmf), np.arange(len(pmf)))
    wanted, seen = np.bincount(cell, expected, len(pmf) + 1), np.bincount(cell[draws], None, len(pmf) + 1)
    common = wanted > 0
    return bool((pmf[draws] > 0).all()) and stats.chisquare(seen[common], wanted[common]).pvalue > 1e-3
