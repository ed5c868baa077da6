"""Budgets by name, in one place: smoke for tests, quick and (for sweeps) recorded for two cores, paper for one GPU."""

from __future__ import annotations

from dataclasses import dataclass

from memlib.lab.experiment import Experiment, Network
from memlib.timesteps import uniform
from memlib.training import TrainConfig


@dataclass(frozen=True)
class Profile:
    """What a notebook may spend. The experiments train uniformly; replace `timesteps`, `seed`, `label` to compare."""

    name: str
    points: Experiment
    """2-D points, an MLP: seconds."""
    signals: Experiment
    """ECG5000, a 1-D U-Net."""
    images: Experiment
    """A 2-D U-Net; `dataset` may be replaced by another image set."""
    repeats: int
    """Noises per example and timestep where a notebook measures a loss."""


def profile(name: str) -> Profile:
    """The profile of this name. Raises ValueError, naming the choices, for another."""
    if name not in PROFILES:
        raise ValueError(f"profile = {name!r}; choose one of {', '.join(map(repr, PROFILES))}")
    return PROFILES[name]


def _profile(name: str, *, points: dict, signals: dict, images: dict, repeats: int) -> Profile:
    sets = {"points": "spiral", "signals": "ecg5000", "images": "emoji"}
    parts = {"points": points, "signals": signals, "images": images}
    return Profile(
        name, **{kind: Experiment(uniform(), sets[kind], **given) for kind, given in parts.items()}, repeats=repeats
    )


PROFILES = {
    p.name: p
    for p in (
        _profile(
            "smoke",
            points={
                "n_train": 16,
                "network": Network(width=64),
                "training": TrainConfig(steps=200, batch_size=64, learning_rate=2e-3, ema_decay=0.99),
                "n_samples": 64,
                "sampler_steps": 20,
            },
            signals={
                "n_train": 32,
                "network": Network(width=8, multipliers=(1, 2, 4), unshuffle=2),
                "training": TrainConfig(steps=60, batch_size=32, ema_decay=0.9, warmup=10),
                "n_samples": 32,
                "sampler_steps": 10,
            },
            images={
                "n_train": 32,
                "network": Network(width=16, multipliers=(1, 2, 2), unshuffle=2),
                "training": TrainConfig(steps=30, batch_size=16, ema_decay=0.9, warmup=10),
                "n_samples": 32,
                "sampler_steps": 10,
            },
            repeats=1,
        ),
        _profile(
            "quick",
            points={
                "n_train": 16,
                "network": Network(width=128),
                "training": TrainConfig(steps=2000, batch_size=256, learning_rate=2e-3, ema_decay=0.995),
                "n_samples": 512,
            },
            signals={
                "n_train": 32,
                "network": Network(width=16, multipliers=(1, 2, 4), unshuffle=2),
                "training": TrainConfig(steps=3000, batch_size=32),
            },
            images={
                "n_train": 32,
                "network": Network(width=32, multipliers=(1, 2, 4), unshuffle=2),
                "training": TrainConfig(steps=2500, batch_size=16, ema_decay=0.995),
                "n_samples": 128,
            },
            repeats=8,
        ),
        _profile(  # chosen on seed 100, which no plan holds: the cheapest at which uniform training memorizes unbroken
            "recorded",
            points={
                "n_train": 16,
                "network": Network(width=128),
                "training": TrainConfig(steps=1000, batch_size=128, learning_rate=2e-3, ema_decay=0.98, cooldown=500),
                "n_samples": 128,
            },
            signals={
                "n_train": 32,
                "network": Network(width=16, multipliers=(1, 2), unshuffle=2),
                "training": TrainConfig(steps=2500, batch_size=32, learning_rate=3e-3, ema_decay=0.98, cooldown=1250),
                "n_samples": 128,
            },
            images={
                "n_train": 16,
                "network": Network(width=32, multipliers=(1, 2), unshuffle=2),
                "training": TrainConfig(steps=3000, batch_size=8, learning_rate=2e-3, ema_decay=0.98, cooldown=1500),
                "n_samples": 128,
            },
            repeats=8,
        ),
        _profile(
            "paper",
            points={
                "n_train": 16,
                "network": Network(width=128),
                "training": TrainConfig(steps=10_000, batch_size=256, ema_decay=0.999),
                "n_samples": 512,
            },
            signals={
                "n_train": 128,
                "network": Network(width=32, multipliers=(1, 2, 4)),
                "training": TrainConfig(steps=10_000, batch_size=64, ema_decay=0.995, cooldown=5000),
                "n_samples": 512,
            },
            images={
                "n_train": 64,
                "network": Network(width=64, multipliers=(1, 2, 2), unshuffle=2),
                "training": TrainConfig(steps=10_000, batch_size=32, ema_decay=0.995, cooldown=5000),
                "n_samples": 512,
            },
            repeats=32,
        ),
    )
}
