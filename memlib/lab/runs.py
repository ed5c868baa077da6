"""From an Experiment to its Result: trained, sampled and stored as KEY.pt in `runs_folder()`, alone or in a fleet."""

import hashlib
import io
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock
from torch import Tensor, nn

from memlib import samplers, training
from memlib.checks import check_device
from memlib.lab import data, fleet
from memlib.lab.experiment import SAMPLERS, Experiment
from memlib.lab.files import folder_from, home, write_atomically
from memlib.lab.graphs import send
from memlib.lab.provenance import provenance

CHECKPOINT_SECONDS = 30
SHIPPED = data.DATA / "networks"  # finished runs that come with memlib
BANDS = 10  # equal bands of t in which the history holds the loss, low noise first
READINGS = 50  # of the loss over a run

_alone = threading.RLock()  # networks are initialised from torch's global generator: one thread at a time
Device = str | torch.device
OnStep = Callable[[int], None]
Members = dict[Path, tuple[Experiment, data.Dataset]]  # by the file of the run


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run."""

    experiment: Experiment
    path: Path
    samples: Tensor  # (n_samples, *D) on the CPU, from the averaged weights after the last step
    # step: (r,) and loss: (r, BANDS), the mean training loss per band since the last reading (None where nothing was
    # drawn); fleet, the number trained together; seconds, the training's over that number; device, precision, torch
    history: dict[str, Any]
    steps: tuple[int, ...]  # whose averaged weights are stored: the experiment's `course` and the last

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a run's file. Raises ValueError, naming it, for a file that is damaged or holds no run."""
        kept = _read(path := Path(path))
        try:
            own = Experiment.from_dict(kept["experiment"])
            return cls(own, path, kept["samples"].float(), kept["history"], tuple(kept["weights"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no run ({error!r})") from error

    def denoiser(self, device: Device = "cpu", step: int | None = None) -> nn.Module:
        """The network with the averaged weights that it had after `step`, one of `steps` (by default the last)."""
        if step is not None and step not in self.steps:
            raise ValueError(f"step = {step} is not stored; choose one of {self.steps}, or name it in `course`")
        network = self.experiment.network.build(tuple(self.samples.shape[1:]), seed=0)
        network.load_state_dict(_read(self.path)["weights"][self.steps[-1] if step is None else step])
        return network.eval().requires_grad_(False).to(device)

    def samples_at(self, step: int, n: int | None = None, device: Device = "cpu") -> Tensor:
        """(n, *D) samples of the network as it was after `step`, from the same noise as `samples`."""
        own = replace(self.experiment, n_samples=n or self.experiment.n_samples)
        return draw(self.denoiser(device, step), own, own.load_data(), device)


def runs_folder() -> Path:
    """Where runs are stored: MEMLIB_RUNS, else `runs/` of the clone or of the user's cache folder."""
    return folder_from("MEMLIB_RUNS") or home() / "runs"


def draw(denoiser: nn.Module, experiment: Experiment, dataset: data.Dataset, device: Device | None = None) -> Tensor:
    """(n_samples, *D): the samples that this experiment takes from a denoiser, its own or another."""
    return samplers.sample(
        denoiser, experiment.build_schedule(), dataset.train.shape[1:], experiment.n_samples,
        seed=experiment.seed, steps=experiment.sampler_steps, sampler=SAMPLERS[experiment.sampler], device=device,
        clip=dataset.clip,
    )  # fmt: skip


def find_shipped(experiment: Experiment) -> Result | None:
    """The finished run that comes with memlib, if there is one; a damaged one gives a warning and None."""
    found = _found(Result.load, SHIPPED / f"{experiment.key(experiment.load_data().sha256)}.pt", "restore it with git")
    return found and replace(found, experiment=experiment)


def ship(folder: Path) -> None:
    """Store a folder's finished runs as `find_shipped` reads them: half precision, and its samples."""
    for path in sorted(folder.glob("*.pt")):
        kept, target = _read(path), SHIPPED / path.name
        kept["weights"] = {step: {k: x.half() for k, x in state.items()} for step, state in kept["weights"].items()}
        kept["history"]["hardware"] = provenance()["hardware"]
        _write(target, kept)
        _write(target, kept | {"samples": Result.load(target).samples_at(max(kept["weights"])).half()})


def run(experiment: Experiment, *, device: Device = "cpu", on_step: OnStep = lambda step: None) -> Result:
    """Train, sample and store; or read what was stored, or go on where a run was cut off. `on_step` is told the number
    of steps done. Of several processes that ask for one run, one works, the others wait."""
    return run_fleet([experiment], device=device, on_step=on_step)[0]


def run_fleet(
    experiments: Sequence[Experiment], *, device: Device = "cpu", on_step: OnStep = lambda step: None
) -> list[Result]:
    """`run` for several that are `alike`: those not yet stored are trained together, as one fleet (see `train_fleet`).

    Each is stored under the name that it has alone, and its numbers are those up to rounding, which is coarse in
    bfloat16. If one fails, none is stored."""
    if any(experiment.alike() != experiments[0].alike() for experiment in experiments):
        raise ValueError("experiments differ in data, image size, T, schedule, network, training, course or ambient")
    folder, device = runs_folder(), check_device(device)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {(own.n_train, own.seed): own for own in experiments}
    loaded = {split: own.load_data() for split, own in splits.items()}  # once for all that share them
    datasets = [loaded[own.n_train, own.seed] for own in experiments]
    paths = [folder / f"{own.key(x.sha256)}.pt" for own, x in zip(experiments, datasets, strict=True)]
    members: Members = dict(zip(paths, zip(experiments, datasets, strict=True), strict=True))
    names = "".join(path.stem for path in sorted(members))
    checkpoint = folder / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.checkpoint"
    found: dict[Path, Any] = {}  # a Result, or None
    with ExitStack() as stack:
        for path in sorted(members):  # all who ask take the locks in this order, so that no two wait for each other
            found[path] = _found(Result.load, path)  # if it is damaged, another process may be making it anew
            if found[path] is None:
                stack.enter_context(FileLock(path.with_suffix(".lock")))
                found[path] = _found(Result.load, path, "the run is made again")  # or was made meanwhile
        if left := [path for path, result in found.items() if result is None]:
            stack.enter_context(_alone)
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)  # two OpenMP threads on a shared machine are slower, and change the last digits
            saved = _found(_read, checkpoint, "training begins anew")
            # it may be of more runs than are left: a fleet that was killed while it wrote its files is trained to its
            # end again, together, to the same bits
            if saved and (saved["device"] != device.type or not {path.stem for path in left} <= set(saved["members"])):
                saved = None
            trained = [folder / f"{member}.pt" for member in saved["members"]] if saved else left
            try:
                made = _train({path: members[path] for path in trained}, checkpoint, saved, device, on_step)
            except FloatingPointError:  # from its checkpoint it would diverge again
                checkpoint.unlink(missing_ok=True)
                raise
            for path in left:
                _write(path, made[path])
                found[path] = Result.load(path)
        with suppress(OSError):
            checkpoint.unlink()
    return [replace(found[path], experiment=own) for path, own in zip(paths, experiments, strict=True)]


def _found(read: Callable[[Path], Any], path: Path, then: str = "") -> Any:
    """What `read` makes of a file; None if there is none or it is damaged. `then` says so; our own file is removed."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        if then:
            warnings.warn(f"{error}; {then}", stacklevel=4)
            if path.parent != SHIPPED:
                path.unlink()


def _read(path: Path) -> Any:
    """What torch.save wrote. Raises ValueError for a damaged file: torch itself compares no checksum."""
    content = io.BytesIO(path.read_bytes())
    try:
        if member := zipfile.ZipFile(content).testzip():
            raise ValueError(f"the checksum of {member} does not fit")
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, as any byte may be wrong
        raise ValueError(f"{path} is damaged ({str(error).partition('. ')[0]})") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, packed := io.BytesIO())
    write_atomically(path, packed.getvalue())


def _train(
    members: Members, checkpoint: Path, saved: Any, device: torch.device, on_step: OnStep
) -> dict[Path, dict[str, Any]]:
    """The content of each member's file; on a CPU a single one is trained by `train`."""
    experiments, datasets = zip(*members.values(), strict=True)
    first, size = experiments[0], len(experiments)
    alone, last = size == 1 and device.type == "cpu" and first.ambient is None, first.training.steps
    if saved is None:
        saved = {"members": [path.stem for path in members], "device": device.type, "state": None, "seconds": 0.0}
        saved |= {"step": [], "loss": [], "sums": torch.zeros(2, size, BANDS), "weights": [{} for _ in members]}
    networks = [own.network.build(tuple(x.train.shape[1:]), own.seed) for own, x in members.values()]
    x0s, timesteps = [x.train for x in datasets], [own.timesteps for own in experiments]
    schedule = first.build_schedule()
    generators = [torch.Generator().manual_seed(own.seed) for own in experiments]
    weights = [own.loss_weight and own.loss_weight.effective_weight() for own in experiments]
    common: dict[str, Any] = {"config": first.training, "device": device, "state": saved["state"]}
    steps: Any
    if alone:
        common |= {"generator": generators[0], "loss_weight": weights[0]}
        steps = training.train(networks[0], x0s[0], schedule, timesteps[0], **common)
    else:
        common |= {"generators": generators, "loss_weights": weights, "ambient": first.ambient}
        steps = fleet.train_fleet(networks, x0s, schedule, timesteps, **common)

    every, emas, seconds = max(1, last // READINGS), networks, 0.0
    total, count = sums = saved["sums"].to(device)  # since the last reading: of the losses, and how many they were
    started = written = time.monotonic()
    for step in steps:
        band = send(step.t.reshape(size, -1) * BANDS // schedule.T, device)
        total.scatter_add_(1, band, step.losses.float().reshape(size, -1))
        count.scatter_add_(1, band, torch.ones_like(band, dtype=count.dtype))
        if step.step % every == 0 or step.step == last:
            means = zip((total / count).tolist(), count.tolist(), strict=True)
            saved["loss"].append([[m if n else None for m, n in zip(*row, strict=True)] for row in means])
            saved["step"].append(step.step)
            sums.zero_()
        emas = [step.ema] if alone else step.emas
        if step.step in (*first.course, last):
            for kept, ema in zip(saved["weights"], emas, strict=True):
                kept[step.step] = {name: tensor.to("cpu", copy=True) for name, tensor in ema.state_dict().items()}
        seconds = saved["seconds"] + time.monotonic() - started
        due = time.monotonic() - written > CHECKPOINT_SECONDS and step.step < last
        if due or (size > 1 and step.step == last - 1):  # the last one, for a kill between two members' files
            _write(checkpoint, saved | {"state": step.state(), "sums": sums, "seconds": seconds})
            written = time.monotonic()
        on_step(step.step)
    history = {"step": saved["step"], "fleet": size, "seconds": seconds / size, "device": str(device)}
    history |= {"precision": first.training.precision_on(device), "torch": str(torch.__version__)}
    made = {}
    for k, (path, (own, dataset)) in enumerate(members.items()):
        made[path] = {"experiment": own.to_dict(), "content": dataset.sha256, "weights": saved["weights"][k]}
        made[path] |= {"history": history | {"loss": [row[k] for row in saved["loss"]]}}
        made[path] |= {"samples": draw(emas[k], own, dataset, device)}
    return made
