"""What a sweep runs, as data: a plan is a TOML file of controls; a control, a data set and a seed make a configuration.

A configuration is the dict of `Experiment.to_dict`, or a splice: {"above": configuration, "below": ..., "at": t}.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from memlib.lab import data, profiles
from memlib.lab.experiment import Experiment, Network
from memlib.schedules import Schedule
from memlib.timesteps import from_recipe, uniform
from memlib.training import TrainConfig

PLANS = data.DATA / "plans"
Config = dict[str, Any]
Rules = dict[str, tuple[str, Callable[[Any], bool]]]  # what a key needs, and whether a value fits

_OTHER = ("uniform", "interval", "log-SNR", "interpolated", "vector")  # how `words` begins where there is no label
_NUMBER = ("a number above 0", lambda x: type(x) in (int, float) and 0 < x < math.inf)
_ONLY = (f"a list of {', '.join(data.NAMES)}", lambda x: isinstance(x, list) and set(map(str, x)) <= set(data.NAMES))
_PLAN: Rules = {
    "question": ("a text", lambda x: isinstance(x, str)),
    "seeds": (
        f"a number of seeds for each of some data sets; known are {', '.join(data.NAMES)}",
        lambda x: (
            isinstance(x, dict) and x != {} and all(k in data.NAMES and type(n) is int and n > 0 for k, n in x.items())
        ),
    ),
    "controls": ("tables, each under [[controls]]", lambda x: isinstance(x, list) and {dict} == set(map(type, x))),
}
_CONTROL: Rules = {
    "timesteps": ("a recipe, or else a splice", lambda x: isinstance(x, dict | list)),
    "weighted": ("true or false", lambda x: isinstance(x, bool)),
    **{"size": _NUMBER, "length": _NUMBER, "only": _ONLY, "claim": ("a claim's name", lambda x: isinstance(x, str))},
    "label": (f"a text that does not begin with {_OTHER}", lambda x: isinstance(x, str) and not x.startswith(_OTHER)),
}
_AT = (
    "above, below and at, an integer",
    lambda x: isinstance(x, dict) and x.keys() == {"above", "below", "at"} and type(x["at"]) is int,
)
_SPLICE: Rules = {"splice": _AT, "only": _ONLY}


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
    path = PLANS / f"{plan}.toml" if (PLANS / f"{plan}.toml").is_file() else Path(plan)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PLANS.glob("*.toml")))
        raise FileNotFoundError(f"plan = {str(plan)!r} is neither a file nor one of {known}")
    content, _, made = _read(path), profiles.profile(profile), []
    for dataset, seeds in content["seeds"].items():
        for one in content["controls"]:
            if dataset in one.get("only", [dataset]) and claim in ("", one.get("claim")):
                try:
                    made.append((seeds, _configuration(dataset, _json(one), profile)))
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}: {one}: {error}") from error
    return [_seeded(own, seed) for seed in range(max(content["seeds"].values())) for n, own in made if seed < n]


def _read(path: Path) -> dict[str, Any]:
    """A plan's content, checked."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(dict.fromkeys(_PLAN) | content, _PLAN)
        for one in content["controls"]:
            _check(*((one, _SPLICE) if "splice" in one else ({"timesteps": None} | one, _CONTROL)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def _check(part: Config, rules: Rules) -> None:
    for name, value in part.items():
        need, fits = rules.get(name, (f"one of {', '.join(rules)} in its place", lambda _: False))
        if not fits(value):
            raise ValueError(f"{name} = {value!r}; need {need}")


@cache
def _configuration(dataset: str, control: str, profile: str) -> Config:
    """The configuration of a control (as JSON), with seed 0."""
    one, budget = json.loads(control), profiles.profile(profile)
    if splice := one.get("splice"):
        sides = {k: _configuration(dataset, _json({"timesteps": splice[k]}), profile) for k in ("above", "below")}
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
    """The labels in data/plans by data set and recipe; with a hash where two recipes of a data set share one."""
    found: dict[tuple[str, str], str] = {}
    for content in map(_read, sorted(PLANS.glob("*.toml"))):
        for one in (one for one in content["controls"] if "label" in one):
            recipe = _json(from_recipe(one["timesteps"], Schedule.linear()).recipe or one["timesteps"])
            found |= {(dataset, recipe): one["label"] for dataset in one.get("only", content["seeds"])}
    shared = Counter((dataset, label) for (dataset, _), label in found.items())
    return {(d, r): f"{x} {_hash(json.loads(r))[:6]}" if shared[d, x] > 1 else x for (d, r), x in found.items()}


@cache
def _default() -> Config:
    plain = {f.name: f.default for f in fields(Experiment) if f.default is not MISSING and f.name != "label"}
    return json.loads(_json(plain | {"network": asdict(Network()), "training": asdict(TrainConfig()), "T": 1000}))


def _json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


def _hash(plain: Any) -> str:
    return hashlib.sha256(_json(plain).encode()).hexdigest()[:16]
