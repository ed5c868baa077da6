"""One training run from its description to judged samples: Experiment -> run() -> Result, cached, resumable.

A run's folder under `runs/` (or `MEMLIB_RUNS`) is named by a hash of all that its numbers depend on: the description,
the data's content and the code that computes them. Asked for again it is read; cut off, it goes on from its last
checkpoint.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from . import data, download, models, samplers, schedules, timesteps, training
from .files import write_atomically
from .timesteps import TimestepDistribution
from .training import TrainConfig

CHECKPOINT_SECONDS = 30
BANDS = 10  # equal bands of t in which the loss is read, low noise first
READINGS = 50  # readings of the training loss over a run
SCHEDULES = ("linear", "cosine", "sigmoid")


@dataclass(frozen=True)
class Network:
    """The size of a denoiser; for points an MLP of this `width`, else a UNet (see there for the fields)."""

    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: bool = False
    unshuffle: int = 1

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """A network for examples of `shape`: (dim,), (C, L) or (C, H, W)."""
        if len(shape) == 1:
            return models.MLP(shape[0], self.width)
        return models.UNet(len(shape) - 1, shape[0], **asdict(self))


@dataclass(frozen=True, eq=False)
class Experiment:
    """All that decides a run's numbers, but `label`. Raises TypeError or ValueError for values that make no run."""

    timesteps: TimestepDistribution
    dataset: str
    n_train: int = 64
    image_size: int = 32
    seed: int = 0
    """Of the split, the initial weights, the training noise and the samples: equal seeds make paired runs."""
    schedule: str = "linear"
    network: Network = field(default_factory=Network)
    training: TrainConfig = field(default_factory=TrainConfig)
    loss_weight: Tensor | None = None
    """(T,) optional weight per timestep, as in `train`."""
    n_samples: int = 256
    sampler_steps: int = 50
    """Of deterministic DDIM; for images each predicted x0 is clipped to the value range, as is usual."""
    label: str = ""
    """What plots and tables call it; not part of the run's identity."""

    def __post_init__(self) -> None:
        if not isinstance(self.timesteps, TimestepDistribution):
            raise TypeError(f"timesteps is a {type(self.timesteps).__name__}; need a TimestepDistribution")
        if self.dataset not in data.NAMES:
            raise ValueError(f"dataset = {self.dataset!r}; choose one of {', '.join(data.NAMES)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule = {self.schedule!r}; choose one of {', '.join(SCHEDULES)}")
        for name, least in {"n_train": 2, "seed": 0, "n_samples": 2, "sampler_steps": 1}.items():
            schedules.check_count(getattr(self, name), name, least)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, lossless; `from_dict` is the inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["timesteps"] = self.timesteps.pmf.tolist()
        plain["loss_weight"] = None if self.loss_weight is None else torch.as_tensor(self.loss_weight).tolist()
        plain["network"] = asdict(self.network) | {"multipliers": list(self.network.multipliers)}
        plain["training"] = asdict(self.training)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Experiment:
        """Raises ValueError for unknown keys, naming the known ones."""
        plain = dict(plain)
        for kind, part in ((cls, plain), (Network, plain.get("network", {})), (TrainConfig, plain.get("training", {}))):
            known = {f.name for f in fields(kind)}
            if unknown := set(part) - known:
                raise ValueError(f"unknown {kind.__name__} keys {sorted(unknown)}; known are {sorted(known)}")
        plain["timesteps"] = TimestepDistribution(plain["timesteps"])
        if plain.get("loss_weight") is not None:
            plain["loss_weight"] = schedules.vector(plain["loss_weight"], "loss_weight")
        if "network" in plain:
            network = dict(plain["network"])
            plain["network"] = Network(**network | {"multipliers": tuple(network["multipliers"])})
        if "training" in plain:
            plain["training"] = TrainConfig(**plain["training"])
        return cls(**plain)

    def load_data(self) -> data.Dataset:
        """The data set as this run splits it."""
        return data.load(self.dataset, self.n_train, seed=self.seed, image_size=self.image_size)

    def build_schedule(self) -> schedules.Schedule:
        """The noise schedule, with as many timesteps as the distribution has."""
        return getattr(schedules.Schedule, self.schedule)(self.timesteps.T)

    def key(self, data_sha256: str) -> str:
        """The run's name: a hash of the description, the data and the code, 16 hexadecimal digits."""
        identity = self.to_dict() | {"label": None, "data": data_sha256, "code": code_sha256()}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run."""

    experiment: Experiment
    folder: Path
    samples: Tensor
    """(n_samples, *D) on the CPU, from the averaged weights."""
    history: dict[str, Any]
    """step: (r,) and loss: (r, BANDS), the mean training loss per band since the last reading (None where nothing was
    drawn); seconds; device, versions."""

    @classmethod
    def load(cls, folder: Path | str) -> Result:
        """Read a run's folder. Raises FileNotFoundError where there is none and ValueError where it is damaged."""
        folder = Path(folder)
        if not (folder / "experiment.json").is_file():
            raise FileNotFoundError(f"folder = {folder} holds no finished run (no experiment.json)")
        download.obtain(folder, FILES, lambda work: None)  # checks the hashes
        try:
            experiment = Experiment.from_dict(json.loads((folder / "experiment.json").read_text()))
            history = json.loads((folder / "history.json").read_text())
            samples = load((folder / "samples.safetensors").read_bytes())["samples"]
        except (SafetensorError, ValueError, KeyError, TypeError) as error:  # the hashes fit: no run of memlib's
            raise ValueError(f"{folder} holds files that are none of a run ({error}); delete the folder") from error
        return cls(experiment, folder, samples, history)

    def denoiser(self, device: str = "cpu") -> nn.Module:
        """The trained network with averaged weights, to sample from. Raises ValueError where they were damaged."""
        path = (
            download.obtain(self.folder, FILES, lambda work: None) / "weights.safetensors"
        )  # read later than the rest
        network = self.experiment.network.build(tuple(self.samples.shape[1:]))
        try:
            network.load_state_dict(load(path.read_bytes()))
        except (SafetensorError, RuntimeError) as error:  # RuntimeError: other tensors than the network's
            raise ValueError(f"{path} holds no weights of this run ({error}); delete the folder") from error
        return network.eval().requires_grad_(False).to(device)


FILES = ("experiment.json", "history.json", "samples.safetensors", "weights.safetensors")


def runs_folder() -> Path:
    """Where runs are kept: `MEMLIB_RUNS`, else `runs/` of the clone."""
    return Path(os.environ.get("MEMLIB_RUNS") or Path(__file__).resolve().parent.parent / "runs")


def run(experiment: Experiment, *, device: str = "cpu", on_step: Callable[[int], None] = lambda step: None) -> Result:
    """Train, sample and keep; or read what was kept, or go on where a run was cut off.

    `on_step` is told the number of steps done. Of two processes that ask for the same run one works, the other waits.
    Raises what loading the data and training raise, and OSError naming the path where the disk cannot be written.
    """
    dataset = experiment.load_data()
    folder = runs_folder() / experiment.key(dataset.sha256)

    def build(work: Path) -> None:
        torch.set_num_threads(1)  # two OpenMP threads on a shared machine are slower, and change the last digits
        history, ema = _train(experiment, dataset, work, device, on_step)
        samples = draw(ema, experiment, dataset, device)
        (work / "experiment.json").write_text(json.dumps(experiment.to_dict()))
        (work / "history.json").write_text(json.dumps(history))
        write_atomically(work / "samples.safetensors", save({"samples": samples}))
        weights = {name: tensor.cpu() for name, tensor in ema.state_dict().items()}
        write_atomically(work / "weights.safetensors", save(weights))

    download.obtain(folder, FILES, build)
    result = Result.load(folder)
    return Result(experiment, folder, result.samples, result.history)  # with this call's label


def draw(
    denoiser: nn.Module, experiment: Experiment, dataset: data.Dataset, device: str | torch.device | None = None
) -> Tensor:
    """The samples (n_samples, *D) that this experiment takes from a denoiser, whether its own or another."""
    return samplers.sample(
        denoiser, experiment.build_schedule(), dataset.train.shape[1:], experiment.n_samples,
        seed=experiment.seed, steps=experiment.sampler_steps, device=device,
        clip=dataset.value_range if dataset.kind == "image" else None,
    )  # fmt: skip


def _train(experiment, dataset, work, device, on_step) -> tuple[dict[str, Any], nn.Module]:
    generator = torch.Generator().manual_seed(experiment.seed)
    with torch.random.fork_rng(devices=[]):  # layers initialise from the global generator: give it back as it was
        torch.random.default_generator.manual_seed(experiment.seed)
        network = experiment.network.build(tuple(dataset.train.shape[1:]))
    checkpoint, state, history = work / "checkpoint", None, {"step": [], "loss": [], "seconds": 0.0}
    if checkpoint.exists():
        try:
            state, history = _read_checkpoint(checkpoint)
        except ValueError as error:
            warnings.warn(f"{error}; the run begins anew", stacklevel=2)

    every = max(1, experiment.training.steps // READINGS)
    total, count = torch.zeros(BANDS), torch.zeros(BANDS)
    started = saved = time.monotonic()
    for step in training.train(
        network, dataset.train, experiment.build_schedule(), experiment.timesteps, experiment.training,
        generator=generator, device=device, state=state, loss_weight=experiment.loss_weight,
    ):  # fmt: skip
        band = step.t.cpu() * BANDS // step.T
        total.index_add_(0, band, step.losses.float().cpu())
        count += band.bincount(minlength=BANDS)
        if step.step % every == 0 or step.step == experiment.training.steps:
            history["step"].append(step.step)
            history["loss"].append([t / n if n else None for t, n in zip(total.tolist(), count.tolist(), strict=True)])
            total.zero_(), count.zero_()
            if time.monotonic() - saved > CHECKPOINT_SECONDS and step.step < experiment.training.steps:
                seconds = history["seconds"] + time.monotonic() - started
                _write_checkpoint(checkpoint, step.state(), history | {"seconds": seconds})
                saved = time.monotonic()
        on_step(step.step)
    history["seconds"] += time.monotonic() - started
    history["device"], history["torch"] = str(device), torch.__version__
    return history, step.ema


def _write_checkpoint(path: Path, state: dict, history: dict) -> None:
    """A sha256, then a safetensors file, no pickle: tensors by dotted name, all else as JSON in the bytes of one."""
    optimizer = state["optimizer"]
    tensors = {f"{part}.{name}": tensor for part in ("model", "ema") for name, tensor in state[part].items()}
    tensors |= {f"optimizer.{i}.{name}": x for i, slots in optimizer["state"].items() for name, x in slots.items()}
    tensors["generator"] = state["generator"]
    rest = {"param_groups": optimizer["param_groups"], "step": state["step"], "history": history}
    tensors["rest"] = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
    content = save(tensors)
    write_atomically(path, hashlib.sha256(content).digest() + content)


def _read_checkpoint(path: Path) -> tuple[dict, dict]:
    """Raises ValueError for a file that is not what was written: a flipped bit would go on unseen in the weights."""
    whole = path.read_bytes()
    content = whole[32:]
    if hashlib.sha256(content).digest() != whole[:32]:
        raise ValueError(f"{path} is damaged: its sha256 does not fit")
    tensors = load(content)
    rest = json.loads(tensors.pop("rest").numpy().tobytes())
    optimizer = {"state": {}, "param_groups": rest["param_groups"]}
    state = {"model": {}, "ema": {}, "optimizer": optimizer, "step": rest["step"]}
    for name, tensor in tensors.items():
        part, _, name = name.partition(".")
        if part == "optimizer":
            index, _, slot = name.partition(".")
            optimizer["state"].setdefault(int(index), {})[slot] = tensor
        elif part == "generator":
            state["generator"] = tensor
        else:
            state[part][name] = tensor
    return state, rest["history"]


def code_sha256() -> str:
    """A hash of the code that a run's numbers depend on, its comments, docstrings and layout left out."""
    digest = hashlib.sha256()
    for module in (schedules, timesteps, models, training, samplers):
        tree = ast.parse(Path(module.__file__).read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # a statement that is only a string is a docstring
                node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()
