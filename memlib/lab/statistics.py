"""Statistics over paired seeds: differences with Student's t interval, and Holm's correction."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from memlib.metrics import Estimate


def paired_difference(values: Sequence[float] | np.ndarray, level: float = 0.05) -> tuple[Estimate, float]:
    """The mean of per-seed differences (n,) with Student's interval at this two-sided level (.05: of 95 %), and the p
    of no difference."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"values = {x.tolist()}; need at least two finite numbers")
    mean, error = x.mean(), x.std(ddof=1) / math.sqrt(len(x))
    half = stats.t.isf(level / 2, len(x) - 1) * error
    # equal differences have no error: they are certain, unless all are zero
    p = 2 * stats.t.sf(abs(mean) / error, len(x) - 1) if error > 0 else float(mean == 0)
    return Estimate(float(mean), float(mean - half), float(mean + half)), float(p)


def holm(p: Sequence[float]) -> list[float]:
    """The p values adjusted by Holm's step-down method (1979), in the order given."""
    x = np.asarray(p, dtype=float)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"p = {x.tolist()}; every p value must lie in 0..1")
    order = x.argsort(kind="stable")
    return np.maximum.accumulate((len(x) - np.arange(len(x))) * x[order]).clip(max=1)[order.argsort()].tolist()
