"""What a training needs to go on, as one file: tensors by safetensors, all else as JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from memlib.lab.files import write_atomically

_REST = "rest"


def write(path: Path, content: Any) -> None:
    """Write dicts, lists, numbers, texts and tensors, nested: a sha256, then a safetensors file.

    Raises OSError, naming the path, where it cannot be written; an earlier file stays as it was.
    """
    tensors: dict[str, Tensor] = {}
    rest = json.dumps(_plain(content, tensors)).encode()
    tensors[_REST] = torch.frombuffer(bytearray(rest), dtype=torch.uint8)
    packed = save(tensors)
    write_atomically(path, hashlib.sha256(packed).digest() + packed)


def read(path: Path) -> Any:
    """What was written, tuples as lists, tensors on the CPU.

    Raises ValueError for a file that is not what was written: a flipped bit would go on unseen in the weights.
    """
    whole = path.read_bytes()
    if hashlib.sha256(whole[32:]).digest() != whole[:32]:
        raise ValueError(f"{path} is damaged: its sha256 does not fit")
    tensors = load(whole[32:])
    return _rich(json.loads(tensors.pop(_REST).numpy().tobytes()), tensors)


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """For JSON: a tensor as its number among `tensors`, a dict as pairs, since its keys may be integers."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.contiguous()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[key, _plain(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(part, tensors) for part in value]
    return value


def _rich(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _rich(part, tensors) for key, part in value["dict"]}
    if isinstance(value, list):
        return [_rich(part, tensors) for part in value]
    return value
