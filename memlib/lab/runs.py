"""From an Experiment to its Result: trained, sampled, kept, resumable, alone or several at once.

A run's folder under `runs/` (or `MEMLIB_RUNS`) is named by a hash of all that its numbers depend on: the description,
the training items, the precision and the code. Asked for again it is read; cut off, or failed for want of disk or
memory, it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from memlib import samplers, training
from memlib.devices import check_device, send
from memlib.lab import checkpoint, data, download, fleet
from memlib.lab.experiment import Experiment
from memlib.lab.files import write_atomically

RUNS = data.DATA.parent / "runs"  # unless MEMLIB_RUNS says otherwise
CHECKPOINT, CHECKPOINT_SECONDS = "checkpoint", 30
BANDS = 10  # equal bands of t in which the loss is read, low noise first
READINGS = 50  # readings of the training loss over a run


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run."""

    experiment: Experiment
    folder: Path
    samples: Tensor
    """(n_samples, *D) on the CPU, from the averaged weights."""
    history: dict[str, Any]
    """step: (r,) and loss: (r, BANDS), the mean training loss per band since the last reading (None where nothing was
    drawn); fleet, the number trained together; seconds, the training's over that number; device, precision, torch."""

    @classmethod
    def load(cls, folder: Path | str) -> Result:
        """Read a run's folder. Raises FileNotFoundError where it holds none, and ValueError where a run was damaged,
        which is removed, so that it can be made again."""
        folder = Path(folder)
        for name in ("experiment.json", download.SUMS):  # a folder without them is not memlib's to remove
            if not (folder / name).is_file():
                raise FileNotFoundError(f"folder = {folder} holds no finished run (no {name})")
        download.verify(folder, FILES)
        try:
            experiment = Experiment.from_dict(json.loads((folder / "experiment.json").read_text()))
            history = json.loads((folder / "history.json").read_text())
            samples = load((folder / "samples.safetensors").read_bytes())["samples"]
        except (SafetensorError, ValueError, KeyError, TypeError) as error:  # the hashes fit: no run of memlib's
            raise ValueError(f"{folder} holds files that are none of a run ({error}); delete the folder") from error
        return cls(experiment, folder, samples, history)

    def denoiser(self, device: str = "cpu") -> nn.Module:
        """The trained network with averaged weights, to sample from. Raises ValueError where they were damaged."""
        path = download.verify(self.folder, FILES) / "weights.safetensors"  # read later than the rest
        network = self.experiment.network.build(tuple(self.samples.shape[1:]))
        try:
            network.load_state_dict(load(path.read_bytes()))
        except (SafetensorError, RuntimeError) as error:  # RuntimeError: other tensors than the network's
            raise ValueError(f"{path} holds no weights of this run ({error}); delete the folder") from error
        return network.eval().requires_grad_(False).to(device)


FILES = ("experiment.json", "history.json", "samples.safetensors", "weights.safetensors")


def runs_folder() -> Path:
    """Where runs are kept: `MEMLIB_RUNS`, else `runs/` of the clone."""
    return Path(os.environ.get("MEMLIB_RUNS") or RUNS)


def run(
    experiment: Experiment, *, device: str | torch.device = "cpu", on_step: Callable[[int], None] = lambda step: None
) -> Result:
    """Train, sample and keep; or read what was kept, or go on where a run was cut off.

    `on_step` is told the number of steps done. Of two processes that ask for the same run one works, the other waits.
    Raises what loading the data and training raise, and OSError naming the path where the disk cannot be written.
    """
    return run_fleet([experiment], device=device, on_step=on_step)[0]


def run_fleet(
    experiments: Sequence[Experiment],
    *,
    device: str | torch.device = "cpu",
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Result]:
    """`run` for several that are alike: those not yet kept are trained together, as one fleet (see `train_fleet`).

    A run is kept under the same name as if it had been alone, and its numbers are those up to rounding, which is coarse
    in bfloat16. Raises ValueError, too, for experiments that are not `alike`; if one fails, none is kept.
    """
    if any(experiment.alike() != experiments[0].alike() for experiment in experiments):
        raise ValueError(
            "experiments differ in data set, image size, T, schedule, network or training; need one of each"
        )
    members, folders = {}, []
    for experiment in experiments:
        dataset = experiment.load_data()
        folders.append(runs_folder() / experiment.key(dataset, device))
        members[folders[-1]] = (experiment, dataset)

    def gather(left: Sequence[Path], works: dict[Path, Path]) -> None:
        """Take the lock of each folder that is not there yet, then fill them all."""
        if not left:
            return _fill({works[folder]: members[folder] for folder in works}, device, on_step)

        def build(work: Path) -> None:
            works[left[0]] = work
            gather(left[1:], works)

        download.obtain(left[0], FILES, build, keep=CHECKPOINT)
        if left[0] not in works:
            gather(left[1:], works)

    gather(sorted(members), {})  # all who ask take the locks in this order, so that no two wait for each other
    kept = [Result.load(folder) for folder in folders]
    return [replace(result, experiment=own) for own, result in zip(experiments, kept, strict=True)]  # with its label


Members = dict[Path, tuple[Experiment, data.Dataset]]  # by the folder in which a run is being made


def _fill(members: Members, device: str | torch.device, on_step: Callable[[int], None]) -> None:
    if all((work / name).exists() for work in members for name in FILES):
        return  # the fleet was killed when its folders were whole, and some not yet renamed
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two OpenMP threads on a shared machine are slower, and change the last digits
    try:
        _make(members, device, on_step)
    except FloatingPointError:  # going on from the checkpoint, it would diverge again
        for work in members:
            (work / CHECKPOINT).unlink(missing_ok=True)
        raise
    finally:
        torch.set_num_threads(threads)


def _make(members: Members, device: str | torch.device, on_step: Callable[[int], None]) -> None:
    histories, networks = _train(members, device, on_step)
    for (work, (experiment, dataset)), history, ema in zip(members.items(), histories, networks, strict=True):
        samples = draw(ema, experiment, dataset, device)
        weights = {name: tensor.cpu() for name, tensor in ema.state_dict().items()}
        write_atomically(work / "experiment.json", json.dumps(experiment.to_dict()))
        write_atomically(work / "history.json", json.dumps(history))
        write_atomically(work / "samples.safetensors", save({"samples": samples}))
        write_atomically(work / "weights.safetensors", save(weights))


def draw(
    denoiser: nn.Module, experiment: Experiment, dataset: data.Dataset, device: str | torch.device | None = None
) -> Tensor:
    """The samples (n_samples, *D) that this experiment takes from a denoiser, whether its own or another."""
    return samplers.sample(
        denoiser, experiment.build_schedule(), dataset.train.shape[1:], experiment.n_samples,
        seed=experiment.seed, steps=experiment.sampler_steps, device=device, clip=dataset.clip,
    )  # fmt: skip


def _train(
    members: Members, device: str | torch.device, on_step: Callable[[int], None]
) -> tuple[list[dict], list[nn.Module]]:
    """A history and a network with averaged weights for each member; on a CPU a single one is trained by `train`."""
    experiments, datasets = zip(*members.values(), strict=True)
    first, size, device = experiments[0], len(experiments), check_device(device)
    alone = size == 1 and device.type == "cpu"
    path, state, history = next(iter(members)) / CHECKPOINT, None, {"step": [], "loss": [], "seconds": 0.0}
    names = [work.name for work in members]  # of the runs, by their keys
    if path.exists():
        try:
            content = checkpoint.read(path)
        except ValueError as error:
            warnings.warn(f"{error}; the run begins anew", stacklevel=2)
        else:
            if content["members"] == names and content["device"] == device.type:  # else it is of another fleet
                state, history = content["state"], content["history"]
    networks = [e.network.build(tuple(d.train.shape[1:]), e.seed) for e, d in members.values()]
    generators = [torch.Generator().manual_seed(experiment.seed) for experiment in experiments]
    common = {"schedule": first.build_schedule(), "config": first.training, "device": device, "state": state}
    if alone:
        steps = training.train(
            networks[0], datasets[0].train, timesteps=first.timesteps, generator=generators[0],
            loss_weight=first.loss_weight, **common,
        )  # fmt: skip
    else:
        steps = fleet.train_fleet(
            networks, [dataset.train for dataset in datasets], timesteps=[e.timesteps for e in experiments],
            generators=generators, loss_weights=[e.loss_weight for e in experiments], **common,
        )  # fmt: skip

    every = max(1, first.training.steps // READINGS)
    total, count = torch.zeros(2, size, BANDS, device=device)
    started = saved = time.monotonic()
    for step in steps:
        band = send(step.t.reshape(size, -1) * BANDS // step.T, device)
        total.scatter_add_(1, band, step.losses.float().reshape(size, -1))
        count.scatter_add_(1, band, torch.ones_like(band, dtype=count.dtype))
        if step.step % every == 0 or step.step == first.training.steps:
            history["step"].append(step.step)
            means = zip((total / count).tolist(), count.tolist(), strict=True)
            history["loss"].append([[m if n else None for m, n in zip(*row, strict=True)] for row in means])
            total.zero_(), count.zero_()
            if time.monotonic() - saved > CHECKPOINT_SECONDS and step.step < first.training.steps:
                seconds = history["seconds"] + time.monotonic() - started
                content = {"members": names, "device": device.type, "state": step.state()}
                checkpoint.write(path, content | {"history": history | {"seconds": seconds}})
                saved = time.monotonic()
        on_step(step.step)
    history["seconds"] = (history["seconds"] + time.monotonic() - started) / size
    precision = first.training.precision_on(device)
    history |= {"fleet": size, "device": str(device), "precision": precision, "torch": torch.__version__}
    losses = zip(*history["loss"], strict=True)
    return [history | {"loss": own} for own in losses], [step.ema] if alone else step.emas
