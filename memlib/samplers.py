"""Samplers: from noise to samples, as generators of frames. Any denoiser will do, learnt or exact.

A frame shows x_t *before* a step together with the x0 predicted from it; the last frame, t = -1, is the sample.
Timesteps trail (Lin et al. 2305.08891): the first is T-1, where x_T is pure noise."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from memlib.checks import Predictor, call_model, check_count, check_device, evaluating, examples, placement
from memlib.schedules import Schedule

CLEAN = -1  # the timestep after 0: alpha_bar = 1, no noise
Steps = int | Sequence[int]
Clip = tuple[float, float] | None


@dataclass(frozen=True)
class Frame:
    """One moment of the reverse process: the timestep (-1 at the end), x_t (B, *D) and the x0 predicted from it."""

    t: int
    x: Tensor
    x0: Tensor


def ddim(
    model: Predictor, schedule: Schedule, x_T: Tensor, *, steps: Steps = 50, eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None, clip: Clip = None,
) -> Iterator[Frame]:  # fmt: skip
    """x_s = sqrt(abar_s) x0' + sqrt(1 - abar_s - eta^2 var) eps' + eta sqrt(var) z (Song et al. 2010.02502 eq. 12),
    var = (1 - abar_s)/(1 - abar_t) (1 - abar_t/abar_s); eta = 0 is deterministic, eta = 1 is `ddpm`.

    x_T: (B, *D) noise. steps: how many, or the falling timesteps themselves, where -1 is clean data. generators: one
    per sample, needed if eta > 0. clip: bounds on each predicted x0. The step onto clean data adds no noise."""
    if not 0 <= eta <= 1 or (eta > 0 and len(generators or ()) != len(x_T)):
        given = f"eta = {eta}, {len(generators or ())} generators for {len(x_T)} samples"
        raise ValueError(f"{given}; need eta from 0 to 1 and, above 0, one generator for each sample")

    def step(x: Tensor, x0: Tensor, eps: Tensor, abar_t: float, abar_s: float) -> Tensor:
        variance = eta**2 * (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
        x = math.sqrt(abar_s) * x0 + math.sqrt(max(1 - abar_s - variance, 0.0)) * eps
        if variance > 0 and generators is not None:
            x = x + math.sqrt(variance) * initial_noise(x.shape[1:], generators).to(x)
        return x

    return _frames(model, schedule, x_T, steps, clip, step)


def ddpm(
    model: Predictor, schedule: Schedule, x_T: Tensor, *, generators: Sequence[torch.Generator],
    steps: Steps | None = None, clip: Clip = None,
) -> Iterator[Frame]:  # fmt: skip
    """Ancestral sampling, x_s ~ N(mean, var) with the posterior mean and variance of Ho et al. 2006.11239 eq. 7, by
    default in all T steps. It is `ddim` with eta = 1: the same formula rearranged, and the same arguments."""
    steps = schedule.T if steps is None else steps
    return ddim(model, schedule, x_T, steps=steps, eta=1.0, generators=generators, clip=clip)


def dpm_solver(
    model: Predictor, schedule: Schedule, x_T: Tensor, *, steps: Steps = 20, clip: Clip = None
) -> Iterator[Frame]:
    """DPM-Solver++(2M), second-order multistep in lambda = (log SNR)/2 with x0 prediction (Lu 2211.01095 alg. 2).
    Deterministic; the first step and the step onto clean data are of first order. Arguments as in `ddim`."""
    previous: tuple[Tensor, float] | None = None  # x0 and h of the step before

    def step(x: Tensor, x0: Tensor, eps: Tensor, abar_t: float, abar_s: float) -> Tensor:
        nonlocal previous
        if abar_s == 1:
            return x0
        log_t = math.log(abar_t) if abar_t else -math.inf  # a step of first order, as is the next
        h = (math.log(abar_s) - math.log1p(-abar_s) - (log_t - math.log1p(-abar_t))) / 2
        extrapolated = x0 if previous is None else x0 + (x0 - previous[0]) * h / (2 * previous[1])
        previous = x0, h
        return math.sqrt((1 - abar_s) / (1 - abar_t)) * x - math.sqrt(abar_s) * math.expm1(-h) * extrapolated

    return _frames(model, schedule, x_T, steps, clip, step)


def sample(
    model: Predictor, schedule: Schedule, shape: Sequence[int], n: int, *, seed: int, steps: Steps = 50,
    sampler: Callable[..., Iterator[Frame]] = ddim, batch_size: int = 256, device: str | torch.device | None = None,
    clip: Clip = None,
) -> Tensor:  # fmt: skip
    """`n` samples (n, *shape) on the CPU, by `sampler` (such as `partial(ddim, eta=0.5)`), `batch_size` at a time on
    `device` (by default where the model is), in the model's precision. Sample i's noise depends on (seed, i) only."""
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("batch_size", batch_size, 1)):
        check_count(value, name, least)
    where, dtype = placement(model)
    device = check_device((where or "cpu") if device is None else device)
    generators, parts, takes = sample_generators(n, seed), [], inspect.signature(sampler).parameters
    for start in range(0, n, batch_size):
        own = generators[start : start + batch_size]
        x, noise = initial_noise(shape, own).to(device, dtype), {"generators": own} if "generators" in takes else {}
        for frame in sampler(model, schedule, x, steps=steps, clip=clip, **noise):
            x = frame.x
        parts.append(x.cpu())
    return torch.cat(parts)


def sample_generators(n: int, seed: int) -> list[torch.Generator]:
    """One generator for each of `n` samples; the i-th depends on (seed, i) only."""
    # torch's CPU generator keeps 32 bits of its seed, so hashed seeds would collide; these are distinct within a run
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return [torch.Generator().manual_seed((first + i) % 2**32) for i in range(n)]


def initial_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """(n, *shape) standard normal noise, each row from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=g, device=g.device) for g in generators])


def timestep_list(steps: Steps, schedule: Schedule) -> list[int]:
    """The falling timesteps of a sampler: n steps trail, round(T k/n) - 1 for k = n..1, and end at clean data."""
    if not isinstance(steps, Iterable):
        check_count(steps, "steps", 1)
        if steps > schedule.T:
            raise ValueError(f"steps = {steps}; need 1 to T = {schedule.T}")
        steps = [round(schedule.T * k / int(steps)) - 1 for k in range(int(steps), 0, -1)] + [CLEAN]
    times = [index(t) for t in steps]  # which cuts no fraction, as int() would
    if len(times) < 2 or times[0] >= schedule.T or times[-1] < CLEAN or any(a <= b for a, b in pairwise(times)):
        raise ValueError(f"steps = {times}; timesteps must fall, within {schedule.T - 1}..{CLEAN}, at least two")
    return times


def predict(model: Predictor, schedule: Schedule, x: Tensor, t: int, clip: Clip = None) -> tuple[Tensor, Tensor]:
    """x0 = (x_t - sqrt(1 - abar) eps)/sqrt(abar) and eps, both (B, *D), from the model at timestep t; if x0 is clipped,
    eps is the noise that agrees with it. At abar = 0 x_t is the noise, and x0 what the model's `denoise` says."""
    abar = schedule.alpha_bar[t].item()
    with evaluating(model):
        at = torch.full((len(x),), t, device=x.device)
        eps = call_model(model, x, at) if abar else x
        x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar) if abar else cast(Any, model).denoise(x, at)
        if clip is not None:
            x0 = x0.clamp(*clip)
            eps = (x - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
    return x0, eps


def _frames(
    model: Predictor, schedule: Schedule, x_T: Tensor, steps: Steps, clip: Clip, step: Callable[..., Tensor]
) -> Iterator[Frame]:
    """The loop that all samplers share; it checks the arguments at once, before a frame is asked for."""
    times, start = timestep_list(steps, schedule), examples(x_T, "x_T").to(*placement(model, schedule))
    if schedule.alpha_bar[times[0]] == 0 and getattr(model, "blind", not hasattr(model, "denoise")):
        cure = "start steps below it, or train a network that predicts v or x0: Denoiser(net, schedule, 'v')"
        raise ValueError(f"schedule has zero terminal SNR: at T - 1 the noise does not give x0; {cure}")
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"clip = {clip}; need (low, high) with low < high")

    def frames(x: Tensor) -> Iterator[Frame]:
        alpha_bar = [*schedule.alpha_bar.tolist(), 1.0]  # of clean data: the last, at t = -1
        for t, s in pairwise(times):
            x0, eps = predict(model, schedule, x, t, clip)
            yield Frame(t, x, x0)
            x = step(x, x0, eps, alpha_bar[t], alpha_bar[s])
        yield Frame(times[-1], x, x if times[-1] == CLEAN else predict(model, schedule, x, times[-1], clip)[0])

    return frames(start)
