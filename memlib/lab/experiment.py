"""The description of a training run, and its name: a hash of all that the numbers depend on."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memlib import models, schedules
from memlib.checks import check_count
from memlib.devices import check_device
from memlib.lab import data
from memlib.timesteps import TimestepDistribution
from memlib.training import TrainConfig

SCHEDULES = ("linear", "cosine", "sigmoid")


@dataclass(frozen=True)
class Network:
    """The size of a denoiser; for points an MLP of this `width`, else a UNet (see there for the fields)."""

    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: bool = False
    unshuffle: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.multipliers, list):  # as JSON has it; a tuple can be hashed
            object.__setattr__(self, "multipliers", tuple(self.multipliers))

    def build(self, shape: tuple[int, ...], seed: int | None = None) -> nn.Module:
        """A network for examples of `shape`: (dim,), (C, L) or (C, H, W); with a seed, of the same first weights.

        A seed leaves torch's global generator, from which layers are initialised, as it was.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                check_count(seed, "seed", 0)
                torch.random.default_generator.manual_seed(int(seed))
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
            check_count(getattr(self, name), name, least)
        object.__setattr__(self, "seed", int(self.seed))  # NumPy's integers seed no generator
        T = self.build_schedule().T
        if self.sampler_steps > T:
            raise ValueError(f"sampler_steps = {self.sampler_steps}; need at most the {T} timesteps that there are")
        if self.loss_weight is not None and len(schedules.vector(self.loss_weight, "loss_weight")) != T:
            raise ValueError(f"loss_weight has {len(self.loss_weight)} values; need one for each of {T} timesteps")
        data.check_image_size(self.image_size)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, lossless; `from_dict` is the inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["timesteps"] = self.timesteps.pmf.tolist()
        plain["loss_weight"] = None if self.loss_weight is None else torch.as_tensor(self.loss_weight).tolist()
        plain |= {"network": asdict(self.network), "training": asdict(self.training)}
        return json.loads(json.dumps(plain, default=lambda number: number.item()))  # NumPy's numbers as Python's

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Experiment:
        """Raises ValueError for unknown keys, naming the known ones, and for a missing one, and as Experiment does."""
        plain = dict(plain)
        for kind, part in ((cls, plain), (Network, plain.get("network", {})), (TrainConfig, plain.get("training", {}))):
            known = {f.name for f in fields(kind)}
            if unknown := set(part) - known:
                raise ValueError(f"unknown {kind.__name__} keys {sorted(unknown)}; known are {sorted(known)}")
        if missing := {"timesteps", "dataset"} - set(plain):
            raise ValueError(f"plain lacks the keys {sorted(missing)}")
        plain["timesteps"] = TimestepDistribution(plain["timesteps"])
        if plain.get("loss_weight") is not None:
            plain["loss_weight"] = schedules.vector(plain["loss_weight"], "loss_weight")
        if "network" in plain:
            plain["network"] = Network(**plain["network"])
        if "training" in plain:
            plain["training"] = TrainConfig(**plain["training"])
        return cls(**plain)

    def load_data(self) -> data.Dataset:
        """The data set as this run splits it."""
        return data.load(self.dataset, self.n_train, seed=self.seed, image_size=self.image_size)

    def build_schedule(self) -> schedules.Schedule:
        """The noise schedule, with as many timesteps as the distribution has."""
        return getattr(schedules.Schedule, self.schedule)(self.timesteps.T)

    def alike(self) -> tuple:
        """What the runs of one fleet have in common."""
        return self.dataset, self.image_size, self.timesteps.T, self.schedule, self.network, self.training

    def key(self, dataset: data.Dataset, device: str | torch.device = "cpu") -> str:
        """The run's name, 16 hexadecimal digits: a hash of the description, the training items, the precision that the
        device computes in, and the code. RuntimeError for a device that is not there."""
        items = hashlib.sha256(dataset.train.numpy().tobytes()).hexdigest()
        precision = self.training.precision_on(check_device(device))
        identity = self.to_dict() | {"label": None, "data": items, "clip": dataset.clip, "precision": precision}
        identity["code"] = code_sha256()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def code_sha256(folder: Path = Path(__file__).parents[1]) -> str:
    """A hash of the code that a run's numbers depend on, its comments, docstrings and layout left out."""
    digest = hashlib.sha256()
    core, lab = ("schedules", "timesteps", "models", "training", "devices", "samplers"), ("fleet", "experiment", "runs")
    for name in (*core, *(f"lab/{name}" for name in lab)):
        tree = ast.parse((folder / f"{name}.py").read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # a statement that is only a string is a docstring
                node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()
