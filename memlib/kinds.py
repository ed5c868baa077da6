"""What kind of thing an argument must be, checked by its annotation: the one place that tells `"0.5"` from 0.5."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from numbers import Integral, Real
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

P, R = ParamSpec("P"), TypeVar("R")
INDICES = (torch.int32, torch.int64)  # of what indexes: torch takes bytes and bools for a mask


def check_kinds(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function so that an argument which is not what its annotation says is a TypeError that names it.

    As `is_kind` reads annotations; of `self` nothing is asked.
    """
    signature = inspect.signature(function)
    hints = cache(lambda: get_type_hints(function))  # read at the first call: a class may be defined below

    @wraps(function)
    def checked(*arguments: P.args, **named: P.kwargs) -> R:
        for name, value in signature.bind(*arguments, **named).arguments.items():
            if name in hints() and not is_kind(value, hints()[name]):
                wanted = inspect.formatannotation(signature.parameters[name].annotation).strip("'")
                raise TypeError(f"{name} = {value!r:.60}, a {type(value).__name__}; need {wanted}")
        return function(*arguments, **named)

    return checked


@contextmanager
def naming_keys(name: str) -> Iterator[None]:
    """Decorates a function so that a key which a mapping lacks is a ValueError that names the argument."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{name} lacks the key {error}") from error


def is_kind(value: Any, hint: Any) -> bool:
    """Whether `value` and what it holds are of the kind `hint`, read as one would aloud.

    A number may be NumPy's, a float an integer or of no dimension, and neither may be a bool. A sequence or an array is
    whatever has a length and an order, a model whatever can be called; text is neither. An iterator is not looked into.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return True
    if kind in (Union, UnionType):
        return any(is_kind(value, part) for part in parts)
    if kind is float and isinstance(value, np.ndarray | Tensor):
        return value.ndim == 0 and is_kind(value.item(), float)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind in (Callable, nn.Module):
        return callable(value) and (kind is Callable or not isinstance(value, type))
    if kind is Mapping or kind is dict:
        is_one = isinstance(value, kind)
        return is_one and (not parts or all(is_kind(k, parts[0]) and is_kind(v, parts[1]) for k, v in value.items()))
    if kind is tuple and Ellipsis not in parts:
        fits = isinstance(value, tuple | list) and len(value) == len(parts)
        return fits and all(map(is_kind, value, parts))
    if kind in (Sequence, Iterable, Collection, tuple, list, np.ndarray):
        return _is_row(value, kind) and (not parts or _holds(value, parts[0]))
    return isinstance(value, kind)


def _is_row(value: Any, kind: Any) -> bool:
    if isinstance(value, str | bytes) or (isinstance(value, Mapping) and kind not in (Iterable, Collection)):
        return False
    if kind in (tuple, list):
        return isinstance(value, tuple | list)
    return isinstance(value, Iterable) and (
        kind in (Iterable, Collection) or (hasattr(value, "__len__") and hasattr(value, "__getitem__"))
    )


def _holds(value: Iterable[Any], part: Any) -> bool:
    if isinstance(value, np.ndarray | Tensor):
        if part is int:
            return value.ndim == 1 and all(is_kind(each, int) for each in value.tolist())
        return _holds_numbers(value) and (part in (float, bool, Any) or get_origin(part) is Sequence)
    return isinstance(value, Iterator) or all(is_kind(each, part) for each in value)


def _holds_numbers(value: np.ndarray | Tensor) -> bool:
    return not value.is_complex() if isinstance(value, Tensor) else value.dtype.kind in "biuf"


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
