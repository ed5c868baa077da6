"""Exact distances at the speed of a matrix product.

In float32 the quick formula |a|^2 + |b|^2 - 2 a.b loses its digits for near-copies, just where they matter. So it only
makes the shortlist, with a proven bound on its error; the pairs on it are measured by differences in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from memlib.metrics.checks import Items, check_items, checked

CHUNK = 2**23  # elements held at once per temporary: 32 MB in float32
MEASURED = 2**17  # elements gathered at once: 1 MB in float64, still in cache when measured


def scan(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Chunks of `a` (n, D) against all of `b` (m, D): (first row, quick squared distances (c, m), slack (c, 1)).

    The true value is within `slack` of `quick`, unless that is NaN (overflow): rule a pair *out* by `quick > bound +
    slack`. A dot product errs by D u / (1 - D u) of the norms' product at most (Higham, Accuracy and Stability, 3.1).
    """
    # TF32 or bfloat16 products would break the bound.
    dtype = torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64
    work, info = torch.promote_types(torch.promote_types(a.dtype, b.dtype), dtype), torch.finfo(dtype)
    centre = b.mean(0).to(work)  # any point would do: the nearer to the data, the smaller the norms
    b = (b.to(work) - centre).to(dtype)
    b_norms = torch.linalg.vector_norm(b, dim=1)
    share = (a.shape[1] + 16) * info.eps / 2
    relative = share / (1 - 2 * share) if share < 0.5 else torch.inf
    for start in range(0, len(a), step := max(1, CHUNK // len(b))):
        part = (a[start : start + step].to(work) - centre).to(dtype)
        norms = torch.linalg.vector_norm(part, dim=1, keepdim=True)
        # Doubled before it is scaled down: infinite wherever a term of the formula could overflow.
        slack = 2 * (norms + b_norms.max()) ** 2 * (relative / 2) + 8 * a.shape[1] * info.tiny
        with torch.autocast(a.device.type, enabled=False):
            yield start, torch.addmm(b_norms**2, part, b.T, alpha=-2).add_(norms**2), slack


def measure(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances (P,) float64 between a[rows] and b[columns], by differences: equal points are at exactly 0."""
    pairs = zip(*(x.split(max(1, MEASURED // a.shape[1])) for x in (rows, columns)), strict=True)
    points = ((a[i].double()[:, None], b[j].double()[:, None]) for i, j in pairs)
    return torch.cat([torch.cdist(*two, compute_mode="donot_use_mm_for_euclid_dist").flatten() for two in points])


def nearest_neighbours(samples: Items, train: Items, k: int = 2) -> tuple[Tensor, Tensor]:
    """The k nearest of `train` (N, *D) to each of `samples` (B, *D), by L2 distance over the flattened items.

    Returns distances (B, k) float64, ascending, and indices (B, k) int64 into `train`; among equal distances the lower
    index comes first. Exact, and in chunks: the extra memory is one float32 copy of `train` and about 250 MB.
    """
    a, b = (x.flatten(1) for x in checked(samples=samples, train=train))
    check_items("train", b, k, f"k = {k} neighbours were asked for")
    distances, indices = [], []
    for start, quick, slack in scan(a, b):
        # The k-th true value is at most the k-th quick one + slack, so whatever is above that + slack is farther.
        bound = quick.topk(k, largest=False).values[:, -1:] + 2 * slack
        rows, columns = (quick > bound).logical_not_().nonzero(as_tuple=True)
        distance = measure(a, b, rows + start, columns)
        order = distance.argsort(stable=True)
        order = order[rows[order].argsort(stable=True)]  # by row, then distance, then index
        counts = rows.bincount(minlength=len(quick))
        pick = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=order.device)]
        distances.append(distance[pick])
        indices.append(columns[pick])
    return torch.cat(distances), torch.cat(indices)


class Duplicate(NamedTuple):
    """Items i < j that differ by `distance` (RMS per element); `mirrored`: i against j flipped left to right."""

    i: int
    j: int
    distance: float
    mirrored: bool


def find_duplicates(items: Items, threshold: float, mirror: bool = True) -> list[Duplicate]:
    """Pairs of `items` (N, *D) whose root mean square difference per element is at most `threshold`, ordered by (i, j).

    In the units of the data: 0.05 on images in [-1, 1] is 2.5 % of the range; 0 finds exact copies only. With `mirror`,
    images (N, C, H, W) are also compared with each other's mirror image. A pair near both ways is listed as the nearer.
    """
    (x,) = checked(items=items)
    if not threshold >= 0:
        raise ValueError(f"threshold must be 0 or more (RMS difference per element), got {threshold}")
    flat, scale = x.flatten(1), x[0].numel() ** 0.5
    found: dict[tuple[int, int], Duplicate] = {}
    for mirrored in [False, True] if mirror and x.ndim == 4 else [False]:
        other = x.flip(-1).flatten(1) if mirrored else flat
        for start, quick, slack in scan(flat, other):
            keep = ~(quick > (threshold * scale) ** 2 + slack)
            rows, columns = keep.triu(start + 1).nonzero(as_tuple=True)  # each pair once, no item with itself
            distances = measure(flat, other, rows + start, columns) / scale
            for i, j, distance in zip((rows + start).tolist(), columns.tolist(), distances.tolist(), strict=True):
                if distance <= threshold and ((i, j) not in found or distance < found[i, j].distance):
                    found[i, j] = Duplicate(i, j, distance, mirrored)
    return [found[pair] for pair in sorted(found)]
