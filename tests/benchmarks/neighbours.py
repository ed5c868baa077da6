"""memlib's exact nearest neighbours beside torch.cdist and topk: time, extra peak memory, and digits kept."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from memlib.metrics import nearest_neighbours
from tests.benchmarks.measure import ratio, rounds, table

DIMENSIONS = 3072  # of a picture of 3 x 32 x 32
K = 2


def cdist_topk(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    near = torch.cdist(samples, train).topk(K, largest=False)
    return near.values, near.indices


SIDES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "memlib.metrics.nearest_neighbours": lambda samples, train: nearest_neighbours(samples, train, K),
    "torch.cdist + topk": cdist_topk,
}


def neighbours(repeats: int, size: int) -> Iterator[str]:
    samples, train = _points(size)
    taken, rate = rounds({name: partial(find, samples, train) for name, find in SIDES.items()}, repeats)
    reference = taken["torch.cdist + topk"]
    rows = [
        (name, f"{median(times):.2f}", f"{ratio(times, reference):.2f}", f"{_extra_memory(name, size):.0f}")
        for name, times in taken.items()
    ]
    yield f"{size:,} samples, {size:,} training items of {DIMENSIONS:,} dimensions, float32, k = {K}."
    yield ""
    yield from table(["", "s", "time, of torch's", "extra peak memory, MB"], rows)
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s. memlib measures its distances in float64."


def _points(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, DIMENSIONS, generator=generator), torch.randn(size, DIMENSIONS, generator=generator)


def _extra_memory(name: str, size: int) -> float:
    """MB by which a call raises the peak of a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.neighbours", name, str(size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak() -> float:
    """Peak resident memory of this process so far, MB."""
    if sys.platform == "linux":  # here getrusage would begin at the peak of the process that started this one
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


if __name__ == "__main__":
    torch.set_num_threads(1)
    find, points = SIDES[sys.argv[1]], _points(int(sys.argv[2]))
    find(points[0][:16], points[1][:16])  # loads what is loaded once
    before = _peak()
    find(*points)
    print(_peak() - before)
