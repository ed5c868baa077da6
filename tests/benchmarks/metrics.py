"""The metric battery beside its measures one by one, and PCA distances beside scikit-learn and scipy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlib import metrics
from memlib.metrics import evaluate as judge
from tests.benchmarks.measure import ratio, rounds, table

ITEMS = 2000  # in each set of the battery
FITTED = 1000  # in each set of `pca`, where scikit-learn's exact way would else take minutes


def battery(repeats: int, device: str) -> Iterator[str]:
    """`judge` with its 100 resamples; of the samples half are near-copies."""
    sets = images(3, device)
    of_the_processor: list[float] = []
    one_by_one = "the same measures one by one, without intervals"

    def judged() -> None:
        start = time.process_time()
        judge(*sets, generator=torch.Generator().manual_seed(0))
        of_the_processor.append(time.process_time() - start)

    sides = {
        "`judge`, with bootstrapped intervals": judged,
        one_by_one: partial(_one_by_one, *sets),
    }
    taken, rate = rounds(sides, repeats, device)
    yield f"{ITEMS:,} samples against {ITEMS:,} training and {ITEMS:,} held-out images of 3 x 32 x 32."
    yield ""
    rows = [(name, f"{median(times):.1f}", f"{ratio(times, taken[one_by_one]):.2f}") for name, times in taken.items()]
    yield from table(["", "s", "time, of one by one"], rows)
    yield ""
    yield (
        f"`judge` takes {median(of_the_processor):.1f} s of the processor's time; promised: 10 s. "
        f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."
    )


def pca(repeats: int, device: str) -> Iterator[str]:
    """Components fitted anew, then the Wasserstein distance along ten of them."""
    samples, real = (x.flatten(1) for x in images(2, device, items=FITTED))

    def memlib() -> float:
        return metrics.pca_wasserstein(samples, real)

    sides: dict[str, Callable[[], float]] = {"memlib.metrics.pca_wasserstein": memlib}
    reasons = []
    if samples.device.type == "cpu":
        for solver, note in {"full": "exact", "auto": "randomized"}.items():
            sides[f"scikit-learn PCA({solver!r}), {note}, and scipy"] = partial(_scipy, samples, real, solver)
    else:
        reasons.append("scikit-learn and scipy are left out: they take points of the CPU.")
    found = {name: measure() for name, measure in sides.items()}
    taken, rate = rounds(sides, repeats, device)
    rows = [
        (name, f"{median(times):.2f}", f"{ratio(times, next(iter(taken.values()))):.2f}", f"{found[name]:.6f}")
        for name, times in taken.items()
    ]
    yield f"{FITTED:,} samples against {FITTED:,} images of 3 x 32 x 32, ten components."
    yield ""
    yield from table(["", "s", "time, of memlib's", "distance"], rows)
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."
    yield from reasons


def images(sets: int, device: str = "cpu", side: int = 32, items: int = ITEMS) -> list[Tensor]:
    """Random pictures (items, 3, side, side) as smooth as photographs; half of the first set are near-copies."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(sets * items, 3, side + 8, side + 8, generator=generator)
    samples, *real = (F.avg_pool2d(noise, 9, 1) * 9).clamp(-1, 1).split(items)
    half = items // 2
    samples[:half] = real[0][:half] + 0.01 * torch.randn(samples[:half].shape, generator=generator)
    return [x.to(device) for x in (samples, *real)]


def _one_by_one(samples: Tensor, train: Tensor, held_out: Tensor) -> None:
    real = torch.cat([train, held_out])
    components = metrics.PCA(real)
    for some in ((samples, train, held_out), [metrics.without_finest_scale(x) for x in (samples, train, held_out)]):
        metrics.nearest_neighbours(*some[:2], 1)
        metrics.memorized_fraction(*some[:2])
        metrics.closer_to_train(*some)
    metrics.nearest_neighbours(components.transform(samples), components.transform(train), 1)
    for other in (train, held_out):
        metrics.pca_wasserstein(samples, other, reference=components)
        metrics.pca_jensen_shannon(samples, other, reference=components)
    metrics.energy_distance(samples, held_out)
    metrics.residual_noise(samples, real)


def _scipy(samples: Tensor, real: Tensor, solver: str) -> float:
    from scipy.stats import wasserstein_distance
    from sklearn.decomposition import PCA

    fitted = PCA(10, svd_solver=solver, random_state=0).fit(real.double().numpy())
    a, b = (fitted.transform(x.double().numpy()) for x in (samples, real))
    scale = fitted.explained_variance_**0.5
    return float(np.mean([wasserstein_distance(a[:, i], b[:, i]) / scale[i] for i in range(10)]))
