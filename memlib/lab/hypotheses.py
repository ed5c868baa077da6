"""Predictions of plans -> supported, refuted or undecided, from the recorded courses, by one rule for all.

Support and contradiction are held to the same level: Holm's within a hypothesis on one data set, two-sided .05. No
control is known by name here; plans name them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from memlib.lab.courses import Line, check_data
from memlib.lab.plans import PLANS, Plan, read_plan
from memlib.lab.spectrum import explained
from memlib.lab.statistics import holm, paired_difference
from memlib.metrics import Estimate

ALPHA, MOST_SEEDS = 0.05, 9999
DIFFERENCES = ("near-copies", "closer to train", "membership", "copied items", "copy entropy")  # others: log ratios
WHOLE = {"fidelity": (0.0, 1.5), "residual noise": (0.5, 2.0)}  # a run outside is degenerate


@dataclass(frozen=True)
class Finding:
    """One prediction on one data set. The effect has its interval at Holm's level, of no difference at twice that (two
    one-sided tests); `needed`: the seeds that would decide what is undecided."""

    hypothesis: str
    dataset: str
    says: str = ""
    effect: Estimate | None = None
    p: float | None = None
    seeds: int = 0
    degenerate: int = 0  # seeds that are left out
    verdict: str = "not run"
    needed: int | None = None
    margin: float = 0.0  # the least effect that matters
    changed: bool = False  # the plan's file is not the one that these records were made for
    apart: int = 0  # seeds that are left out because the two courses never have the same fidelity, or views
    others: tuple[str, ...] = ()  # plans for which some of its runs were recorded, perhaps before this one was written


def decide(lines: Iterable[Line], plans: Sequence[Plan] | None = None, degenerate: bool = False) -> list[Finding]:
    """The findings on all predictions, by default of all plans; with `degenerate` also over runs that are degenerate
    (they are excluded)."""
    lines, found = list(lines), list[Finding]()
    families: dict[tuple[str, str], list[tuple[Finding, list[float], Any]]] = {}
    check_data(lines)
    for plan in [read_plan(path) for path in sorted(PLANS.glob("*.toml"))] if plans is None else plans:
        own, dataset = lines_of(plan, lines), plan.content["experiment"]["dataset"]
        changed = any(x["plan_sha256"] != plan.sha256 for x in own if x["plan"] == plan.name)
        for prediction in plan.content["predictions"]:
            hypothesis, names = prediction["hypothesis"], {prediction.get(name) for name in ("control", "against")}
            others = tuple(sorted({x["plan"] for x in own if x["control"] in names} - {plan.name}))
            blank = Finding(hypothesis, dataset, margin=prediction["margin"], changed=changed, others=others)
            asked = (*_ask(blank, plan, prediction, own, degenerate), prediction)
            families.setdefault((hypothesis, dataset), []).append(asked)
    for _, family in sorted(families.items()):
        p = [_p_value(values, prediction) for _, values, prediction in family if len(values) > 1]
        adjusted = zip(holm(p), ALPHA / (len(p) + 1 - stats.rankdata(p, "ordinal")), strict=True)
        for finding, values, prediction in family:
            found.append(_decide(finding, values, prediction, *next(adjusted)) if len(values) > 1 else finding)
    return found


def lines_of(plan: Plan, lines: list[Line]) -> list[Line]:
    """The lines of a plan's runs, also of those that another plan has asked for first; splices are the plan's own."""
    anywhere = {"seed": 0, "dataset": ""}  # of any seed, and wherever a reader's own data lie
    asked = {json.dumps({**own.to_dict(), **anywhere}): own for own in plan.controls.values()}
    found = [x for x in lines if x["plan"] == plan.name]
    there = {(x["control"], x["seed"]) for x in found}
    for line in (x for x in lines if x["plan"] != plan.name and x["seed"] in plan.seeds):
        own, seed = asked.get(json.dumps({**line["config"], **anywhere})), line["seed"]
        # by its key, for the line of a splice holds the configuration of the run above
        if own and (own.label, seed) not in there and replace(own, seed=seed).key(line["content"]) == line["key"]:
            if Path(str(own.dataset)).exists() and own.load_data().sha256 != line["content"]:
                continue  # a run of other data of a reader's own, if they are here
            found.append({**line, "control": own.label})
    return found


def finding_table(findings: Iterable[Finding]) -> str:
    """As a Markdown table."""
    rows = [["hypothesis", "data set", "predicted", "effect", "p (Holm)", "seeds", "verdict"]]
    for f in findings:
        verdict = f.verdict + (f" ({f.needed} seeds would decide)" if f.needed else "")
        verdict += " (the plan was changed after its runs)" if f.changed else ""
        left = {"degenerate": f.degenerate, "not comparable": f.apart}
        seeds = f"{f.seeds}" + "".join(f" (and {n} {why})" for why, n in left.items() if n)
        seeds += f", also runs of {', '.join(f.others)}" if f.others else ""
        effect = "-" if f.effect is None else f"{f.effect:.3f}"
        p = "-" if f.p is None else f"{f.p:.2g}" if f.p >= 1e-9 else "< 1e-9"
        rows.append([f.hypothesis, f.dataset, f.says, effect, p, seeds, verdict])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _ask(blank: Finding, plan: Plan, prediction: Any, lines: list[Line], degenerate: bool) -> tuple[Finding, list]:
    """A finding without its verdict, and the effect in each seed."""
    if "r2" in prediction:
        return _spectrum(blank, prediction, lines), []
    if "share" in prediction:
        return _of_losses(blank, plan, prediction, lines)
    measure, at = prediction.get("measure", "near-copies"), prediction.get("at", "last")
    runs = {(x["control"], x["seed"]): x["course"] for x in lines}
    if at == "views":
        runs = {(n, seed): _with_views(plan, n, course) for (n, seed), course in runs.items() if n in plan.controls}
    one, two = prediction["control"], prediction["against"]
    both = [(runs[one, k], runs[two, k]) for k in plan.seeds if (one, k) in runs and (two, k) in runs]
    kept = [pair for pair in both if degenerate or not any(is_degenerate(course[-1]["measures"]) for course in pair)]
    if step := prediction.get("step"):  # among readings on the way, all measured with as many samples and calls
        kept = [(own[:-1], [x for x in other if x["step"] <= step]) for own, other in kept]
    values = [effect for pair in kept if (effect := _effect(*pair, measure, at)) is not None]
    words = {1: "more than", -1: "less than", 0: "as"}[prediction["sign"]]
    says = f"{one}: {words} {two}" + ("" if measure == "near-copies" else f" ({measure})")
    of = "best fidelity of its first {:,} steps" if at == "best fidelity" else "fidelity of its step {:,}"
    where = f"the {of.format(step)}" if step else f"equal {at}"
    says += "" if at == "last" else f", at {where}"
    excluded, apart = len(both) - len(kept), len(kept) - len(values)
    verdict = "too few seeds" if both else blank.verdict  # until there is more than one value
    return replace(blank, says=says, seeds=len(values), degenerate=excluded, apart=apart, verdict=verdict), values


def is_degenerate(measures: dict[str, float]) -> bool:
    """Off the data, or with the finest scale missing or doubled: neither memorizing nor generalising."""
    return any(not low <= measures.get(name, 1.0) <= high for name, (low, high) in WHOLE.items())


def _effect(control: list[Any], against: list[Any], measure: str, at: str) -> float | None:
    """Control less against (of positive distances the log ratio): at the last step; or the mean over the control's
    readings, each beside the place where the other course first had the same fidelity, or views; or, at "final
    fidelity", where the control first had the last fidelity of the other course; or, at "best fidelity", where each
    course first had the best fidelity of the other. None if they never meet."""

    def change(a: float, b: float) -> float:
        return a - b if measure in DIFFERENCES else math.log(a / b)

    last = against[-1]["measures"]
    if at == "last":
        return change(control[-1]["measures"][measure], last[measure])
    if at == "final fidelity":
        pairs = [(_first(control, measure, "fidelity", last["fidelity"]), last[measure])]
    elif at == "best fidelity":
        best = min(x["measures"]["fidelity"] for x in against)
        pairs = [(_first(control, measure, "fidelity", best), _first(against, measure, "fidelity", best))]
    else:
        pairs = [(x["measures"][measure], _first(against, measure, at, x["measures"][at])) for x in control]
    found = [change(a, b) for a, b in pairs if a is not None and b is not None]
    return float(np.mean(found)) if found else None


def _first(course: list[Any], measure: str, at: str, wanted: float) -> float | None:
    """A measure where the course first had so low a fidelity, or so many views: between readings along log step."""
    rises = -1 if at == "views" else 1
    level = np.minimum.accumulate([rises * math.log(x["measures"][at]) for x in course])  # the best so far
    goal, close = rises * math.log(wanted), 1e-9  # for rounding
    if not level[-1] - close <= goal <= level[0] + close:
        return None
    k = int(np.argmax(level <= goal + close))
    steps, values = np.log([x["step"] for x in course]), [x["measures"][measure] for x in course]
    when = np.interp(-goal, -level[: k + 1], steps[: k + 1])
    return float(np.interp(when, steps, values))


def _with_views(plan: Plan, control: str, course: list[Any]) -> list[Any]:
    """A course with views of an item in the plan's `zone`, drawn or weighted: steps x batch size / n x share."""
    own, (low, high) = plan.controls[control], plan.content["zone"]
    p = own.timesteps.pmf * (1 if own.loss_weight is None else own.loss_weight.effective_weight())
    each = float(p[low:high].sum()) * own.training.batch_size / own.n_train
    return [{**x, "measures": {**x["measures"], "views": x["step"] * each}} for x in course]


def _p_value(values: list[float], prediction: dict[str, Any]) -> float:
    """Two-sided against no difference; for a prediction of no difference, of two one-sided tests at the margin."""
    x, margin = np.asarray(values), prediction["margin"]
    if prediction["sign"]:
        return paired_difference(values)[1]
    if not np.ptp(x):
        return float(abs(x[0]) >= margin)
    return float(stats.t.sf((margin - abs(x.mean())) / stats.sem(x), len(x) - 1))  # the larger of the two


def _decide(finding: Finding, values: list[float], prediction: dict[str, Any], p: float, level: float) -> Finding:
    sign, margin, level = prediction["sign"], prediction["margin"], level if prediction["sign"] else 2 * level
    effect = paired_difference(values, level)[0]
    if "share" in prediction and not prediction.get("unequal"):  # rank correlations
        effect = Estimate(effect.value, max(-1.0, effect.low), min(1.0, effect.high))
    if sign:
        supported = p < ALPHA and effect.value * sign > margin
        refuted = max(effect.low * sign, effect.high * sign) < margin
    else:
        supported, refuted = p < ALPHA, effect.low > margin or effect.high < -margin
    verdict = "supported" if supported else "refuted" if refuted else "undecided"
    needed = None
    if verdict == "undecided":
        way, half = effect.value * sign if sign else abs(effect.value), effect.high - effect.value
        gap = way if sign and way > margin else abs(way - margin)  # only p is missing, or the margin's side is open
        seeds = np.arange(2, MOST_SEEDS + 1)
        widths = stats.t.isf(level / 2, seeds - 1) / np.sqrt(seeds)  # of the interval, in standard deviations
        needed = int(seeds[half * widths / widths[len(values) - 2] <= gap].min(initial=MOST_SEEDS))
    return replace(finding, effect=effect, p=p, verdict=verdict, needed=needed)


def _of_losses(blank: Finding, plan: Plan, prediction: Any, lines: list[Line]) -> tuple[Finding, list[float]]:
    """How the control's last training loss, or its gradient's norm (`of`), as error of "eps", "x0" or "v", depends on t
    in each seed: Spearman's rank correlation, or how far the largest is above twice the smallest (`unequal`, nats)."""
    control, form, of, values = prediction["control"], prediction["share"], prediction.get("of", "loss"), []
    alpha_bar = plan.controls[control].build_schedule().alpha_bar.numpy()
    for line in lines:
        last = line["course"][-1]
        if line["control"] == control and of in last:
            kept = alpha_bar[line["t"]]
            scale = {"eps": 1.0, "x0": (1 - kept) / kept, "v": 1 / kept}[form]
            loss = scale * np.asarray(last[of]["train"] if of == "loss" else last[of])
            ranks = np.corrcoef(stats.rankdata(line["t"]), stats.rankdata(loss))[0, 1]
            values.append(math.log(loss.max() / loss.min() / 2) if prediction.get("unequal") else float(ranks))
    trend = "rises with t" if prediction["sign"] > 0 else "falls with t"
    says = f"{control}: {of} as error of {form} {'differs more than twofold' if prediction.get('unequal') else trend}"
    return replace(blank, says=says, seeds=len(values)), values


def _spectrum(blank: Finding, prediction: dict[str, Any], lines: list[Line]) -> Finding:
    """Whether shares of p(t) explain near-copies of controls and of seeds that were left out, by R^2."""
    kept = [x for x in lines if x["control"].startswith("random")]
    try:
        controls, seeds = explained(kept)
    except ValueError:  # too few are recorded as yet
        return replace(blank, says="shares of p(t) predict near-copies")
    verdict = "supported" if min(controls.low, seeds.low) >= prediction["r2"] else "undecided"
    verdict = "refuted" if min(controls.high, seeds.high) < prediction["r2"] else verdict
    says = f"shares of p(t) predict near-copies: R2 of controls left out (of seeds left out: {seeds})"
    return replace(blank, says=says, effect=controls, seeds=len({x["seed"] for x in kept}), verdict=verdict)
