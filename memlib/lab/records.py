"""Recorded runs: a JSON line for each run and step in data/results/, appended in one piece and never changed.

A line holds the configuration, the hash of the data's content, each measure as [value, low, high], the same for the
references (fresh real items, and the training set itself: "copycat"), the loss by timestep, and what it was made with.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from memlib.lab import data, plans, runs
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.files import append_line, read_lines, write_atomically
from memlib.lab.provenance import provenance
from memlib.lab.sweep import sweep
from memlib.metrics import evaluate
from memlib.models import Spliced
from memlib.training import loss_at

RESULTS = data.DATA / "results"
LOSS_AT = (5, 15, *range(50, 1000, 100))  # timesteps at which the loss is measured
BROKEN = 2.0  # times: the residual noise of real data, the energy distance of uniform sampling
SHOWN, SHOWABLE = 32, ("ecg5000", "emoji")  # samples of seed 0 that are kept, where the licence lets them be shown
Record = dict[str, Any]


def record(
    configs: Iterable[plans.Config], client: Any = None, *, out: Path = RESULTS, device: str = "cpu",
    workers: int | None = None, fleet: int | None = None, progress: bool = True,
) -> Iterator[Record]:  # fmt: skip
    """Run what is not recorded in the folder `out` for the data as they are now; yield each record once it is written.

    `client`, `device`, `workers`, `fleet` and `progress` are `sweep`'s. Splices come last. SweepError at the end names
    the runs that failed, when all others but the splices are recorded.
    """
    have = {(plans.key(x["config"]), x["content"], x["version"], x["step"]) for x in read(out)}
    content: dict[tuple, str] = {}
    todo: dict[str, plans.Config] = {}
    networks: dict[str, Experiment] = {}
    for config in configs:
        parts = [replace(plans.experiment(part), label=plans.key(part)) for part in plans.networks(config)]
        own = () if parts[0].dataset not in data.MADE else (parts[0].n_train, parts[0].seed)  # made for each
        split = (parts[0].dataset, parts[0].image_size, *own)
        content[split] = content.get(split) or parts[0].load_data().sha256
        if any((plans.key(config), content[split], VERSION, step) not in have for step in steps(config)):
            todo[plans.key(config)] = config
            networks |= {part.label: part for part in parts}
    options: dict[str, Any] = {"device": device, "workers": workers, "fleet": fleet, "progress": progress}
    for result in sweep(networks.values(), client, **options):
        for made in measure(todo[result.experiment.label], result) if result.experiment.label in todo else ():
            yield _append(out, *made)
    for config in filter(plans.is_splice, todo.values()):
        results = (runs.run(networks[plans.key(part)], device=device) for part in plans.networks(config))
        yield from (_append(out, *made) for made in measure(config, *results))


def read(folder: Path = RESULTS) -> list[Record]:
    """All records, file by file. A last line cut short by a kill is left out; any other damaged line is named."""
    return [line for path in sorted(folder.glob("*.jsonl")) for line in read_lines(path)]


def keeps_samples(line: Record) -> bool:
    """Whether the first samples of this run are kept beside its record."""
    config = plans.networks(line["config"])[0]
    return config["seed"] == 0 and config["dataset"] in SHOWABLE and line["step"] == config["training"]["steps"]


def packed(samples: Tensor) -> bytes:
    """The file of a run's first samples: pictures as bytes, all else in half precision."""
    samples, file = samples[:SHOWN], io.BytesIO()
    pixels = samples.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    np.savez_compressed(file, samples=(pixels if samples.ndim == 4 else samples.half()).numpy())
    return file.getvalue()


def read_samples(line: Record, folder: Path = RESULTS) -> Tensor | None:
    """The first samples (n, *D) of a run, float32 in the data's range, or None where none are kept."""
    if not keeps_samples(line):
        return None
    path = folder / "samples" / f"{line['key']}.npz"
    with np.load(io.BytesIO(path.read_bytes())) as file:  # a zip file, whose checksums find damage
        samples = torch.from_numpy(file["samples"])
    return samples.float().div(127.5).sub(1) if samples.dtype == torch.uint8 else samples.float()


def is_broken(line: Record, uniform: Record | None) -> bool:
    """Whether a run is degenerate, neither memorizing nor generalising: its residual noise is over twice real data's
    or its energy distance to held-out data over twice that of `uniform`, the run of equal data, seed and budget."""
    value = {name: e[0] for name, e in line["measures"].items()}
    limit = math.inf if uniform is None else BROKEN * uniform["measures"]["energy to held-out"][0]
    return value.get("residual noise", 0.0) > BROKEN or value["energy to held-out"] > limit


def dataset_names(lines: Sequence[Record]) -> list[str]:
    """The data set of each record, told apart where records of one name differ in content or VERSION."""
    found = [(plans.networks(x["config"])[0]["dataset"], x["content"][:8], x["version"]) for x in lines]
    found = [(Path(name).stem, "" if name in data.MADE else content, v) for name, content, v in found]
    count = Counter(name for name, *_ in set(found))
    return [name if count[name] == 1 else f"{name}@{content}/{version}" for name, content, version in found]


def table(lines: Iterable[Record]) -> pd.DataFrame:
    """A row per record: what was run and each measure's value, with those of the references, "fresh: ..." and so on."""
    lines, rows = list(lines), []
    peers = [(plans.setting(plans.networks(x["config"])[0]), x["content"], x["version"], x["step"]) for x in lines]
    even = plans.control({"timesteps": {"name": "uniform"}})
    uniform = {peer: x for peer, x in zip(peers, lines, strict=True) if plans.control(x["config"]) == even}
    for line, peer, dataset in zip(lines, peers, dataset_names(lines), strict=True):
        config = plans.networks(line["config"])[0]
        rows.append(
            {"key": line["key"], "config": plans.key(line["config"]), "dataset": dataset, "seed": config["seed"]}
            | {"control": plans.describe(line["config"]), "splice": plans.is_splice(line["config"])}
            | {"n_train": config["n_train"], "steps": line["step"], "seconds": line["seconds"]}
            | {"broken": is_broken(line, uniform.get(peer))}
            | {name: value for name, (value, _, _) in line["measures"].items()}
            | {f"{kind}: {name}": e[0] for kind, own in line["references"].items() for name, e in own.items()}
            | {"train loss": np.mean(line["loss"]["train"]), "held-out loss": np.mean(line["loss"]["held_out"])}
        )
    return pd.DataFrame(rows)


def summary(lines: Iterable[Record]) -> pd.DataFrame:
    """By data set, size, steps and control: the number of seeds, how many are degenerate, and means over all."""
    lines = list(lines)
    # runs are averaged that are equal in all but the seed, and not those that are called the same
    equal = [(plans.setting(plans.networks(x["config"])[0], "seed"), plans.control(x["config"])) for x in lines]
    groups = table(lines).assign(equal=equal).groupby(["dataset", "n_train", "steps", "control", "equal"], sort=False)
    means = ["closer to train", "smoothed closer to train", "memorized", "PCA-W to train", "PCA-W to held-out"]
    means += ["energy to held-out", "residual noise", "seconds"]
    counts = groups.agg(seeds=("seed", "nunique"), broken=("broken", "sum"))
    known = [name for name in means if name in groups.obj]  # points have no finest scale
    averages: Any = groups[known].mean()
    return counts.join(averages.round(2)).sort_index().droplevel("equal")


def steps(config: plans.Config) -> list[int]:
    """The training steps at which a run is recorded."""
    first, *others = plans.networks(config)
    return sorted({first["training"]["steps"], *(() if others else first["course"])})


def measure(config: plans.Config, *parts: runs.Result) -> Iterator[tuple[Record, Tensor]]:
    """The records of a run, or of a splice of two, with its samples; measured where it was trained, if that is here."""
    described, history, trained = parts[0].experiment, parts[0].history, len(parts) == 1
    dataset, schedule, last = described.load_data(), described.build_schedule(), described.training.steps
    where = history["device"] if torch.cuda.is_available() else "cpu"
    n, sides = described.n_samples, {"train": dataset.train, "held_out": dataset.held_out}
    copies = dataset.train.repeat(-(-n // described.n_train), *[1] * (dataset.train.ndim - 1))
    real = {"fresh": dataset.fresh[:n], "copycat": copies[:n]}
    references = {kind: _evaluate(items, dataset, described.seed) for kind, items in real.items()}
    for step in steps(config):
        denoiser, *below = (part.denoiser(where, step=step) for part in parts)
        if below:
            denoiser = Spliced(denoiser, below[0], config["at"])
        samples = parts[0].samples if trained and step == last else runs.draw(denoiser, described, dataset)
        generator, loss = torch.Generator().manual_seed(described.seed), {}
        for side, items in sides.items():
            loss[side] = loss_at(denoiser, items, schedule, LOSS_AT, generator=generator).mean(1).tolist()
        readings = [x for at, x in zip(history["step"], history["loss"], strict=True) if at <= step and trained]
        bands = [[x for x in band if x is not None] for band in zip(*readings, strict=True)]
        means = [_short(sum(band) / len(band)) if band else None for band in bands]  # None where nothing was drawn
        line = {
            "key": plans.record_key(config, dataset.sha256),
            "step": step,
            "config": config,
            "content": dataset.sha256,
            "version": VERSION,
            "measures": _evaluate(samples, dataset, described.seed),
            "references": references,
            "loss": {"t": list(LOSS_AT), **loss, "in_training": means},
            "seconds": round(history["seconds"] * step / last, 1) if trained else 0.0,
            "fleet": history["fleet"] if trained else 1,
            "device": history["device"],
            "precision": history["precision"],
        }
        yield line | provenance(), samples


def _evaluate(samples: Tensor, dataset: data.Dataset, seed: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(seed)
    measures = evaluate(samples, dataset.train, dataset.held_out, generator=generator)
    return {name: [_short(x) for x in (e.value, e.low, e.high)] for name, e in measures.items()}


def _short(x: float) -> float:
    return float(f"{x:.6g}")


def _append(folder: Path, line: Record, samples: Tensor) -> Record:
    """Write the samples that are kept, then the line; or return the line if another process recorded the same run."""
    path = folder / f"{Path(plans.networks(line['config'])[0]['dataset']).stem}.jsonl"
    text = json.dumps(line, allow_nan=False).encode()
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{path.name}.lock"):
        for there in read_lines(path) if path.exists() else ():
            if (there["key"], there["step"]) == (line["key"], line["step"]):
                return there
        if keeps_samples(line):
            write_atomically(folder / "samples" / f"{line['key']}.npz", packed(samples))
        append_line(path, text)
    return line
