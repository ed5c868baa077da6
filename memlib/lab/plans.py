"""What a sweep runs, as data: a plan is a TOML file of controls; a control, a data set and a seed make a configuration.

A configuration is the dict of `Experiment.to_dict`, or a splice: {"above": configuration, "below": ..., "at": t}.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from memlib.lab import data, profiles
from memlib.lab.experiment import Experiment
from memlib.schedules import Schedule
from memlib.timesteps import from_recipe, uniform

PLANS = data.DATA / "plans"
Config = dict[str, Any]


def experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a configuration that is no splice; its label is what `describe` says."""
    return Experiment.from_dict(config, describe(config))


def key(config: Mapping[str, Any]) -> str:
    """16 digits that name a configuration, whatever its data hold: they tell which records belong to a plan."""
    return _hash([[setting(part) for part in networks(config)], control(config)])


def record_key(config: Mapping[str, Any], content: str) -> str:
    """16 digits that name a record made with data of this content (`Dataset.sha256`): a run's are `Experiment.key`."""
    if is_splice(config):
        return _hash([*(record_key(part, content) for part in networks(config)), config["at"]])
    return Experiment.from_dict(config).key(content)


def setting(config: Mapping[str, Any], *without: str) -> str:
    """All but where training looks (and but for `without`), as JSON: equal for runs that may be compared."""
    plain = {**_default(), **config}  # a field that is newer than the record has its default
    plain |= {part: _default()[part] | plain[part] for part in ("network", "training")}
    return _json({k: v for k, v in plain.items() if k not in ("timesteps", "loss_weight", *without)})


def control(config: Mapping[str, Any]) -> str:
    """Where training looks, as JSON: equal for runs of one control."""
    looks = [[part["timesteps"], part.get("loss_weight")] for part in networks(config)]
    return _json([*looks, config.get("at")])


def is_splice(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is two and a timestep."""
    return "above" in config


def networks(config: Mapping[str, Any]) -> list[Config]:
    """The configurations that are trained for it: the two of a splice, else itself."""
    return [config["above"], config["below"]] if is_splice(config) else [dict(config)]


def describe(config: Mapping[str, Any]) -> str:
    """The control in a few words, for tables and plots only: `control` tells controls apart."""
    if is_splice(config):
        return f"{describe(config['above'])} above t = {config['at']}, {describe(config['below'])} below"
    drawn = words(config["timesteps"], config["dataset"])
    if config.get("loss_weight") is None:
        return drawn
    weight = words(config["loss_weight"], config["dataset"])
    return f"{weight}, as weight" if drawn == "uniform" else f"{drawn}, with {weight} as weight"


def words(recipe: Any, dataset: str = "") -> str:
    """A recipe in a few words; for weights and vectors the label that a plan in data/plans gives them, or a hash."""
    name = recipe["name"] if isinstance(recipe, Mapping) else "vector"
    if name == "gaussian_interval":
        options = [f", {option} {recipe[option]}" for option in ("confidence", "tails") if option in recipe]
        return f"interval {recipe['low']:.12g} to {recipe['high']:.12g}{''.join(options)}"
    if name == "log_snr_interval":
        return f"log-SNR {recipe['high']:.12g} to {recipe['low']:.12g}"
    return name if name == "uniform" else _labels().get((dataset, _json(recipe)), f"{name} {_hash(recipe)[:6]}")


def read_plan(plan: str | Path, profile: str = "recorded", claim: str = "") -> list[Config]:
    """The configurations of a plan, a name in data/plans or a path, seed by seed; or those of its controls for a claim.

    Raises FileNotFoundError, naming the plans, and ValueError, naming the file, for what a plan cannot hold.
    """
    path = find_plan(plan, PLANS)
    budget = profiles.profile(profile)
    try:
        content, made = _read(path), []
        for dataset, seeds in content["seeds"].items():
            for one in content["controls"]:
                if dataset in one.get("only", [dataset]) and claim in ("", one.get("claim")):
                    made.append((seeds, _configuration(dataset, one, budget)))
        return [_seeded(own, seed) for seed in range(max(content["seeds"].values())) for n, own in made if seed < n]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error!r}") from error


def find_plan(plan: str | Path, folder: Path) -> Path:
    """The file of a plan, given by its name in `folder` or by a path."""
    path = named if (named := folder / f"{plan}.toml").is_file() else Path(plan)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise FileNotFoundError(f"plan = {str(plan)!r} is neither a file nor one of {known}")
    return path


def _read(path: Path) -> dict[str, Any]:
    """A plan's content. What would silently be ignored or mistaken is refused."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    _check_known(content, ("question", "seeds", "controls"))
    for one in content["controls"]:
        kind = ("splice",) if "splice" in one else ("timesteps", "weighted", "size", "length", "claim", "label")
        _check_known(one, (*kind, "only"))
        _check_known(one.get("splice", {}), ("above", "below", "at"))
        _check_known(one.get("only", ()), {*data.NAMES, *content["seeds"]})
        if not isinstance(one.get("weighted", False), bool):
            raise ValueError(f"weighted = {one['weighted']!r}; need true or false")
    return content


def _check_known(names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := set(names) - set(known):
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; choose from {', '.join(known)}")


def _configuration(dataset: str, one: Config, budget: profiles.Profile) -> Config:
    """The configuration of a control, with seed 0."""
    if splice := one.get("splice"):
        sides = {side: _configuration(dataset, {"timesteps": splice[side]}, budget) for side in ("above", "below")}
        return {**sides, "at": splice["at"]}
    base = {"points": budget.points, "signal": budget.signals, "image": budget.images}[data.kind_of(dataset)]
    old, length, p = base.training, one.get("length", 1), from_recipe(one["timesteps"], base.build_schedule())
    training = replace(old, steps=round(old.steps * length), cooldown=round(old.cooldown * length))
    looks: Config = {"timesteps": uniform(p.T), "loss_weight": p} if one.get("weighted") else {"timesteps": p}
    n_train, course = round(base.n_train * one.get("size", 1)), tuple(round(step * length) for step in base.course)
    return replace(base, dataset=dataset, n_train=n_train, training=training, course=course, **looks).to_dict()


def _seeded(config: Config, seed: int) -> Config:
    sides: Config = {side: _seeded(config[side], seed) for side in ("above", "below") if is_splice(config)}
    return config | (sides or {"seed": seed})


@cache
def _labels() -> dict[tuple[str, str], str]:
    """The labels in data/plans by data set and recipe."""
    found: dict[tuple[str, str], str] = {}
    for content in map(_read, sorted(PLANS.glob("*.toml"))):
        for one in (one for one in content["controls"] if "label" in one):
            recipe = _json(from_recipe(one["timesteps"], Schedule.linear()).recipe or one["timesteps"])
            found |= {(dataset, recipe): one["label"] for dataset in one.get("only", content["seeds"])}
    return found


@cache
def _default() -> Config:
    return Experiment(uniform(), data.NAMES[0]).to_dict()


def _json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


def _hash(plain: Any) -> str:
    return hashlib.sha256(_json(plain).encode()).hexdigest()[:16]
