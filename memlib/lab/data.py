"""The data sets by name: points made on the spot, emoji shipped with memlib, the others downloaded and checked, any
set of the UCR archive as "ucr/NAME"; and a reader's own, by the path of a folder or a file.

Origins, licences and hashes: data/README.md."""

import hashlib
import io
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from memlib.checks import check_count
from memlib.lab import own
from memlib.lab.files import CLONE, DATA, folder_from, home, write_atomically
from memlib.lab.made import CURVES, MADE, MIXTURES, curve, points
from memlib.lab.sources import SOURCES, UCR, build, check_ecg5000, make_ready, source_of, ucr_name

DOWNLOADS = home() / ("data/downloads" if CLONE else "downloads")
LICENCES = {
    "emoji": "CC-BY 4.0, Twemoji graphics, Copyright Twitter, Inc and other contributors",
    "ecg5000": "none stated (the archive asks to be cited)",
    "pokemon": "none open: the artwork belongs to Nintendo, Creatures and GAME FREAK",
    "flowers102": "none stated",
}
NAMES = (*MADE, *SOURCES)
REFERENCE = 2000  # real items at most in the large reference, or four times the training set


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Three disjoint parts of one data set, float32 (N, *D): (N, dim) points, (N, 1, L) signals, (N, 3, S, S) images.

    fresh: real items that give every memorization measure its null.
    reference: many real items, none of train or fresh, to measure quality against: of curves the curve itself at 4,096
    points, of mixtures 2,000 new draws, else held_out and what is left, up to 2,000.
    value_range: (-1, 1) for images, else the smallest and largest value of the full set. kind: "points", "signal" or
    "image". sha256: of the full set's content before the draw, without duplicates, images at this size. A reader's own
    data have a path as name, and `notes` of how they were understood."""

    name: str
    train: Tensor
    held_out: Tensor
    fresh: Tensor
    reference: Tensor
    value_range: tuple[float, float]
    kind: str
    licence: str
    source: str
    sha256: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = ("train", "held_out", "fresh", "reference")
        sizes = ", ".join(f"{part}={(*getattr(self, part).shape,)}" for part in parts)
        return f"Dataset({self.name!r}, {sizes}, kind={self.kind!r})"

    @property
    def clip(self) -> tuple[float, float] | None:
        """The range that samplers confine a predicted x0 to: the value range for images, None for all else."""
        return self.value_range if self.kind == "image" else None


def load(
    name: str | Path | Dataset, n_train: int = 64, *, n_held_out: int | None = None, n_fresh: int | None = None,
    seed: int = 0, image_size: int | None = 32,
) -> Dataset:  # fmt: skip
    """Load a data set by name (`NAMES`, or "ucr/NAME"), or a reader's own by its path, and draw its three parts from a
    generator of this seed.

    n_held_out defaults to n_train ("closer to train than to held-out" needs equal sizes), n_fresh to what is left, up
    to 512. image_size, in pixels, concerns images only: 64 at most, emoji 32. The folder MEMLIB_DATA, if set, is looked
    in first. Raises FileNotFoundError, naming the choices, if the set is not here and cannot be fetched."""
    check_count(n_train, "n_train", 2)
    check_count(seed, "seed", 0)
    name, notes, reference, most = named(name), tuple[str, ...](), None, max(REFERENCE, 4 * n_train)
    generator = torch.Generator().manual_seed(int(seed))
    n_held_out = n_train if n_held_out is None else n_held_out
    if name in MADE:
        kind, licence, source = "points", "MIT (made by memlib)", "made by memlib"
        n_fresh = 512 if n_fresh is None else n_fresh
        items = points(name, n_train + n_held_out + n_fresh, generator)
        reference = torch.from_numpy(points(name, most, generator)) if name in MIXTURES else curve(name).float()
    elif is_known(name):
        kind, licence, source = kind_of(name), LICENCES["ecg5000" if ucr_name(name) else name], source_of(name)
        items = _signals(name) if kind == "signal" else _images(name, image_size or 32)
        # one of each: two copies of an item in the training set would hide memorization of either
        items = np.stack([*{item.tobytes(): item for item in items}.values()])
    else:
        found = own.read(Path(name), image_size)
        items, kind, notes, licence, source = found.items, found.kind, found.notes, "the reader's own", name
    n_fresh = max(1, min(512, len(items) - n_train - n_held_out)) if n_fresh is None else n_fresh
    sizes = [n_train, n_held_out, n_fresh]
    if len(items) < sum(sizes):
        asked = f"n_train = {n_train}, n_held_out = {n_held_out} and n_fresh = {n_fresh}"
        raise ValueError(f"{name} has {len(items)} items, too few for {asked}; ask for fewer")
    order = torch.randperm(len(items), generator=generator)
    drawn = torch.from_numpy(items[order[: sum(sizes) + (most if reference is None else 0)]])
    if items.dtype == np.uint8:
        drawn = drawn.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    train, held_out, fresh, left = (part.clone() for part in drawn.split([*sizes, len(drawn) - sum(sizes)]))
    reference = torch.cat([held_out, left])[:most] if reference is None else reference
    span = (-1.0, 1.0) if items.dtype == np.uint8 else (float(items.min()), float(items.max()))
    value_range = (-1.0, 1.0) if kind == "image" and span[0] >= -1 and span[1] <= 1 else span
    content = _sha256(items, "" if is_known(name) else kind)
    return Dataset(name, train, held_out, fresh, reference, value_range, kind, licence, source, content, notes)


def from_file(
    path: str | Path, n_train: int | None = None, *, seed: int = 0, image_size: int | None = None, **sizes: int
) -> Dataset:
    """A reader's own data, split in three: a folder of pictures (PNG, JPEG, WebP), arrays (.npy, .npz), or signals, one
    a line (.csv, .txt, .tsv, .ts).

    n_train defaults to a third of the items; the rest is as in `load`. image_size: pictures are cut to squares and
    shrunk to it; without it they must be squares of one size."""
    third = (len(own.read(Path(path).resolve(), image_size).items) - 1) // 3
    if n_train is None and third < 2:
        raise ValueError(f"{path} has fewer than seven different items; need two to train, four besides, a fresh one")
    return load(path, third if n_train is None else n_train, seed=seed, image_size=image_size, **sizes)


from_folder = from_file


def from_items(
    items: Any, n_train: int | None = None, *, name: str = "own", column: str | None = None,
    seed: int = 0, image_size: int | None = None, **sizes: int,
) -> Dataset:  # fmt: skip
    """The same from a tensor or array, a list of pictures, or a data set of torch or Hugging Face (`column`: the one to
    be learnt). They are kept under DOWNLOADS, so that runs, in other processes and later, find them by their path."""
    found = own.understand(own.collect(items, image_size, column), "items", image_size)
    path = DOWNLOADS / "own" / _sha256(found.items, found.kind)[:16] / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(packed := io.BytesIO(), items=found.items, memlib_kind=found.kind, notes=list(found.notes))
    with FileLock(f"{path}.lock"):  # several processes may be given the same items
        write_atomically(path, packed.getvalue())
    return from_file(path, n_train, seed=seed, image_size=image_size, **sizes)


def _sha256(items: np.ndarray, own_kind: str) -> str:
    """Of the items; of a reader's own also of what they are, since the same numbers may be signals or pictures."""
    return hashlib.sha256((own_kind and f"{own_kind} {items.shape}").encode() + items.tobytes()).hexdigest()


def is_known(name: str) -> bool:
    """Whether this names a data set, and not a reader's own by its path."""
    return name in NAMES or name.startswith(UCR)


def named(name: str | Path | Dataset) -> str:
    """The name of a data set, for a reader's own the whole path. Raises ValueError if there is none of it."""
    name = name.name if isinstance(name, Dataset) else str(name)
    if not is_known(name) and not Path(name).is_absolute() and not Path(name).exists():
        choices = f"{', '.join(NAMES)}, {UCR}NAME for a set of the UCR archive, or a path of your own data"
        raise ValueError(f"name = {name!r} is no data set; choose one of {choices}")
    return name if is_known(name) else str(Path(name).resolve())


def kind_of(name: str | Path | Dataset) -> str:
    """What the items of a data set are: "points", "signal" or "image"."""
    if not is_known(name := named(name)):
        return "image" if Path(name).is_dir() else own.read(Path(name)).kind
    return "points" if name in MADE else "signal" if ucr_name(name) is not None else "image"


def _folder(name: str) -> Path:
    """The folder of a data set's files: the reader's own MEMLIB_DATA/name, else the shipped or the downloaded one."""
    own = folder_from("MEMLIB_DATA")
    if own and not own.is_dir():
        raise FileNotFoundError(f"MEMLIB_DATA = {str(own)!r} is not a folder")
    if own and (own / name).is_dir():
        return own / name
    try:
        return DATA if name == "emoji" else make_ready(DOWNLOADS / name, partial(build, name=name))
    except Exception as error:
        raise FileNotFoundError(
            f"data set {name!r} is not on this machine and could not be fetched ({type(error).__name__}: {error}). The "
            f"choices: set MEMLIB_DATA to a folder that holds {name}/, with the files listed in data/README.md; or "
            f"reach {source_of(name)}; or load a set that needs no network: {', '.join(CURVES)}, emoji"
        ) from error


def _signals(name: str) -> np.ndarray:
    """(N, 1, L) float32, of ECG5000 (5000, 1, 140): the published training and test rows pooled, without labels."""
    folder, names = _folder(name), [f"{ucr_name(name)}_{part}.txt" for part in ("TRAIN", "TEST")]
    files = [check_ecg5000((folder / each).read_bytes(), each, folder) for each in names]
    items = np.concatenate([np.loadtxt(io.BytesIO(file), dtype=np.float32) for file in files])[:, None, 1:].copy()
    if not np.isfinite(items).all():
        raise ValueError(f"{name} has series of different lengths or with gaps; need one length and numbers only")
    return items


def _images(name: str, size: int) -> np.ndarray:
    """(N, size, size, 3) uint8, from an .npz with `images`, or with `jpeg_bytes` and `offsets`."""
    from PIL import Image

    names = ("emoji.npz", f"{name}_64.npz", f"{name}_all_64_jpeg.npz")  # shipped, downloaded, of all flowers
    folder = _folder(name)
    path = next((path for path in map(folder.joinpath, names) if path.is_file()), folder / names[name != "emoji"])
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:  # a zip file, whose checksums find damage
            if "images" in file:
                images = file["images"]
            else:
                jpegs, ends = file["jpeg_bytes"].tobytes(), file["offsets"].tolist()
                parts = (Image.open(io.BytesIO(jpegs[a:b])) for a, b in pairwise(ends))
                images = np.stack([np.asarray(part.convert("RGB")) for part in parts])
    except Exception as error:
        cure = "restore it with git, or delete its folder to fetch it again"
        raise ValueError(f"{path} is damaged or has not the layout of data/README.md ({error}); {cure}") from error
    given = images.shape[1]
    if images.dtype != np.uint8 or images.shape[1:] != (given, given, 3):
        raise ValueError(f"{path} holds {images.dtype} of shape {images.shape}; need uint8 (N, S, S, 3)")
    if size > given:
        found = f"the pictures of {path} have {given} x {given} pixels"
        raise ValueError(f"image_size = {size}, but {found}; ask for at most {given}")
    if size == given:
        return images
    return np.stack([np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.LANCZOS)) for x in images])
