"""Budgets by name, from data/profiles.toml: smoke for tests, quick and recorded for two cores, paper for one GPU."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from memlib.lab.data import DATA
from memlib.lab.experiment import Experiment


@dataclass(frozen=True)
class Profile:
    """What a notebook may spend. The experiments train uniformly; replace `timesteps`, `seed`, `label` to compare."""

    name: str
    points: Experiment
    signals: Experiment
    images: Experiment
    repeats: int
    """Noises per example and timestep where a notebook measures a loss."""


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by name."""
    content = tomllib.loads((DATA / "profiles.toml").read_text(encoding="utf-8"))
    return {name: Profile(name, **{key: _part(value) for key, value in p.items()}) for name, p in content.items()}


def profile(name: str) -> Profile:
    """The profile of this name. Raises ValueError, naming the choices, for another."""
    if name not in profiles():
        raise ValueError(f"profile = {name!r}; choose one of {', '.join(map(repr, profiles()))}")
    return profiles()[name]


def _part(value):
    return Experiment.from_dict({"timesteps": {"name": "uniform"}} | value) if isinstance(value, dict) else value
