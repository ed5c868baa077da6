"""Exact distances at the speed of a matrix product.

The quick formula |a|^2 + |b|^2 - 2 a.b loses its digits for near-copies, just where they matter. So it only makes the
shortlist, with a proven bound on its error; the pairs on it are measured by differences."""

from collections.abc import Iterator

import torch
from torch import Tensor

from memlib.checks import Items, checked

CHUNK = 2**22  # elements held at once per temporary: 32 MB in float64
COLUMNS = 1024  # that `scan` multiplies before it sums in float64


def scan(a: Tensor, b: Tensor, kind: torch.dtype = torch.float64) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Chunks of `a` (n, D) against all of `b` (m, D): (first row, quick squared distances (c, m), slack (c, 1)).

    The true value is within `slack` of `quick`: rule a pair *out* by `quick > bound + slack`. A dot product errs by
    D u / (1 - D u) of the norms' product at most (Higham, Accuracy and Stability, 3.1); u is half of eps. Products are
    taken in `kind`, of a few columns at a time, and summed in float64: no copy is made of wide sets, of any type, uint8
    too. float32 takes half the time, at a larger slack."""
    spans = [slice(start, start + COLUMNS) for start in range(0, a.shape[1], COLUMNS)]
    centres = [b[:, span].to(kind).mean(0) for span in spans]  # the nearer to the data, the smaller the norms

    def norms(x: Tensor) -> Tensor:
        parts = ((x[:, span].to(kind) - c).double() for span, c in zip(spans, centres, strict=True))
        return torch.stack([part.square().sum(1) for part in parts]).sum(0)

    a_squares, b_squares = norms(a)[:, None], norms(b)
    slack = (min(COLUMNS, a.shape[1]) + 16) * torch.finfo(kind).eps * (a_squares.sqrt() + b_squares.max().sqrt()) ** 2
    for start in range(0, len(a), step := max(1, CHUNK // len(b))):
        rows = slice(start, start + step)
        quick = a_squares[rows] + b_squares
        for span, c in zip(spans, centres, strict=True):
            quick.sub_((a[rows, span].to(kind) - c) @ (b[:, span].to(kind) - c).T, alpha=2)
        yield start, quick, slack[rows]


def measure(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances (P,) float64 between a[rows] and b[columns], by differences: equal points are at exactly 0."""
    parts = (x.split(max(1, CHUNK // a.shape[1])) for x in (rows, columns))
    pairs = ((a[i].double()[:, None], b[j].double()[:, None]) for i, j in zip(*parts, strict=True))
    return torch.cat([torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").flatten() for pair in pairs])


def nearest_neighbours(samples: Items, train: Items, k: int = 2) -> tuple[Tensor, Tensor]:
    """The k nearest of `train` (N, *D) to each of `samples` (B, *D): L2 distances (B, k) float64, ascending, and their
    indices (B, k) into `train`; among equal distances the lower index comes first."""
    a, b = (x.flatten(1) for x in checked(samples=samples, train=train))
    if not 1 <= k <= len(b):
        raise ValueError(f"train has {len(b)} item(s), k = {k}; need 1 <= k <= as many")
    return nearest(a, b, k)


def nearest(a: Tensor, b: Tensor, k: int, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """`nearest_neighbours` of flat items; `kind`: as in `scan`."""
    distances, indices = [], []
    for start, quick, slack in scan(a, b, kind):
        # The k-th true value is at most the k-th quick one + slack, so whatever is above that + slack is farther.
        bound = quick.topk(k, largest=False).values[:, -1:] + 2 * slack
        rows, columns = (quick <= bound).nonzero(as_tuple=True)
        distance = measure(a, b, rows + start, columns)
        order = distance.argsort(stable=True)
        order = order[rows[order].argsort(stable=True)]  # by row, then distance, then index
        counts = rows.bincount(minlength=len(quick))
        pick = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=order.device)]
        distances.append(distance[pick])
        indices.append(columns[pick])
    return torch.cat(distances), torch.cat(indices)


def find_duplicates(items: Items, threshold: float) -> list[tuple[int, int, float]]:
    """(i, j, distance), i < j, of `items` (N, *D) whose root mean square difference per element is at most `threshold`,
    in the units of the data; 0 finds exact copies only. Images (N, C, H, W) count as near if mirrored they are."""
    (x,) = checked(items=items)
    if not threshold >= 0:
        raise ValueError(f"threshold = {threshold}; need a distance of at least 0")
    found: dict[tuple[int, int], float] = {}
    flat, scale = x.flatten(1), x[0].numel() ** 0.5
    for other in [flat, x.flip(-1).flatten(1)] if x.ndim == 4 else [flat]:
        for start, quick, slack in scan(flat, other):
            near = (quick <= (threshold * scale) ** 2 + slack).triu(start + 1)  # each pair once, no item with itself
            rows, columns = near.nonzero(as_tuple=True)
            distances = measure(flat, other, rows + start, columns) / scale
            for i, j, distance in zip((rows + start).tolist(), columns.tolist(), distances.tolist(), strict=True):
                if distance <= threshold:
                    found[i, j] = min(distance, found.get((i, j), distance))
    return [(*pair, found[pair]) for pair in sorted(found)]


def distinct(x: Tensor) -> Tensor:
    """The indices of the items of x (N, *D) that equal no earlier one, (n,)."""
    rows, group = x.flatten(1).unique(dim=0, return_inverse=True)
    places = torch.arange(len(x), device=x.device)
    return torch.full_like(places[: len(rows)], len(x)).scatter_reduce(0, group, places, "amin").sort().values
