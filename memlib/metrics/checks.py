"""What every measure accepts, so that all refuse the same things in the same words."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Items = Tensor | np.ndarray  # floating-point numbers of shape (B, *D)
LARGEST = 1e150  # a square, and a sum of squares, must not overflow


def checked(**sets: Items) -> list[Tensor]:
    """The sets (B, *D) as tensors without gradients, in float32 at least. Train and held_out must be equally many."""
    tensors: list[Tensor] = []
    for name, given in sets.items():
        if not isinstance(given, Tensor | np.ndarray):
            raise TypeError(f"{name} must be a tensor or an array of shape (B, *D), got {type(given).__name__}")
        x = torch.from_numpy(np.ascontiguousarray(given)) if isinstance(given, np.ndarray) else given.detach()
        if not x.is_floating_point():
            cure = "x / 127.5 - 1 for images" if x.dtype == torch.uint8 else "x.float()"
            raise TypeError(f"{name} holds {x.dtype}; convert it to the scale of the other sets ({cure})")
        if x.ndim < 2 or not x.numel():
            problem = "has no axis for the values of an item" if x.numel() else "is empty"
            raise ValueError(f"{name} {problem}, shape {tuple(x.shape)}; need (B, *D) with at least one item")
        first, like = next(iter(sets)), tensors[0] if tensors else x
        if x.shape[1:] != like.shape[1:] or x.device != like.device:
            both = (f"{n} has items of shape {tuple(s.shape[1:])} on {s.device}" for n, s in ((name, x), (first, like)))
            raise ValueError(f"{', '.join(both)}; make them equal")
        tensors.append(x := x.to(torch.promote_types(x.dtype, torch.float32)))
        if not torch.isfinite(x.sum()) and (bad := int((~torch.isfinite(x)).sum())):  # a finite sum has finite terms
            raise ValueError(f"{name} holds {bad} value(s) that are NaN or infinite; drop these items")
        if x.dtype == torch.float64 and (peak := float(x.abs().max())) > LARGEST:
            raise ValueError(f"{name} holds {peak:g}, whose square is not finite; scale it to at most {LARGEST:g}")
    if {"train", "held_out"} <= sets.keys() and len(sets["train"]) != len(sets["held_out"]):
        sizes = f"held_out has {len(sets['held_out'])} items and train {len(sets['train'])}"
        raise ValueError(f"{sizes}; make them equally many, for the larger set is nearer by chance")
    return tensors


def check_items(name: str, x: Tensor, least: int, why: str) -> None:
    """Raise unless the set has at least `least` items."""
    if len(x) < least:
        raise ValueError(f"{name} has {len(x)} item(s); need at least {least}: {why}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise unless low < value < high; NaN is refused too."""
    if not low < value < high:
        raise ValueError(f"{name} must lie strictly between {low:g} and {high:g}, got {value}")
