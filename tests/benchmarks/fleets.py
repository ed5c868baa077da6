"""K networks trained as one fleet beside the same K one after the other, and what the plans would take by profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from statistics import median

import torch
from torch import Tensor

from memlib import train
from memlib.devices import WARM
from memlib.lab import train_fleet
from memlib.lab.data import kind_of, load
from memlib.lab.experiment import Experiment
from memlib.lab.plans import PLANS, key, networks, read_plan
from memlib.lab.profiles import profile
from memlib.lab.sweep import FLEET
from tests.benchmarks.measure import exponent, gigaflops, matmul_rate, ratio, rounds, table

SIZES = {"points": (1, 2, 4, 8, 16, 32, 64), "signals": (1, 4, 8, 16, 64), "images": (1, 4, 16)}
STEPS = {"points": 20, "signals": 3, "images": 1}  # a round, on the CPU
ON_GPU = 5  # there: enough that waiting for the last one does not count


def fleets(repeats: int, device: str) -> Iterator[str]:
    """A step of the networks and batches of the profile `recorded`; members differ in seed, data and first weights."""
    rows, notes = [], []
    for kind, sizes in SIZES.items():
        steps, seconds = STEPS[kind] if _on_cpu(device) else ON_GPU, []
        base = getattr(profile("recorded"), kind)
        for count in sizes:
            together, alone = _fleet(base, count, device, steps), _one_after_the_other(base, count, device, steps)
            taken, rate = rounds({"fleet": together, "alone": alone}, repeats, device)
            step = median(taken["fleet"]) / steps
            seconds.append(step)
            of_one = f"{step / seconds[0]:.1f}"
            rows.append((kind, count, f"{1e3 * step:.1f}", f"{ratio(taken['fleet'], taken['alone']):.2f}", of_one))
        grown = exponent(sizes[1:], seconds[1:])
        notes.append(f"{kind}: time grows as K^{grown:.2f} from K = {sizes[1]} on.")
    yield from table(["networks", "K", "ms a step of the fleet", "of K steps alone", "of the fleet of one"], rows)
    yield ""
    yield f"{' '.join(notes)} Matrix product in the last rounds: {rate:.0f} GFLOP/s."


def budgets(repeats: int, device: str) -> Iterator[str]:
    """A step of each profile's networks, in fleets as `sweep` makes them, and what training all plans would take."""
    rows, total = [], Counter()
    for name in ("recorded", "paper"):
        trained = _networks_of_all_plans(name)
        for kind in ("signals", "images"):
            base = getattr(profile(name), kind)
            own = [config for config in trained if kind_of(config["dataset"]) + "s" == kind]
            count = 1 if _on_cpu(device) and kind == "images" else FLEET[torch.device(device).type]
            steps = 1 if _on_cpu(device) else ON_GPU
            taken, _ = rounds({"fleet": _fleet(base, count, device, steps)}, repeats, device)
            step = median(taken["fleet"]) / steps
            dtype = getattr(torch, base.training.precision_on(torch.device(device)))
            rate = median(matmul_rate(device, dtype) for _ in range(7))
            shape = (base.training.batch_size, *base.load_data().train.shape[1:])
            share = count * gigaflops(base.network.build(shape[1:]), shape) / step / rate
            hours = sum(config["training"]["steps"] for config in own) / count * step / 3600
            total[name] += hours
            rows.append(
                (name, kind, count, f"{1e3 * step:.1f}", f"{share:.1%}", f"{rate / 1e3:.1f}", len(own), f"{hours:.2f}")
            )
    header = ["profile", "networks", "K", "ms a step of the fleet", "of the matrix rate", "TFLOP/s of that"]
    yield from table([*header, "runs in all plans", "hours to train them"], rows)
    yield ""
    hours = " and ".join(f"{hours:.1f} h under `{name}`" for name, hours in total.items())
    yield f"The matrix rate is that in the profile's precision. All plans together: {hours}."


def _networks_of_all_plans(budget: str) -> list[dict]:
    configs = [config for path in PLANS.glob("*.toml") for config in read_plan(path, budget)]
    return list({key(network): network for config in configs for network in networks(config)}.values())


def _on_cpu(device: str) -> bool:
    return torch.device(device).type == "cpu"


@cache
def _examples(dataset: str, n_train: int, seed: int) -> Tensor:
    return load(dataset, n_train, seed=seed).train


def _members(base: Experiment, count: int) -> dict:
    x0s = [_examples(base.dataset, base.n_train, seed) for seed in range(count)]
    torch.manual_seed(0)
    return {
        "models": [base.network.build(tuple(x0.shape[1:])) for x0 in x0s],
        "x0s": x0s,
        "timesteps": [base.timesteps] * count,
        "generators": [torch.Generator().manual_seed(seed) for seed in range(count)],
        "schedule": base.build_schedule(),
        "config": replace(base.training, steps=10**9, cooldown=0),
    }


def _fleet(base: Experiment, count: int, device: str, steps: int) -> Callable[[], object]:
    run = train_fleet(**_members(base, count), device=device)
    for _ in range(0 if _on_cpu(device) else WARM + 1):
        next(run)  # until its work is recorded
    return lambda: [next(run) for _ in range(steps)]


def _one_after_the_other(base: Experiment, count: int, device: str, steps: int) -> Callable[[], object]:
    own = _members(base, count)
    members = zip(own["models"], own["x0s"], own["timesteps"], own["generators"], strict=True)
    runs = [train(m, x0, own["schedule"], p, own["config"], generator=g, device=device) for m, x0, p, g in members]
    return lambda: [next(run) for run in runs for _ in range(steps)]
