"""Distances between two sets. Copies are nearest to the training set: so compare with held-out data, the memorizing
baseline and fresh data, all at equal sizes (distances fall with size).

An unfinished denoiser leaves noise at the finest scale, which hides copies from distances. Its energy over that of real
data is the residual noise: above 2 samples are degenerate, far below 1 they are blurred or at a smaller scale."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from memlib.checks import Items, checked
from memlib.metrics.estimates import Estimate, mean_of
from memlib.metrics.neighbours import nearest_neighbours

BINS = 20  # of the histograms in the Jensen-Shannon distance


class PCA:
    """Principal components of `reference` (N, *D), fitted once and used for every set that is compared.

    `mean` (D,), `components` (K, D) orthonormal, `std` (K,) of the reference along each (divisor N - 1), all float64.
    The largest entry of each is positive. `components`: how many; None takes ten, or as many as the reference spans."""

    def __init__(self, reference: Items, components: int | None = None) -> None:
        x = checked(reference=reference)[0].flatten(1).double()
        self.mean = x.mean(0)
        x = x - self.mean
        wide = x.shape[0] < x.shape[1]  # the smaller of the two Gram matrices has the same spectrum
        values, vectors = (found.flip(-1) for found in torch.linalg.eigh(x @ x.T if wide else x.T @ x))
        # Eigenvalues below the rounding error of the largest are noise, and so would be their components.
        rank = int((values > values[0] * min(x.shape) * torch.finfo(x.dtype).eps).sum())
        count = min(10, max(rank, 1)) if components is None else components
        if not 1 <= count <= rank:
            raise ValueError(f"components = {count}; the {len(x)} item(s) of reference span {rank} dimension(s)")
        values, vectors = values[:count], vectors[:, :count]
        basis = x.T @ vectors / values.sqrt() if wide else vectors
        self.components = (basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()).T
        self.std = (values / (len(x) - 1)).sqrt()

    def transform(self, x: Items) -> Tensor:
        """Coordinates of `x` (B, *D) along the components: (B, K) float64."""
        return (checked(x=x)[0].flatten(1).double() - self.mean) @ self.components.T


def wasserstein_rows(samples: Tensor, real: Tensor, scale: Tensor) -> Callable[[Tensor], float]:
    """The exact Wasserstein-1 distance of samples (n, K) and real (m, K), the mean over columns, each over its scale.
    This and `energy_rows` are functions of the rows of samples, which the bootstrap draws."""
    values, order = torch.cat([samples, real]).T.sort()
    gaps, order = values.diff(), order[:, :-1]  # between two neighbours in value the distribution functions are level
    below_real = (order >= len(samples)).cumsum(1).double() / len(real)

    def distance(rows: Tensor) -> float:
        below = rows.bincount(minlength=len(samples) + len(real))[order].cumsum(1).double() / len(rows)
        return float((((below - below_real).abs() * gaps).sum(1) / scale).mean())

    return distance


def jensen_shannon(a: Tensor, b: Tensor) -> float:
    """Jensen-Shannon distance in [0, 1] (root of the divergence, base 2) of (B, K) and (N, K), the mean over columns of
    that between histograms of 20 equal bins from the least to the largest value of both."""
    low, high = torch.cat([a, b]).aminmax(dim=0)
    width = ((high - low) / BINS).where(high > low, 1.0)
    bins = (((x - low) / width).long().clamp(max=BINS - 1) for x in (a, b))  # the last bin has its end
    p, q = (F.one_hot(x, BINS).double().mean(0) for x in bins)  # (K, BINS)
    entropy = torch.special.entr(torch.stack([(p + q) / 2, p, q])).sum(2) / math.log(2)
    return float((entropy[0] - entropy[1:].mean(0)).clamp(0, 1).sqrt().mean())


def energy_distance(samples: Items, real: Items) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013), in the units of the data; no root is taken.

    Over all pairs (V-statistic: an item's zero distance to itself counts), so never negative, and 0 for equal sets. For
    two sets of one distribution its mean is (1/B + 1/N) E|X - X'|: compare at equal sizes."""
    x, y = checked(samples=samples, real=real)
    return energy_rows(x, y)(torch.arange(len(x), device=x.device))


def energy_rows(samples: Tensor, real: Tensor) -> Callable[[Tensor], float]:
    """`energy_distance` as a function of the rows of samples: the distances of all pairs are measured once."""
    centre = real.double().flatten(1).mean(0)  # a common offset would cost cdist its digits
    x, y = (part.double().flatten(1) - centre for part in (samples, real))
    within, between, base = torch.cdist(x, x), torch.cdist(x, y).mean(1), torch.cdist(y, y).mean()

    def distance(rows: Tensor) -> float:
        share = rows.bincount(minlength=len(x)).double() / len(rows)
        return max(0.0, float(2 * share @ between - share @ within @ share - base))

    return distance


def fidelity(samples: Items, fresh: Items, reference: Items) -> Estimate:
    """How far samples lie off the data: their mean distance to the nearest item of a large `reference` (M, *D), over
    that of `fresh` real items; 1 is real. The interval is that of the samples' mean, the fresh items taken as exact."""
    off, real = (nearest_neighbours(x, reference, 1)[0] for x in (samples, fresh))
    if len(equal := (real == 0).nonzero()):
        raise ValueError(f"fresh has {len(equal)} items that lie in reference, too; the two must be disjoint")
    return mean_of(off / real.mean())


def finest_scale(x: Items, name: str = "x") -> Tensor:
    """The finest band of `x`, same shape, in float32 at least; `x - finest_scale(x)` is the rest. Errors say `name`.

    Images (B, C, H, W), at least 3 x 3: x minus its blur by the 5 x 5 binomial kernel of Burt & Adelson (1983),
    reflected at the edges; 0.79 of white noise. Signals (B, C, L): the upper half of the frequencies of the signal
    continued by its mirror image (a DCT-II: else the jump between its ends leaks into all); half of white noise."""
    (given,) = checked(**{name: x})
    wide, length = given.double(), given.shape[-1]
    if given.ndim == 3 and length > 1:
        kept = torch.arange(length + 1, device=wide.device) >= length / 2  # the last bin is the Nyquist frequency
        spectrum = torch.fft.rfft(torch.cat([wide, wide.flip(-1)], -1))
        return torch.fft.irfft(spectrum * kept, n=2 * length)[..., :length].to(given.dtype)
    if given.ndim == 4 and min(given.shape[-2:]) > 2:
        taps = torch.tensor([1, 4, 6, 4, 1]).to(wide) / 16
        points = (torch.eye(n).to(wide)[None] for n in given.shape[-2:])
        # (n, n): row i is a picture of one bright point i, blurred
        down, across = (F.pad(each, (2, 2), mode="reflect")[0].unfold(1, 5, 1) @ taps for each in points)
        return (wide - down.T @ (wide @ across)).to(given.dtype)  # several times faster than as a convolution
    raise ValueError(f"{name} of shape {(*given.shape,)} has no finest scale; need (B, C, L > 1) or (B, C, H, W > 2)")


def without_finest_scale(x: Items) -> Tensor:
    """`x` less its finest band, on which distances are measured again."""
    return checked(x=x)[0] - finest_scale(x)
