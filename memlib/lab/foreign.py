"""What `python -m memlib audit` is given: items in files, features by name, and how signals are compared."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memlib.checks import channels_last
from memlib.lab.own import ARRAYS, PICTURES, arrays, pictures


def read_items(path: Path) -> Tensor:
    """The items (N, *D) of an .npy or .npz file, channels first whatever their layout there, or the pictures of a
    folder as uint8 (N, 3, H, W), by name."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if not files:
            raise ValueError(f"{path} holds no picture ({', '.join(PICTURES)})")
        found = pictures(((str(file), file) for file in files), None, square=False)
        return torch.from_numpy(found.repeat(3 // found.shape[3], 3)).permute(0, 3, 1, 2).contiguous()
    if not path.is_file() or path.suffix.lower() not in ARRAYS:
        raise FileNotFoundError(f"{path} is none of a folder of pictures, an .npy or an .npz file; need one of these")
    if len(held := arrays(path)) != 1:
        raise ValueError(f"{path} holds the arrays {', '.join(held)}; need exactly one")
    items = torch.from_numpy(np.ascontiguousarray(*held.values()))
    if channels_last(items.shape):
        return items.movedim(-1, 1).contiguous()
    grey = items.ndim == 3 and items.shape[1] == items.shape[2]
    return items[:, None] if grey or (items.ndim == 2 and items.shape[1] > 3) else items  # a signal a row, else points


def features_of(name: str) -> Callable[[Tensor], Tensor]:
    """The features that a network of `timm` gives for pictures in [0, 255], [0, 1] or [-1, 1], resized to its input."""
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        cure = "pip install timm, or give `memlib.audit.audit` a function or arrays"
        raise ValueError(f"features {name!r} need timm, which is not installed; {cure}") from error
    network = timm.create_model(name, pretrained=True, num_classes=0).eval()
    config: dict[str, Any] = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))

    def features(x: Tensor) -> Tensor:
        x = x / 255 if x.max() > 1.5 else (x + 1) / 2 if x.min() < 0 else x
        x = F.interpolate(x.expand(-1, 3, -1, -1), config["input_size"][1:], mode="bilinear", antialias=True)
        return network((x - mean) / std)

    return features


def warped(a: Tensor, b: Tensor) -> Tensor:
    """(P,) distances of pairs of signals (P, C, L) under dynamic time warping, within a tenth of their length."""
    dtw, window = import_module("dtaidistance.dtw_ndim"), max(1, a.shape[2] // 10)
    pairs = zip(*(x.double().transpose(1, 2).contiguous().numpy() for x in (a, b)), strict=True)
    return torch.tensor([dtw.distance_fast(*pair, window=window) for pair in pairs], dtype=torch.float64)
