"""One place that says what every metric accepts, so that all of them refuse the same things in the same words."""

from numbers import Real

import torch
from torch import Tensor

LARGEST = 1e150  # a square, and a sum of squares, must not overflow


def checked(**sets: Tensor) -> tuple[Tensor, ...]:
    """The named sets, flattened to (B, D), detached and in float32 at least, once they have passed.

    Raises TypeError for what is not a floating-point tensor; ValueError for a set without a feature axis, an empty
    set, NaN, infinity or a value beyond 1e150, and sets that differ in the shape of an item or in device.
    """
    first_name, first = next(iter(sets.items()))
    for name, x in sets.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor of shape (B, *D), got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(
                f"{name} must hold floating-point numbers, got {x.dtype}: convert it to the scale of the other sets"
            )
        if x.ndim < 2:
            raise ValueError(f"{name} must have shape (B, *D), got {tuple(x.shape)}: the first axis counts the items")
        if x.numel() == 0:
            raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: give at least one item")
        if x.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{name} has items of shape {tuple(x.shape[1:])} and {first_name} of shape {tuple(first.shape[1:])}: "
                "they must be equal"
            )
        if x.device != first.device:
            raise ValueError(f"{name} is on {x.device} and {first_name} on {first.device}: move them to one device")
        # A finite sum has finite terms only; the slower look at each value is needed where it is not.
        if not torch.isfinite(x.sum()) and (bad := int((~torch.isfinite(x)).sum())):
            raise ValueError(f"{name} holds {bad} value(s) that are NaN or infinite: every value must be finite")
        if x.dtype == torch.float64 and (peak := float(torch.linalg.vector_norm(x.detach(), torch.inf))) > LARGEST:
            raise ValueError(f"{name} holds {peak:g}, whose square is not finite: scale it to at most {LARGEST:g}")
    return tuple(x.detach().flatten(1).to(torch.promote_types(x.dtype, torch.float32)) for x in sets.values())


def check_points(name: str, x: Tensor, least: int, why: str) -> None:
    """Raise unless the set `x` has at least `least` items."""
    if len(x) < least:
        raise ValueError(f"{name} has {len(x)} item(s), but {why}: give at least {least}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise unless low < value < high; NaN is refused too."""
    check_number(name, value)
    if not low < value < high:
        raise ValueError(f"{name} must lie strictly between {low:g} and {high:g}, got {value}")


def check_number(name: str, value: float) -> None:
    """Raise TypeError unless `value` is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r:.100}")


def check_flag(name: str, value: bool) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r:.100}")


def check_generator(generator: torch.Generator) -> None:
    """Raise unless randomness comes from a generator: a global seed would make results hang on call order."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
