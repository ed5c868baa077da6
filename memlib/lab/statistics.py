"""What paired seeds say: differences with a t interval, trends by permutation within seed, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from memlib.checks import check_count
from memlib.metrics import Estimate
from memlib.metrics.checks import LARGEST, check_between


def paired_difference(values: Sequence[float], confidence: float = 0.95) -> tuple[Estimate, float]:
    """The mean of per-seed differences (n,) with Student's t interval, and the two-sided p of no difference.

    Raises ValueError for fewer than two differences, one that is not finite, or a confidence outside (0, 1).
    """
    check_between("confidence", confidence, 0, 1)
    x = _finite(values, "values")
    if len(x) < 2:
        raise ValueError(f"values holds {len(x)} difference(s); an interval needs at least two seeds")
    mean, error = x.mean(), x.std(ddof=1) / math.sqrt(len(x))
    half = stats.t.ppf((1 + confidence) / 2, len(x) - 1) * error
    # equal differences have no error: certain, unless they are all zero
    p = 2 * stats.t.sf(abs(mean) / error, len(x) - 1) if error > 0 else float(mean == 0)
    return Estimate(float(mean), float(mean - half), float(mean + half)), float(p)


def trend(
    rows: Sequence[Sequence[float]], *, generator: np.random.Generator, draws: int = 20_000
) -> tuple[Estimate, float]:
    """Spearman's rank correlation with the order of the columns, the mean over rows (one per seed), and its p.

    The interval is Student's over the rows. The two-sided p is that of a permutation test: under no trend all orders
    within a row are equally likely, of which `draws` are drawn. Rows may differ in length. Raises ValueError for fewer
    than two rows, a row shorter than three, values that are not finite, or draws below 1.
    """
    check_count(draws, "draws", 1)
    rows = [_finite(row, "rows") for row in rows]
    if len(rows) < 2 or min(map(len, rows)) < 3:
        raise ValueError(f"rows has lengths {[len(row) for row in rows]}; need at least two rows of at least three")
    observed, null = [], np.zeros(draws)
    for row in rows:
        ranks, order = stats.rankdata(row), np.arange(len(row), dtype=float)
        observed.append(_correlation(ranks, order))
        null += _correlation(generator.permuted(np.tile(ranks, (draws, 1)), axis=1), order)
    interval, _ = paired_difference(observed)
    extreme = (np.abs(null) >= abs(sum(observed)) - 1e-9).sum()
    return interval, float((extreme + 1) / (draws + 1))  # the observed order is one of them (Phipson & Smyth 2010)


def holm(p: Sequence[float]) -> list[float]:
    """The p values adjusted by Holm's step-down method (1979), in the order given. ValueError for one outside 0..1."""
    p = np.asarray(p, dtype=float)
    if not (valid := (p >= 0) & (p <= 1)).all():
        raise ValueError(f"p holds {p[~valid].tolist()}; every p value must lie in 0..1")
    order = p.argsort(kind="stable")
    adjusted = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
    out = np.empty(len(p))
    out[order] = adjusted
    return out.tolist()


def _correlation(ranks: np.ndarray, order: np.ndarray) -> np.ndarray | float:
    """Of (..., n) ranks with (n,); 0 where all ranks are equal."""
    a, b = ranks - ranks.mean(-1, keepdims=True), order - order.mean()
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum())
    return np.divide(a @ b, scale, out=np.zeros_like(scale), where=scale > 0)


def _finite(values: Sequence[float], name: str) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds {x[~np.isfinite(x)].tolist()}; every value must be finite")
    if (peak := np.abs(x).max(initial=0)) > LARGEST:
        raise ValueError(f"{name} holds {peak:g}, whose square is not finite; scale it to at most {LARGEST:g}")
    return x
