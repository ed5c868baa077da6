"""Training a denoiser, as a generator: the caller owns logging, plots, checkpoints and when to stop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memlib.checks import check_count
from memlib.devices import check_device, has_bfloat16
from memlib.schedules import Schedule, check_shape, vector
from memlib.timesteps import TimestepDistribution

PRECISIONS = ("auto", "float32", "bfloat16")
CHECK_EVERY = 100  # steps between looks at whether the loss is still finite: each look waits for a GPU


@dataclass(frozen=True)
class TrainConfig:
    """Budget and optimiser of one training run. Raises TypeError or ValueError for values that make none."""

    steps: int = 1000
    """Optimiser steps in all; a resumed run ends at the same count."""
    batch_size: int = 64
    """Examples per step, drawn with replacement."""
    learning_rate: float = 1e-3
    """Of Adam, between the warm-up and the cool-down."""
    warmup: int = 100
    """Steps over which the learning rate rises linearly from zero."""
    cooldown: int = 0
    """Last steps, over which it falls linearly to zero: less residual noise at the end of a short budget."""
    ema_decay: float = 0.999
    """Of the averaged weights that are sampled from; smaller in the first steps, min(decay, (1 + n)/(10 + n))."""
    grad_clip: float = 1.0
    """Largest norm of the whole gradient."""
    precision: str = "auto"
    """Of the network's arithmetic: float32, bfloat16 (autocast), or auto: bfloat16 where the device computes in it.
    (On a GPU torch rounds float32 convolutions to TF32 unless `torch.backends.cudnn.allow_tf32` is off.)"""

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch_size": 1, "warmup": 0, "cooldown": 0}.items():
            check_count(getattr(self, name), name, least)
        for name in ("learning_rate", "grad_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}; need > 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay = {self.ema_decay}; need 0 <= ema_decay < 1")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision = {self.precision!r}; choose one of {', '.join(PRECISIONS)}")

    def learning_rate_at(self, step: int) -> float:
        """In step number `step`, counted from 0."""
        rise, fall = (step + 1) / (self.warmup + 1), (self.steps - step) / (self.cooldown + 1)
        return self.learning_rate * min(1.0, rise, fall)

    def ema_decay_at(self, step: int) -> float:
        """In step number `step`, counted from 0."""
        return min(self.ema_decay, (1 + step) / (10 + step))

    def is_checked(self, step: int) -> bool:
        """Whether to look if the loss of step number `step` is finite."""
        return (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps

    def precision_on(self, device: torch.device) -> str:
        """float32 or bfloat16: what `precision` comes to there."""
        return ("float32", "bfloat16")[has_bfloat16(device)] if self.precision == "auto" else self.precision

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which the network computes with this precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision_on(device) == "bfloat16")


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. Tensors stay on the device, so that reading none of them costs nothing."""

    step: int
    """Steps done so far, from 1."""
    loss: Tensor
    """() the weighted mean that was minimised."""
    t: Tensor
    """(B,) the timesteps drawn."""
    losses: Tensor
    """(B,) unweighted mean squared error of each example's predicted noise."""
    model: nn.Module
    ema: nn.Module
    """The network with averaged weights: sample from this one."""
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    T: int

    def by_band(self, bands: int = 10) -> Tensor:
        """(bands,) mean unweighted loss in each of `bands` equal bands of t, low noise first; NaN where none fell."""
        check_count(bands, "bands", 1)
        band = self.t.cpu() * bands // self.T
        total = torch.zeros(bands).index_add_(0, band, self.losses.float().cpu())
        return total / band.bincount(minlength=bands)

    def state(self) -> dict:
        """A copy of all that `train(..., state=...)` needs to go on as if it had never stopped."""
        parts = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        state = {name: part.state_dict() for name, part in parts.items()}
        return copy.deepcopy(state | {"generator": self.generator.get_state(), "step": self.step})


def train(
    model: nn.Module,
    x0: Tensor,
    schedule: Schedule,
    timesteps: TimestepDistribution,
    config: TrainConfig | None = None,
    *,
    generator: torch.Generator,
    device: str | torch.device | None = None,
    state: dict | None = None,
    loss_weight: Tensor | None = None,
) -> Iterator[Step]:
    """Minimise E |eps - model(x_t, t)|^2 with t drawn from `timesteps` (Ho et al. 2006.11239), one Step per iteration.

    x0: (N, *D) training examples, N >= 2, kept on `device` (by default where the model is). There is no importance
    weight 1/(T p(t)): it would cancel the choice of timesteps. loss_weight: (T,) an optional weight per timestep, e.g.
    `timesteps.effective_weight()` under uniform drawing, the matched control. Data order, timesteps and noise come from
    `generator` in a fixed order, so that runs with the same seed differ in the timesteps' distribution only.

    Raises ValueError for data that is not finite, too small or of another shape than the model's, or a T that differs
    between arguments; RuntimeError for a device that is not there; FloatingPointError if the loss diverges.
    """
    if state is not None and (missing := {"model", "ema", "optimizer", "generator", "step"} - set(state)):
        raise ValueError(f"state lacks {sorted(missing)}; need what Step.state() returns")
    x0, loss_weight = checked(model, x0, schedule, timesteps, device, loss_weight)
    return _train(model, x0, schedule, timesteps, config or TrainConfig(), generator, state, loss_weight)


def _train(model, x0, schedule, timesteps, config, generator, state, loss_weight) -> Iterator[Step]:
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    start = 0
    if state is not None:
        for name, part in {"model": model, "ema": ema, "optimizer": optimizer}.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"].clone())  # of a view, torch would read from where its storage begins
        start = state["step"]
    weights, averages = list(model.parameters()), list(ema.parameters())

    model.train()
    for step in range(start, config.steps):
        index, t, eps = draw(x0, timesteps, config.batch_size, generator)
        eps = eps.to(x0.device)
        x_t = schedule.noise(x0[index.to(x0.device)], t, eps)
        with config.autocast(x0.device):
            predicted = model(x_t, t.to(x0.device))
        losses = (predicted.float() - eps).square().flatten(1).mean(1)
        loss = losses.mean() if loss_weight is None else (loss_weight[t.to(x0.device)] * losses).mean()

        optimizer.param_groups[0]["lr"] = config.learning_rate_at(step)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, config.grad_clip, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - config.ema_decay_at(step))
            for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):  # such as a norm's running mean
                kept.copy_(buffer)
        if config.is_checked(step) and not (loss + norm).isfinite():
            found = f"the loss is {loss.item()}, the gradient's norm {norm.item()} at step {step + 1}"
            raise FloatingPointError(f"{found}; lower learning_rate or loss_weight")
        yield Step(step + 1, loss.detach(), t, losses.detach(), model, ema, optimizer, generator, schedule.T)


def checked(model, x0, schedule, timesteps, device, loss_weight) -> tuple[Tensor, Tensor | None]:
    """`train`'s data and loss weight, on the device and in the model's dtype, and the model moved there.

    Raises what `train` does, but for divergence.
    """
    if not isinstance(x0, Tensor) or not x0.is_floating_point():
        raise TypeError(f"x0 is {getattr(x0, 'dtype', type(x0).__name__)}; need a floating-point tensor (N, *D)")
    if x0.ndim < 2 or len(x0) < 2:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; need (N, *D) with N >= 2 training examples")
    if not x0.isfinite().all():
        raise ValueError("x0 holds NaN or infinity; every value must be finite")
    if schedule.T != timesteps.T:
        raise ValueError(f"the schedule has T = {schedule.T}, the timesteps T = {timesteps.T}; they must be equal")
    first = next(model.parameters(), None)
    if first is None:
        raise ValueError(f"model is a {type(model).__name__} without parameters; there is nothing to train")
    device = check_device(first.device if device is None else device)
    if loss_weight is not None:
        loss_weight = vector(loss_weight, "loss_weight")
        if len(loss_weight) != schedule.T or loss_weight.min() < 0:
            raise ValueError(f"loss_weight has {len(loss_weight)} values from {loss_weight.min():g}; need T, all >= 0")
        loss_weight = loss_weight.to(device, torch.float32)
    x0 = x0.to(device, first.dtype)
    with torch.no_grad():  # a model of another shape says so here, before any work
        check_shape(model.to(device).eval()(x0[:1], torch.zeros(1, dtype=torch.int64, device=device)), x0[:1])
    return x0, loss_weight


def draw(
    x0: Tensor, timesteps: TimestepDistribution, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's random numbers, on the generator's device: which examples (B,), timesteps (B,), the noise (B, *D)."""
    own = {"generator": generator, "device": generator.device}
    index = torch.randint(len(x0), (size,), **own)
    return index, timesteps.sample(size, generator), torch.randn((size, *x0.shape[1:]), **own)


@torch.no_grad()
def loss_at(
    model: nn.Module,
    x0: Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    generator: torch.Generator,
    repeats: int = 4,
    batch_size: int = 512,
) -> Tensor:
    """(len(timesteps), N): unweighted loss |eps - model(x_t, t)|^2 / D of each example at each timestep, the mean over
    `repeats` noises. On held-out examples less on training examples it shows, band by band, what was memorized.
    Raises ValueError for no timestep or one outside 0..T-1, repeats or batch_size below 1, data not finite and a
    model that returns another shape, TypeError for timesteps and counts that are no integers."""
    check_count(repeats, "repeats", 1)
    check_count(batch_size, "batch_size", 1)
    if not len(timesteps):
        raise ValueError("timesteps is empty; need at least one")
    if not x0.isfinite().all():
        raise ValueError("x0 holds NaN or infinity; every value must be finite")
    held = next(iter((*model.parameters(), *model.buffers(), x0))) if isinstance(model, nn.Module) else x0
    x = x0.repeat_interleave(repeats, 0).to(held)
    rows = []
    for timestep in timesteps:
        errors = []
        for part in x.split(int(batch_size)):
            t = torch.full((len(part),), int(timestep), device=held.device)
            eps = torch.randn(part.shape, generator=generator, device=generator.device).to(part)
            predicted = model(schedule.noise(part, t, eps), t)
            check_shape(predicted, eps)
            errors.append((predicted - eps).square().flatten(1).mean(1))
        rows.append(torch.cat(errors).reshape(len(x0), repeats).mean(1).cpu())
    return torch.stack(rows)
