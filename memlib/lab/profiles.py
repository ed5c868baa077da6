"""Budgets by name, from data/profiles.toml: smoke for tests, quick and recorded for two cores, paper for one GPU."""

import tomllib
from dataclasses import dataclass
from functools import cache

from memlib.lab.data import DATA
from memlib.lab.experiment import Experiment


@dataclass(frozen=True)
class Profile:
    """What a notebook may spend. The experiments train uniformly; replace `timesteps`, `seed`, `label` to compare."""

    points: Experiment
    signals: Experiment
    images: Experiment
    repeats: int  # noises per example and timestep where a notebook measures a loss


@cache
def profile(name: str) -> Profile:
    """The profile of this name."""
    budgets = tomllib.loads((DATA / "profiles.toml").read_text(encoding="utf-8"))
    if name not in budgets:
        raise ValueError(f"profile = {name!r}; choose one of {', '.join(budgets)}")
    even = {"timesteps": {"name": "uniform"}}
    kinds = {k: Experiment.from_dict(even | budgets[name][k]) for k in ("points", "signals", "images")}
    return Profile(**kinds, repeats=budgets[name]["repeats"])
