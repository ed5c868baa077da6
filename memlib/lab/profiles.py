"""Budgets by name, from data/profiles.toml: smoke for tests, quick and recorded for two cores, paper for one GPU."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from memlib.lab.data import DATA
from memlib.lab.experiment import Experiment

_BUDGETS = tomllib.loads((DATA / "profiles.toml").read_text(encoding="utf-8"))
PROFILES = tuple(_BUDGETS)


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
def profile(name: str) -> Profile:
    """The profile of this name, one of PROFILES."""
    if name not in PROFILES:
        raise ValueError(f"profile = {name!r}; choose one of {', '.join(map(repr, PROFILES))}")
    parts: dict[str, Any] = dict(_BUDGETS[name])
    for kind in ("points", "signals", "images"):
        parts[kind] = Experiment.from_dict({"timesteps": {"name": "uniform"}} | parts[kind])
    return Profile(name, **parts)
