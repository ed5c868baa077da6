"""The description of a training run, and its only identity: a key of the description, the data and VERSION."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from memlib import models, samplers
from memlib.checks import check_count
from memlib.lab import data
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution, from_recipe, uniform
from memlib.training import TrainConfig

VERSION = 1  # raise it when the numbers of an unchanged experiment change: old runs are then made again
SCHEDULES = ("linear", "cosine", "sigmoid")
SAMPLERS: dict[str, Any] = {"ddim": samplers.ddim, "ddpm": samplers.ddpm}


@dataclass(frozen=True)
class Network:
    """The size of a denoiser; for points an MLP of this `width`, else a UNet (its docstring explains the fields)."""

    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: bool = False
    unshuffle: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))  # JSON has lists

    def build(self, shape: tuple[int, ...], seed: int | None = None) -> nn.Module:
        """A network for examples of `shape`: (dim,), (C, L) or (C, H, W). A seed fixes the first weights and leaves
        torch's global generator, from which layers are initialised, as it was."""
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.random.default_generator.manual_seed(seed)  # pyright: ignore[reportPrivateImportUsage]
            if len(shape) == 1:
                return models.MLP(shape[0], self.width)
            return models.UNet(len(shape) - 1, shape[0], **asdict(self))


@dataclass(frozen=True)
class Experiment:
    """All that decides a run's numbers. Invalid values are refused at once."""

    timesteps: TimestepDistribution  #: from which training draws t
    dataset: str | data.Dataset  #: a name or a path; of a `Dataset` its name and the size of its pictures are kept
    n_train: int = 64
    image_size: int = 32
    seed: int = 0  #: of the split, the first weights, the training noise and the samples: equal seeds make paired runs
    schedule: str = "linear"
    network: Network = field(default_factory=Network)
    training: TrainConfig = field(default_factory=TrainConfig)
    loss_weight: TimestepDistribution | None = None  #: q; the loss at t is multiplied by its effective weight T q(t)
    ambient: int | None = None  #: above it training sees one noisy version of each item (`memlib.lab.fleet.kept_noise`)
    n_samples: int = 256
    sampler_steps: int = 50  #: for images each predicted x0 is clipped to the value range, as is usual
    sampler: str = "ddim"  #: deterministic "ddim", or "ddpm", which is ancestral
    course: tuple[int, ...] = ()  #: training steps after which the averaged weights are kept, to show the whole course
    label: str = field(default="", compare=False)  #: what plots and tables call it; not part of the identity

    def __post_init__(self) -> None:
        for name, kind in {"timesteps": TimestepDistribution, "network": Network, "training": TrainConfig}.items():
            if type(value := getattr(self, name)) is not kind:  # a subclass would be made again as its parent
                raise TypeError(f"{name} is a {type(value).__name__}; need a {kind.__name__}")
        for name, least in {"n_train": 2, "seed": 0, "n_samples": 2, "sampler_steps": 1}.items():
            check_count(getattr(self, name), name, least)
            object.__setattr__(self, name, int(getattr(self, name)))  # torch takes no NumPy integer as a seed
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler = {self.sampler!r}; choose one of {', '.join(SAMPLERS)}")
        if isinstance(given := self.dataset, data.Dataset):
            if given.kind == "image":
                object.__setattr__(self, "image_size", given.train.shape[-1])
            object.__setattr__(self, "dataset", given.name)
            if not torch.equal(self.load_data().train, given.train):  # a run draws its items anew
                held = f"dataset has {len(given.train)} items in train, not those of n_train = {self.n_train}"
                raise ValueError(f"{held}, seed = {self.seed}; give its n_train and seed, and no other sizes to `load`")
        object.__setattr__(self, "dataset", data.named(self.dataset))
        schedule, T = self.build_schedule(), self.timesteps.T
        if self.sampler_steps > T:
            raise ValueError(f"sampler_steps = {self.sampler_steps}; need at most T = {T}")
        for name, p in {"timesteps": self.timesteps, "loss_weight": self.loss_weight}.items():
            # the key knows p by its recipe; the last digits differ by processor, and in float32
            if p and (p.T != T or (p.recipe and (from_recipe(p.recipe, schedule).pmf - p.pmf).abs().max() > 1e-5)):
                cure = "make it with this one, or pass TimestepDistribution(p.pmf)"
                raise ValueError(f"{name} = {p!r} is of another schedule than {schedule!r}; {cure}")
        if self.ambient is not None and not 0 <= self.ambient < T:
            raise ValueError(f"ambient = {self.ambient}; need a timestep in 0..{T - 1}")
        course, last = tuple(int(step) for step in self.course), self.training.steps
        if list(course) != sorted(set(course)) or not all(0 < step <= last for step in course):
            raise ValueError(f"course = {course}; need rising steps in 1..{last}, the steps of training")
        object.__setattr__(self, "course", course)
        if data.is_known(str(self.dataset)) or Path(str(self.dataset)).exists():  # else it is of another machine
            _check_network(self.network, data.kind_of(self.dataset))

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, without the label; `from_dict` is the inverse."""
        hidden = {"label"} if self.ambient is not None else {"label", "ambient"}  # which older records lack
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        training = {k: v for k, v in asdict(self.training).items() if v or k != "stratified"}  # as these do
        plain |= {"T": self.timesteps.T, "network": asdict(self.network), "training": training}
        for name in ("timesteps", "loss_weight"):
            if p := plain[name]:
                plain[name] = p.recipe or p.pmf.tolist()
        return json.loads(json.dumps(plain, default=lambda number: number.item()))  # NumPy's numbers as Python's

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], label: str = "") -> Self:
        """Values that are left out have their default. Raises TypeError for an unknown key."""
        plain = {**plain, "label": label}
        schedule = schedule_named(plain.get("schedule", "linear"), plain.pop("T", 1000))
        for name in ("timesteps", "loss_weight"):
            if plain.get(name) is not None:
                plain[name] = from_recipe(plain[name], schedule)
        for name, kind in (("network", Network), ("training", TrainConfig)):
            if name in plain:
                plain[name] = kind(**plain[name])
        return cls(**plain)

    def key(self, content: str) -> str:
        """16 hexadecimal digits that name the run: a hash of the description, VERSION and the data's content, which is
        `Dataset.sha256`. Values that equal their default are left out, so that a new field renames no old run."""
        default = Experiment(uniform(), self.dataset).to_dict()
        default |= {"timesteps": None, "dataset": None}
        changed = {name: value for name, value in self.to_dict().items() if value != default.get(name)}
        if not data.is_known(str(self.dataset)):
            del changed["dataset"]  # wherever it lies, the content tells
        for part in {"network", "training"} & set(changed):
            changed[part] = {name: value for name, value in changed[part].items() if value != default[part].get(name)}
        return hashlib.sha256(json.dumps([changed, content, VERSION], sort_keys=True).encode()).hexdigest()[:16]

    def load_data(self) -> data.Dataset:
        """The data set as this run splits it."""
        return data.load(self.dataset, self.n_train, seed=self.seed, image_size=self.image_size)

    def build_schedule(self) -> Schedule:
        """The noise schedule, with as many timesteps as the distribution has."""
        return schedule_named(self.schedule, self.timesteps.T)

    def alike(self) -> tuple:
        """What the runs of one fleet have in common."""
        same = (self.dataset, self.image_size, self.timesteps.T, self.schedule, self.network, self.training)
        return *same, self.course, self.ambient


@cache
def _check_network(network: Network, kind: str) -> None:
    """Refuse, before any work, sizes that make no network."""
    network.build({"points": (2,), "signal": (1, 8), "image": (3, 8, 8)}[kind], seed=0)


def schedule_named(name: str, T: int) -> Schedule:
    """One of SCHEDULES. Raises ValueError, naming them, for another."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule = {name!r}; choose one of {', '.join(SCHEDULES)}")
    return getattr(Schedule, name)(T)
