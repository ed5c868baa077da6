"""A reader's own data: a folder of pictures, a file, arrays, or another library's data set, understood or refused.

What was understood is said in `notes`; what was not is named, with what would be right."""

import io
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from memlib.checks import as_tensor, channels_last

PICTURES, ARRAYS, TABLES = (".png", ".jpg", ".jpeg", ".webp"), (".npy", ".npz"), (".csv", ".tsv", ".txt", ".ts")
NEED = f"need a folder with pictures ({', '.join(PICTURES)}) or a file {', '.join((*ARRAYS, *TABLES))}"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True, eq=False)
class Own:
    """Items that all differ: pictures uint8 (N, S, S, C) or float32 (N, C, S, S), signals float32 (N, C, L), points
    float32 (N, d)."""

    items: np.ndarray
    kind: str
    notes: tuple[str, ...]


def read(path: Path, image_size: int | None = None) -> Own:
    """What a folder or a file holds, read anew only if it has changed."""
    if not path.exists():
        raise FileNotFoundError(f"dataset = {str(path)!r} is not there; {NEED}")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return _read(path, image_size, tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=2)
def _read(path: Path, image_size: int | None, seen: tuple[tuple[Path, int, int], ...]) -> Own:
    kind, notes, array = path.suffix.lower(), list[str](), None
    if path.is_dir():
        files = [file for file, *_ in seen if file.suffix.lower() in PICTURES]
        if len(seen) > len(files):
            notes.append(f"{len(seen) - len(files)} other files were left out")
        array = pictures(((str(file), file) for file in files), image_size) if files else None
    elif kind in TABLES:
        array = _series(path) if kind == ".ts" else _table(path, notes)
    elif kind in ARRAYS:
        held = arrays(path)
        if "memlib_kind" in held:  # as `data.from_items` wrote it
            return Own(held["items"], str(held["memlib_kind"]), tuple(map(str, held["notes"])))
        array = held["items"]
    if array is None:
        raise ValueError(f"dataset = {str(path)!r}; {NEED}")
    return understand(array, str(path), image_size, notes)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What an .npz file holds, by name; its only array, or that of an .npy file, as "items"."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        held = {"items": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # of many kinds, as any byte of a zip file may be wrong
        raise ValueError(f"{path} cannot be read ({error}); need an array as np.save writes it") from error
    if len(held) != 1 and "items" not in held:
        raise ValueError(f"{path} holds the arrays {', '.join(held)}; need one, or one called items")
    return held if "items" in held else {"items": next(iter(held.values()))}


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
    items = as_tensor(arrays(path)["items"])
    if channels_last(items.shape):
        return items.movedim(-1, 1).contiguous()
    grey = items.ndim == 3 and items.shape[1] == items.shape[2]
    return items[:, None] if grey or (items.ndim == 2 and items.shape[1] > 3) else items  # a signal a row, else points


def collect(given: Any, image_size: int | None = None, column: str | None = None) -> np.ndarray:
    """The items of a tensor, array, list or data set (torch's or Hugging Face's), in one array; of an item that is a
    dict its `column`, of a tuple the first."""
    if isinstance(given, Tensor | np.ndarray):
        return _array(given)
    if isinstance(given, str | Path) or not hasattr(given, "__getitem__") or not hasattr(given, "__len__"):
        choices = "need a tensor or array, a list of pictures, or a data set of these; a path is for data.from_file"
        raise TypeError(f"items is a {type(given).__name__}; {choices}")
    items = [given[i] for i in range(len(given))]
    if items and isinstance(items[0], dict):
        found = [name for name, x in items[0].items() if isinstance(x, Tensor | np.ndarray | Image.Image | list)]
        column = column or (found[0] if len(found) == 1 else "")
        if column not in items[0]:
            raise ValueError(f"column = {column!r}; the items have {', '.join(items[0])}: say which is to be learnt")
        items = [item[column] for item in items]
    items = [item[0] if isinstance(item, tuple) else item for item in items]
    if items and isinstance(items[0], Image.Image):
        return pictures(((f"items[{i}]", item) for i, item in enumerate(items)), image_size)
    arrays = [_array(item) for item in items]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(f"items[{i}] has shape {array.shape}, items[0] {arrays[0].shape}; need one shape")
    return np.stack(arrays) if arrays else np.zeros((0, 0))


def _array(given: Any) -> np.ndarray:
    given = given.detach().cpu() if isinstance(given, Tensor) else np.asarray(given)
    return np.asarray(given.float() if given.dtype == torch.bfloat16 else given)  # which NumPy lacks


def understand(array: np.ndarray, where: str, image_size: int | None = None, notes: Iterable[str] = ()) -> Own:
    """Kind, layout and range of the items in an array, without duplicates; `where` names it in errors."""
    said, shape = list(notes), array.shape
    if array.dtype.kind not in "uifb":
        raise TypeError(f"{where} holds {array.dtype}; need numbers")
    if not array.size or array.ndim not in (2, 3, 4) or shape[1:] == (1,):
        raise ValueError(f"{where} has shape {shape}; need (N, d > 1), (N, L), (N, C, L), (N, H, W) or (N, C, H, W)")
    if not (finite := np.isfinite(array).reshape(len(array), -1).all(1)).all():
        raise ValueError(f"{where}: item {finite.argmin()} holds NaN or infinity; leave it out")
    picture = array.ndim == 4 or (array.ndim == 3 and shape[1] == shape[2])
    if not picture and array.ndim == 3 and shape[1] > shape[2]:
        raise ValueError(f"{where} has shape {shape}; need signals (N, C, L): their channels come first")
    items = array[:, None] if (array.ndim == 3 and picture) or (array.ndim == 2 and shape[1] > 3) else array
    items = _squares(items, where, image_size) if picture else items
    if items.dtype != np.uint8 or not picture:
        items = items.astype(np.float32)
        low, high = float(items.min()), float(items.max())
        top = 1 if high <= 1 else 255 if high <= 255 and (items == items.round()).all() else 0
        if picture and low >= 0 and top:
            items = items / np.float32(top / 2) - 1
            said.append(f"the range [0, {top}] became [-1, 1]")
        std, mean = float(items.std(dtype=np.float64)), float(items.mean(dtype=np.float64))
        if math.hypot(std, mean) > 5 or math.hypot(std, mean) < 0.1:
            said.append(f"values in [{low:g}, {high:g}] are far from unit scale")
            cure = f"pass (x - {mean:.3g}) / {std or 1:.3g} and undo this on the samples"
            warnings.warn(f"{where}: {said[-1]}; {cure}", stacklevel=2)
    if items.dtype == np.uint8 and items.max() < 128:
        said.append(f"the largest value is {items.max()} of 255: for masks or fewer levels pass floats in [0, 1]")
        warnings.warn(f"{where}: {said[-1]}", stacklevel=2)
    kept = np.stack([*{item.tobytes(): item for item in items}.values()])
    if len(kept) < len(items):
        said.append(f"{len(items) - len(kept)} of {len(items)} items are duplicates and were left out")
        warnings.warn(f"{where}: {said[-1]}", stacklevel=2)
    return Own(kept, "image" if picture else "points" if items.ndim == 2 else "signal", tuple(said))


def _squares(array: np.ndarray, where: str, image_size: int | None) -> np.ndarray:
    """Pictures (N, C, H, W) or (N, H, W, C) as uint8 (N, S, S, C), or, where they are floats, as (N, C, S, S)."""
    first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
    array = array if first else array.transpose(0, 3, 1, 2)
    if first == last or array.shape[2] != array.shape[3]:
        raise ValueError(f"{where} has shape {array.shape}; need squares, (N, C, S, S) or (N, S, S, C), C = 1, 3 or 4")
    if array.dtype.kind in "ui":
        if array.min() < 0 or array.max() > 255:
            span = f"{array.dtype} from {array.min()} to {array.max()}"
            raise ValueError(f"{where} holds {span}; need 8 bits, 0 to 255, or floats in [0, 1], such as x / 65535")
        bytes_ = np.ascontiguousarray(array.transpose(0, 2, 3, 1), dtype=np.uint8)
        shots = (Image.fromarray(x.squeeze(2) if x.shape[2] == 1 else x) for x in bytes_)
        return pictures(((f"{where}, item {i}", shot) for i, shot in enumerate(shots)), image_size)
    if image_size not in (None, array.shape[2]):
        raise ValueError(f"image_size = {image_size}, but {where} holds floats: say image_size = {array.shape[2]}")
    return array


def pictures(named: Iterable[tuple[str, Any]], image_size: int | None, square: bool = True) -> np.ndarray:
    """(N, H, W, C) uint8 of pictures or their files: grey if all are, transparency on white, cut to the middle square
    and shrunk to `image_size` if that is given."""
    found: list[Image.Image] = []
    for name, given in named:
        try:
            shot = given if isinstance(given, Image.Image) else Image.open(io.BytesIO(given.read_bytes()))
            if shot.mode not in MODES or getattr(shot, "n_frames", 1) > 1:
                what = f"is {shot.mode}" if shot.mode not in MODES else "is animated"
                raise ValueError(f"it {what}; save it as one 8-bit picture, grey, RGB or RGBA")
            shot = ImageOps.exif_transpose(shot)
            if shot.mode in ("LA", "PA", "RGBA") or "transparency" in shot.info:
                shot = shot.convert("RGBA")
                shot = Image.alpha_composite(Image.new("RGBA", shot.size, "white"), shot)
            shot = shot.convert("L" if shot.mode in ("1", "L") else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} cannot be used as a picture: {str(error).partition(' <_io')[0]}") from error
        if image_size is not None and shot.size != (image_size, image_size):
            if min(shot.size) < image_size:
                raise ValueError(f"{name} is {shot.width} x {shot.height}; need at least image_size = {image_size}")
            shot = ImageOps.fit(shot, (image_size, image_size), Image.Resampling.LANCZOS)
        if (square and shot.width != shot.height) or (found and shot.size != found[0].size):
            others = f", those before it {found[0].width} x {found[0].height}" if found else ""
            cure = "need one size" + ", squares; with image_size given, pictures are cut and shrunk to it" * square
            raise ValueError(f"{name} is {shot.width} x {shot.height}{others}; {cure}")
        found.append(shot)
    grey = all(shot.mode == "L" for shot in found)
    return np.stack([np.atleast_3d(np.asarray(shot if grey else shot.convert("RGB"))) for shot in found])


def _table(path: Path, notes: list[str]) -> np.ndarray:
    """The rows of a text file, an item each, without a header and without a first column of labels (UCR)."""
    rows: list[list[float]] = []
    for i, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        mark = next((mark for mark in (",", ";", "\t") if mark in line), None)
        named = re.search(r"[^\W\d]", re.sub(r"nan|(?<=[\d.])e[+-]?\d", "", line.lower()))
        counted = [*filter(None, map(str.strip, line.split(mark)))]  # 0, 1, 2 and so on, as pandas numbers columns
        if not rows and not notes and (named or (len(counted) > 1 and counted == [*map(str, range(len(counted)))])):
            notes.append(f"line {i} is a header")
        elif line.strip():
            rows.append(_row(path, i, line.split(mark), rows))
    table = np.array(rows, dtype=np.float32).reshape(len(rows), len(rows[0]) if rows else 0)
    whole = (table == table.round()).all(0)
    if len(whole) > 3 and whole[0] and not whole[1:].all() and np.ptp(table[:, 0]):  # signals may all begin at 0
        notes.append("the first column, whole numbers, was taken for labels and left out")
        table = table[:, 1:]
    elif len(whole) > 3 and whole[-1] and not whole[:-1].any():
        notes.append("the last column holds whole numbers only: if they are labels, leave it out")
    return table


def _series(path: Path) -> np.ndarray:
    """(N, C, L) of a .ts file: channels are separated by ":", and a label may come last."""
    head, _, body = path.read_text(encoding="utf-8-sig", errors="replace").lower().partition("@data")
    labels, before = len([*filter(lambda line: "label true" in line, head.splitlines())]), len(head.splitlines())
    items: list[list[list[float]]] = []
    for i, line in enumerate(body.splitlines(), max(before, 1)):
        if line.strip():
            channels = line.split(":")[: -labels or None]
            items.append([_row(path, i, channel.split(","), items[0] if items else []) for channel in channels])
    return np.array(items, dtype=np.float32)


def _row(path: Path, i: int, cells: list[str], before: list[list[float]]) -> list[float]:
    """The numbers of one line: finite, and as many as in those before."""
    try:
        row = [float(cell.strip().replace("?", "") or "nan") for cell in cells]
    except ValueError as error:
        raise ValueError(f"{path}, line {i}: {error}; need numbers, in UTF-8") from error
    if not all(map(math.isfinite, row)) or (before and len(row) != len(before[0])):
        raise ValueError(f"{path}, line {i}: {len(row)} values, or NaN among them; need one length, without gaps")
    return row
