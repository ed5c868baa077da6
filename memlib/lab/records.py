"""Recorded results: one JSON line per run under `data/results/`, measured, checksummed and never half-written.

A line holds the configuration, every measure with its interval, the same measures of fresh real items and of copies
(the floors), the loss per noise level on training and held-out items, and what it was made with. Of one seed's runs the
first samples are kept beside it, for the data sets whose licence lets them be shown.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from memlib.lab import data, plans, runs
from memlib.lab.files import naming, write_atomically
from memlib.lab.plans import Config
from memlib.lab.provenance import provenance
from memlib.lab.runs import Result
from memlib.lab.sweep import sweep
from memlib.metrics import evaluate as judge
from memlib.models import Spliced
from memlib.training import loss_at

RESULTS = data.DATA / "results"
LOSS_AT = (5, 15, *range(50, 1000, 100))  # timesteps at which the loss is read
BROKEN = 2.0  # times
SHOWN_SEED, SHOWN, SHOWABLE = 0, 32, ("ecg5000", "emoji")

Line = dict[str, Any]


def record(
    configs: Iterable[Config],
    client: Any = None,
    *,
    out: Path = RESULTS,
    device: str = "cpu",
    workers: int | None = None,
    fleet: int | None = None,
    progress: bool = True,
) -> Iterator[Line]:
    """Run those of `configs` that are not yet recorded in the folder `out`, and yield each line once it is on the disk.

    `client`, `device`, `workers`, `fleet` and `progress` are `sweep`'s. The two networks of a splice are run if need
    be, and splices are measured last. Raises SweepError at the end, naming the runs that failed, when all others have
    been recorded (but no splice).
    """
    have = {line["key"] for line in read(out)}
    todo = {name: config for config in configs if (name := plans.key(config)) not in have}
    networks = {plans.key(part): plans.experiment(part) for config in todo.values() for part in plans.networks(config)}
    folders: dict[str, Path] = {}
    for result in sweep(networks.values(), client, device=device, workers=workers, fleet=fleet, progress=progress):
        folders[name := result.experiment.label] = result.folder
        if name in todo:
            yield _append(out, *_measure(todo[name], result))
    for config in todo.values():
        if plans.is_splice(config):
            parts = (Result.load(folders[plans.key(part)]) for part in plans.networks(config))
            yield _append(out, *_measure(config, *parts))


def read(folder: Path = RESULTS) -> list[Line]:
    """All recorded lines, file by file; none where nothing was recorded.

    A last line that a kill cut short is left out (recording goes on from there). Raises ValueError, naming file and
    line, for any other line that is not what was written.
    """
    with _no_garbage_collection():
        return [line for path in sorted(folder.glob("*.jsonl")) for line in _lines_of(path)]


def read_samples(line: Line, folder: Path = RESULTS) -> Tensor | None:
    """The first samples (n, *D) of a run, float32 in the data's range, or None where none were kept.

    Raises ValueError, naming the file, where it is not what was written, OSError where it cannot be read.
    """
    if "samples_sha256" not in line:
        return None
    path = folder / "samples" / f"{line['key']}.npz"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != line["samples_sha256"]:
        raise ValueError(f"{path} is damaged: its sha256 is not that of its line; restore it with git")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        samples = torch.from_numpy(file["samples"])
    return samples.float().div(127.5).sub(1) if samples.dtype == torch.uint8 else samples.float()


def is_broken(line: Line, uniform: Line | None) -> bool:
    """Whether a run is neither memorizing nor generalising: its residual noise is over twice real data's, or its energy
    distance to held-out data over twice that of `uniform`, the run of equal data, seed and budget (where there is one).
    """
    value = {name: e[0] for name, e in line["metrics"].items()}
    limit = math.inf if uniform is None else BROKEN * uniform["metrics"]["energy to held-out"][0]
    return value.get("residual noise", 0.0) > BROKEN or value["energy to held-out"] > limit


def table(lines: Iterable[Line]) -> pd.DataFrame:
    """A row per line: what was run, and the value of each measure; the floors as "fresh: ..." and "copycat: ..."."""
    lines, rows = list(lines), []
    uniform = {plans.setting(c): line for line in lines if (c := line["config"]).get("timesteps") == "uniform"}
    for line in lines:
        config, splice = plans.networks(line["config"])[0], plans.is_splice(line["config"])
        rows.append(
            {"key": line["key"], "dataset": config["dataset"], "seed": config["seed"]}
            | {"control": plans.describe(line["config"]), "splice": splice, "n_train": config["n_train"]}
            | {"steps": config["training"]["steps"], "seconds": line["seconds"]}
            | {"broken": is_broken(line, uniform.get(plans.setting(config)))}
            | {name: value for name, (value, _, _) in line["metrics"].items()}
            | {f"{kind}: {name}": e[0] for kind, floor in line["floors"].items() for name, e in floor.items()}
            | {"train loss": np.mean(line["loss"]["train"]), "held-out loss": np.mean(line["loss"]["held_out"])}
        )
    return pd.DataFrame(rows)


def summary(lines: Iterable[Line]) -> pd.DataFrame:
    """By data set, size, steps and control: the seeds, how many broken, and means over all. ValueError for no line."""
    frame = table(lines)
    if frame.empty:
        raise ValueError("nothing is recorded yet: run `python -m memlib sweep --plan NAME`")
    groups = frame.groupby(["dataset", "n_train", "steps", "control"], sort=False)
    means = ["closer to train", "smoothed closer to train", "memorized", "PCA-W to train", "PCA-W to held-out"]
    means += ["energy to held-out", "residual noise", "seconds"]
    counts = groups.agg(seeds=("seed", "nunique"), broken=("broken", "sum"))
    known = [name for name in means if name in frame]  # points have no finest scale
    return counts.join(groups[known].mean().round(2)).sort_index()


def _lines_of(path: Path) -> Iterator[Line]:
    *whole, torn = path.read_bytes().split(b"\n")
    if len(torn.partition(_SEAL)[2]) > len(_digest(b"")):  # more than a line: its newline is damaged, by no kill
        whole.append(torn)
    for number, text in enumerate(whole, 1):
        sealed, _, digest = text.rpartition(_SEAL)
        if digest != _digest(sealed):
            raise ValueError(f"{path}, line {number} is damaged: its checksum does not fit; restore it with git")
        try:
            yield _DECODER.decode(sealed.decode() + "}")
        except (ValueError, RecursionError) as error:  # sealed, but not by `record`
            raise ValueError(f"{path}, line {number}: {error}") from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Many lists and no garbage: looking for it would take two thirds of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_SEAL = b', "sha256": "'


def _measure(config: Config, *parts: Result) -> tuple[Line, Tensor]:
    """The line of a run, or of the splice of two, and its samples. Measured where it was trained, if that is here."""
    described, history, samples = parts[0].experiment, parts[0].history, parts[0].samples
    dataset = described.load_data()
    where = history["device"] if torch.cuda.is_available() else "cpu"
    denoiser, *below = (part.denoiser(where) for part in parts)
    if below:
        denoiser = Spliced(denoiser, *below, config["at"])
        samples = runs.draw(denoiser, described, dataset)
        history = history | {"seconds": 0.0, "fleet": 1, "loss": []}  # it trained nothing
    schedule = described.build_schedule()
    generator = torch.Generator().manual_seed(described.seed)
    losses = {
        part: loss_at(denoiser, items, schedule, LOSS_AT, generator=generator).mean(1).tolist()
        for part, items in (("train", dataset.train), ("held_out", dataset.held_out))
    }
    floors = _floors(described.dataset, described.n_train, described.seed, described.image_size, len(samples))
    line = {
        "key": plans.key(config),
        "config": config,
        "data_sha256": dataset.sha256,
        "metrics": _judged(samples, dataset, described.seed),
        "floors": floors,
        "loss": {"t": list(LOSS_AT), **losses, "in_training": _mean_over_readings(history["loss"])},
        "seconds": round(history["seconds"], 1),
        "fleet": history["fleet"],
        "device": history["device"],
        "precision": history["precision"],
        **provenance(),
    }
    return line, samples


@lru_cache
def _floors(dataset: str, n_train: int, seed: int, image_size: int, n: int) -> dict[str, Any]:
    """What the measures say of n fresh real items (or all, up to 512), and of the training items, over and over."""
    found = data.load(dataset, n_train, seed=seed, image_size=image_size)
    copies = found.train.repeat(-(-n // n_train), *[1] * (found.train.ndim - 1))[:n]
    return {kind: _judged(x, found, seed) for kind, x in (("fresh", found.fresh[:n]), ("copycat", copies))}


def _judged(samples: Tensor, dataset: data.Dataset, seed: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(seed)
    readings = judge(samples, dataset.train, dataset.held_out, generator=generator)
    return {name: [_short(x) for x in (e.value, e.low, e.high)] for name, e in readings.items()}


def _mean_over_readings(readings: list[list[float | None]]) -> list[float | None]:
    """Per band; None in a band where nothing was ever drawn."""
    known = ([x for x in band if x is not None] for band in zip(*readings, strict=True))
    return [_short(sum(band) / len(band)) if band else None for band in known]


def _short(x: float) -> float:
    return float(f"{x:.6g}")


def _append(folder: Path, line: Line, samples: Tensor) -> Line:
    """The samples first, where they are kept, then the line that vouches for them; where another process was faster
    with the same run, nothing, and its line is returned. Raises OSError naming the path."""
    described = plans.networks(line["config"])[0]
    path = folder / f"{described['dataset']}.jsonl"
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{path.name}.lock"):
        before = path.read_bytes() if path.exists() else b""
        whole = before[: before.rfind(b"\n") + 1]  # without what a kill left half-written
        if b'{"key": "%s"' % line["key"].encode() in whole:
            return next(there for there in _lines_of(path) if there["key"] == line["key"])
        if described["seed"] == SHOWN_SEED and described["dataset"] in SHOWABLE:
            content = _packed(samples[:SHOWN], image=samples.ndim == 4)
            write_atomically(folder / "samples" / f"{line['key']}.npz", content)
            line = line | {"samples_sha256": hashlib.sha256(content).hexdigest()}
        sealed = json.dumps(line, allow_nan=False).encode()[:-1]
        with naming(path), path.open("ab") as file:
            file.truncate(len(whole))
            file.write(sealed + _SEAL + _digest(sealed) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return line


def _digest(sealed: bytes) -> bytes:
    return hashlib.sha256(sealed).hexdigest()[:16].encode() + b'"}'


def _packed(samples: Tensor, image: bool) -> bytes:
    content = io.BytesIO()
    small = samples.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8) if image else samples.half()
    np.savez_compressed(content, samples=small.numpy())
    return content.getvalue()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} in a recorded line; every number must be finite")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)  # 1e999 is read as infinity


# made once: reading is mostly this
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
