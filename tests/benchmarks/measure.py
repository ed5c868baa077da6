"""What the benchmarks share: rounds in which the sides take turns, the rate of a matrix product, markdown tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import torch


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def rounds(sides: Mapping[str, Callable[[], object]], repeats: int) -> tuple[dict[str, list[float]], float]:
    """({side: its seconds, one per round}, median GFLOP/s of a matrix product in the same rounds).

    Every side runs once unmeasured, then in turn; every other round goes backwards, so that none is always first.
    """
    for action in sides.values():
        action()
    taken: dict[str, list[float]] = {side: [] for side in sides}
    rates = []
    for i in range(repeats):
        rates.append(matmul_rate())
        for side in list(sides)[:: -1 if i % 2 else 1]:
            taken[side].append(seconds(sides[side]))
    return taken, median(rates)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over rounds of numerator / denominator, both of the same round."""
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def matmul_rate(n: int = 1024) -> float:
    """GFLOP/s of an n x n float32 matrix product."""
    a = torch.ones(n, n)
    return 2 * n**3 / seconds(lambda: a @ a) / 1e9


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a markdown table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows)]
