"""What the benchmarks share: rounds in which the sides take turns, the rate of a matrix product, tables."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import torch

Sides = Mapping[str, Callable[[], object]]


def seconds(action: Callable[[], object]) -> float:
    """From the call until it is done, on a GPU too."""
    _wait()
    start = time.perf_counter()
    action()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def rounds(
    sides: Sides, repeats: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[dict[str, list[float]], float]:
    """({side: its seconds, one per round}, median GFLOP/s of a matrix product in the same rounds).

    Every side runs once unmeasured, then in turn; every other round goes backwards, so that none is always first."""
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
    a = torch.linspace(-1, 1, n * n, device=device).to(dtype).reshape(n, n)
    return 2 * n**3 / seconds(lambda: a @ a) / 1e9


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a markdown table."""
    return [row(cells) for cells in (header, ["---"] * len(header), *rows)]


def row(cells: Iterable[object]) -> str:
    """A line of it."""
    return f"| {' | '.join(map(str, cells))} |"


def compared(sides: Sides, reference: str, column: str, repeats: int, device: str) -> list[str]:
    """A table of each side's seconds and its time over that of the reference, in the same rounds."""
    taken, rate = rounds(sides, repeats, device)
    rows = [(name, f"{median(x):.3g}", f"{ratio(x, taken[reference]):.2f}") for name, x in taken.items()]
    header = ["", "s", f"time, of {column}"]
    return [*table(header, rows), "", f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."]
