"""The few checks that several modules share."""

from numbers import Integral

import torch
from torch import Tensor

INDICES = (torch.int32, torch.int64)  # of what indexes: torch takes bytes and bools for a mask


def check_count(value: int, name: str, least: int) -> None:
    """Raise unless `value` is an integer from `least` to 2**63 - 1: TypeError for another type, else ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} = {value!r}; need an integer")
    if value < least:
        raise ValueError(f"{name} = {value}; need at least {least}")
    if value >= 2**63:
        raise ValueError(f"{name} = {value}; need less than 2**63")


def check_batch(x: Tensor, t: Tensor, like: Tensor | None = None) -> None:
    """Raise TypeError or ValueError unless x (B, *D) is of `like`'s dtype (any, where it is autocast) and t is (B,)."""
    cast = like is None or x.dtype == like.dtype or torch.is_autocast_enabled(x.device.type)
    if not (x.is_floating_point() and cast):
        raise TypeError(f"x has dtype {x.dtype}; need {'floating-point numbers' if like is None else like.dtype}")
    if t.shape != x.shape[:1]:
        raise ValueError(f"t has shape {tuple(t.shape)}; need a timestep for each of the {len(x)} examples in x")
