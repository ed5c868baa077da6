"""How well the samples fit real data: distances between distributions, and precision, recall, density, coverage.

A set that only repeats training items has the smallest distance to the training set, so each figure belongs beside the
same figure against held-out data, that of the copycat, and the floor of fresh real data, all at equal sizes: plug-in
distances shrink as the sets grow.
"""

import math

import numpy as np
import torch
from torch import Tensor

from memlib.checks import check_count
from memlib.metrics.checks import check_flag, check_generator, check_points, checked
from memlib.metrics.estimates import Estimate, normal_mean, wilson
from memlib.metrics.neighbours import CHUNK, measure, nearest_neighbours, scan

WHOLE = 1024  # rows of a matrix up to which all its eigenvectors are found where a few are asked for


class PCA:
    """Principal components of `reference` (N, *D), fitted once and used for every set that is compared.

    `mean` (D,), `components` (K, D) orthonormal, `std` (K,) the reference's standard deviation along each (divisor N
    - 1), all float64. The entry of largest size in each component is positive, so that plots do not flip between
    machines. `components`: how many; None takes ten, or as many as the reference spans.

    Raises TypeError and ValueError as `checked`, and ValueError for fewer than two reference items or more components
    than they span.
    """

    def __init__(self, reference: Tensor, components: int | None = None) -> None:
        (x,) = checked(reference=reference)
        check_points("reference", x, 2, "principal components need a spread")
        if components is not None:
            check_count(components, "components", 1)
        x = x.double()
        self.mean = x.mean(0)
        x = x - self.mean
        # The smaller of the two Gram matrices has the same spectrum.
        wide = x.shape[0] < x.shape[1]
        values, vectors = _leading(x @ x.T if wide else x.T @ x, min(components or 10, *x.shape))
        # Eigenvalues below the rounding error of the largest are noise, and so would be their components.
        rank = int((values > values[0] * min(x.shape) * torch.finfo(x.dtype).eps).sum())
        count = min(10, rank) if components is None else components
        if count > rank or rank == 0:
            raise ValueError(
                f"components = {components}, but reference, shape {tuple(reference.shape)}, spans {rank} direction(s)"
            )
        basis = x.T @ vectors[:, :count] / values[:count].sqrt() if wide else vectors[:, :count]
        self.components = (basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()).T
        self.std = (values[:count] / (len(x) - 1)).sqrt()

    def transform(self, x: Tensor) -> Tensor:
        """Coordinates of `x` (B, *D) along the components: (B, K) float64. ValueError for items of another size."""
        (x,) = checked(x=x)
        if x.shape[1] != len(self.mean):
            raise ValueError(f"x has items of {x.shape[1]} elements, the reference had {len(self.mean)}")
        return (x.double() - self.mean) @ self.components.T


def _leading(gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues (count,), falling, and eigenvectors (n, count) of a matrix (n, n) >= 0, float64.

    A few of a large matrix by ARPACK's Lanczos iteration, which may miss one of several equal eigenvalues. That it did
    not a Cholesky factor proves: with the pairs taken out of `gram`, s - gram is positive definite for s just above
    the last of them. Where there is no proof, all eigenvectors are found instead.
    """
    n = len(gram)
    if n > max(WHOLE, 50 * count) and (found := _lanczos(gram, count)):
        values, vectors = found
        rest = (vectors * values) @ vectors.T - gram
        rest.diagonal().add_(values[0] + n * torch.finfo(gram.dtype).eps * values[-1])
        if not int(torch.linalg.cholesky_ex(rest).info):
            return values.flip(0), vectors.flip(1)
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0)[:count], vectors.flip(1)[:, :count]


def _lanczos(gram: Tensor, count: int) -> tuple[Tensor, Tensor] | None:
    """The `count` largest as far as ARPACK finds them, rising; None if it does not converge."""
    from scipy.sparse.linalg import ArpackError, eigsh

    start = np.random.default_rng(0).standard_normal(len(gram))  # any would do, and leads to the same pairs
    try:
        values, vectors = eigsh(gram.cpu().numpy(), count, v0=start, maxiter=50)
    except ArpackError:
        return None
    return torch.from_numpy(values).to(gram.device), torch.from_numpy(vectors).to(gram.device)


def _fitted(reference: Tensor | PCA | None, real: Tensor, components: int | None) -> PCA:
    if not isinstance(reference, PCA):
        return PCA(real if reference is None else reference, components)
    if components is not None:
        check_count(components, "components", 1)
    if components not in (None, len(reference.std)):
        raise ValueError(f"components = {components}, but the fitted reference has {len(reference.std)}: leave it out")
    return reference


def pca_wasserstein(
    samples: Tensor, real: Tensor, *, reference: Tensor | PCA | None = None, components: int | None = None
) -> float:
    """Mean over principal components of the 1-D Wasserstein-1 distance, each in the reference's standard deviations.

    Sets (B, *D) and (N, *D) of any sizes. `reference`: the real data that the components are fitted on, or a `PCA`
    already fitted; by default `real`. Sets that are to be compared need the *same* reference. Raises as `PCA`.
    """
    checked(samples=samples, real=real)
    pca = _fitted(reference, real, components)
    return float((_wasserstein(pca.transform(samples), pca.transform(real)) / pca.std).mean())


def _wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """Exact W1 of each column of (n, K) and (m, K): the area between the two distribution functions, (K,)."""
    a, b = a.T.contiguous().sort().values, b.T.contiguous().sort().values
    both = torch.cat([a, b], 1).sort().values
    at = both[:, :-1].contiguous()
    share_a, share_b = (torch.searchsorted(x, at, right=True).double() / x.shape[1] for x in (a, b))
    return ((share_a - share_b).abs() * both.diff()).sum(1)


def pca_jensen_shannon(
    samples: Tensor,
    real: Tensor,
    *,
    reference: Tensor | PCA | None = None,
    components: int | None = None,
    bins: int = 20,
    joint: bool = False,
) -> float:
    """Jensen-Shannon distance in [0, 1] (root of the divergence, base 2) of histograms along principal components.

    `bins` equal bins per component from the least to the largest value of both sets. The mean over components, or, with
    `joint`, the distance of the two 2-D histograms over the first two. `reference`: as in `pca_wasserstein`.
    Raises as `PCA`, and ValueError for bins below 2, or for fewer than two components with `joint`.
    """
    checked(samples=samples, real=real)
    check_count(bins, "bins", 2)
    check_flag("joint", joint)
    pca = _fitted(reference, real, components)
    if joint and len(pca.std) < 2:
        raise ValueError(f"joint needs two components, got {len(pca.std)}")
    return jensen_shannon(pca.transform(samples), pca.transform(real), bins, joint)


def jensen_shannon(a: Tensor, b: Tensor, bins: int = 20, joint: bool = False) -> float:
    """`pca_jensen_shannon` of coordinates (B, K) and (N, K)."""
    both = torch.cat([a, b])
    low, high = both.min(0).values, both.max(0).values
    width = ((high - low) / bins).where(high > low, 1.0)
    a, b = (((x - low) / width).long().clamp(max=bins - 1) for x in (a, b))  # the largest value is in the last bin
    if joint:
        return float(_jensen_shannon(*((x[:, 0] * bins + x[:, 1]).bincount(minlength=bins**2) for x in (a, b))))
    pairs = zip(a.unbind(1), b.unbind(1), strict=True)
    return float(torch.stack([_jensen_shannon(*(x.bincount(minlength=bins) for x in pair)) for pair in pairs]).mean())


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon distance, base 2, of two vectors of counts."""
    p, q = p.double() / p.sum(), q.double() / q.sum()
    middle = (p + q) / 2
    # xlogy is 0 where p is; where p is not, neither is middle.
    terms = sum(torch.special.xlogy(x, torch.where(x > 0, x / middle, 1.0)).sum() for x in (p, q))
    return (terms / (2 * math.log(2))).clamp(0, 1).sqrt()


def sliced_wasserstein(samples: Tensor, real: Tensor, *, generator: torch.Generator, projections: int = 128) -> float:
    """Mean 1-D Wasserstein-1 distance over random directions of unit length, in the units of the data.

    Sets (B, *D) and (N, *D) of any sizes. Compare sets under equally seeded generators: the directions add noise.
    Raises TypeError and ValueError as `checked`, and ValueError for projections below 1.
    """
    samples, real = checked(samples=samples, real=real)
    check_count(projections, "projections", 1)
    check_generator(generator)
    directions = torch.randn(
        samples.shape[1], projections, generator=generator, device=generator.device, dtype=torch.float64
    ).to(samples.device)
    directions = directions / directions.norm(dim=0)
    return float(_wasserstein(samples.double() @ directions, real.double() @ directions).mean())


def energy_distance(samples: Tensor, real: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013), in the units of the data; no root is taken.

    Over all pairs, the V-statistic: an item's zero distance to itself is counted, so it is never negative and 0 for
    equal sets; under one distribution its mean is (1/B + 1/N) E|X - X'|, so compare at equal sizes. Sets (B, *D) and
    (N, *D) of any sizes. Raises TypeError and ValueError as `checked`.
    """
    x, y = (part.double() for part in checked(samples=samples, real=real))
    x, y = x - y.mean(0), y - y.mean(0)  # a common offset would cost cdist its digits
    return max(0.0, 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y))


def mean_distance(x: Tensor, y: Tensor) -> float:
    """Of all pairs of (B, D) and (N, D) float64, which are measured a chunk at a time."""
    total = sum(float(torch.cdist(part, y).sum()) for part in x.split(max(1, CHUNK // len(y))))
    return total / (len(x) * len(y))


def prdc(samples: Tensor, real: Tensor, k: int = 5, confidence: float = 0.95) -> dict[str, Estimate]:
    """Precision, recall, density and coverage of Naeem et al. (2002.09797), each an `Estimate` under its name.

    A ball reaches from a point up to, not including, its k-th nearest neighbour in its own set. precision: share of
    samples (B, *D) in any ball of `real` (N, *D); recall: share of `real` in any ball of `samples`; density: mean
    number of real balls that a sample lies in, over k (may exceed 1); coverage: share of real balls that hold a
    sample. Copies of the training set score perfectly against it: compare with held-out data. Wilson intervals for
    the three shares, over the points counted with the balls as given; a normal interval for density.

    Raises TypeError and ValueError as `checked`, and ValueError where a set has fewer than k + 1 items.
    """
    samples, real = checked(samples=samples, real=real)
    check_count(k, "k", 1)
    for name, x in (("samples", samples), ("real", real)):
        check_points(name, x, k + 1, f"each item needs k = {k} neighbours beside itself")
    sample_radius, real_radius = (nearest_neighbours(x, x, k + 1)[0][:, k] for x in (samples, real))
    inside = torch.zeros(len(samples), dtype=torch.float64, device=samples.device)
    covered, recalled = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for start, quick, slack in scan(samples, real):
        own = sample_radius[start : start + len(quick), None]
        far = (quick > (own**2).to(quick.dtype) + slack) & (quick > (real_radius**2).to(quick.dtype) + slack)
        rows, columns = (~far).nonzero(as_tuple=True)
        rows = rows + start
        distance = measure(samples, real, rows, columns)
        in_real = distance < real_radius[columns]
        inside += rows[in_real].bincount(minlength=len(samples))
        covered[columns[in_real]] = True
        recalled[columns[distance < sample_radius[rows]]] = True
    density = inside / k
    return {
        "precision": wilson(int((inside > 0).sum()), len(samples), confidence),
        "recall": wilson(int(recalled.sum()), len(real), confidence),
        "density": normal_mean(density, confidence),
        "coverage": wilson(int(covered.sum()), len(real), confidence),
    }
