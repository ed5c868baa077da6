"""How time and memory grow with the training set and with the side of the images; with fleets, see `fleets`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor

from memlib import ExactDenoiser, Schedule, TrainConfig, UNet, metrics, train, uniform
from memlib.metrics.judge import judge
from tests.benchmarks.measure import alone, exponent, extra_memory, matmul_rate, seconds, table
from tests.benchmarks.metrics import images

VALUES = 96  # of an item: a million items are 96 million numbers
SAMPLES = 100
BATCH = 8  # images at a time in a network
ITEMS = 200  # images in a set
FITTED = 3  # sizes, the largest, that an exponent is fitted to

Action = Callable[[], object]


def growth(repeats: int, size: int, device: str) -> Iterator[str]:
    """Each size in a process of its own: the median of its times, and by how much a call raises the peak of memory."""
    del size
    for (title, unit), curves in CURVES.items():
        sizes = sorted({n for _, own in curves.values() for n in own})
        rows, rates = [], []
        for name, (_, own) in curves.items():
            rates.append(matmul_rate(device))
            found = {n: alone("tests.benchmarks.growth", title, name, n, repeats, device) for n in own}
            times, memory = ([found[n][i] for n in own] for i in range(2))
            cells = [f"{found[n][0]:.2g} s, {found[n][1]:.0f} MB" if n in found else "" for n in sizes]
            grown = f"{exponent(own[-FITTED:], times[-FITTED:]):.1f}"
            # what is less than the interpreter's own coming and going tells nothing
            held = f"{exponent(own[-FITTED:], memory[-FITTED:]):.1f}" if min(memory[-FITTED:]) > 4 else "-"
            rows.append((name, *cells, grown, held))
        yield f"{title}:"
        yield ""
        header = [f"{n:,}" for n in sizes]
        yield from table([unit, *header, "exponent of time", "of memory"], rows)
        yield ""
        yield (f"Exponents are fitted to the {FITTED} largest. Matrix product meanwhile: {median(rates):.0f} GFLOP/s.")
        yield ""


def _signals(n: int, device: str) -> tuple[Tensor, Tensor]:
    """Samples (100, 1, 96) and training items (n, 1, 96)."""
    generator = torch.Generator().manual_seed(0)
    samples, real = (torch.randn(m, 1, VALUES, generator=generator).cumsum(-1) / 10 for m in (SAMPLES, n))
    return samples.to(device), real.to(device)


def _of_sets(measure: Callable[[Tensor, Tensor], object]) -> Callable[[int, str], Action]:
    def build(n: int, device: str) -> Action:
        samples, real = _signals(n, device)
        return lambda: measure(samples, real)

    return build


def _of_images(measure: Callable[[Tensor, Tensor], object]) -> Callable[[int, str], Action]:
    def build(side: int, device: str) -> Action:
        samples, real = images(2, device, side, ITEMS)
        return lambda: measure(samples, real)

    return build


def _denoised(samples: Tensor, real: Tensor) -> Tensor:
    t = torch.full((len(samples),), 500, device=samples.device)
    return ExactDenoiser(real, Schedule.linear()).denoise(samples, t)


def _judged(samples: Tensor, real: Tensor) -> object:
    return judge(samples, real, real.flip(-1), generator=torch.Generator().manual_seed(0))


def _step(side: int, device: str) -> Action:
    x = images(1, device, side, 2 * BATCH)[0]
    run = train(
        UNet(2, 3), x, Schedule.linear(), uniform(), TrainConfig(10**9, BATCH, precision="float32"),
        generator=torch.Generator().manual_seed(0), device=device,
    )  # fmt: skip
    return lambda: next(run)


def _call(side: int, device: str) -> Action:
    x = images(1, device, side, BATCH)[0]
    network, t = UNet(2, 3).eval().requires_grad_(False).to(device), torch.full((BATCH,), 500, device=device)
    return lambda: network(x, t)


MILLION, MYRIAD = [10**k for k in range(2, 7)], [10**k for k in range(2, 5)]
SIDES = [16, 32, 64, 128]
CURVES: dict[tuple[str, str], dict[str, tuple[Callable[[int, str], Action], list[int]]]] = {
    (f"Training set: items of {VALUES} values, {SAMPLES} samples", "items"): {
        "`nearest_neighbours`": (_of_sets(metrics.nearest_neighbours), MILLION),
        "`pca_wasserstein`": (_of_sets(metrics.pca_wasserstein), MILLION),
        "`ExactDenoiser`, built and called once": (_of_sets(_denoised), MILLION),
        "`energy_distance`": (_of_sets(metrics.energy_distance), MYRIAD),
        "`prdc`": (_of_sets(metrics.prdc), MYRIAD),
        "`judge`": (_of_sets(_judged), MYRIAD),
    },
    (f"Image side: 3 channels, {BATCH} images at a time or sets of {ITEMS}", "pixels"): {
        "training step of `UNet(2, 3)`": (_step, SIDES),
        "call of `UNet(2, 3)`": (_call, SIDES),
        "`nearest_neighbours`": (_of_images(metrics.nearest_neighbours), SIDES),
        "`ExactDenoiser`, built and called once": (_of_images(_denoised), SIDES),
        "`judge`": (_of_images(_judged), SIDES),
    },
}


def _measured(title: str, name: str, n: int, repeats: int, device: str) -> tuple[float, float]:
    """Seconds and MB."""
    ((build, own),) = (curves[name] for (key, _), curves in CURVES.items() if key == title)
    build(own[0], device)()  # loads what is loaded once
    action = build(n, device)
    memory = extra_memory(action, device)
    return median(seconds(action) for _ in range(repeats)), memory


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*_measured(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
