"""Recorded runs -> a verdict for each of the paper's claims C1 to C6, by the rules in data/claims.toml.

Runs of equal data, seed and budget are compared; degenerate ones (`is_broken`) are excluded. A control is known by its
recipe, never by the words that describe it.
"""

from __future__ import annotations

import math
import operator
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from memlib.lab import plans
from memlib.lab.data import DATA, NAMES, kind_of
from memlib.lab.files import write_between
from memlib.lab.records import Record, dataset_names, is_broken
from memlib.lab.statistics import holm, paired_difference, trend
from memlib.metrics import Estimate
from memlib.schedules import Schedule
from memlib.timesteps import from_recipe

ALPHA, PAIRS = 0.05, 6
SHARE, RATIO, RHO = 0.05, math.log(1.1), 0.5  # the least effects that matter: a share, a ln ratio, a correlation
MARKS = ("<!-- verdicts -->", "<!-- end of verdicts -->")
SHARES = ("closer to train", "smoothed closer to train")
DISTANCES = ("PCA-W to held-out", "PCA-JS to held-out")

_CLAIMS = tomllib.loads((DATA / "claims.toml").read_text(encoding="utf-8"))
STATEMENTS, RULES = _CLAIMS["statements"], _CLAIMS["rules"]
_RECIPES = {k: [from_recipe(r, Schedule.linear()).recipe for r in own] for k, own in _CLAIMS["controls"].items()}
_WORDS = {plans.control({"timesteps": r}): plans.words(r) for own in _RECIPES.values() for r in own}
WIDTHS, LOW, HIGH = (tuple(map(plans.words, _RECIPES[name])) for name in ("widths", "low", "high"))
EQUALISED = "equal contributions"  # the controls that plan equalised marks with claim = "C2"

Runs = dict[str, Record]  # of one data set and seed, by control
Question = tuple["Finding", int, float]


@dataclass(frozen=True)
class Finding:
    """One comparison in one measure. `p` is Holm's where the finding is in the family, None where it is only shown."""

    claim: str
    dataset: str
    group: str
    measure: str
    effect: Estimate | None
    p: float | None
    pairs: int
    broken: int
    says: str


@dataclass(frozen=True)
class Verdict:
    """reproduced, partly, not reproduced or inconclusive; in all and per data set, with the findings behind it."""

    claim: str
    statement: str
    verdict: str
    by_dataset: dict[str, str]
    findings: tuple[Finding, ...]


def judge_claims(
    lines: Iterable[Record], profile: str = "recorded",
    *, alpha: float = ALPHA, least: float = 1.0, corrected: bool = False,
) -> list[Verdict]:  # fmt: skip
    """The verdicts on C1 to C6, for both meanings of "later".

    The other arguments show how much depends on the rules' constants: `alpha` is another level for support, `least`
    multiplies the effects that would matter, and `corrected` makes a contradiction's interval as wide as Bonferroni's.
    """
    asked = [question for name, seeds in _runs(lines, profile).items() for question in _questions(name, seeds, least)]
    judged = [f for f, _, _ in asked if f.says == "" and f.p is not None]
    adjusted = dict(zip(map(id, judged), holm([f.p or 0.0 for f in judged]), strict=True))
    tails = ALPHA / 2 / max(1, corrected * len(judged))
    findings = [_decide(f, adjusted.get(id(f)), sign, matters, alpha, tails) for f, sign, matters in asked]
    verdicts = [_verdict(claim, [f for f in findings if f.claim == claim]) for claim in STATEMENTS if claim != "C6"]
    parts = [v for v in verdicts if v.claim in ("C3", "C4", "C5")]
    datasets = {d: [v.by_dataset[d] for v in parts if d in v.by_dataset] for d in sorted({f.dataset for f in findings})}
    by_dataset = {d: "exploratory" if {"exploratory"} == set(each) else _overall(each) for d, each in datasets.items()}
    counted = [d.partition("@")[0] for d, verdict in by_dataset.items() if verdict != "exploratory"]
    kinds = {kind_of(d) for d in counted if d in NAMES}  # not of a reader's own
    unknown = [] if {"signal", "image"} <= kinds else ["inconclusive"]  # of signals, or of images, or of both
    return [*verdicts, Verdict("C6", STATEMENTS["C6"], _overall([*by_dataset.values(), *unknown]), by_dataset, ())]


def verdict_table(verdicts: Iterable[Verdict], brief: bool = False) -> str:
    """The verdicts as a Markdown table with a column per data set, or, if `brief`, one for all that count."""
    verdicts = list(verdicts)
    datasets = list(dict.fromkeys(d for v in verdicts for d in v.by_dataset))
    said = [{d: v.by_dataset.get(d, "-") for d in datasets} for v in verdicts]
    if brief:
        counted = [{d: word for d, word in own.items() if word not in ("-", "exploratory")} for own in said]
        said = [{"data sets": ", ".join(f"{d}: {word}" for d, word in own.items())} for own in counted]
    rows = [["claim", "the paper says", *(said[0] if said else []), "verdict"]]
    rows += [[v.claim, v.statement, *own.values(), f"**{v.verdict}**"] for v, own in zip(verdicts, said, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def write_verdicts(verdicts: Iterable[Verdict], path: Path) -> None:
    """Put the brief table between the two marks of the Markdown file `path`."""
    write_between(path, MARKS, verdict_table(verdicts, brief=True))


def _runs(lines: Iterable[Record], profile: str) -> dict[str, list[Runs]]:
    """By data set and seed, the records of the claims' controls at the end of runs at the plans' budget."""
    planned = [c for plan in ("width", "other_images") for c in plans.read_plan(plan, profile)]
    budgets = {plans.setting(config, "seed") for config in planned}
    equal = {(c["dataset"], plans.control(c)) for c in plans.read_plan("equalised", profile, claim="C2")}
    lines = [x for x in lines if not plans.is_splice(x["config"]) and plans.setting(x["config"], "seed") in budgets]
    lines = [x for x in lines if x["step"] == x["config"]["training"]["steps"]]
    found: dict[str, dict[int, Runs]] = {}
    for line, dataset in zip(lines, dataset_names(lines), strict=True):
        looks, seeds = plans.control(line["config"]), found.setdefault(dataset, {})
        name = EQUALISED if (line["config"]["dataset"], looks) in equal else _WORDS.get(looks, "")
        seeds.setdefault(line["config"]["seed"], {})[name] = line
    return {dataset: [seeds[seed] for seed in sorted(seeds)] for dataset, seeds in sorted(found.items())}


def _questions(dataset: str, seeds: list[Runs], scale: float) -> Iterator[Question]:
    """Each finding, not yet decided, with the claimed sign (0: either) and the least effect that would matter."""
    seeds = [runs for runs in seeds if "uniform" in runs]
    memorizes = _clearly_above(SHARE, seeds, SHARES[0], operator.sub)
    room = {m: _clearly_above(RATIO, seeds, m, _log_ratio) for m in DISTANCES}

    def ask(
        claim: str, group: str, measure: str, values: Any, broken: int, sign: int, least: float, ranked: bool = False
    ) -> Question:
        testable = len(values) >= PAIRS and (claim == "C1" or memorizes)
        if claim.startswith("C5"):
            testable = testable and room.get(measure, True)
        says = "exploratory" if len(seeds) < PAIRS else "" if testable else "untestable"
        effect, p = None, None
        if len(values) > 1:
            effect, p = trend(values, generator=np.random.default_rng(0)) if ranked else paired_difference(values)
        return Finding(claim, dataset, group, measure, effect, p, len(values), broken, says), sign, scale * least

    shares = [np.array(runs["uniform"]["loss"]["in_training"], dtype=float) for runs in seeds]
    spans = [float(np.log(np.nanmax(s) / np.nanmin(s)) - math.log(2)) for s in shares]
    yield ask("C1", "unequal", "ln(max / min) - ln 2", spans, 0, 1, 0.0)
    yield ask("C1", "with SNR", "trend over t", shares, 0, -1, RHO, ranked=True)

    def against_uniform(claim: str, control: str) -> Iterator[Question]:
        pairs = [(runs[control], runs["uniform"]) for runs in seeds if control in runs]
        sound = [(a, b) for a, b in pairs if not is_broken(a, b) and not is_broken(b, b)]
        aligned, broken = claim.startswith("C5"), len(pairs) - len(sound)
        measures, least, change = (DISTANCES, RATIO, _log_ratio) if aligned else (SHARES, SHARE, operator.sub)
        for measure in measures:
            values = [change(_value(a, measure), _value(b, measure)) for a, b in sound]
            yield ask(claim, control, measure, values, broken, -1, least)
        if aligned:  # copies are real items: they would be well aligned
            spare = [scale * SHARE - (_value(a, SHARES[0]) - _value(b, SHARES[0])) for a, b in sound]
            yield ask(claim, control, f"{SHARE} - rise of {SHARES[0]}", spare, broken, 1, 0.0)

    yield from against_uniform("C2", EQUALISED)

    rows = [[runs[w] for w in WIDTHS if w in runs and not is_broken(runs[w], runs["uniform"])] for runs in seeds]
    broken = sum(w in runs for runs in seeds for w in WIDTHS) - sum(map(len, rows))
    rows = [row for row in rows if len(row) >= 3]
    found = 0  # the sign of the raw share's trend: the smoothed one's must be the same, alignment's the opposite
    for group, measure, way in (*(("memorization", share, 1) for share in SHARES), ("alignment", DISTANCES[0], -1)):
        values = [[_value(line, measure) for line in row] for row in rows]
        question = ask("C3", group, measure, values, broken, way * found, RHO, ranked=True)
        yield question
        if measure == SHARES[0] and question[0].effect:
            found = int(np.sign(question[0].effect.value))

    for meaning, controls in (("", LOW), (", read as high noise", HIGH)):
        for control in controls:
            yield from against_uniform(f"C4{meaning}", control)
            yield from against_uniform(f"C5{meaning}", control)


def _value(line: Record, measure: str) -> float:
    return line["measures"][measure][0]


def _clearly_above(least: float, seeds: list[Runs], measure: str, change: Callable[[float, float], float]) -> bool:
    """Whether uniform sampling lies above fresh real items by more than `least`."""
    uniform = [runs["uniform"] for runs in seeds]
    values = [change(_value(x, measure), x["references"]["fresh"][measure][0]) for x in uniform]
    return len(values) > 1 and paired_difference(values)[0].low > least


def _log_ratio(a: float, b: float) -> float:
    return math.log(a / b)


def _decide(finding: Finding, p: float | None, sign: int, least: float, alpha: float, tails: float) -> Finding:
    effect = finding.effect
    if finding.says or effect is None or p is None:
        return replace(finding, p=None)
    if p < alpha and (sign == 0 or effect.value * sign > 0):
        return replace(finding, p=p, says="supports")
    wider = stats.t.isf(tails, finding.pairs - 1) / stats.t.isf(ALPHA / 2, finding.pairs - 1)
    low, high = (effect.value + wider * (end - effect.value) for end in (effect.low, effect.high))
    # the most that the interval allows, in the claimed direction if there is one
    most = max(-low, high) if sign == 0 else max(low * sign, high * sign)
    return replace(finding, p=p, says="contradicts" if most <= least else "undecided")


def _verdict(claim: str, findings: Sequence[Finding]) -> Verdict:
    by_dataset, shown = {}, []
    for dataset in dict.fromkeys(f.dataset for f in findings):
        own = [f for f in findings if f.dataset == dataset]
        if claim == "C3" and _together(f.says for f in own if f.measure in SHARES) not in ("supports", "exploratory"):
            # where memorization has no trend, alignment has no opposite sign to have
            own = [f if f.measure in SHARES else replace(f, says="untestable") for f in own]
        shown += own
        groups = {_together(f.says for f in own if f.group == group) for group in {f.group for f in own}}
        by_dataset[dataset] = "exploratory" if "exploratory" in groups else _overall(_TALLY[says] for says in groups)
    return Verdict(claim, STATEMENTS[claim], _overall(by_dataset.values()), by_dataset, tuple(shown))


_TALLY = {"supports": "reproduced", "contradicts": "not reproduced"} | dict.fromkeys(("untestable", "undecided"), "")


def _together(says: Iterable[str]) -> str:
    """What the measures of one comparison say: all must support; one that contradicts is enough."""
    return min(says, key=("exploratory", "contradicts", "untestable", "undecided", "supports").index)


def _overall(verdicts: Iterable[str]) -> str:
    """Of comparisons or data sets: a claim is about all of them, so one that contradicts is enough if none supports."""
    judged = set(verdicts) - {"exploratory"}
    if judged & {"reproduced", "partly"}:
        return "reproduced" if judged == {"reproduced"} else "partly"
    return "not reproduced" if "not reproduced" in judged else "inconclusive"
