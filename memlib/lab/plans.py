"""What a sweep runs, as data: a plan is a TOML file of controls, and a control with a seed is one configuration.

A configuration is a plain dict that JSON keeps: an Experiment's description with `timesteps` as a recipe in place of
the vector, so that it is short and its hash does not hang on a last digit. The recipes: "uniform";
{"interval": [low, high], "tails": ...} in t; {"log_snr": [low, high]}; {"at": [t, ...], "weights": [...]}, which is
interpolated and may have a "name". With `weighted`, t is drawn uniformly and the loss weighted by T p(t). A splice is
two configurations and a timestep.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memlib.lab import data
from memlib.lab.experiment import Experiment
from memlib.lab.profiles import profile
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution, from_weights, gaussian_interval, uniform

PLANS = data.DATA / "plans"
Config = dict[str, Any]
_CONTROL, _SPLICED = {"timesteps", "weighted", "size", "length", "only"}, {"splice", "only"}


def distribution(recipe: str | Mapping[str, Any], schedule: Schedule) -> TimestepDistribution:
    """The distribution over the schedule's timesteps that a recipe describes. Raises ValueError for no known recipe."""
    T = schedule.T
    keys = set(recipe) if isinstance(recipe, Mapping) else recipe
    try:
        if keys == "uniform":
            return uniform(T)
        if keys in ({"interval"}, {"interval", "tails"}):
            return gaussian_interval(T, *recipe["interval"], tails=recipe.get("tails", "proportional"))
        if keys == {"log_snr"}:
            low, high = recipe["log_snr"]
            return gaussian_interval(T, *(schedule.t_at_snr(math.exp(s)) for s in (high, low)))
        if keys in ({"at", "weights"}, {"at", "weights", "name"}) and isinstance(recipe.get("name", ""), str):
            if not (np.diff(recipe["at"]) > 0).all():
                raise ValueError("at must rise, for the weights are interpolated between its timesteps")
            return from_weights(torch.from_numpy(np.interp(np.arange(T), recipe["at"], recipe["weights"])))
        raise ValueError("need 'uniform', or a table with interval (and tails), log_snr, or at and weights (and name)")
    except (TypeError, ValueError) as error:
        raise ValueError(f"timesteps = {recipe!r}; {error}") from error


def experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a configuration that is no splice, its key as label. Raises as Experiment does, and ValueError
    for a key that is missing."""
    plain = dict(config)
    recipe, weighted = plain.pop("timesteps"), plain.pop("weighted")
    base = Experiment.from_dict(plain | {"timesteps": uniform(1000).pmf})  # for the schedule that the recipe refers to
    chosen = distribution(recipe, base.build_schedule())
    return replace(
        base,
        timesteps=uniform(chosen.T) if weighted else chosen,
        loss_weight=chosen.effective_weight() if weighted else None,
        label=key(config),
    )


def key(config: Mapping[str, Any]) -> str:
    """The configuration's name: 16 hexadecimal digits of the sha256 of its JSON, keys sorted."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def setting(config: Mapping[str, Any]) -> str:
    """All of a configuration but where its training looks, as JSON: equal for runs that may be compared."""
    return json.dumps({k: v for k, v in config.items() if k not in ("timesteps", "weighted")}, sort_keys=True)


def is_splice(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is two and a timestep."""
    return "above" in config


def networks(config: Mapping[str, Any]) -> list[Config]:
    """The configurations that are trained for it: the two of a splice, else itself. ValueError for a missing key."""
    return [config["above"], config["below"]] if is_splice(config) else [config]


def describe(config: Mapping[str, Any]) -> str:
    """The control in a few words, as tables and plots name it. Raises ValueError for a missing key or no recipe."""
    if is_splice(config):
        return f"{describe(config['above'])} above t = {config['at']}, {describe(config['below'])} below"
    recipe = config["timesteps"]
    if recipe == "uniform":
        name = "uniform"
    elif not isinstance(recipe, Mapping):
        raise ValueError(f"timesteps = {recipe!r}; need 'uniform' or a table")
    elif "interval" in recipe:
        name = "interval {:g} to {:g}".format(*recipe["interval"])
        name += f", tails {recipe['tails']}" if "tails" in recipe else ""
    elif "log_snr" in recipe:
        name = "log-SNR {1:g} to {0:g}".format(*recipe["log_snr"])
    else:
        name = recipe.get("name", "equal contributions")
    return name + (", as weight" if config["weighted"] else "")


def read_plan(plan: str | Path, budgets: str = "recorded") -> list[Config]:
    """The configurations of a plan, by the name of a file in data/plans or by path, seed by seed.

    `budgets` names the profile. Raises FileNotFoundError, naming the plans, and ValueError for what a plan cannot hold.
    """
    path = PLANS / f"{plan}.toml"
    if not path.is_file():
        path = Path(plan)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PLANS.glob("*.toml")))
        raise FileNotFoundError(f"plan = {str(plan)!r} is neither a file nor one of {known}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    if set(content) != {"question", "seeds", "controls"}:
        raise ValueError(f"{path} has the keys {sorted(content)}; need question, seeds and controls")
    seeds, controls = content["seeds"], content["controls"]
    if not (isinstance(seeds, dict) and seeds and all(type(count) is int and count > 0 for count in seeds.values())):
        raise ValueError(f"{path}: seeds = {seeds!r}; need a table of data sets with the number of seeds of each")
    if not (isinstance(controls, list) and all(isinstance(control, dict) for control in controls)):
        raise ValueError(f"{path}: controls = {controls!r}; need tables, each under [[controls]]")
    for control in controls:
        if ("timesteps" in control) == ("splice" in control):
            raise ValueError(f"{path}: the control {control} needs either timesteps or splice")
        known = _SPLICED if "splice" in control else _CONTROL
        if unknown := set(control) - known:
            raise ValueError(f"{path}: unknown {sorted(unknown)} in a control; known are {sorted(known)}")
        splice = control.get("splice", {"above": "uniform", "below": "uniform", "at": 1})
        fits = isinstance(splice, dict) and set(splice) == {"above", "below", "at"}
        if not (fits and type(splice["at"]) is int and splice["at"] >= 0):
            raise ValueError(f"{path}: splice = {splice}; need above, below and at, an integer >= 0")
        if not isinstance(control.get("weighted", False), bool):
            raise ValueError(f"{path}: weighted = {control['weighted']!r}; need true or false")
        only = control.get("only", [])
        if not isinstance(only, list) or not set(map(str, only)) <= set(data.NAMES):
            raise ValueError(f"{path}: only = {only!r}; need a list of {', '.join(data.NAMES)}")
        for name in ("size", "length"):
            if not (type(value := control.get(name, 1)) in (int, float) and 0 < value < math.inf):
                raise ValueError(f"{path}: {name} = {value!r}; need a number above 0")
    return list(_configurations(content, budgets))


def _configurations(content: Mapping[str, Any], budgets: str) -> Iterator[Config]:
    seeds = content["seeds"]
    for seed in range(max(seeds.values())):
        for dataset in (name for name, count in seeds.items() if seed < count):
            for control in content["controls"]:
                if dataset not in control.get("only", [dataset]):
                    continue
                if splice := control.get("splice"):
                    above, below = (_one(dataset, seed, {"timesteps": splice[k]}, budgets) for k in ("above", "below"))
                    yield {"above": above, "below": below, "at": splice["at"]}
                else:
                    yield _one(dataset, seed, control, budgets)


def _one(dataset: str, seed: int, control: Mapping[str, Any], budgets: str) -> Config:
    budget = profile(budgets)
    base = {"points": budget.points, "signal": budget.signals, "image": budget.images}[data.kind_of(dataset)]
    length = control.get("length", 1)
    config = replace(
        base,
        dataset=dataset,
        seed=seed,
        n_train=round(base.n_train * control.get("size", 1)),
        training=replace(
            base.training,
            steps=round(base.training.steps * length),
            cooldown=round(base.training.cooldown * length),
        ),
    ).to_dict()
    del config["loss_weight"], config["label"]
    return config | {"timesteps": control["timesteps"], "weighted": control.get("weighted", False)}
