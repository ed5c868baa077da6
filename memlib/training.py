"""Training a denoiser, as a generator: the caller owns logging, plots, checkpoints and when to stop."""

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from memlib.checks import Predictor, call_model, check_count, check_device, evaluating, examples, placement, vector
from memlib.levels import Denoiser
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution

CHECK_EVERY = 100  # steps between looks at whether the loss is still finite: each look waits for a GPU


@dataclass(frozen=True)
class TrainConfig:
    """Budget and optimiser of one training run."""

    steps: int = 1000  # optimiser steps in all; a resumed run ends at the same count
    batch_size: int = 64  # examples per step, drawn with replacement
    learning_rate: float = 1e-3  # of Adam, between the warm-up and the cool-down
    warmup: int = 100  # steps over which the learning rate rises linearly from zero
    cooldown: int = 0  # last steps, over which it falls linearly to zero: less residual noise after a short budget
    ema_decay: float = 0.999  # of the averaged weights, which are sampled from: min(decay, (1 + n)/(10 + n)) in step n
    grad_clip: float = 1.0  # largest norm of the gradient of all parameters
    precision: str = "auto"  # float32, bfloat16 (autocast), or auto: bfloat16 if the device computes in it
    stratified: bool = False  # whether each batch is spread evenly over p(t), see `TimestepDistribution.sample`

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch_size": 1, "warmup": 0, "cooldown": 0}.items():
            check_count(getattr(self, name), name, least)
        if not (self.learning_rate > 0 and self.grad_clip > 0 and 0 <= self.ema_decay < 1):
            given = f"learning_rate = {self.learning_rate}, grad_clip = {self.grad_clip}, ema_decay = {self.ema_decay}"
            raise ValueError(f"{given}; need learning_rate > 0, grad_clip > 0 and 0 <= ema_decay < 1")
        if self.precision not in ("auto", "float32", "bfloat16") or self.stratified not in (False, True):
            given = f"precision = {self.precision!r}, stratified = {self.stratified!r}"
            raise ValueError(f"{given}; choose auto, float32 or bfloat16, and False or True")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate in step number `step`; here and below, steps count from 0."""
        rise, fall = (step + 1) / (self.warmup + 1), (self.steps - step) / (self.cooldown + 1)
        return self.learning_rate * min(1.0, rise, fall)

    def ema_decay_at(self, step: int) -> float:
        return min(self.ema_decay, (1 + step) / (10 + step))

    def is_checked(self, step: int) -> bool:
        """Whether to look if the loss is finite."""
        return (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps

    def precision_on(self, device: torch.device) -> str:
        """bfloat16 or float32 (TF32 in a GPU's convolutions, unless `torch.backends.cudnn.allow_tf32` is off)."""
        return ("float32", "bfloat16")[has_bfloat16(device)] if self.precision == "auto" else self.precision

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which the network computes with this precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision_on(device) == "bfloat16")


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. Tensors stay on the device, so that they cost nothing unless read."""

    step: int  # steps done so far, from 1
    loss: Tensor  # () the weighted mean that was minimised
    t: Tensor  # (B,) the timesteps drawn
    losses: Tensor  # (B,) unweighted mean squared error of each example, of its noise or of `objective`
    model: nn.Module
    ema: nn.Module  # the network with averaged weights: sample from this one
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def state(self) -> dict[str, Any]:
        """A copy of all that `train(..., state=...)` needs to go on as if it had never stopped."""
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in ("model", "ema", "optimizer")}
        return copy.deepcopy(state | {"generator": self.generator.get_state(), "step": self.step})


def train(
    model: nn.Module, x0: Tensor, schedule: Schedule, timesteps: TimestepDistribution,
    config: TrainConfig | None = None, *, generator: torch.Generator, device: str | torch.device | None = None,
    state: dict[str, Any] | None = None, loss_weight: Tensor | None = None, objective: str = "eps",
) -> Iterator[Step]:  # fmt: skip
    """Minimise E |eps - model(x_t, t)|^2 with t drawn from `timesteps` (Ho et al. 2006.11239), one Step per iteration.

    x0: (N, *D) training examples. loss_weight: (T,) e.g. `timesteps.effective_weight()` under uniform drawing, the
    matched control. There is no importance weight 1/(T p(t)): it would cancel the choice of timesteps. Data order,
    timesteps and noise come from `generator` in a fixed order: runs of one seed differ in the distribution only.
    objective: "eps", or what a `memlib.Denoiser` predicts: the error to minimise (at zero SNR that of eps is 0)."""
    own = model if objective != "eps" and isinstance(model, Denoiser) and model.schedule == schedule else None
    if objective not in ("eps", own and own.predicts):
        raise ValueError(f"objective = {objective!r}; need eps, or what model predicts, a Denoiser of this schedule")
    x0, weight = prepared(model, x0, schedule, timesteps, device, loss_weight)
    budget, device = config or TrainConfig(), x0.device

    def steps() -> Iterator[Step]:
        ema = copy.deepcopy(model).requires_grad_(False)
        optimizer, start = torch.optim.Adam(model.parameters(), lr=budget.learning_rate, fused=True), 0
        if state is not None:
            model.load_state_dict(state["model"])
            ema.load_state_dict(state["ema"])
            optimizer.load_state_dict(state["optimizer"])
            generator.set_state(state["generator"].clone())  # of a view, torch would read from where its storage begins
            start = state["step"]
        weights, averages = tuple(model.parameters()), tuple(ema.parameters())
        for step in range(start, budget.steps):
            model.train()  # in each step: what the caller does between two of them changes nothing
            ema.eval()
            index, t, eps = draw(x0, timesteps, budget, generator)
            clean, t_there, eps = x0[index.to(device)], t.to(device), eps.to(device)
            x_t = schedule.noise(clean, t, eps)
            with budget.autocast(device):
                error = own.error(x_t, t_there, clean, eps) if own else call_model(model, x_t, t_there).float() - eps
            losses = error.square().flatten(1).mean(1)
            loss = losses.mean() if weight is None else (weight[t_there] * losses).mean()
            optimizer.param_groups[0]["lr"] = budget.learning_rate_at(step)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(weights, budget.grad_clip, foreach=True)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1 - budget.ema_decay_at(step))  # pyright: ignore
                for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):  # such as a norm's running mean
                    kept.copy_(buffer)
            if budget.is_checked(step) and not (loss + norm).isfinite():
                found = f"the loss is {loss.item()}, the gradient's norm {norm.item()} at step {step + 1}"
                raise FloatingPointError(f"{found}; lower learning_rate or loss_weight")
            yield Step(step + 1, loss.detach(), t, losses.detach(), model, ema, optimizer, generator)

    return steps()


def prepared(
    model: nn.Module, x0: Tensor, schedule: Schedule, timesteps: TimestepDistribution,
    device: str | torch.device | None, loss_weight: Tensor | None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`train`'s data and loss weight, on the device and in the model's precision. Moves the model there too."""
    x0 = examples(x0, "x0")
    if len(x0) < 2:
        raise ValueError("x0 holds one example; need two or more, (N, *D) with N first")
    if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise TypeError(f"model is a {type(model).__name__}; need a torch.nn.Module with parameters to train")
    if schedule.T != timesteps.T:
        raise ValueError(f"the schedule has T = {schedule.T}, the timesteps T = {timesteps.T}; they must be equal")
    std, mean = (value.item() for value in torch.std_mean(x0.float(), correction=0))
    if (rms := math.hypot(std, mean)) > 5 or 0 < rms < 0.1:
        cure = f"pass (x0 - {mean:.3g}) / {std or 1:.3g} and undo this on the samples"
        warnings.warn(f"x0 spans [{x0.min():g}, {x0.max():g}], far from unit scale; {cure}", stacklevel=3)
    if loss_weight is not None:
        loss_weight = vector(loss_weight, "loss_weight").float()
        if len(loss_weight) != schedule.T or loss_weight.min() < 0 or not loss_weight[timesteps.pmf > 0].any():
            given = f"loss_weight has {len(loss_weight)} values from {loss_weight.min():g}"
            raise ValueError(f"{given}; need T = {schedule.T}, all >= 0, one above 0 where p(t) is")
    if getattr(model, "takes", None) == "sigma" and schedule.alpha_bar[-1] == 0 < timesteps.pmf[-1]:
        raise ValueError("model takes sigma, which is infinite at the schedule's last t; need p(t) = 0 there")
    where, dtype = placement(model, schedule)
    if dtype in (torch.bfloat16, torch.float16):
        raise ValueError(f"model holds {dtype}, whose averages stand still; need model.float(), precision='bfloat16'")
    device = check_device((where or "cpu") if device is None else device)
    x0 = x0.to(device, dtype, copy=True)
    with evaluating(model.to(device)):  # a model of another shape says so here, before any work
        call_model(model, x0[:1], torch.zeros(1, dtype=torch.int64, device=device))
    return x0, None if loss_weight is None else loss_weight.to(device)


def draw(x0: Tensor, p: TimestepDistribution, config: TrainConfig, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A batch's random numbers, on the generator's device: which examples (B,), timesteps (B,), the noise (B, *D)."""
    index = torch.randint(len(x0), (config.batch_size,), generator=generator, device=generator.device)
    t, shape = p.sample(config.batch_size, generator, config.stratified), (config.batch_size, *x0.shape[1:])
    return index, t, torch.randn(shape, generator=generator, device=generator.device)


def loss_at(
    model: Predictor, x0: Tensor, schedule: Schedule, timesteps: Sequence[int], *,
    generator: torch.Generator, repeats: int = 4, batch_size: int = 512,
) -> Tensor:  # fmt: skip
    """(len(timesteps), N): unweighted loss |eps - model(x_t, t)|^2 / D of each example at each timestep, the mean over
    `repeats` noises. Where it is lower on training than on held-out examples, the model has memorized, band by band."""
    check_count(repeats * len(timesteps), "repeats * len(timesteps)", 1)
    x, losses = examples(x0, "x0").to(*placement(model, schedule)).repeat_interleave(repeats, 0), []
    with evaluating(model):
        for timestep, part in product(timesteps, x.split(batch_size)):
            t = torch.full((len(part),), timestep, device=x.device)
            eps = torch.randn(part.shape, generator=generator, device=generator.device).to(part)
            error = call_model(model, schedule.noise(part, t, eps), t) - eps
            losses.append(error.float().square().flatten(1).mean(1))
    return torch.cat(losses).reshape(len(timesteps), len(x0), repeats).mean(2).cpu()


def gradient_norm_at(
    model: nn.Module, x0: Tensor, schedule: Schedule, timesteps: Sequence[int], *,
    generator: torch.Generator, repeats: int = 4,
) -> Tensor:  # fmt: skip
    """(len(timesteps), repeats): norm of the gradient w.r.t. all weights of the mean of `loss_at` over all of x0, each
    with one noise per example. Times T p(t), it is what a timestep contributes to a step of plain gradient descent."""
    if not isinstance(model, nn.Module) or not any(True for _ in model.parameters()):
        raise TypeError(f"model is a {type(model).__name__}; need a torch.nn.Module with parameters")
    own = copy.deepcopy(model).eval().requires_grad_(True)  # averaged weights hold no gradients
    x, weights, norms = examples(x0, "x0").to(*placement(own, schedule)), list(own.parameters()), []
    for timestep in [step for step in timesteps for _ in range(repeats)]:
        t = torch.full((len(x),), timestep, device=x.device)
        eps = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        loss = (call_model(own, schedule.noise(x, t, eps), t) - eps).square().mean()
        norms.append(nn.utils.get_total_norm(torch.autograd.grad(loss, weights, materialize_grads=True)))
    return torch.stack(norms).reshape(-1, repeats).cpu()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own (emulated, it is slower than float32)."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
