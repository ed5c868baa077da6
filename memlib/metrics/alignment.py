"""Distances between two sets, in full or along principal components of real data. Copies are nearest to the training
set: so compare with held-out data, the memorizing baseline and fresh data, all at equal sizes (they fall with size)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from memlib.metrics.checks import Items, check_items, checked
from memlib.metrics.neighbours import CHUNK


class PCA:
    """Principal components of `reference` (N, *D), fitted once and used for every set that is compared.

    `mean` (D,), `components` (K, D) orthonormal, `std` (K,) of the reference along each (divisor N - 1), all float64.
    The largest entry of a component is positive, so that plots do not flip. `components`: how many; None takes ten, or
    as many as the reference spans. (Equal to scikit-learn's, as a test shows, but without its weight in the core.)
    """

    def __init__(self, reference: Items, components: int | None = None) -> None:
        x = checked(reference=reference)[0].flatten(1).double()
        check_items("reference", x, 2, "principal components need a spread")
        self.mean = x.mean(0)
        x = x - self.mean
        wide = x.shape[0] < x.shape[1]  # the smaller of the two Gram matrices has the same spectrum
        values, vectors = (found.flip(-1) for found in torch.linalg.eigh(x @ x.T if wide else x.T @ x))
        # Eigenvalues below the rounding error of the largest are noise, and so would be their components.
        rank = int((values > values[0] * min(x.shape) * torch.finfo(x.dtype).eps).sum())
        count = min(10, max(rank, 1)) if components is None else components
        if not 1 <= count <= rank:
            raise ValueError(f"components = {count}; the {len(x)} items of reference span {rank}: need 1 to {rank}")
        values, vectors = values[:count], vectors[:, :count]
        basis = x.T @ vectors / values.sqrt() if wide else vectors
        self.components = (basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()).T
        self.std = (values / (len(x) - 1)).sqrt()

    def transform(self, x: Items) -> Tensor:
        """Coordinates of `x` (B, *D) along the components: (B, K) float64."""
        flat = checked(x=x)[0].flatten(1)
        if flat.shape[1] != len(self.mean):
            raise ValueError(f"x has items of {flat.shape[1]} elements, the reference had {len(self.mean)}")
        return (flat.double() - self.mean) @ self.components.T


def _along(reference: Items | PCA | None, components: int | None, **sets: Items) -> tuple[Tensor, Tensor, Tensor]:
    """The two sets along the components of the reference, and its standard deviations."""
    samples, real = checked(**sets)
    pca = reference if isinstance(reference, PCA) else PCA(real if reference is None else reference, components)
    if components not in (None, len(pca.std)):
        raise ValueError(f"components = {components}, but the fitted reference has {len(pca.std)}; leave it out")
    return pca.transform(samples), pca.transform(real), pca.std


def pca_wasserstein(
    samples: Items, real: Items, *, reference: Items | PCA | None = None, components: int | None = None
) -> float:
    """Mean over principal components of the 1-D Wasserstein-1 distance, each in the reference's standard deviations.

    `reference`: the real data that the components are fitted on, or a `PCA` already fitted; by default `real`. Sets
    that are to be compared need the *same* reference.
    """
    a, b, std = _along(reference, components, samples=samples, real=real)
    return wasserstein_rows(a, b, std)(torch.arange(len(a), device=a.device))


def wasserstein_rows(samples: Tensor, real: Tensor, scale: Tensor | float = 1.0) -> Callable[[Tensor], float]:
    """Mean of each column's exact W1, over its scale, as a function of the rows of samples (n, K) against (m, K)."""
    values, order = torch.cat([samples, real]).T.sort()
    gaps, order = values.diff(), order[:, :-1]  # between two neighbours in value the distribution functions are level
    below_real = (order >= len(samples)).cumsum(1).double() / len(real)

    def distance(rows: Tensor) -> float:
        times = rows.bincount(minlength=len(samples) + len(real))
        below = times[order].cumsum(1).double() / len(rows)
        return float((((below - below_real).abs() * gaps).sum(1) / scale).mean())

    return distance


def pca_jensen_shannon(
    samples: Items, real: Items, *, reference: Items | PCA | None = None, components: int | None = None,
    bins: int = 20, joint: bool = False,
) -> float:  # fmt: skip
    """Jensen-Shannon distance in [0, 1] (root of the divergence, base 2) of histograms along principal components.

    `bins` equal bins per component from the least to the largest value of both sets. The mean over components, or, with
    `joint`, the distance of the two 2-D histograms over the first two. `reference`: as in `pca_wasserstein`.
    """
    a, b, std = _along(reference, components, samples=samples, real=real)
    if bins < 2 or (joint and len(std) < 2):
        raise ValueError(f"bins = {bins}, joint = {joint}; need 2 bins or more, and 2 components for joint")
    return jensen_shannon(a, b, bins, joint)


def jensen_shannon(a: Tensor, b: Tensor, bins: int = 20, joint: bool = False) -> float:
    """`pca_jensen_shannon` of coordinates (B, K) and (N, K)."""
    both, found = torch.cat([a, b]), []
    low, high = both.min(0).values, both.max(0).values
    width = ((high - low) / bins).where(high > low, 1.0)
    sets = [((x - low) / width).long().clamp(max=bins - 1) for x in (a, b)]  # the largest value is in the last bin
    columns = [[x[:, 0] * bins + x[:, 1]] if joint else x.unbind(1) for x in sets]
    for pair in zip(*columns, strict=True):
        p, q = (x.bincount(minlength=bins ** (1 + joint)).double() / len(x) for x in pair)
        middle = (p + q) / 2
        # xlogy is 0 where p is; where p is not, neither is middle.
        terms = torch.stack([torch.special.xlogy(x, torch.where(x > 0, x / middle, 1.0)).sum() for x in (p, q)]).sum()
        found.append((terms / (2 * math.log(2))).clamp(0, 1).sqrt())
    return float(torch.stack(found).mean())


def sliced_wasserstein(samples: Items, real: Items, *, generator: torch.Generator, projections: int = 128) -> float:
    """Mean 1-D Wasserstein-1 distance over random directions of unit length, in the units of the data.

    Sets (B, *D) and (N, *D) of any sizes. Compare sets under equally seeded generators: the directions add noise.
    """
    a, b = (x.flatten(1).double() for x in checked(samples=samples, real=real))
    if projections < 1:
        raise ValueError(f"projections = {projections}; need at least 1")
    made = torch.randn(a.shape[1], projections, generator=generator, device=generator.device, dtype=torch.float64)
    directions = (made := made.to(a.device)) / made.norm(dim=0)
    return wasserstein_rows(a @ directions, b @ directions)(torch.arange(len(a), device=a.device))


def energy_distance(samples: Items, real: Items) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013), in the units of the data; no root is taken.

    Over all pairs (V-statistic: an item's zero distance to itself counts), so never negative, and 0 for equal sets. For
    two sets of one distribution its mean is (1/B + 1/N) E|X - X'|: compare at equal sizes.
    """
    x, y = (part.flatten(1).double() for part in checked(samples=samples, real=real))
    x, y = x - y.mean(0), y - y.mean(0)  # a common offset would cost cdist its digits
    return max(0.0, 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y))


def _mean_distance(x: Tensor, y: Tensor) -> float:
    total = sum(float(torch.cdist(part, y).sum()) for part in x.split(max(1, CHUNK // len(y))))  # in bounded memory
    return total / (len(x) * len(y))


def energy_rows(samples: Tensor, real: Tensor) -> Callable[[Tensor], float]:
    """`energy_distance` as a function of the rows of samples: the distances of all pairs are measured once."""
    centre = real.double().flatten(1).mean(0)
    x, y = (part.double().flatten(1) - centre for part in (samples, real))
    within, between, base = torch.cdist(x, x), torch.cdist(x, y).mean(1), _mean_distance(y, y)

    def distance(rows: Tensor) -> float:
        share = rows.bincount(minlength=len(x)).double() / len(rows)
        return max(0.0, float(2 * share @ between - share @ within @ share) - base)

    return distance
