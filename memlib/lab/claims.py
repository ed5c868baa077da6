"""Recorded results -> a verdict for each of the paper's claims C1 to C6. No verdict is typed by hand.

Runs of equal data set, seed and budget are compared, broken ones (see `is_broken`) left out. A comparison
- *supports* a claim if its effect has the claimed sign at a Holm-adjusted p below 0.05, the family being all of them,
- *contradicts* it if the t interval leaves no room for an effect of the least size that would matter,
- is *undecided* otherwise, and *untestable* with fewer than six unbroken pairs; for C2 to C5 where uniform sampling
  itself does not memorize, its 'closer to train' not clearly over that of fresh real items; for C3's alignment where
  memorization has no trend; for C5 in a distance in which fresh real items are not clearly better than uniform
  sampling by the least effect that would matter, so that not even real data could support the claim.
Memorization must say so twice, raw and with the finest scale removed: the measures of one control support together or
not at all, and one that contradicts is enough. A data set with fewer than six seeds is *exploratory*: shown, never
counted.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from memlib.lab.data import kind_of
from memlib.lab.files import write_between
from memlib.lab.plans import describe, is_splice, read_plan, setting
from memlib.lab.records import Line, is_broken
from memlib.lab.statistics import holm, paired_difference, trend
from memlib.metrics import Estimate
from memlib.metrics.checks import check_between

ALPHA, PAIRS = 0.05, 6
SHARE = 0.05  # the least change that would matter: of a share,
RATIO = math.log(1.1)  # of a distance, as the log of a ratio,
RHO = 0.5  # and of a rank correlation

MARKS = ("<!-- verdicts -->", "<!-- end of verdicts -->")
SHARES = ("closer to train", "smoothed closer to train")
DISTANCES = ("PCA-W to held-out", "PCA-JS to held-out")
WIDTHS = (*(f"interval {500 - w // 2} to {500 + w // 2}" for w in (500, 1000, 1400, 2000)), "uniform")
LOW = ("interval 0 to 500", "interval -1000 to 1000", "log-SNR 9.21 to 2.77")
HIGH = ("interval 500 to 1000", "interval 0 to 2000", "log-SNR -3.67 to -10.11")
EQUALISED = "equal contributions"

STATEMENTS = {
    "C1": "Uniform sampling makes the denoising steps contribute unequally, because of SNR",
    "C2": "This imbalance biases training toward memorization",
    "C3": "The interval's width controls the trade-off of memorization and alignment",
    "C4": "Emphasis on later denoising steps (low noise) reduces memorization",
    "C4, read as high noise": "Emphasis on large t (high noise) reduces memorization",
    "C5": "... and improves alignment, low noise",
    "C5, read as high noise": "... and improves alignment, high noise",
    "C6": "It holds for images and for 1-D signals",
}
RULES = {
    "C1": "over ten bands of t, the largest share of the training loss is more than twice the smallest, and the share "
    "falls with t",
    "C2": "drawing with p(t) proportional to 1/L_t, which makes the contributions equal, lowers 'closer to train'",
    "C3": "over unbroken widths about t = 500, 'closer to train' has a trend, and PCA-W to held-out data one of the "
    "opposite sign",
    "C4": "'closer to train' is below uniform's for each of three low-noise intervals (500 wide, 2,000 wide, a third "
    "of log-SNR)",
    "C5": "PCA-W and PCA-JS to held-out data are below uniform's for each of the three, and 'closer to train' no more "
    "than 0.05 higher; distances to the training set do not count, for they reward copying, and one that fresh real "
    "items do not better by 10 % contradicts nothing, nor can there be support, which needs both",
    "C6": "C3, and C4 and C5 at low noise, hold on the heartbeats and on the images",
}

Runs = dict[str, Line]  # of one data set and seed, by control


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
    lines: Iterable[Line],
    budgets: str = "recorded",
    *,
    alpha: float = ALPHA,
    least: float = 1.0,
    corrected: bool = False,
) -> list[Verdict]:
    """The verdicts, C1 to C6, both readings of "later".

    How much hangs on the rules' constants: `alpha` is another level for what supports, `least` multiplies the effects
    that would matter, and with `corrected` the 95 % intervals that may contradict are widened to hold for the whole
    family at once (Bonferroni). Whether there is anything to lower or to improve is asked as ever. ValueError for an
    unknown profile, lines never recorded, alpha outside (0, 1) or least not above 0.
    """
    check_between("alpha", alpha, 0, 1)
    check_between("least", least, 0, math.inf)
    runs = _by_seed(lines, budgets)
    asked = [
        a
        for dataset in sorted(runs)
        for a in _questions(dataset, [runs[dataset][s] for s in sorted(runs[dataset])], least)
    ]
    judged = [f for f, _, _ in asked if f.says == "" and f.p is not None]
    adjusted = dict(zip(map(id, judged), holm([f.p for f in judged]), strict=True))
    tails = ALPHA / 2 / max(1, corrected * len(judged))
    findings = [_decide(f, adjusted.get(id(f)), sign, matters, alpha, tails) for f, sign, matters in asked]
    verdicts = [_verdict(claim, [f for f in findings if f.claim == claim]) for claim in STATEMENTS if claim != "C6"]
    parts = [v for v in verdicts if v.claim in ("C3", "C4", "C5")]
    datasets = {d: [v.by_dataset[d] for v in parts if d in v.by_dataset] for d in sorted({f.dataset for f in findings})}
    by_dataset = {d: "exploratory" if {"exploratory"} == set(each) else _overall(each) for d, each in datasets.items()}
    kinds = {kind_of(d) for d, verdict in by_dataset.items() if verdict != "exploratory"}
    unknown = [] if {"signal", "image"} <= kinds else ["inconclusive"]  # of signals, or of images, or of both
    return [*verdicts, Verdict("C6", STATEMENTS["C6"], _overall([*by_dataset.values(), *unknown]), by_dataset, ())]


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """The verdicts as a Markdown table, a column per data set."""
    verdicts = list(verdicts)
    datasets = list(dict.fromkeys(d for v in verdicts for d in v.by_dataset))
    rows = [["claim", "the paper says", *datasets, "verdict"]]
    rows += [
        [v.claim, v.statement, *(v.by_dataset.get(d, "-") for d in datasets), f"**{v.verdict}**"] for v in verdicts
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def write_verdicts(verdicts: Iterable[Verdict], path: Path) -> None:
    """Put the table between the two marks of the Markdown file `path`. Raises ValueError where it has no such marks."""
    write_between(path, MARKS, verdict_table(verdicts))


def _by_seed(lines: Iterable[Line], budgets: str) -> dict[str, dict[int, Runs]]:
    """Data set -> seed -> control -> line, of the runs at the budget that the plans compare."""
    compared = {setting(c | {"seed": 0}) for plan in ("width", "other_images") for c in read_plan(plan, budgets)}
    runs: dict[str, dict[int, Runs]] = {}
    for line in lines:
        config = line["config"]
        if not is_splice(config) and setting(config | {"seed": 0}) in compared:
            runs.setdefault(config["dataset"], {}).setdefault(config["seed"], {})[describe(config)] = line
    return runs


def _questions(dataset: str, seeds: list[Runs], scale: float) -> Iterator[tuple[Finding, int, float]]:
    """Each finding not yet decided, with the claimed sign (0: either) and the least effect that would matter, which is
    multiplied by `scale`."""
    seeds = [runs for runs in seeds if "uniform" in runs]
    memorizes = _clearly_above(SHARE, [_above_null(runs["uniform"]) for runs in seeds])
    room = {m: _clearly_above(RATIO, [_above_real(runs["uniform"], m) for runs in seeds]) for m in DISTANCES}

    def ask(claim, group, measure, values, broken, sign, least, statistic=paired_difference):
        testable = len(values) >= PAIRS and (claim == "C1" or memorizes)
        if claim.startswith("C5"):
            testable = testable and room.get(measure, True)
        says = "exploratory" if len(seeds) < PAIRS else "" if testable else "untestable"
        effect, p = statistic(values) if len(values) > 1 else (None, None)
        return Finding(claim, dataset, group, measure, effect, p, len(values), broken, says), sign, scale * least

    shares = [np.array(runs["uniform"]["loss"]["in_training"], dtype=float) for runs in seeds]
    yield ask("C1", "unequal", "ln(max / min) - ln 2", [_log_span(s) for s in shares], 0, 1, 0.0)
    yield ask("C1", "with SNR", "trend over t", shares, 0, -1, RHO, _trend)

    def against_uniform(claim, control, measures, least, change):
        both = [(runs[control], runs["uniform"]) for runs in seeds if control in runs]
        whole = [(a, b) for a, b in both if not is_broken(a, b) and not is_broken(b, b)]
        for measure in measures:
            values = [change(a["metrics"][measure][0], b["metrics"][measure][0]) for a, b in whole]
            yield ask(claim, control, measure, values, len(both) - len(whole), -1, least)
        if measures == DISTANCES:  # copies are real items: they would be well aligned
            shares = [(a["metrics"][SHARES[0]][0], b["metrics"][SHARES[0]][0]) for a, b in whole]
            spare = [scale * SHARE - (a - b) for a, b in shares]
            yield ask(claim, control, f"{SHARE} - rise of {SHARES[0]}", spare, len(both) - len(whole), 1, 0.0)

    yield from against_uniform("C2", EQUALISED, SHARES, SHARE, operator.sub)

    rows = [[runs[w] for w in WIDTHS if w in runs and not is_broken(runs[w], runs["uniform"])] for runs in seeds]
    broken = sum(w in runs for runs in seeds for w in WIDTHS) - sum(map(len, rows))
    rows = [row for row in rows if len(row) >= 3]
    found = 0  # the sign of the raw share's trend: the smoothed one's must be the same, alignment's the opposite
    for group, measure, way in (*(("memorization", share, 1) for share in SHARES), ("alignment", DISTANCES[0], -1)):
        values = [[line["metrics"][measure][0] for line in row] for row in rows]
        question = ask("C3", group, measure, values, broken, way * found, RHO, _trend)
        yield question
        if measure == SHARES[0] and question[0].effect:
            found = int(np.sign(question[0].effect.value))

    for reading, controls in (("", LOW), (", read as high noise", HIGH)):
        for control in controls:
            yield from against_uniform(f"C4{reading}", control, SHARES, SHARE, operator.sub)
            yield from against_uniform(f"C5{reading}", control, DISTANCES, RATIO, _log_ratio)


def _above_null(line: Line) -> float:
    return line["metrics"][SHARES[0]][0] - line["floors"]["fresh"][SHARES[0]][0]


def _above_real(line: Line, distance: str) -> float:
    return _log_ratio(line["metrics"][distance][0], line["floors"]["fresh"][distance][0])


def _clearly_above(least: float, values: Sequence[float]) -> bool:
    return len(values) > 1 and paired_difference(values)[0].low > least


def _log_ratio(a: float, b: float) -> float:
    return math.log(a / b)


def _log_span(shares: np.ndarray) -> float:
    return float(np.log(np.nanmax(shares) / np.nanmin(shares)) - math.log(2))


def _trend(rows: Sequence[Sequence[float]]) -> tuple[Estimate, float]:
    return trend(rows, generator=np.random.default_rng(0))


def _decide(finding: Finding, p: float | None, sign: int, least: float, alpha: float, tails: float) -> Finding:
    if finding.says:
        return replace(finding, p=None)
    effect = finding.effect
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
        own = _trade_off(own) if claim == "C3" else own
        shown += own
        groups = [{f.says for f in own if f.group == group} for group in dict.fromkeys(f.group for f in own)]
        by_dataset[dataset] = _tally([_together(group) for group in groups])
    return Verdict(claim, STATEMENTS[claim], _overall(by_dataset.values()), by_dataset, tuple(shown))


def _trade_off(findings: Sequence[Finding]) -> list[Finding]:
    """Of C3 in one data set: where memorization has no trend, alignment has no opposite sign to have."""
    if _together({f.says for f in findings if f.measure in SHARES}) in ("supports", "exploratory"):
        return list(findings)
    return [f if f.measure in SHARES else replace(f, says="untestable") for f in findings]


def _together(says: set[str]) -> str:
    """Of the measures of one comparison: all must support; one that contradicts is enough."""
    return next((s for s in ("exploratory", "contradicts", "untestable", "undecided") if s in says), "supports")


def _tally(groups: Sequence[str]) -> str:
    """Of a claim's comparisons in one data set."""
    if "exploratory" in groups:
        return "exploratory"
    if "supports" in groups:
        return "reproduced" if set(groups) == {"supports"} else "partly"
    return "not reproduced" if "contradicts" in groups else "inconclusive"


def _overall(verdicts: Iterable[str]) -> str:
    """Of the data sets: the claims are about all of them, so one that contradicts is enough where none supports."""
    judged = set(verdicts) - {"exploratory"}
    if judged == {"reproduced"}:
        return "reproduced"
    if judged & {"reproduced", "partly"}:
        return "partly"
    return "not reproduced" if "not reproduced" in judged else "inconclusive"
