"""A fleet's step beside plain loops, memlib's and diffusers', and beside ensembling as in torch.func's tutorial."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from memlib import TrainConfig, train
from memlib.lab import Experiment, train_fleet
from memlib.lab.graphs import WARM
from memlib.lab.profiles import profile
from memlib.models import fold
from memlib.schedules import mix
from memlib.training import has_bfloat16
from tests.benchmarks.measure import ratio, rounds, row, table
from tests.benchmarks.steps import peer

KINDS = ("points", "signals", "images")
STEPS = {"cpu": {"points": 20, "signals": 3, "images": 1}, "cuda": dict.fromkeys(KINDS, 3)}  # of one measurement
SIZES = {"cpu": (1, 16), "cuda": (1, 16, 64, 4, 2, 8, 32)}  # of fleets, the ones that matter first
LOOPED = {"cpu": 16, "cuda": 1}  # networks that a loop goes over: its time for more is in proportion
HEADER = "networks, K, precision, ms a step of the fleet, of K steps alone, of K steps of diffusers"
HEADER += ", of torch.func's ensemble, of the matrix rate"


def fleets(repeats: int, device: str) -> Iterator[str]:
    """A step of the networks of the profile `recorded`; members differ in seed, data and first weights."""
    where = torch.device(device)
    precisions = ("float32", "bfloat16") if has_bfloat16(where) else ("float32",)
    yield from table(HEADER.split(", "), [])
    for size, kind, precision in product(SIZES[where.type], KINDS, precisions):
        try:
            yield row([kind, size, precision, *_cells(size, kind, precision, repeats, where)])
        except RuntimeError as error:  # such as too little memory: the other rows are measured all the same
            yield row([kind, size, precision, type(error).__name__, *["-"] * 4])
            print(error)
    if find_spec("diffusers"):
        yield from ["", "diffusers' smallest such network has 2.32 (signals) and 1.05 (images) times our parameters."]


def _cells(size: int, kind: str, precision: str, repeats: int, where: torch.device) -> list[str]:
    base: Experiment = getattr(profile("recorded"), kind)
    config, steps = replace(base.training, steps=10**9, cooldown=0, precision=precision), STEPS[where.type][kind]
    together = train_fleet(**_members(base, size), config=config, device=where)
    own = _members(base, looped := min(size, LOOPED[where.type]))
    members = zip(own["models"], own["x0s"], own["timesteps"], own["generators"], strict=True)
    alone = [train(m, x, own["schedule"], p, config, generator=g, device=where) for m, x, p, g in members]
    with FlopCounterMode(display=False) as counter:
        next(alone[0])
    for _ in range(WARM + 1 if where.type == "cuda" else 1):  # so that the recording is not measured
        next(together)
    sides: dict[str, Callable[[], object]] = {"fleet": partial(next, together)}
    sides["alone"] = lambda: [next(one) for one in alone]
    if kind != "points" and find_spec("diffusers"):
        x = fold(own["x0s"][0].to(where), base.network.unshuffle)
        x = F.pad(x, (0, -x.shape[-1] % 4))  # its signals are halved once more than ours
        channels = tuple(base.network.width * m for m in base.network.multipliers)
        one = peer((config.batch_size, *x.shape[1:]), x, channels, precision)
        sides["diffusers"] = lambda: [one.step() for _ in range(looped)]
    sides["ensemble"] = ensemble(config=config, device=where, **_members(base, size))
    many = {name: lambda side=side: [side() for _ in range(steps)] for name, side in sides.items()}
    taken, rate = rounds(many, repeats, str(where), getattr(torch, precision))
    fleet = taken["fleet"]
    loops = [f"{ratio(fleet, taken[x]) * looped / size:.2f}" if x in taken else "-" for x in ("alone", "diffusers")]
    share = counter.get_total_flops() * size * steps / 1e9 / median(fleet) / rate
    return [f"{1e3 * median(fleet) / steps:.2f}", *loops, f"{ratio(fleet, taken['ensemble']):.2f}", f"{share:.1%}"]


def _members(base: Experiment, size: int) -> dict[str, Any]:
    x0s = [replace(base, seed=seed).load_data().train for seed in range(size)]
    torch.manual_seed(0)
    return {
        "models": [base.network.build(tuple(x0.shape[1:])) for x0 in x0s],
        "x0s": x0s,
        "timesteps": [base.timesteps] * size,
        "generators": [torch.Generator().manual_seed(seed) for seed in range(size)],
        "schedule": base.build_schedule(),
    }


def ensemble(
    config: TrainConfig, device: torch.device, *, models: list, x0s: list[Tensor], schedule: Any, **_: Any
) -> Callable[[], dict[str, Tensor]]:
    """A step of stacked states, vmap of grad; clipped, Adam, averaged weights; uniform t, all drawn on the device."""
    network, (weights, buffers) = models[0].to(device), stack_module_state([model.to(device) for model in models])
    averages, optimizer = [w.detach().clone() for w in weights.values()], torch.optim.Adam(weights.values(), fused=True)
    x0, alpha_bar = torch.stack(x0s).to(device), schedule.alpha_bar.to(device)
    own = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    rows, size = torch.arange(len(x0), device=device)[:, None], (len(x0), config.batch_size)

    def loss(weights: Any, buffers: Any, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return (functional_call(network, (weights, buffers), (x_t, t)) - eps).square().mean()

    def step() -> dict[str, Tensor]:
        index, t = (torch.randint(n, size, **own) for n in (x0.shape[1], schedule.T))
        eps = torch.randn((*size, *x0.shape[2:]), **own)
        x_t, detached = mix(x0[rows, index], alpha_bar[t], eps), {name: w.detach() for name, w in weights.items()}
        with config.autocast(device):
            gradients = vmap(grad(loss), randomness="different")(detached, buffers, x_t, t, eps)
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0).sqrt()
        for name, gradient in gradients.items():
            shares = (config.grad_clip / (norm + 1e-6)).clamp(max=1)
            weights[name].grad = gradient * shares.reshape(-1, *[1] * (gradient.ndim - 1))
        optimizer.step()
        torch._foreach_lerp_(averages, list(detached.values()), 1 - config.ema_decay)
        return weights

    return step
