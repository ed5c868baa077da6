"""What a sweep runs, as data: a plan is a TOML file of controls; a control with a data set and a seed is a configuration.

A configuration is the dict of `Experiment.to_dict`, or a splice: {"above": configuration, "below": ..., "at": timestep}.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from memlib.lab import data
from memlib.lab.experiment import Experiment, Network
from memlib.lab.profiles import Profile
from memlib.lab.profiles import profile as budgets
from memlib.schedules import Schedule
from memlib.timesteps import from_recipe, uniform
from memlib.training import TrainConfig

PLANS = data.DATA / "plans"
Config = dict[str, Any]
_CONTROL, _SPLICED = {"timesteps", "weighted", "size", "length", "only", "label", "claim"}, {"splice", "only"}
_NO_SPLICE = {"above": None, "below": None, "at": 0}
_TAKEN = ("uniform", "interval", "log-SNR", "interpolated", "vector")  # so do the words for other recipes begin
_NEED = {
    "splice": "above, below and at, an integer",
    "weighted": "true or false",
    "only": f"a list of {', '.join(data.NAMES)}",
    "label": f"words that do not begin with {', '.join(_TAKEN)}",
    **dict.fromkeys(("size", "length"), "a number above 0"),
}


def experiment(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a configuration that is no splice, with what `describe` calls it as its label."""
    return Experiment.from_dict(config, describe(config))


def key(config: Mapping[str, Any]) -> str:
    """16 digits that name a configuration, whatever its data hold: by them a plan's runs are found among records."""
    return _hash([[_filled(part) for part in networks(config)], config.get("at")])


def record_key(config: Mapping[str, Any], content: str) -> str:
    """16 digits that name a record made with data of this content (`Dataset.sha256`): a run's are `Experiment.key`."""
    if is_splice(config):
        return _hash([record_key(config["above"], content), record_key(config["below"], content), config["at"]])
    return Experiment.from_dict(config).key(content)


def setting(config: Mapping[str, Any]) -> str:
    """All of a configuration but where its training looks, as JSON: equal for runs that may be compared."""
    return _json({k: v for k, v in _filled(config).items() if k not in ("timesteps", "loss_weight")})


def control(config: Mapping[str, Any]) -> str:
    """Where the training of a configuration looks, as JSON: equal for the runs of one control."""
    return _json([[part["timesteps"], part.get("loss_weight")] for part in networks(config)] + [config.get("at")])


def is_uniform(config: Mapping[str, Any]) -> bool:
    """Whether training draws every timestep equally often, with equal weight."""
    return config.get("timesteps") == {"name": "uniform"} and config.get("loss_weight") is None


def is_splice(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is two and a timestep."""
    return "above" in config


def networks(config: Mapping[str, Any]) -> list[Config]:
    """The configurations that are trained for it: the two of a splice, else itself."""
    return [config["above"], config["below"]] if is_splice(config) else [dict(config)]


def describe(config: Mapping[str, Any]) -> str:
    """The control in a few words, for tables and plots. Nothing is identified by them: see `control`."""
    if is_splice(config):
        return f"{describe(config['above'])} above t = {config['at']}, {describe(config['below'])} below"
    drawn, weight = (words(config.get(name), config["dataset"]) for name in ("timesteps", "loss_weight"))
    if not weight:
        return drawn
    return f"{weight}, as weight" if drawn == "uniform" else f"{drawn}, with {weight} as weight"


def words(recipe: Any, dataset: str = "") -> str:
    """A recipe in a few words. Interpolated weights have the label that a plan of data/plans gives them."""
    name = recipe["name"] if isinstance(recipe, Mapping) else "vector"
    if recipe is None or name == "uniform":
        return recipe and name
    if name == "gaussian_interval":
        options = [f", {option} {recipe[option]}" for option in ("confidence", "tails") if option in recipe]
        return f"interval {recipe['low']:.12g} to {recipe['high']:.12g}{''.join(options)}"
    if name == "log_snr_interval":
        return f"log-SNR {recipe['high']:.12g} to {recipe['low']:.12g}"
    return _labels().get((dataset, _json(recipe)), f"{name} {_hash(recipe)[:6]}")


def read_plan(plan: str | Path, profile: str = "recorded", claim: str = "") -> list[Config]:
    """The configurations of a plan, named as in data/plans or by its path, seed by seed; or only those for one claim."""
    path = PLANS / f"{plan}.toml" if (PLANS / f"{plan}.toml").is_file() else Path(plan)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PLANS.glob("*.toml")))
        raise FileNotFoundError(f"plan = {str(plan)!r} is neither a file nor one of {known}")
    content, budget, made = _read(path), budgets(profile), []
    for dataset, count in content["seeds"].items():
        for one in content["controls"]:
            if dataset in one.get("only", [dataset]) and claim in ("", one.get("claim")):
                try:
                    made.append((count, _configuration(dataset, one, budget)))
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}: {one}: {error}") from error
    return [seeded(config, seed) for seed in range(max(content["seeds"].values())) for n, config in made if seed < n]


def _read(path: Path) -> dict[str, Any]:
    """A plan's content, checked; ValueError names the file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if set(content) != {"question", "seeds", "controls"}:
            raise ValueError(f"it has the keys {sorted(content)}; need question, seeds and controls")
        seeds, controls = content["seeds"], content["controls"]
        counts = seeds.items() if isinstance(seeds, dict) else []
        if not counts or not all(name in data.NAMES and type(n) is int and n > 0 for name, n in counts):
            raise ValueError(f"seeds = {seeds!r}; need data sets with their numbers of seeds; known {data.NAMES}")
        if not isinstance(controls, list) or not all(isinstance(control, dict) for control in controls):
            raise ValueError(f"controls = {controls!r}; need tables, each under [[controls]]")
        for one in controls:
            _check(one)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def _check(one: Config) -> None:
    """Refuse, by name, what a control cannot hold."""
    known = _SPLICED if "splice" in one else _CONTROL
    if not ("splice" in one or "timesteps" in one) or not set(one) <= known:
        raise ValueError(f"the control {one} needs either timesteps or splice, and has no keys but {sorted(known)}")
    splice, only, label = one.get("splice", _NO_SPLICE), one.get("only", []), one.get("label", "")
    numbers = {name: one.get(name, 1) for name in ("size", "length")}
    fits = {
        "splice": isinstance(splice, dict) and set(splice) == set(_NO_SPLICE) and type(splice["at"]) is int,
        "weighted": isinstance(one.get("weighted", False), bool),
        "only": isinstance(only, list) and all(name in data.NAMES for name in only),
        "label": isinstance(label, str) and not label.startswith(_TAKEN),
        **{name: type(x) in (int, float) and 0 < x < math.inf for name, x in numbers.items()},
    }
    for name in (name for name, well in fits.items() if not well):
        raise ValueError(f"{name} = {one[name]!r}; need {_NEED[name]}")


def _configuration(dataset: str, one: Config, budget: Profile) -> Config:
    """The configuration of a control, with seed 0."""
    if "splice" in one:
        parts = {k: _configuration(dataset, {"timesteps": one["splice"][k]}, budget) for k in ("above", "below")}
        return {**parts, "at": one["splice"]["at"]}
    base = {"points": budget.points, "signal": budget.signals, "image": budget.images}[data.kind_of(dataset)]
    length, drawn = one.get("length", 1), from_recipe(one["timesteps"], base.build_schedule())
    steps, cooldown, *course = (round(x * length) for x in (base.training.steps, base.training.cooldown, *base.course))
    return replace(
        base,
        dataset=dataset,
        n_train=round(base.n_train * one.get("size", 1)),
        timesteps=uniform(drawn.T) if one.get("weighted") else drawn,
        loss_weight=drawn if one.get("weighted") else None,
        training=replace(base.training, steps=steps, cooldown=cooldown),
        course=tuple(sorted({step for step in course if step})),
    ).to_dict()


def seeded(config: Config, seed: int) -> Config:
    """The configuration with another seed."""
    if is_splice(config):
        return {k: seeded(v, seed) if k in ("above", "below") else v for k, v in config.items()}
    return config | {"seed": seed}


@cache
def _labels() -> dict[tuple[str, str], str]:
    """What the plans of data/plans call recipes that have no words of their own, by data set and recipe."""
    found: dict[tuple[str, str], str] = {}
    for content in map(_read, sorted(PLANS.glob("*.toml"))):
        for one in (one for one in content["controls"] if "label" in one):
            recipe = _json(from_recipe(one["timesteps"], Schedule.linear()).recipe or one["timesteps"])
            found |= {(dataset, recipe): one["label"] for dataset in one.get("only", content["seeds"])}
    taken = Counter((dataset, label) for (dataset, _), label in found.items())
    return {name: f"{label} {_hash(name[1])[:6]}" if taken[name[0], label] > 1 else label for name, label in found.items()}


@cache
def _default() -> Config:
    plain = {f.name: f.default for f in fields(Experiment) if f.default is not MISSING and f.name != "label"}
    return json.loads(_json(plain | {"network": asdict(Network()), "training": asdict(TrainConfig()), "T": 1000}))


def _filled(config: Mapping[str, Any]) -> Config:
    """With the defaults of fields that a configuration recorded earlier did not have."""
    parts = {name: _default()[name] | config.get(name, {}) for name in ("network", "training")}
    return {**_default(), **config, **parts}


def _json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


def _hash(plain: Any) -> str:
    return hashlib.sha256(_json(plain).encode()).hexdigest()[:16]
