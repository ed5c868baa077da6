"""Statistics over paired seeds: differences with Student's t interval, permutation trends, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from memlib.metrics import Estimate


def paired_difference(values: Sequence[float] | np.ndarray) -> tuple[Estimate, float]:
    """The mean of per-seed differences (n,) with Student's 95 % interval, and the two-sided p of no difference."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"values = {x.tolist()}; need at least two finite numbers")
    mean, error = x.mean(), x.std(ddof=1) / math.sqrt(len(x))
    half = stats.t.ppf(0.975, len(x) - 1) * error
    # equal differences have no error: they are certain, unless all are zero
    p = 2 * stats.t.sf(abs(mean) / error, len(x) - 1) if error > 0 else float(mean == 0)
    return Estimate(float(mean), float(mean - half), float(mean + half)), float(p)


def trend(rows: Any, *, generator: np.random.Generator, draws: int = 20_000) -> tuple[Estimate, float]:
    """Spearman's rank correlation with the order of the columns, the mean over `rows` (one per seed, of any lengths).

    The interval is Student's over the rows. The two-sided p is a permutation test's: without a trend all orders within
    a row are equally likely; `draws` of them are drawn.
    """
    rows = [np.asarray(row, dtype=float) for row in rows]
    if len(rows) < 2 or min(map(len, rows)) < 3 or not all(np.isfinite(row).all() for row in rows):
        raise ValueError(f"rows = {[row.tolist() for row in rows]}; need at least two rows of three finite values")
    observed, null = [], np.zeros(draws)
    for row in rows:
        ranks, order = stats.rankdata(row), np.arange(len(row), dtype=float)
        observed.append(float(_correlation(ranks, order)))
        null += _correlation(generator.permuted(np.tile(ranks, (draws, 1)), axis=1), order)
    extreme = (np.abs(null) >= abs(sum(observed)) - 1e-9).sum()
    return paired_difference(observed)[0], float((extreme + 1) / (draws + 1))  # the observed order is one of them


def holm(p: Sequence[float]) -> list[float]:
    """The p values adjusted by Holm's step-down method (1979), in the order given."""
    x = np.asarray(p, dtype=float)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"p = {x.tolist()}; every p value must lie in 0..1")
    order = x.argsort(kind="stable")
    adjusted = np.maximum.accumulate((len(x) - np.arange(len(x))) * x[order]).clip(max=1)
    return adjusted[order.argsort()].tolist()


def _correlation(ranks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Of ranks (..., n) with order (n,); 0 where all ranks are equal."""
    a, b = ranks - ranks.mean(-1, keepdims=True), order - order.mean()
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum())
    return np.divide(a @ b, scale, out=np.zeros_like(scale), where=scale > 0)
