"""Plans with predictions: a file in data/plans/dose says what is compared and what is expected, before its runs."""

import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from memlib.lab import data
from memlib.lab.experiment import Experiment
from memlib.lab.made import MIXTURES
from memlib.lab.yardstick import Yardstick

PLANS = data.DATA / "plans" / "dose"
ALWAYS = "near-copies", "closer to train", "membership", "copied items", "copy entropy", "fidelity", "energy"
AT_LAST = "L2 to nearest", *(f"PCA-{kind} to {side}" for kind in ("W", "JS") for side in ("reference", "train"))
KNOWN: dict[str, tuple[Any, ...]] = {  # the values of a prediction's fields
    "at": ("last", "fidelity", "views", "final fidelity", "best fidelity"),
    "share": ("eps", "x0", "v"),
    "of": ("loss", "gradient"),
    "sign": (-1, 0, 1),
    "measure": (*ALWAYS, "residual noise", "score error", *AT_LAST),  # not of points; of mixtures alone; at the end
}
FORMS = {  # by the field that tells it: what a prediction has, and what it may have
    "r2": ({"r2", "hypothesis", "margin"}, set[str]()),
    "share": ({"share", "hypothesis", "margin", "control", "sign"}, {"of", "unequal"}),
    "against": ({"against", "hypothesis", "margin", "control", "sign"}, {"measure", "at", "step"}),
}


@dataclass(frozen=True)
class Plan:
    """Controls by name, the seeds, and what is predicted of them (`memlib.lab.hypotheses` decides)."""

    path: Path
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def sha256(self) -> str:
        """Hash of the file: records carry it, so that a later change of the plan shows."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    @property
    def seeds(self) -> range:
        first, last = self.content["seeds"]
        return range(first, last + 1)

    @cached_property
    def controls(self) -> dict[str, Experiment]:
        """The experiment of each control, with the first seed."""
        shared: dict[str, Any] = {"seed": self.seeds[0], **self.content["experiment"]}
        made = dict(self.content["controls"])
        if design := self.content.get("random"):
            made |= {f"random {k}": p for k, p in enumerate(random_design(**{"T": shared.get("T", 1000), **design}))}
        found = {}
        for name, looks in made.items():
            own = {"timesteps": looks} if "name" in looks else {"timesteps": {"name": "uniform"}, **looks}
            for part in ("training", "network"):
                own[part] = {**shared.get(part, {}), **own.get(part, {})}
            found[name] = Experiment.from_dict({**shared, **own}, name)
        return found

    @property
    def splices(self) -> dict[str, tuple[str, str, int]]:
        """By name: the control above, the control below and the timestep between them."""
        return {x["name"]: (x["above"], x["below"], x["at"]) for x in self.content.get("splices", ())}

    def parts(self, name: str, seed: int) -> list[Experiment]:
        """What is trained for a control, or for a splice: its two sides."""
        return [replace(self.controls[side], seed=seed) for side in self.splices.get(name, (name,))[:2]]

    def identity(self, name: str, seed: int) -> tuple[str, str]:
        """The key of a control's run, or of a splice, and the hash of its data, which are loaded once."""
        made = [(part, Yardstick.of(part).dataset.sha256) for part in self.parts(name, seed)]
        key, *below = (part.key(content) for part, content in made)
        if below:
            key = hashlib.sha256(json.dumps([key, *below, self.splices[name][2]]).encode()).hexdigest()[:16]
        return key, made[0][1]

    def missing(self, seeds: Iterable[int], have: set[tuple[str, str]]) -> tuple[list[Experiment], list[tuple]]:
        """What is to be trained, and the splices (name, seed), whose `identity` is not in `have`."""
        asked = [(n, s) for s in seeds for n in (*self.controls, *self.splices) if self.identity(n, s) not in have]
        trained = [self.parts(*one)[0] for one in asked if one[0] in self.controls]
        return trained, [one for one in asked if one[0] in self.splices]


def read_plan(plan: str | Path) -> Plan:
    """A plan by its name in data/plans/dose, or by its path. What would silently be ignored or mistaken is refused."""
    path = named if (named := PLANS / f"{plan}.toml").is_file() else Path(plan)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PLANS.glob("*.toml")))
        raise FileNotFoundError(f"plan = {str(plan)!r} is neither a file nor one of {there}")
    try:
        made = Plan(path, tomllib.loads(path.read_text(encoding="utf-8")))
        if len(seeds := made.content["seeds"]) != 2 or seeds[0] > seeds[1]:
            raise ValueError(f"seeds = {seeds}; need the first and the last")
        fields = {"question", "seeds", "experiment", "controls", "random", "splices", "predictions", "zone"}
        if unknown := made.content.keys() - fields:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}; choose from {', '.join(sorted(fields))}")
        if (least := min(own.n_train for own in made.controls.values())) < 3:
            raise ValueError(f"n_train = {least}; need at least 3 items, for the model nulls")
        if len(set(made.controls.values())) < len(made.controls):
            raise ValueError("two controls are one run; leave one out, and name it in the predictions")
        if not made.content["predictions"]:
            raise ValueError("predictions is empty; need at least one")
        T = next(iter(made.controls.values())).timesteps.T
        low, high = made.content.get("zone", (0, T))
        if not 0 <= low < high <= T:
            raise ValueError(f"zone = {[low, high]}; need its first timestep and the one after its last, within 0..{T}")
        for name, (above, below, at) in made.splices.items():
            if not {above, below} <= made.controls.keys() or not 0 < at < T:
                raise ValueError(f"splice {name!r} of {above!r} and {below!r} at {at}; need two controls, a timestep")
        for prediction in made.content["predictions"]:
            _check_prediction(made, prediction)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error!r}") from error
    return made


def _check_prediction(plan: Plan, given: dict[str, Any]) -> None:
    def need(right: bool, what: str, choices: Iterable[Any]) -> None:
        if not right:
            raise ValueError(f"a prediction {what}; choose from {', '.join(map(str, choices))}: {given}")

    must, may = FORMS[next((form for form in FORMS if form in given), "against")]
    if missing := must - given.keys():
        raise ValueError(f"a prediction lacks {', '.join(sorted(missing))}: {given}")
    unknown = given.keys() - must - may
    need(not unknown, f"has {', '.join(sorted(unknown))}", sorted(must | may))
    spliced = () if {"share", "step"} & given.keys() or given.get("at") == "views" else plan.splices
    choices = KNOWN | dict.fromkeys(("control", "against"), (*plan.controls, *spliced))
    for name in filter(given.__contains__, choices):
        need(given[name] in choices[name], f"has {name} = {given[name]!r}", choices[name])
    if not 0 <= given["margin"] < math.inf:
        raise ValueError(f"margin = {given['margin']} in a prediction; need a number of at least 0")
    at, step = given.get("at", "last"), given.get("step")
    need(at == "last" or given.get("measure") not in AT_LAST, f"has at = {at!r}, where measure is not read", ["last"])
    need(at != "views" or "zone" in plan.content, "has at = 'views', but the plan no zone", KNOWN["at"][:2])
    name = plan.content["experiment"]["dataset"]
    need(given.get("measure") != "score error" or name in MIXTURES, "has a measure of mixtures", ALWAYS)
    points = name in data.MADE or (Path(name).exists() and data.kind_of(name) == "points")
    need(given.get("measure") != "residual noise" or not points, "has a measure that points lack", ALWAYS)
    if step is not None:
        need(at.endswith(" fidelity"), f"has step and at = {at!r}", KNOWN["at"][3:])
        need(step in (course := plan.controls[given["against"]].course), f"has step = {step}", course)


def random_design(edges: Sequence[int], count: int, floor: float, seed: int, T: int = 1000) -> list[dict[str, Any]]:
    """`count` recipes, flat between `edges`: T p(t) is log-normal (of unit width) there, mixed with `floor` of 1."""
    generator = torch.Generator().manual_seed(seed)
    widths = torch.tensor([0, *edges, T]).diff().double() / T
    made = []
    for _ in range(count):
        raw = widths * torch.randn(len(widths), generator=generator, dtype=torch.float64).exp()
        shares = (1 - floor) * raw / raw.sum() + floor * widths
        made.append({"name": "banded", "edges": list(edges), "shares": [round(x, 5) for x in shares.tolist()]})
    return made
