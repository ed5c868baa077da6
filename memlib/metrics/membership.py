"""Membership: whether the network itself, without any sample, tells training items from held-out ones by its loss."""

import math

from torch import Tensor

from memlib.metrics.estimates import Estimate


def membership(train: Tensor, held_out: Tensor) -> Estimate:
    """Area under the ROC curve of "the loss is low" for membership: P(loss of a training item < that of a held-out
    item), ties one half, with the 95 % interval of Hanley & McNeil (1982). 1/2 says that nothing was memorized.

    Both (t, N): losses by item over one fixed grid of timesteps, as `loss_at` gives them; the mean over t counts."""
    low, high = (x.double().reshape(-1, x.shape[-1]).mean(0) for x in (train, held_out))
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError("train or held_out holds NaN or infinity; need finite losses")
    below, equal = (low[:, None] < high).double(), (low[:, None] == high).double()
    auc, n, m = float((below + equal / 2).mean()), len(low), len(high)
    a, b = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    half = 1.96 * math.sqrt((auc * (1 - auc) + (n - 1) * (a - auc**2) + (m - 1) * (b - auc**2)) / (n * m))
    return Estimate(auc, max(0.0, auc - half), min(1.0, auc + half))
