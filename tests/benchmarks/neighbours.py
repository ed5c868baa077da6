"""memlib's exact nearest neighbours beside those that people use: time, extra memory, digits kept of near-copies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor

from memlib.metrics import nearest_neighbours
from tests.benchmarks.measure import alone, extra_memory, ratio, rounds, table

SIZE = 10_000  # items on either side
DIMENSIONS = 3072  # of a picture of 3 x 32 x 32
K = 2
COPIES = 256
APART = 1e-3  # standard deviation of what is added to each value of a copy


def cdist_topk(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    near = torch.cdist(samples, train).topk(K, largest=False)
    return near.values, near.indices


def scikit_learn(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(train.numpy()).kneighbors(samples.numpy())
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def faiss_flat(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(train.shape[1])
    index.add(train.numpy())
    squared, indices = index.search(samples.numpy(), K)
    return torch.from_numpy(squared).sqrt(), torch.from_numpy(indices)


SIDES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "memlib.metrics.nearest_neighbours": lambda samples, train: nearest_neighbours(samples, train, K),
    "torch.cdist + topk": cdist_topk,
    "scikit-learn NearestNeighbors, brute": scikit_learn,
    "faiss IndexFlatL2": faiss_flat,
}


def neighbours(repeats: int, device: str) -> Iterator[str]:
    names, reasons = [], []
    for name, find in SIDES.items():
        try:
            find(*_points(16, device))
            names.append(name)
        except ImportError as error:
            reasons.append(f"{name} is left out: {error}. README.md here says how to have it.")
        except TypeError:  # which is what .numpy() raises for a tensor of a GPU
            reasons.append(f"{name} is left out: it takes points of the CPU, these are on {device}.")
    samples, train = _points(SIZE, device)
    taken, rate = rounds({name: partial(SIDES[name], samples, train) for name in names}, repeats, device)
    reference = taken["torch.cdist + topk"]
    copies = train[:COPIES] + APART * samples[:COPIES]
    true = (copies.double() - train[:COPIES].double()).norm(dim=1)
    rows = []
    for name in names:
        error = (SIDES[name](copies, train)[0][:, 0].double() / true - 1).abs().max()
        (memory,) = alone("tests.benchmarks.neighbours", name, SIZE, device)
        time = f"{median(taken[name]):.2f}", f"{ratio(taken[name], reference):.2f}"
        rows.append((name, *time, f"{memory:.0f}", f"{float(error):.0e}"))
    yield f"{SIZE:,} samples, {SIZE:,} training items of {DIMENSIONS:,} dimensions, float32, k = {K}."
    yield ""
    yield from table(["", "s", "time, of torch's", "extra peak memory, MB", "error of a near-copy's distance"], rows)
    yield ""
    yield (
        f"Matrix product in the same rounds: {rate:.0f} GFLOP/s. memlib measures its distances in float64. Near-copies "
        f"differ from their training item by {APART} of a standard deviation; the error is the largest of {COPIES}, "
        "as a share of the distance."
    )
    yield from reasons


def _points(size: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    samples, train = (torch.randn(size, DIMENSIONS, generator=generator).to(device) for _ in range(2))
    return samples, train


if __name__ == "__main__":
    torch.set_num_threads(1)
    side, points = SIDES[sys.argv[1]], _points(int(sys.argv[2]), sys.argv[3])
    side(points[0][:16], points[1][:16])  # loads what is loaded once
    print(extra_memory(partial(side, *points), sys.argv[3]))
