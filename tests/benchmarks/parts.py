"""The exact denoiser, neighbours, evaluation, a sweep, sliders."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor

from memlib import ExactDenoiser, Schedule, TrainConfig
from memlib.lab import sweep
from memlib.lab.profiles import profile
from memlib.metrics import evaluate, nearest_neighbours
from tests.benchmarks.measure import compared, seconds, table

PICTURES, DIMENSIONS = 10_000, 3 * 32 * 32
EVALUATED = 128  # samples, and items of each set
RUNS, SWEPT = 16, 300  # of a sweep, and the steps of each


def _random(n: int, device: str, seed: int = 0) -> Tensor:
    return torch.randn(n, DIMENSIONS, generator=torch.Generator().manual_seed(seed)).to(device)


def denoiser(repeats: int, device: str) -> Iterator[str]:
    """The posterior mean over many pictures beside one expression of plain torch, given float64."""
    examples, schedule, t = _random(PICTURES, device), Schedule.linear(), torch.arange(50, 1000, 30, device=device)
    x = schedule.noise(examples[: len(t)], t, _random(len(t), device, 1))
    many, alpha_bar = examples.double(), schedule.alpha_bar.to(device)[t][:, None]

    def plain() -> Tensor:
        squares = alpha_bar * many.square().sum(1) - 2 * alpha_bar.sqrt() * (x.double() @ many.T)
        return (-squares / (2 * (1 - alpha_bar))).softmax(1) @ many

    sides = {"memlib.ExactDenoiser": lambda: ExactDenoiser(examples, schedule).denoise(x, t), "plain torch": plain}
    yield from compared(sides, "plain torch", "plain float64", repeats, device)


def neighbours(repeats: int, device: str) -> Iterator[str]:
    a, b = _random(PICTURES, device), _random(PICTURES, device, 1)
    sides = {
        "memlib.metrics.nearest_neighbours": lambda: nearest_neighbours(a, b, 2),
        "torch.cdist + topk": lambda: torch.cdist(a, b).topk(2, largest=False),
    }
    yield from compared(sides, "torch.cdist + topk", "torch's", repeats, device)


def evaluation(repeats: int, device: str) -> Iterator[str]:
    """128 samples against 128 training and 128 held-out pictures, with 100 resamples, and without."""
    sets = [_random(EVALUATED, device, seed).view(-1, 3, 32, 32) for seed in range(3)]

    def side(resamples: int) -> Callable[[], object]:
        return lambda: evaluate(*sets, generator=torch.Generator().manual_seed(0), resamples=resamples)

    sides = {"`evaluate`, 100 resamples": side(100), "2 resamples": side(2)}
    yield from compared(sides, "2 resamples", "2 resamples", repeats, device)


def sweeps(repeats: int, device: str) -> Iterator[str]:
    """16 runs on heartbeats; every call trains networks of other seeds."""
    base, seeds = replace(profile("recorded").signals, training=TrainConfig(SWEPT, 32), n_samples=16), count(0, RUNS)
    ways = {"one process": {"workers": 1, "fleet": 1}, "two processes": {"workers": 2, "fleet": 1}}
    ways["two processes, a fleet each"] = {"workers": 2}

    def side(way: dict) -> None:
        first = next(seeds)
        with TemporaryDirectory() as folder, patch.dict(os.environ, MEMLIB_RUNS=folder):
            list(sweep([replace(base, seed=first + i) for i in range(RUNS)], progress=False, **way))

    sides = {name: lambda way=way: side(way) for name, way in ways.items()}
    yield from compared(sides, "one process", "one process", repeats, device)


def sliders(repeats: int, device: str) -> Iterator[str]:
    """From a slider's new value to the new picture, in the kernel; promised: 150 ms."""
    import ipywidgets

    from memlib.viz import explore, use_style

    use_style()
    controls, taken = explore.live_trainer().children[0].children, []
    for slider in (w for w in controls if isinstance(w, (ipywidgets.IntSlider, ipywidgets.FloatSlider))):
        for i in range(repeats):
            value = slider.min + (slider.max - slider.min) * (i % 2)
            taken.append(seconds(lambda s=slider, v=value: setattr(s, "value", v)))
    yield from table(["explorer", "ms", "moves"], [("live_trainer", f"{1e3 * median(taken):.0f}", len(taken))])
