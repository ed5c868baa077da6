"""What the benchmarks share: rounds in which the sides take turns, the rate of a matrix product, memory, tables."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def seconds(action: Callable[[], object]) -> float:
    """From the call until the GPU, where one is at work, has done it."""
    _wait()
    start = time.perf_counter()
    action()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def rounds(
    sides: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[dict[str, list[float]], float]:
    """({side: its seconds, one per round}, median GFLOP/s of a matrix product of that dtype in the same rounds).

    Every side runs once unmeasured, then in turn; every other round goes backwards, so that none is always first.
    """
    for action in (*sides.values(), lambda: matmul_rate(device, dtype)):
        action()
    taken: dict[str, list[float]] = {side: [] for side in sides}
    rates = []
    for i in range(repeats):
        rates.append(matmul_rate(device, dtype))
        for side in list(sides)[:: -1 if i % 2 else 1]:
            taken[side].append(seconds(sides[side]))
    return taken, median(rates)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over rounds of numerator / denominator, both of the same round."""
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def matmul_rate(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of a matrix product, large enough to keep the device busy (of zeros or ones it would be quicker)."""
    n = 1024 if torch.device(device).type == "cpu" else 8192
    a = torch.linspace(-1, 1, n * n, device=device).reshape(n, n).to(dtype)
    return 2 * n**3 / seconds(lambda: a @ a) / 1e9


def gigaflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Of forward and backward on one batch."""
    counter, where = FlopCounterMode(display=False), next(network.parameters()).device
    with counter:
        out = network(torch.randn(shape, device=where), torch.zeros(shape[0], dtype=torch.int64, device=where))
        out.square().mean().backward()
    return counter.get_total_flops() / 1e9


def alone(module: str, *arguments: object) -> list[float]:
    """The numbers that `python -m module arguments` prints: measured in a process of their own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}")
    return [float(number) for number in done.stdout.split()]


def extra_memory(action: Callable[[], object], device: str = "cpu") -> float:
    """MB by which a call raises the `peak`, in a process that has done nothing larger before."""
    before, _, after = peak(device), action(), peak(device)
    return after - before


def peak(device: str = "cpu") -> float:
    """MB that this process held at most so far: resident memory or, on a GPU, what torch allocated there."""
    if torch.device(device).type != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "linux":  # here getrusage would begin at the peak of the process that started this one
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """p of values ~ sizes^p, by least squares in logarithms."""
    x, y = (torch.tensor(z, dtype=torch.float64).log() for z in (sizes, values))
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a markdown table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows)]
