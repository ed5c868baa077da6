"""Exact distances at the speed of a matrix product.

The quick formula |a|^2 + |b|^2 - 2 a.b is one matrix product, but in float32 it loses its digits for near-copies,
which is just where they matter here. So it only decides which pairs are worth measuring: `scan` gives it with a
proven bound on its error, callers keep every pair that the bound cannot rule out, and `measure` takes those by
differences in float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from memlib.checks import check_count
from memlib.metrics.checks import check_flag, check_number, check_points, checked

CHUNK = 2**23  # elements held at once per temporary: 32 MB in float32
MEASURED = 2**17  # elements gathered at once: 1 MB in float64, still in cache when measured
SPARE = 6  # candidates looked at beyond the k nearest before a whole row is


def scan(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Chunks of `a` (n, D) against all of `b` (m, D): (first row, quick (c, m), slack (c, 1)).

    The true squared distance lies within `slack` of `quick`, unless `quick` is NaN. Callers rule a pair *out* by
    `quick > bound + slack`, so that NaN, from an overflow, is kept and measured.

    Why: let u be the unit roundoff, A and B the norms of the centred points. A dot product of D terms errs by at most
    D u / (1 - D u) times the product of the norms, whatever the order of its sum (Higham, Accuracy and Stability of
    Numerical Algorithms, sec. 3.1): A^2, B^2 and 2 A B together by that share of (A + B)^2. Centring, roots, sums and
    the caller's bound add less than 10 u (A + B)^2; A and B are themselves known to that share. So with g = (D + 16)
    u / (1 - (D + 16) u) the error is below g / (1 - g) (A + B)^2, and underflow adds at most a few times D times the
    smallest normal number.
    """
    dtype = _product_dtype()
    work = torch.promote_types(torch.promote_types(a.dtype, b.dtype), dtype)
    centre = b.mean(0).to(work)  # any point would do: the nearer to the data, the smaller A and B
    b = (b.to(work) - centre).to(dtype)
    b_norms = torch.linalg.vector_norm(b, dim=1)
    info = torch.finfo(dtype)
    share = (a.shape[1] + 16) * info.eps / 2
    relative = share / (1 - 2 * share) if share < 0.5 else torch.inf  # g / (1 - g)
    step = max(1, CHUNK // len(b))
    for start in range(0, len(a), step):
        part = (a[start : start + step].to(work) - centre).to(dtype)
        norms = torch.linalg.vector_norm(part, dim=1, keepdim=True)
        # Doubled before it is scaled down: infinite wherever a term of the formula could overflow.
        slack = 2 * (norms + b_norms.max()) ** 2 * (relative / 2) + 8 * a.shape[1] * info.tiny
        with torch.autocast(a.device.type, enabled=False):
            quick = torch.addmm(b_norms**2, part, b.T, alpha=-2)
        yield start, quick.add_(norms**2), slack


def _product_dtype() -> torch.dtype:
    """float32 where its products are really float32; TF32 or bfloat16 products would break the bound of `scan`."""
    try:
        full = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set through torch's newer per-backend switches, which this getter refuses to sum up
        full = False
    return torch.float32 if full else torch.float64


def measure(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances (P,) float64 between a[rows] and b[columns], by differences: equal points are at exactly 0."""
    step = max(1, MEASURED // a.shape[1])
    parts = [
        torch.cdist(
            a.index_select(0, i).double()[:, None],
            b.index_select(0, j).double()[:, None],
            compute_mode="donot_use_mm_for_euclid_dist",
        ).flatten()
        for i, j in zip(rows.split(step), columns.split(step), strict=True)
    ]
    return torch.cat(parts)


def nearest_neighbours(samples: Tensor, train: Tensor, k: int = 2) -> tuple[Tensor, Tensor]:
    """The k nearest of `train` (N, *D) to each of `samples` (B, *D), by L2 distance over the flattened items.

    Returns distances (B, k) float64, ascending, and indices (B, k) int64 into `train`; among equal distances the lower
    index comes first. Exact, and chunked: the extra memory is one float32 copy of `train` and about 250 MB.

    Raises TypeError and ValueError as `memlib.metrics.checks.checked`, and ValueError where `train` has fewer than k
    items.
    """
    samples, train = checked(samples=samples, train=train)
    check_count(k, "k", 1)
    check_points("train", train, k, f"k = {k} neighbours were asked for")
    distances, indices = [], []
    for start, quick, slack in scan(samples, train):
        # k points have a quick value up to `kth`, so the k-th true value is at most kth + slack, and no point whose
        # quick value is above kth + 2 slack can be as near: all neighbours, and all ties with them, are kept. They are
        # among the few smallest, but in rows where even the last of these is below the bound.
        smallest, places = quick.topk(min(k + SPARE, len(train)), largest=False)
        bound = smallest[:, k - 1 : k] + 2 * slack
        crowded = (smallest[:, -1:] > bound).logical_not_().flatten().nonzero().flatten()
        few = (smallest > bound).logical_not_().index_fill_(0, crowded, False)
        rows, columns = few.nonzero(as_tuple=True)[0], places[few]
        if len(crowded):
            all_rows, all_columns = (quick[crowded] > bound[crowded]).logical_not_().nonzero(as_tuple=True)
            rows, columns = torch.cat([rows, crowded[all_rows]]), torch.cat([columns, all_columns])
        distance = measure(samples, train, rows + start, columns)
        order = columns.argsort()
        order = order[distance[order].argsort(stable=True)]
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


def find_duplicates(items: Tensor, threshold: float, mirror: bool = True) -> list[Duplicate]:
    """Pairs of `items` (N, *D) whose root mean square difference per element is at most `threshold`, ordered by (i, j).

    The threshold is in the units of the data: 0.05 on images in [-1, 1] is 2.5 % of the range. With `mirror`, images
    (N, C, H, W) are also compared with each other's mirror image; signals and points have none. A pair that is near
    both ways is listed once, with the smaller distance. 0 finds exact copies only.

    Raises TypeError and ValueError as `memlib.metrics.checks.checked`, and ValueError for a negative threshold.
    """
    (flat,) = checked(items=items)
    check_number("threshold", threshold)
    check_flag("mirror", mirror)
    if not threshold >= 0:
        raise ValueError(f"threshold must be 0 or more (RMS difference per element), got {threshold}")
    threshold, scale = float(threshold), flat.shape[1] ** 0.5
    others = [(False, flat)]
    if mirror and items.ndim == 4:
        others.append((True, items.detach().flip(-1).flatten(1)))
    found: dict[tuple[int, int], Duplicate] = {}
    for mirrored, other in others:
        for start, quick, slack in scan(flat, other):
            keep = ~(quick > (threshold * scale) ** 2 + slack)
            rows, columns = keep.triu(start + 1).nonzero(as_tuple=True)  # each pair once, no item with itself
            distances = measure(flat, other, rows + start, columns) / scale
            near = distances <= threshold
            for i, j, distance in zip(
                (rows[near] + start).tolist(), columns[near].tolist(), distances[near].tolist(), strict=True
            ):
                if (i, j) not in found or distance < found[i, j].distance:
                    found[i, j] = Duplicate(i, j, distance, mirrored)
    return [found[pair] for pair in sorted(found)]
