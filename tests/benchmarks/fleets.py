"""K networks trained as one fleet beside the same K one after the other, a step of each in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch

from memlib import train, train_fleet
from memlib.profiles import profile
from tests.benchmarks.measure import exponent, ratio, rounds, table

SIZES = {"points": (1, 2, 4, 8, 16, 32, 64), "signals": (1, 4, 8, 16, 64), "images": (1, 4, 16)}
STEPS = {"points": 20, "signals": 3, "images": 1}  # a round


def fleets(repeats: int, size: int, device: str) -> Iterator[str]:
    """A step of the networks and batches of the profile `recorded`; members differ in seed, data and first weights."""
    del size
    rows, notes = [], []
    for kind, sizes in SIZES.items():
        seconds = []
        for count in sizes:
            together, alone = _fleet(kind, count, device), _one_after_the_other(kind, count, device)
            taken, rate = rounds({"fleet": together, "alone": alone}, repeats, device)
            step = median(taken["fleet"]) / STEPS[kind]
            seconds.append(step)
            of_one = f"{step / seconds[0]:.1f}"
            rows.append((kind, count, f"{1e3 * step:.1f}", f"{ratio(taken['fleet'], taken['alone']):.2f}", of_one))
        grown = exponent(sizes[1:], seconds[1:])
        notes.append(f"{kind}: time grows as K^{grown:.2f} from K = {sizes[1]} on.")
    yield from table(["networks", "K", "ms a step of the fleet", "of K steps alone", "of the fleet of one"], rows)
    yield ""
    yield f"{' '.join(notes)} Matrix product in the last rounds: {rate:.0f} GFLOP/s."


def _members(kind: str, count: int) -> dict:
    base = getattr(profile("recorded"), kind)
    experiments = [replace(base, seed=seed) for seed in range(count)]
    x0s = [experiment.load_data().train for experiment in experiments]
    torch.manual_seed(0)
    return {
        "models": [base.network.build(tuple(x0.shape[1:])) for x0 in x0s],
        "x0s": x0s,
        "timesteps": [base.timesteps] * count,
        "generators": [torch.Generator().manual_seed(seed) for seed in range(count)],
        "schedule": base.build_schedule(),
        "config": replace(base.training, steps=10**9, cooldown=0),
    }


def _fleet(kind: str, count: int, device: str) -> Callable[[], object]:
    run = train_fleet(**_members(kind, count), device=device)
    return lambda: [next(run) for _ in range(STEPS[kind])]


def _one_after_the_other(kind: str, count: int, device: str) -> Callable[[], object]:
    own = _members(kind, count)
    members = zip(own["models"], own["x0s"], own["timesteps"], own["generators"], strict=True)
    runs = [train(m, x0, own["schedule"], p, own["config"], generator=g, device=device) for m, x0, p, g in members]
    return lambda: [next(run) for run in runs for _ in range(STEPS[kind])]
