"""Recorded runs: a JSON line per run and step under data/results/, appended in one piece and never changed.

A line holds the configuration, the data's content hash, each measure as [value, low, high], the same measures of the references
(fresh real items, and the training set itself: "copycat"), the loss per noise level, and what it was made with. The first samples
of seed 0 are kept where the licence lets them be shown.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

try:
    from memlib.metrics import evaluate
except ImportError:
    from memlib.metrics.judge import judge as evaluate
from memlib.lab import data, plans, runs
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.files import naming, write_atomically
from memlib.lab.provenance import provenance
from memlib.lab.sweep import sweep
from memlib.models import Spliced
from memlib.training import loss_at

RESULTS = data.DATA / "results"
LOSS_AT = (5, 15, *range(50, 1000, 100))  # timesteps at which the loss is measured
BROKEN = 2.0  # times the residual noise of real data, or uniform's energy distance
SHOWN, SHOWABLE = 32, ("ecg5000", "emoji")
Record = dict[str, Any]


def record(
    configs: Iterable[plans.Config],
    client: Any = None,
    *,
    out: Path = RESULTS,
    device: str = "cpu",
    workers: int | None = None,
    fleet: int | None = None,
    progress: bool = True,
) -> Iterator[Record]:
    """Run what is not yet recorded in the folder `out`, with the data as they are now, and yield each record once it is written.

    `client`, `device`, `workers`, `fleet` and `progress` are `sweep`'s. Splices come last; their two networks are run if need be.
    Raises SweepError at the end, naming the runs that failed, when all others but the splices are recorded.
    """
    have = {(plans.key(r["config"]), r["content"], r["version"], r["step"]) for r in read(out)}
    content: dict[tuple, str] = {}
    todo: dict[str, plans.Config] = {}
    networks: dict[str, Experiment] = {}
    for config in configs:
        parts = [replace(plans.experiment(part), label=plans.key(part)) for part in plans.networks(config)]
        made = data.kind_of(parts[0].dataset) == "points"  # made per split, so that each has its own content
        split = parts[0].dataset, parts[0].image_size, *((parts[0].n_train, parts[0].seed) if made else ())
        content[split] = content.get(split) or parts[0].load_data().sha256
        name = plans.key(config)
        if not {(name, content[split], VERSION, step) for step in _steps(config)} <= have:
            todo[name] = config
            networks |= {part.label: part for part in parts}
    given = {"device": device, "workers": workers, "fleet": fleet, "progress": progress}
    for result in sweep(networks.values(), client, **given):
        if config := todo.get(result.experiment.label):
            yield from (_append(out, *measured) for measured in _measure(config, [result]))
    for config in filter(plans.is_splice, todo.values()):
        parts = [runs.run(networks[plans.key(part)], device=device) for part in plans.networks(config)]
        yield from (_append(out, *measured) for measured in _measure(config, parts))


def read(folder: Path = RESULTS) -> list[Record]:
    """All records, file by file. A last line that a kill cut short is left out; ValueError names any other damaged line."""
    return [line for path in sorted(folder.glob("*.jsonl")) for line in _lines(path)]


def keeps_samples(line: Record) -> bool:
    """Whether the first samples of this run are kept beside its record: at the last step of seed 0, if they may be shown."""
    config = plans.networks(line["config"])[0]
    return config["seed"] == 0 and config["dataset"] in SHOWABLE and line["step"] == config["training"]["steps"]


def read_samples(line: Record, folder: Path = RESULTS) -> Tensor | None:
    """The first samples (n, *D) of a run, float32 in the data's range, or None where none are kept."""
    if not keeps_samples(line):
        return None
    path = folder / "samples" / f"{line['key']}.npz"
    try:
        with zipfile.ZipFile(path) as file:  # read like this, the content is checked against its CRC
            samples = torch.from_numpy(np.load(io.BytesIO(file.read("samples.npy")), allow_pickle=False))
    except FileNotFoundError:
        raise
    except Exception as error:  # a flipped byte may raise almost any
        raise ValueError(f"{path} is damaged ({error}); restore it with git") from error
    return samples.float().div(127.5).sub(1) if samples.dtype == torch.uint8 else samples.float()


def is_broken(line: Record, uniform: Record | None) -> bool:
    """Whether a run is degenerate, neither memorizing nor generalising: its residual noise is over twice that of real data, or
    its energy distance to held-out data over twice that of `uniform`, the run of equal data, seed and budget (if there is one).
    """
    value = {name: e[0] for name, e in line["measures"].items()}
    limit = math.inf if uniform is None else BROKEN * uniform["measures"]["energy to held-out"][0]
    return value.get("residual noise", 0.0) > BROKEN or value["energy to held-out"] > limit


def dataset_names(lines: Sequence[Record]) -> list[str]:
    """The data set of each record. If records of one name differ in content or VERSION, the name says so: they are never mixed."""
    sources = [(plans.networks(x["config"])[0]["dataset"], x["version"], x["content"]) for x in lines]
    sources = [(name, version, "" if data.kind_of(name) == "points" else content) for name, version, content in sources]
    count = Counter(name for name, *_ in set(sources))
    return [f"{n}@{content[:8]}/{version}" if count[n] > 1 else n for n, version, content in sources]


def table(lines: Iterable[Record]) -> pd.DataFrame:
    """A row per record: what was run, and each measure's value; those of the references as "fresh: ..." and "copycat: ..."."""
    lines, rows = list(lines), []
    uniform = {_peers(x): x for x in lines if plans.is_uniform(x["config"])}
    for line, dataset in zip(lines, dataset_names(lines), strict=True):
        config = plans.networks(line["config"])[0]
        rows.append(
            {"key": line["key"], "config": plans.key(line["config"]), "dataset": dataset, "seed": config["seed"]}
            | {"control": plans.describe(line["config"]), "splice": plans.is_splice(line["config"])}
            | {"n_train": config["n_train"], "steps": line["step"], "seconds": line["seconds"]}
            | {"broken": is_broken(line, uniform.get(_peers(line)))}
            | {name: value for name, (value, _, _) in line["measures"].items()}
            | {f"{kind}: {name}": e[0] for kind, values in line["references"].items() for name, e in values.items()}
            | {"train loss": np.mean(line["loss"]["train"]), "held-out loss": np.mean(line["loss"]["held_out"])}
        )
    return pd.DataFrame(rows)


def summary(lines: Iterable[Record]) -> pd.DataFrame:
    """By data set, size, steps and control: the number of seeds, how many are degenerate, and the means of all."""
    lines = list(lines)
    if not lines:
        raise ValueError("nothing is recorded yet: run `python -m memlib sweep --plan NAME`")
    # words do not tell controls apart: runs are averaged that are alike in all but the seed
    frame = table(lines).assign(alike=[plans.key(plans.seeded(x["config"], 0)) for x in lines])
    groups = frame.groupby(["dataset", "n_train", "steps", "control", "alike"], sort=False)
    means = ["closer to train", "smoothed closer to train", "memorized", "PCA-W to train", "PCA-W to held-out"]
    means += ["energy to held-out", "residual noise", "seconds"]
    counts = groups.agg(seeds=("seed", "nunique"), broken=("broken", "sum"))
    known = [name for name in means if name in frame]  # points have no finest scale
    return counts.join(groups[known].mean().round(2)).sort_index().droplevel("alike")


def _peers(line: Record) -> tuple:
    """Equal for records whose runs may be compared."""
    return plans.setting(plans.networks(line["config"])[0]), line["content"], line["version"], line["step"]


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_FIELDS = {"key", "step", "config", "content", "version", "measures", "references", "loss"}


def _lines(path: Path) -> Iterator[Record]:
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            line = _DECODER.decode(text.decode())
            if missing := _FIELDS - set(line):
                raise ValueError(f"it lacks {sorted(missing)}")
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}; restore it with git") from error
        yield line


def _steps(config: plans.Config) -> list[int]:
    """The training steps at which a run is recorded."""
    first, *others = plans.networks(config)
    return sorted({first["training"]["steps"], *(() if others else first["course"])})


def _measure(config: plans.Config, parts: Sequence[runs.Result]) -> Iterator[tuple[Record, Tensor]]:
    """The records of a run, or of a splice of two, and their samples; measured where it was trained, if that is here."""
    described, history = parts[0].experiment, parts[0].history
    dataset, schedule, last = described.load_data(), described.build_schedule(), described.training.steps
    where = history["device"] if torch.cuda.is_available() else "cpu"
    for step in _steps(config):
        denoiser, *below = (part.denoiser(where, *([step] if step < last else [])) for part in parts)
        denoiser = Spliced(denoiser, *below, config["at"]) if below else denoiser
        alone = step == last and not below
        samples = parts[0].samples if alone else runs.draw(denoiser, described, dataset)
        generator = torch.Generator().manual_seed(described.seed)
        sets = {"train": dataset.train, "held_out": dataset.held_out}
        loss = {k: loss_at(denoiser, x, schedule, LOSS_AT, generator=generator).mean(1).tolist() for k, x in sets.items()}
        readings = [] if below else [x for at, x in zip(history["step"], history["loss"], strict=True) if at <= step]
        split = described.dataset, described.n_train, described.seed, described.image_size, dataset.sha256
        yield {
            "key": plans.record_key(config, dataset.sha256),
            "step": step,
            "config": config,
            "content": dataset.sha256,
            "version": VERSION,
            "measures": _evaluated(samples, dataset, described.seed),
            "references": _references(*split, len(samples)),
            "loss": {"t": list(LOSS_AT), **loss, "in_training": _means(readings)},
            "seconds": 0.0 if below else round(history["seconds"] * step / last, 1),
            "fleet": 1 if below else history["fleet"],
            "device": history["device"],
            "precision": history["precision"],
            **provenance(),
        }, samples


@lru_cache
def _references(name: str, n_train: int, seed: int, image_size: int, content: str, n: int) -> dict[str, Any]:
    """The measures of n fresh real items (or all, up to 512), and of the training items repeated to n."""
    found = data.load(name, n_train, seed=seed, image_size=image_size)
    copies = found.train.repeat(-(-n // n_train), *[1] * (found.train.ndim - 1))[:n]
    return {kind: _evaluated(x, found, seed) for kind, x in (("fresh", found.fresh[:n]), ("copycat", copies))}


def _evaluated(samples: Tensor, dataset: data.Dataset, seed: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(seed)
    measures = evaluate(samples, dataset.train, dataset.held_out, generator=generator)
    return {name: [_short(x) for x in (e.value, e.low, e.high)] for name, e in measures.items()}


def _means(readings: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean loss per band; None in a band where nothing was drawn."""
    known = ([x for x in band if x is not None] for band in zip(*readings, strict=True))
    return [_short(sum(band) / len(band)) if band else None for band in known]


def _short(x: float) -> float:
    return float(f"{x:.6g}")


def _append(folder: Path, line: Record, samples: Tensor) -> Record:
    """Write the samples, where they are kept, then the line. If another process recorded the same run, return its line."""
    path = folder / f"{plans.networks(line['config'])[0]['dataset']}.jsonl"
    text = json.dumps(line, allow_nan=False).encode() + b"\n"
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{path.name}.lock"), naming(path), path.open("a+b") as file:
        for there in _lines(path):
            if (there["key"], there["step"]) == (line["key"], line["step"]):
                return there
        if keeps_samples(line):
            write_atomically(folder / "samples" / f"{line['key']}.npz", _packed(samples[:SHOWN]))
        file.truncate(path.read_bytes().rfind(b"\n") + 1)  # without what a kill left half-written
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return line


def _packed(samples: Tensor) -> bytes:
    content = io.BytesIO()
    small = samples.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8) if samples.ndim == 4 else samples.half()
    np.savez_compressed(content, samples=small.numpy())
    return content.getvalue()
