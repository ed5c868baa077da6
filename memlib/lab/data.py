"""The data sets by name: points made on the spot, emoji shipped with the repository, the others downloaded and checked.

`load` gives three disjoint parts, redrawn per seed: `train`, `held_out`, and `fresh`, real items that play neither part
and give every memorization measure its null. Where each set comes from, its licence and its hashes: data/README.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memlib.checks import check_count
from memlib.lab.download import BROKEN, DownloadError, digest_of, obtain
from memlib.lab.sources import ECG5000, SOURCES, build_ecg5000, build_flowers102, build_pokemon

DATA = Path(__file__).resolve().parents[2] / "data"  # of the clone that memlib is installed from
DOWNLOADS = DATA / "downloads"
NOISE = 0.05  # standard deviation about a curve of unit scale: low, so that copying a point can be told from learning
LICENCES = {
    "emoji": "CC-BY 4.0, Twemoji graphics, Copyright Twitter, Inc and other contributors",
    "ecg5000": "none stated (the archive asks to be cited)",
    "pokemon": "none open: the artwork belongs to Nintendo, Creatures and GAME FREAK",
    "flowers102": "none stated",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint parts of one data set, float32 (N, *D): (N, 2) points, (N, 1, L) signals, (N, 3, S, S) images.

    value_range: (-1, 1) for images, else the smallest and largest value of the whole set. kind: "points", "signal" or
    "image". sha256: of the whole set's content as used here (duplicates dropped, images at this size), before the draw.
    """

    name: str
    train: Tensor
    held_out: Tensor
    fresh: Tensor
    value_range: tuple[float, float]
    kind: str
    licence: str
    source: str
    sha256: str

    @property
    def clip(self) -> tuple[float, float] | None:
        """To what samplers confine a predicted x0, as is usual for images: the value range; None for all else."""
        return self.value_range if self.kind == "image" else None


def load(
    name: str,
    n_train: int = 64,
    *,
    n_held_out: int | None = None,
    n_fresh: int | None = None,
    seed: int = 0,
    image_size: int = 32,
) -> Dataset:
    """Load a data set by name (`NAMES`) and draw its three parts from a generator of this seed.

    n_held_out is n_train unless given ("closer to train than to held-out" needs equal sizes); n_fresh is what is left,
    up to 512. image_size is 32 or 64 pixels and only concerns images. MEMLIB_DATA names a folder to look in first.
    Raises ValueError for an unknown name, sizes below 2 (train) or 0, a set too small for what is asked, an image_size
    that the set does not have, a damaged file; TypeError for sizes that are no integers; FileNotFoundError, naming the
    choices, for a set that is not here and cannot be fetched; OSError, naming the path, where it cannot be written.
    """
    if name not in NAMES:
        raise ValueError(f"name = {name!r} is no data set; the choices are {', '.join(NAMES)}")
    n_held_out = n_train if n_held_out is None else n_held_out
    for value, argument, least in ((n_train, "n_train", 2), (n_held_out, "n_held_out", 0), (seed, "seed", 0)):
        check_count(value, argument, least)
    check_count(0 if n_fresh is None else n_fresh, "n_fresh", 0)
    check_image_size(image_size)

    generator = torch.Generator().manual_seed(int(seed))
    if name in CURVES:
        items = _points(name, n_train + n_held_out + (512 if n_fresh is None else n_fresh), generator)
    elif name == "ecg5000":
        items = _without_duplicates(_ecg5000())
    else:
        images = {"emoji": _emoji, "pokemon": _pokemon, "flowers102": _flowers102}[name]()
        items = _without_duplicates(_resized(images, image_size, name))

    left = len(items) - n_train - n_held_out
    if left < (1 if n_fresh is None else n_fresh):
        asked = (
            f"n_train = {n_train}, n_held_out = {n_held_out}, n_fresh = {'at least 1' if n_fresh is None else n_fresh}"
        )
        raise ValueError(f"{name} has {len(items)} items, too few for {asked}; ask for fewer")
    n_fresh = min(512, left) if n_fresh is None else n_fresh
    drawn = torch.from_numpy(items[torch.randperm(len(items), generator=generator)[: n_train + n_held_out + n_fresh]])
    is_image = items.dtype == np.uint8
    if is_image:
        drawn = drawn.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    train, held_out, fresh = (part.clone() for part in drawn.split([n_train, n_held_out, n_fresh]))
    return Dataset(
        name=name,
        train=train,
        held_out=held_out,
        fresh=fresh,
        value_range=(-1.0, 1.0) if is_image else (float(items.min()), float(items.max())),
        kind=kind_of(name),
        licence=LICENCES.get(name, "MIT (made by memlib)"),
        source=SOURCES.get(name, "made by memlib"),
        sha256=hashlib.sha256(items.tobytes()).hexdigest(),
    )


def _spiral(u: Tensor) -> Tensor:  # the root spreads the points evenly along the arm
    angle = 3 * pi * u.sqrt()
    return torch.stack([angle * angle.cos(), angle * angle.sin()], 1)


def _moons(u: Tensor) -> Tensor:
    angle, upper = 2 * pi * u % pi, (u < 0.5)[:, None]
    x, y = angle.cos(), angle.sin()
    return torch.where(upper, torch.stack([x, y], 1), torch.stack([1 - x, 0.5 - y], 1))


def _rings(u: Tensor) -> Tensor:  # twice the length, twice the points
    radius, angle = torch.where(u < 1 / 3, 0.5, 1.0), torch.where(u < 1 / 3, 6 * pi * u, 3 * pi * (u - 1 / 3))
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def _gaussians(u: Tensor) -> Tensor:
    angle = (8 * u).floor() * pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1)


CURVES: dict[str, Callable[[Tensor], Tensor]] = {  # u (N,) in [0, 1) -> (N, 2)
    "spiral": _spiral,
    "moons": _moons,
    "rings": _rings,
    "gaussians": _gaussians,
}
NAMES = (*CURVES, *SOURCES)
IMAGE_SIZES = (32, 64)


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless images can be had at this size."""
    if image_size not in IMAGE_SIZES:
        raise ValueError(f"image_size = {image_size!r}; choose one of {IMAGE_SIZES}")


def kind_of(name: str) -> str:
    """What the items of a data set are: "points", "signal" or "image"."""
    return "points" if name in CURVES else "signal" if name == "ecg5000" else "image"


def _points(name: str, n: int, generator: torch.Generator) -> np.ndarray:
    """(n, 2) float32 points about a curve, scaled by the curve's own moments: no point depends on the others."""
    curve = CURVES[name]
    grid = curve((torch.arange(4096, dtype=torch.float64) + 0.5) / 4096)
    centre = grid.mean(0)
    scale = (grid - centre).square().mean().sqrt()
    clean = (curve(torch.rand(n, generator=generator, dtype=torch.float64)) - centre) / scale
    return (clean + NOISE * torch.randn(n, 2, generator=generator, dtype=torch.float64)).float().numpy()


def _without_duplicates(items: np.ndarray) -> np.ndarray:
    """The first of each set of equal items: two copies in the training set would hide memorization of either."""
    first = {item.tobytes(): i for i, item in reversed(list(enumerate(items)))}
    return items[sorted(first.values())]


def _resized(images: np.ndarray, size: int, name: str) -> np.ndarray:
    from PIL import Image

    kept = images.shape[1]
    if size > kept:
        raise ValueError(f"image_size = {size}, but {name} is kept at {kept} x {kept} pixels; ask for {kept}")
    if size == kept:
        return images
    return np.stack([np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.LANCZOS)) for x in images])


def _reader_folder(name: str) -> Path | None:
    """The reader's own copy, MEMLIB_DATA/name, if there is one."""
    root = os.environ.get("MEMLIB_DATA")
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f"MEMLIB_DATA = {root!r} is not a folder")
    return Path(root) / name if root and (Path(root) / name).is_dir() else None


def _folder(name: str, files: tuple[str, ...], build: Callable[[Path], None]) -> Path:
    """The reader's own copy of a data set, else the one in data/downloads, built there if need be."""
    try:
        return _reader_folder(name) or obtain(DOWNLOADS / name, files, build)
    except DownloadError as error:
        raise FileNotFoundError(
            f"data set {name!r} is not on this machine and could not be fetched: {error}. The choices: set MEMLIB_DATA "
            f"to a folder that holds {name}/{files[0]}; or reach {SOURCES[name]}; or load a set that needs no network: "
            f"{', '.join(CURVES)}, emoji"
        ) from error


def _read_images(path: Path) -> np.ndarray:
    """(N, S, S, 3) uint8 from an .npz with `images`, or with `jpeg_bytes` and `offsets`."""
    from PIL import Image

    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if "images" in file:
                images = file["images"]
            else:
                whole, ends = file["jpeg_bytes"].tobytes(), file["offsets"].tolist()
                parts = (Image.open(io.BytesIO(whole[a:b])) for a, b in pairwise(ends))
                images = np.stack([np.asarray(part.convert("RGB")) for part in parts])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, *BROKEN) as error:
        raise ValueError(f"{path} is damaged or no picture file of the layout in data/README.md ({error})") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"{path} holds {images.dtype} of shape {images.shape}; need uint8 (N, S, S, 3)")
    return images


def _emoji() -> np.ndarray:
    if folder := _reader_folder("emoji"):
        return _read_images(folder / "emoji.npz")
    try:
        expected = json.loads((DATA / "emoji.json").read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{DATA / 'emoji.json'} is damaged ({error!r}); restore it with git") from error
    if digest_of(DATA / "emoji.npz") != f"sha256:{expected}":
        raise ValueError(f"{DATA / 'emoji.npz'} is damaged: its sha256 is not that of emoji.json; restore it with git")
    return _read_images(DATA / "emoji.npz")


def _ecg5000() -> np.ndarray:
    """(5000, 1, 140) float32: the published training and test rows pooled, without their labels."""
    folder = _folder("ecg5000", tuple(ECG5000), build_ecg5000)
    for name, expected in ECG5000.items():
        if (found := digest_of(folder / name)) != expected:
            raise ValueError(f"{folder / name} is damaged or another edition: it has {found}, expected {expected}")
    return np.concatenate([np.loadtxt(folder / name, dtype=np.float32) for name in ECG5000])[:, None, 1:].copy()


def _pokemon() -> np.ndarray:
    file = "pokemon_64.npz"
    return _read_images(_folder("pokemon", (file,), build_pokemon) / file)


def _flowers102() -> np.ndarray:
    """All, or, where MEMLIB_DATA holds only that file, the 1,020 of the published training part."""
    folder = _folder("flowers102", ("flowers102_64.npz",), build_flowers102)
    choices = [folder / f"flowers102_{form}.npz" for form in ("64", "all_64_jpeg", "train_64")]
    return _read_images(next((path for path in choices if path.is_file()), choices[0]))
