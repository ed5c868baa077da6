"""How time and memory grow with the training set and with the side of the images; with fleets, see `fleets`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor

from memlib import ExactDenoiser, Schedule, TrainConfig, UNet, metrics, train, uniform
from memlib.metrics import evaluate as judge
from tests.benchmarks.measure import alone, exponent, matmul_rate, peak, seconds, table
from tests.benchmarks.metrics import images

VALUES = 96  # of an item: a million items are 96 million numbers
SAMPLES = 100
BATCH = 8  # images at a time in a network
ITEMS = 200  # images in a set
FITTED = 3  # sizes, the largest, that an exponent is fitted to

Action = Callable[[], object]


def growth(repeats: int, device: str) -> Iterator[str]:
    """Each curve in a process of its own, from small to large, so that each size raises the peak of memory."""
    for (title, unit), curves in CURVES.items():
        sizes = sorted({n for _, own in curves.values() for n in own})
        rows, rates = [], []
        for name, (_, own) in curves.items():
            rates.append(matmul_rate(device))
            found = alone("tests.benchmarks.growth", title, name, repeats, device)
            times, memory = found[::2], found[1::2]
            cells = {n: f"{s:.2g} s, {mb:.0f} MB" for n, s, mb in zip(own, times, memory, strict=True)}
            grown, held = (f"{exponent(own[-FITTED:], x[-FITTED:]):.1f}" for x in (times, memory))
            rows.append((name, *(cells.get(n, "") for n in sizes), grown, held))
        yield f"{title}:"
        yield ""
        header = [f"{n:,}" for n in sizes]
        yield from table([unit, *header, "exponent of time", "of memory"], rows)
        yield ""
        yield (
            "Memory is what the peak rose by since before the smallest size, data included. Exponents are fitted to "
            f"the {FITTED} largest sizes. Matrix product meanwhile: {median(rates):.0f} GFLOP/s."
        )
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
    x = images(2, device, side, 2 * BATCH)[1]
    run = train(
        UNet(2, 3), x, Schedule.linear(), uniform(), TrainConfig(10**9, BATCH, precision="float32"),
        generator=torch.Generator().manual_seed(0), device=device,
    )  # fmt: skip
    return lambda: next(run)


def _call(side: int, device: str) -> Action:
    x = images(2, device, side, BATCH)[1]
    network, t = UNet(2, 3).eval().requires_grad_(False).to(device), torch.full((BATCH,), 500, device=device)
    return lambda: network(x, t)


MILLION = [10**k for k in range(2, 7)]
MYRIAD = [100, 1000, 3000, 10_000]  # of what looks at all pairs
SIDES = [16, 32, 64, 128]
CURVES: dict[tuple[str, str], dict[str, tuple[Callable[[int, str], Action], list[int]]]] = {
    (f"Training set: items of {VALUES} values, {SAMPLES} samples", "items"): {
        "`nearest_neighbours`": (_of_sets(metrics.nearest_neighbours), MILLION),
        "`pca_wasserstein`": (_of_sets(metrics.pca_wasserstein), MILLION),
        "`ExactDenoiser`, built and called once": (_of_sets(_denoised), MILLION),
        "`energy_distance`": (_of_sets(metrics.energy_distance), MYRIAD),
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


def _measured(title: str, name: str, repeats: int, device: str) -> Iterator[float]:
    """Seconds and MB of one size after the other."""
    ((build, own),) = (curves[name] for (key, _), curves in CURVES.items() if key == title)
    build(own[0], device)()  # loads what is loaded once
    before = peak(device)
    for n in own:
        action = build(n, device)
        action()
        yield median(seconds(action) for _ in range(repeats))
        yield max(peak(device) - before, 1 / 2**8)  # a page, where nothing was added


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*_measured(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
