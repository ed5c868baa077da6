"""Fleets, the exact denoiser, neighbours, evaluation, a sweep, sliders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor

from memlib import ExactDenoiser, Schedule, TrainConfig, train
from memlib.lab import Experiment, sweep, train_fleet
from memlib.lab.profiles import profile
from memlib.metrics import evaluate, nearest_neighbours
from tests.benchmarks.measure import compared, ratio, rounds, seconds, table

FLEETS, STEPS = {"points": (1, 16), "signals": (1, 16), "images": (1, 16)}, {"points": 20, "signals": 3, "images": 1}
PICTURES, DIMENSIONS = 10_000, 3 * 32 * 32
EVALUATED = 128  # samples, and items of each set
RUNS, SWEPT = 16, 300  # of a sweep, and the steps of each


def fleets(repeats: int, device: str) -> Iterator[str]:
    """A step of the networks of the profile `recorded`; members differ in seed, data and first weights."""
    rows = []
    for kind, sizes in FLEETS.items():
        base: Experiment = getattr(profile("recorded"), kind)
        config = replace(base.training, steps=10**9, cooldown=0)
        for size in sizes:
            together = train_fleet(**_members(base, size), config=config, device=device)
            own = _members(base, size)
            members = zip(own["models"], own["x0s"], own["timesteps"], own["generators"], strict=True)
            alone = [train(m, x, own["schedule"], p, config, generator=g, device=device) for m, x, p, g in members]
            sides = {"fleet": lambda f=together, n=STEPS[kind]: [next(f) for _ in range(n)]}
            sides["alone"] = lambda a=alone, n=STEPS[kind]: [next(one) for one in a for _ in range(n)]
            taken, _ = rounds(sides, repeats, device)
            step = 1e3 * median(taken["fleet"]) / STEPS[kind]
            rows.append((kind, size, f"{step:.1f}", f"{ratio(taken['fleet'], taken['alone']):.2f}"))
    yield from table(["networks", "K", "ms a step of the fleet", "of K steps alone"], rows)


def _members(base: Experiment, size: int) -> dict:
    x0s = [replace(base, seed=seed).load_data().train for seed in range(size)]
    torch.manual_seed(0)
    return {
        "models": [base.network.build(tuple(x0.shape[1:])) for x0 in x0s],
        "x0s": x0s,
        "timesteps": [base.timesteps] * size,
        "generators": [torch.Generator().manual_seed(seed) for seed in range(size)],
        "schedule": base.build_schedule(),
    }


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
    rows = []
    for name in ("snr_explorer", "interval_explorer"):
        found, taken = [getattr(explore, name)()], []
        while any(boxes := [widget for widget in found if getattr(widget, "children", ())]):
            found = [w for w in found if w not in boxes] + [child for box in boxes for child in box.children]
        for slider in (w for w in found if isinstance(w, (ipywidgets.IntSlider, ipywidgets.FloatSlider))):
            for i in range(repeats):
                value = slider.min + (slider.max - slider.min) * (i % 2)
                taken.append(seconds(lambda s=slider, v=value: setattr(s, "value", v)))
        rows.append((name, f"{1e3 * median(taken):.0f}", len(taken)))
    yield from table(["explorer", "ms", "moves"], rows)
