"""The boundary: how numbers, data and models of any origin enter memlib, and where it computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Predictor = nn.Module | Callable[[Tensor, Tensor], Tensor]  # model(x_t (B, *D), t (B,)) -> predicted noise (B, *D)
Items = Tensor | np.ndarray[Any, Any]  # finite floating-point numbers (B, *D)


def check_count(value: int, name: str, least: int) -> None:
    """Raise TypeError unless `value` is an integer, ValueError unless it is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} = {value!r}; need an integer")
    if not least <= value < 2**63:
        raise ValueError(f"{name} = {value}; need at least {least} and less than 2**63")


def check_batch(x: Tensor, t: Tensor, T: int | None = None) -> None:
    """Raise unless x (B, *D) is floating-point and t (B,) holds a timestep for each row; given T, one of 0..T-1."""
    if not x.is_floating_point() or (T is not None and t.dtype not in (torch.int32, torch.int64)):
        raise TypeError(f"x has dtype {x.dtype}, t has dtype {t.dtype}; need floating-point data, int64 timesteps")
    if t.shape != x.shape[:1]:
        raise ValueError(f"x has shape {(*x.shape,)}, t has shape {(*t.shape,)}; need a timestep for each row of x")
    if T is not None and len(t) and not (t.min() >= 0 and t.max() < T):
        raise ValueError(f"t spans [{t.min().item()}, {t.max().item()}]; timesteps lie in 0..{T - 1}")


def as_tensor(values: Any) -> Tensor:
    """A tensor as it is; of anything else, a copy of what NumPy makes of it, in this machine's byte order."""
    if isinstance(values, Tensor):
        return values
    if (array := np.asarray(values)).dtype == object:
        raise TypeError(f"a {type(values).__name__} is no tensor or array of numbers; pass the one that it holds")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def vector(values: Any, name: str) -> Tensor:
    """`values` as a finite (n,) float64 tensor on the CPU that shares no memory with them."""
    out = as_tensor(values).detach().cpu().to(torch.float64, copy=True)
    if out.ndim != 1 or not len(out) or not out.isfinite().all():
        raise ValueError(f"{name} has shape {(*out.shape,)} or holds NaN or infinity; need (n,) finite numbers")
    return out


def examples(values: Any, name: str) -> Tensor:
    """`values` as finite floating-point examples (N, *D) without gradients."""
    out = as_tensor(values).detach().contiguous()
    if not out.is_floating_point():
        raise TypeError(f"{name} is {out.dtype}; need floating-point values, such as pixels / 127.5 - 1")
    if out.ndim < 2 or not out.numel() or not out.isfinite().all():
        raise ValueError(f"{name} has shape {(*out.shape,)} or holds NaN or infinity; need finite (N, *D), N >= 1")
    return out


def checked(**sets: Items) -> list[Tensor]:
    """`examples` of several sets with items of one shape, in float32 at least; train and held_out equally many."""
    tensors = [examples(given, name) for name, given in sets.items()]
    for name, x in zip(sets, tensors, strict=True):
        if channels_last(x.shape):
            raise ValueError(f"{name} has shape {(*x.shape,)}; need channels first, (N, C, ...): x.movedim(-1, 1)")
    if len({x.shape[1:] for x in tensors}) > 1:
        shapes = ", ".join(f"{name} {(*x.shape,)}" for name, x in zip(sets, tensors, strict=True))
        raise ValueError(f"the shapes are {shapes}; need items of one shape")
    if {"train", "held_out"} <= sets.keys() and len(sets["train"]) != len(sets["held_out"]):
        sizes = f"held_out has {len(sets['held_out'])} items and train {len(sets['train'])}"
        raise ValueError(f"{sizes}; make them equally many, for the larger set is nearer by chance")
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def placement(model: Predictor, schedule: Any = None) -> tuple[torch.device | None, torch.dtype | None]:
    """The device and the precision in which a model computes; None where it holds no tensor that tells. Given the
    Schedule that it is to be used with, raise ValueError if it was made with another (as a `Denoiser` may be)."""
    module = model if isinstance(model, nn.Module) else nn.Module()  # a function holds nothing
    for own in (getattr(part, "schedule", None) for part in (model, *module.modules())):
        if schedule is not None and isinstance(own, type(schedule)) and own != schedule:
            raise ValueError(f"the model is of {own!r}, not of {schedule!r}; give both the one that it learnt with")
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    held = next(module.buffers(), None) if first is None else first
    return None if held is None else held.device, None if first is None else first.dtype


def call_model(model: Predictor, x: Tensor, t: Tensor) -> Tensor:
    """The noise (B, *D) predicted for x (B, *D) at t (B,): what the model returns, or its `.sample` (diffusers)."""
    output = model(x, t)
    eps = getattr(output, "sample", output)
    if not isinstance(eps, Tensor):
        cure = "wrap it in a module that returns the predicted noise as a tensor of x's shape"
        raise TypeError(f"the model, a {type(model).__name__}, returns a {type(output).__name__}; {cure}")
    if eps.shape != x.shape:  # it would broadcast
        raise ValueError(f"the model, a {type(model).__name__}, turns x {(*x.shape,)} into {(*eps.shape,)}; need equal")
    return eps


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether this is the shape of pictures (N, H, W, C), not (N, C, H, W), or of signals (N, L, 1), not (N, 1, L)."""
    channels = (1, 3, 4) if len(shape) == 4 else (1,)
    small = len(shape) == 4 and shape[2] == shape[3]  # latents (N, C, 4, 4)
    return len(shape) in (3, 4) and shape[-1] in channels and shape[1] not in channels and not small


@contextmanager
def evaluating(model: Predictor) -> Iterator[None]:
    """No gradients, and evaluation mode; afterwards every submodule has its own mode again."""
    training = [part for part in model.modules() if part.training] if isinstance(model, nn.Module) else []
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


def check_device(device: str | torch.device) -> torch.device:
    """The device; RuntimeError if this machine, or this build of torch, does not have it."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: a build of torch without CUDA
        raise RuntimeError(f"device = {str(device)!r} cannot be used; try device='cpu'") from error
    return torch.device(device)
