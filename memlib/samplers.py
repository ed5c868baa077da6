"""Samplers: from noise to samples, as generators of frames. Any denoiser will do, learnt or exact.

A frame shows x_t *before* a step together with the x0 predicted from it; the last frame, t = -1, is the sample.
Timesteps trail (Lin et al. 2305.08891): the first is T-1, where x_T really is pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from memlib.checks import check_count
from memlib.devices import check_device
from memlib.schedules import Schedule, check_shape

CLEAN = -1  # the timestep after 0: alpha_bar = 1, no noise


@dataclass(frozen=True)
class Frame:
    """One moment of the reverse process: the timestep (-1 at the end), x_t (B, *D) and the x0 predicted from it."""

    t: int
    x: Tensor
    x0: Tensor


def ddim(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    steps: int | Sequence[int] = 50,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    clip: tuple[float, float] | None = None,
) -> Iterator[Frame]:
    """x_s = sqrt(abar_s) x0' + sqrt(1 - abar_s - eta^2 var) eps' + eta sqrt(var) z (Song et al. 2010.02502 eq. 12),
    var = (1 - abar_s)/(1 - abar_t) (1 - abar_t/abar_s); eta = 0 is deterministic, eta = 1 is `ddpm`.

    x_T: (B, *D) noise. steps: how many, or the falling timesteps themselves, -1 standing for clean data. generators:
    one per sample, needed where eta > 0, so that a sample does not depend on its batch. clip: bounds on each predicted
    x0. The step onto clean data adds no noise. Raises ValueError for steps that do not fall within -1..T-1, eta outside
    [0, 1], missing or miscounted generators, clip bounds that do not rise, and a schedule with zero terminal SNR.
    """
    times = timestep_list(steps, schedule, x_T, clip)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}; need 0 (deterministic) to 1 (as DDPM)")
    if eta > 0 and (generators is None or len(generators) != len(x_T)):
        have = "none" if generators is None else len(generators)
        raise ValueError(f"generators: have {have}; eta > 0 needs one torch.Generator for each of {len(x_T)} samples")
    return _ddim(model, schedule, x_T, times, eta, generators, clip)


def _ddim(model, schedule, x, times, eta, generators, clip) -> Iterator[Frame]:
    for t, s in pairwise(times):
        x0, eps = predict(model, schedule, x, t, clip)
        yield Frame(t, x, x0)
        abar_t, abar_s = alpha_bar(schedule, t), alpha_bar(schedule, s)
        variance = eta**2 * (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
        x = math.sqrt(abar_s) * x0 + math.sqrt(max(1 - abar_s - variance, 0.0)) * eps
        if variance > 0:
            x = x + math.sqrt(variance) * initial_noise(x.shape[1:], generators).to(x)
    yield _last_frame(model, schedule, x, times[-1], clip)


def ddpm(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    generators: Sequence[torch.Generator],
    steps: int | Sequence[int] | None = None,
    clip: tuple[float, float] | None = None,
) -> Iterator[Frame]:
    """Ancestral sampling, x_s ~ N(mean, var) with the posterior mean and variance of Ho et al. 2006.11239 eq. 7.

    All T steps unless told otherwise. It is `ddim` with eta = 1, which is the same formula rearranged; so are the
    arguments and errors.
    """
    steps = schedule.T if steps is None else steps
    return ddim(model, schedule, x_T, steps=steps, eta=1.0, generators=generators, clip=clip)


def dpm_solver(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    steps: int | Sequence[int] = 20,
    clip: tuple[float, float] | None = None,
) -> Iterator[Frame]:
    """DPM-Solver++(2M), second-order multistep in lambda = (log SNR)/2 with x0 prediction (Lu 2211.01095 alg. 2).

    Deterministic; the first step and the step onto clean data are of first order. Arguments and errors as in `ddim`.
    """
    return _dpm_solver(model, schedule, x_T, timestep_list(steps, schedule, x_T, clip), clip)


def _dpm_solver(model, schedule, x, times, clip) -> Iterator[Frame]:
    previous = None  # (x0, h) of the step before
    for t, s in pairwise(times):
        x0, _ = predict(model, schedule, x, t, clip)
        yield Frame(t, x, x0)
        if s == CLEAN:
            x = x0
            continue
        abar_t, abar_s = alpha_bar(schedule, t), alpha_bar(schedule, s)
        h = (_logit(abar_s) - _logit(abar_t)) / 2
        extrapolated = x0 if previous is None else x0 + (x0 - previous[0]) * h / (2 * previous[1])
        x = math.sqrt((1 - abar_s) / (1 - abar_t)) * x - math.sqrt(abar_s) * math.expm1(-h) * extrapolated
        previous = x0, h
    yield _last_frame(model, schedule, x, times[-1], clip)


def sample(
    model: nn.Module,
    schedule: Schedule,
    shape: Sequence[int],
    n: int,
    *,
    seed: int,
    steps: int = 50,
    sampler: Callable[..., Iterator[Frame]] = ddim,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    clip: tuple[float, float] | None = None,
    progress: bool = False,
) -> Tensor:
    """`n` samples (n, *shape) on the CPU by a deterministic one, `batch_size` at a time, computed on `device` (where
    the model's first parameter or buffer is, unless given), in the dtype of its first parameter. Sample i has its own
    noise, given by (seed, i) alone.

    Raises as the sampler does, ValueError for n or batch_size below 1, RuntimeError for a device that is not there.
    """
    check_count(n, "n", 1)
    check_count(batch_size, "batch_size", 1)
    module = model if isinstance(model, nn.Module) else nn.Module()  # a function holds nothing
    where = next((held.device for held in (*module.parameters(), *module.buffers())), "cpu")
    device = check_device(where if device is None else device)
    dtype = next((p.dtype for p in module.parameters()), None)
    generators = sample_generators(n, seed)
    parts = []
    with tqdm(
        total=-(-n // batch_size) * steps, desc="sampling", unit="step", disable=not progress, leave=False
    ) as bar:
        for start in range(0, n, batch_size):
            x = initial_noise(shape, generators[start : start + batch_size]).to(device, dtype)
            for frame in sampler(model, schedule, x, steps=steps, clip=clip):
                x = frame.x
                bar.update(frame.t != CLEAN)
            parts.append(x.cpu())
    return torch.cat(parts)


def sample_generators(n: int, seed: int) -> list[torch.Generator]:
    """One generator for each of `n` samples; the i-th depends on (seed, i) only. ValueError for a negative seed."""
    check_count(n, "n", 1)
    check_count(seed, "seed", 0)
    # torch's CPU generator keeps 32 bits of its seed, so hashed seeds would collide; these are distinct within a run
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return [torch.Generator().manual_seed((first + i) % 2**32) for i in range(n)]


def initial_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """(n, *shape) standard normal noise, each row from its own generator. ValueError for none, or a size below 0."""
    if not len(generators):
        raise ValueError("generators is empty; need one for each row")
    for size in shape:
        check_count(size, "each size of shape", 0)
    return torch.stack([torch.randn(tuple(shape), generator=g, device=g.device) for g in generators])


def timestep_list(
    steps: int | Sequence[int], schedule: Schedule, x_T: Tensor, clip: tuple[float, float] | None
) -> list[int]:
    """The falling timesteps of a sampler, checked together with its other arguments: a count n gives n timesteps that
    trail, round(T k/n) - 1 for k = n..1, and clean data at the end."""
    if not x_T.is_floating_point():
        raise TypeError(f"x_T has dtype {x_T.dtype}; need floating-point noise")
    if not x_T.isfinite().all():
        raise ValueError("x_T holds NaN or infinity; every value must be finite")
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"clip = {clip}; need (low, high) with low < high")
    if isinstance(steps, Integral):
        steps = int(steps)
        if not 1 <= steps <= schedule.T:
            raise ValueError(f"steps = {steps}; need 1 to T = {schedule.T}")
        times = [round(schedule.T * k / steps) - 1 for k in range(steps, 0, -1)] + [CLEAN]
    else:
        times = [int(t) for t in steps]
        if len(times) < 2 or times[0] >= schedule.T or times[-1] < CLEAN or any(a <= b for a, b in pairwise(times)):
            raise ValueError(f"steps = {times}; timesteps must fall, within {schedule.T - 1}..{CLEAN}, at least two")
    if schedule.alpha_bar[times[0]] == 0:
        raise ValueError(
            "the schedule has zero terminal SNR: at its last timestep x_t holds no signal, so a noise-predicting model "
            "cannot give x0 there. Start from a lower timestep or use a schedule with alpha_bar > 0"
        )
    return times


@torch.no_grad()
def predict(
    model: nn.Module, schedule: Schedule, x: Tensor, t: int, clip: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """x0 = (x_t - sqrt(1 - abar) eps)/sqrt(abar) and eps, both (B, *D), from the model at timestep t; where x0 is
    clipped, eps is the noise that agrees with it."""
    abar = alpha_bar(schedule, t)
    eps = model(x, torch.full((len(x),), t, device=x.device))
    check_shape(eps, x)
    x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
    if clip is not None:
        x0 = x0.clamp(*clip)
        eps = (x - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
    return x0, eps


def _last_frame(model, schedule, x, t, clip) -> Frame:
    return Frame(t, x, x if t == CLEAN else predict(model, schedule, x, t, clip)[0])


def alpha_bar(schedule: Schedule, t: int) -> float:
    return 1.0 if t == CLEAN else schedule.alpha_bar[t].item()


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)
