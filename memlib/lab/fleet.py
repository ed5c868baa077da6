"""A fleet: many networks of one architecture trained at once, at less than the price of one after the other.

Their parameters are the rows of one matrix: the forward pass is vectorised over the rows (torch.func); clipping, Adam
and averaging are a few operations on the matrix. Alone, small networks leave a GPU idle between kernels."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.overrides import TorchFunctionMode

from memlib.checks import call_model
from memlib.lab.graphs import captured, send
from memlib.schedules import Schedule, mix
from memlib.timesteps import TimestepDistribution
from memlib.training import TrainConfig, draw, prepared

_OWN = vars(nn.Module()).keys()  # what torch keeps in each layer; all else is a setting of it


@dataclass(frozen=True)
class FleetStep:
    """What one step did to K networks, as `Step` for one. Tensors stay on the device."""

    step: int
    loss: Tensor  # (K,) the weighted mean that was minimised
    t: Tensor  # (K, B) the timesteps drawn
    losses: Tensor  # (K, B) unweighted mean squared error of each example's predicted noise
    models: Sequence[nn.Module]
    emas: Sequence[nn.Module]  # the networks with averaged weights: sample from these
    weights: Tensor  # (K, P) the parameters of `models`, a row each
    averages: Tensor  # those of `emas`
    optimizer: torch.optim.Optimizer
    generators: Sequence[torch.Generator]

    def state(self) -> dict:
        """A copy of all that `train_fleet(..., state=...)` needs to go on as if it had never stopped."""
        state = {"weights": self.weights.detach(), "averages": self.averages, "optimizer": self.optimizer.state_dict()}
        return copy.deepcopy(state) | {"generators": [x.get_state() for x in self.generators], "step": self.step}


def train_fleet(
    models: Sequence[nn.Module], x0s: Sequence[Tensor], schedule: Schedule, timesteps: Sequence[TimestepDistribution],
    config: TrainConfig | None = None, *, generators: Sequence[torch.Generator],
    device: str | torch.device | None = None, state: dict | None = None,
    loss_weights: Sequence[Tensor | None] | None = None, ambient: int | None = None,
) -> Iterator[FleetStep]:  # fmt: skip
    """`train` for K networks at once, one FleetStep per iteration; each is trained as it would be alone.

    Each has its own examples (N, *D) in `x0s` (N may differ), distribution, generator and, in `loss_weights`, weight
    (T,) or None. Each draws the numbers that it would draw alone and is clipped by its own norm, so its weights are
    those of `train` up to rounding. Two exceptions: dropout draws other masks than alone, different ones for each; and
    in bfloat16 two or more networks round less, as vmap hides convolutions from autocast (but for those of signals on a
    GPU and of images on a CPU). What only `train` can train is refused, naming the member: frozen or shared parameters,
    running statistics, a forward pass that reads a tensor's value. Only a fleet has `ambient`: see `kept_noise`."""
    config, data, scales = config or TrainConfig(), [], []
    loss_weights = [None] * len(models) if loss_weights is None else loss_weights
    owners: dict[int, int] = {}  # of a generator and of each parameter's memory: the member
    members = zip(models, x0s, timesteps, generators, loss_weights, strict=True)
    for k, (model, x0, own, generator, weight) in enumerate(members):
        try:
            x0, weight = prepared(model, x0, schedule, own, device, weight)
        except (TypeError, ValueError) as error:
            raise type(error)(f"member {k}: {error}") from error
        data.append(x0)
        scales.append(x0.new_ones(schedule.T) if weight is None else weight)
        if _form(model) != _form(models[0]) or x0.shape[1:] != data[0].shape[1:] or x0.device != data[0].device:
            raise ValueError(f"member {k}: its network or the shape of its examples is not that of member 0")
        if frozen := [name for name, p in model.named_parameters() if not p.requires_grad]:
            raise ValueError(f"member {k}: {', '.join(frozen)} is frozen, which a fleet cannot train; use `train`")
        held = {name: p.data_ptr() for name, p in model.named_parameters() if p.numel()}
        for name, place in (held | {"generator": id(generator)}).items():
            if owners.setdefault(place, k) != k:
                raise ValueError(f"member {k}: {name} is shared with member {owners[place]}; use `train`")
    forward, where = _forward(models, data, config), data[0].device
    examples, alpha_bar, loss_weight = torch.cat(data), schedule.alpha_bar.to(where), torch.stack(scales)
    kept = None if ambient is None else kept_noise(data, schedule, ambient)

    def steps() -> Iterator[FleetStep]:
        weights = _rows(models)
        averages, start = weights.clone(), 0
        weights.requires_grad_()
        optimizer = torch.optim.Adam([weights], lr=config.learning_rate, fused=True, capturable=where.type == "cuda")
        if state is not None:
            with torch.no_grad():
                weights.copy_(state["weights"])
            averages.copy_(state["averages"])
            optimizer.load_state_dict(state["optimizer"])
            optimizer.param_groups[0]["capturable"] = where.type == "cuda"  # not where the state was made
            for generator, own in zip(generators, state["generators"], strict=True):
                generator.set_state(own.clone())  # of a view, torch would read from where its storage begins
            start = state["step"]
        emas = [copy.deepcopy(model).eval().requires_grad_(False) for model in models]
        for networks, rows in ((models, weights.detach()), (emas, averages)):
            for network, row in zip(networks, rows, strict=True):
                vector_to_parameters(row, network.parameters())  # they are views: what changes the matrix changes them
        for model in models:
            model.train()

        lengths = torch.tensor([len(x0) for x0 in data])
        firsts = (lengths.cumsum(0) - lengths)[:, None]  # where each network's examples begin

        def update(index: Tensor, t: Tensor, eps: Tensor, rate: Any, share: Any) -> tuple[Tensor, ...]:
            """One step of the optimiser and of the averages: the losses (K,), (K, B) and the gradients' norms (K,)."""
            noise = eps if kept is None else mix(kept[0][index], kept[1][t], eps)
            with config.autocast(where):
                predicted = forward(weights, mix(examples[index], alpha_bar[t], noise), t).float()
            if kept is not None:  # what of the noise is new
                predicted = mix(torch.zeros_like(predicted), kept[1][t], predicted)
            losses = (predicted - eps).square().flatten(2).mean(2)
            loss = (loss_weight.gather(1, t) * losses).mean(1)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss.sum().backward()
            gradient: Any = weights.grad
            norm = gradient.norm(dim=1)
            gradient *= (config.grad_clip / (norm + 1e-6)).clamp(max=1)[:, None]  # as clip_grad_norm_ does
            optimizer.step()
            averages.lerp_(weights.detach(), share)
            return loss.detach(), losses.detach(), norm

        fast = captured(update, where)
        for step in range(start, config.steps):
            members = zip(data, timesteps, generators, strict=True)
            draws = zip(*(draw(x0, own, config, generator) for x0, own, generator in members), strict=True)
            index, t, eps = map(torch.stack, draws)
            numbers = config.learning_rate_at(step), 1 - config.ema_decay_at(step)
            loss, losses, norm = fast(*(send(x, where) for x in (index + firsts.to(index), t, eps)), *numbers)
            if config.is_checked(step) and not (finite := (loss + norm).isfinite()).all():
                k = int(finite.int().argmin())
                found = f"the loss is {loss[k].item()}, the gradient's norm {norm[k].item()} at step {step + 1}"
                raise FloatingPointError(f"member {k}: {found}; lower learning_rate or loss_weight")
            yield FleetStep(step + 1, loss, t, losses, models, emas, weights, averages, optimizer, generators)

    return steps()


def kept_noise(data: Sequence[Tensor], schedule: Schedule, above: int) -> tuple[Tensor, Tensor]:
    """A noise for each example of `data`, by its row, and its share (T,) of the noise's variance at each timestep.

    Above timestep `above` only the rest is drawn anew: training sees one noisy version of each example, never more, and
    must predict what was added to it (Daras et al. 2404.10177; with clean examples below, Shah et al. 2502.21278)."""
    share = torch.where(torch.arange(schedule.T) > above, schedule.snr / schedule.snr[above], 0.0)
    draws = [torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)) for x0 in data]
    return torch.cat(draws).to(data[0]), share.to(data[0].device)


def _rows(models: Sequence[nn.Module]) -> Tensor:
    return torch.stack([parameters_to_vector(model.parameters()).detach() for model in models])


def _forward(
    models: Sequence[nn.Module], x0s: Sequence[Tensor], config: TrainConfig
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Of all networks at once, tried: parameters (K, P), x_t (K, B, *D) and t (K, B) to predictions (K, B, *D)."""
    model = copy.deepcopy(models[0]).train()  # a caller who sets a network's mode between two steps leaves this alone
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    device, name = x0s[0].device, type(model).__name__
    # vmap makes grouped convolutions of images, which cost a CPU more than one network after the other
    one_by_one = len(models) == 1 or (device.type == "cpu" and x0s[0].ndim == 4)

    def one(row: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        parts = row.split([shape.numel() for shape in shapes])
        parts = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return call_model(lambda x, t: functional_call(model, parts, (x, t)), x_t, t)

    def forward(rows: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if one_by_one:
            return torch.stack([one(*member) for member in zip(rows, x_t, t, strict=True)])
        with _Products() if device.type == "cuda" else nullcontext():
            return vmap(one, randomness="different")(rows, x_t, t)

    x, before = torch.stack([x0[:2] for x0 in x0s[:2]]), copy.deepcopy(dict(model.named_buffers()))
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(cuda), config.autocast(device):
            forward(_rows(models[:2]), x, torch.zeros(x.shape[:2], dtype=torch.int64, device=device))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"member 0: a fleet cannot train {name} ({reason}); use `train`, one by one") from error
    if changed := [key for key, buffer in model.named_buffers() if not torch.equal(buffer, before[key])]:
        raise ValueError(f"member 0: {', '.join(changed)} of {name} changes in its forward pass; use `train`")
    return forward


class _Products(TorchFunctionMode):
    """Convolutions of signals as one matrix product of all networks' weights and windows of x: with it a GPU takes 0.7
    of the time for a step that it takes with the grouped convolution which vmap makes of them. For images it is the
    other way round (tests/benchmarks/README.md)."""

    def __torch_function__(self, function: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.conv1d or len(args) != 7 or not isinstance(args[3], tuple):  # else as torch.nn calls it
            return function(*args, **kwargs or {})
        x, weight, bias, (stride,), padding, dilation, groups = args
        if groups != 1 or dilation != (1,) or isinstance(padding, str):
            return function(*args)
        windows = F.pad(x, padding * 2).unfold(2, weight.shape[2], stride)
        out = torch.einsum("oci,bcli->bol", weight, windows)
        return out if bias is None else out + bias.to(out.dtype)[:, None]


def _form(model: nn.Module) -> list:
    """All of a network but the values of its parameters: types and settings of its layers, functions among them,
    buffers, shapes. What cannot be compared differs."""
    form: list = [(name, p.shape, p.dtype) for name, p in model.named_parameters()]
    for part in model.modules():
        held = {k: v for k, v in (vars(part) | part._buffers).items() if k not in _OWN}
        form.append((type(part), {k: v.tolist() if isinstance(v, Tensor) else v for k, v in held.items()}))
    return form
