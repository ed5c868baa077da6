"""Verdicts on made-up results of every kind: each of the four for each claim, and what must never earn one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from memlib.lab import claims
from memlib.lab.claims import ALPHA, EQUALISED, HIGH, LOW, STATEMENTS, WIDTHS, Verdict, judge_claims, verdict_table
from memlib.lab.plans import describe, key, networks, read_plan
from memlib.lab.records import read
from memlib.lab.statistics import trend

SHARES = ("closer to train", "smoothed closer to train")
W, JS = "PCA-W to held-out", "PCA-JS to held-out"
FALLING = np.geomspace(0.3, 0.02, 10)  # the loss of uniform training in ten bands of t
MIXED = (1, -1, 1, -1, 1, -1)  # by seed

Change = Callable[[str, int], dict]


def unchanged(control: str, seed: int) -> dict:
    return {}


def line(config: dict, changed: dict) -> dict:
    """A run that memorizes as uniform sampling does, jittered by seed and control so that no two are equal."""
    seed = config.get("seed", 0)
    g = np.random.default_rng([seed, int(key(config)[:8], 16)])
    level = np.random.default_rng([seed, 99]).normal(0, 0.05)  # what is common to a seed's runs: its split
    values = {
        **dict.fromkeys(SHARES, 0.8 + level + g.normal(0, 0.004)),
        W: 0.4 * math.exp(level + g.normal(0, 0.01)),
        JS: 0.5 * math.exp(level + g.normal(0, 0.01)),
        "energy to held-out": 1.0,
        "residual noise": 1.0,
    }
    loss = changed.pop("loss", FALLING * np.exp(g.normal(0, 0.02, 10)))
    for name, value in changed.items():
        values[name] = value(values[name]) if callable(value) else value
    measures = {name: [value, value - 0.05, value + 0.05] for name, value in values.items()}
    references = {"fresh": {name: [0.1, 0.0, 0.2] for name in measures}}  # below every made-up share: uniform memorizes
    made = {"key": key(config), "config": config, "step": networks(config)[0]["training"]["steps"], "content": "c" * 64}
    return made | {"version": 1, "measures": measures, "references": references, "loss": {"in_training": list(loss)}}


PLANS = ("width", "position", "position_snr", "equalised")


def made_up(change: Change = unchanged, plans: Iterable[str] = PLANS, seeds: int = 6, only: str = "") -> list[dict]:
    configs = {key(c): c for name in plans for c in read_plan(name)}.values()
    return [
        line(c, dict(change(describe(c), c["seed"])))
        for c in configs
        if c["seed"] < seeds and (not only or c["dataset"] == only)
    ]


def shifted(by: float, names: Iterable[str] = SHARES) -> dict:
    return dict.fromkeys(names, lambda x: x + by)


def scaled(by: float, names: Iterable[str] = (W, JS)) -> dict:
    return dict.fromkeys(names, lambda x: x * by)


def at(controls: Iterable[str], change: Change) -> Change:
    return lambda control, seed: change(control, seed) if control in controls else {}


def judge(lines: list[dict], budgets: str = "recorded", **how: float) -> list[Verdict]:
    """With a fifth of the permutations, for speed."""
    with patch.object(claims, "trend", partial(trend, draws=4000)):
        return judge_claims(lines, budgets, **how)


def verdict(lines: list[dict], claim: str, **how: float) -> Verdict:
    return next(v for v in judge(lines, **how) if v.claim == claim)


def says(found: Verdict, group: str = "", dataset: str = "emoji") -> set[str]:
    return {f.says for f in found.findings if f.dataset == dataset and group in f.group}


# --- each verdict of each claim ---------------------------------------------------------------------------------------

ORDERS = {  # of five widths: rank correlations with the order
    "none": ([2, 4, 1, 5, 3], [3, 1, 5, 2, 4], [4, 1, 3, 5, 2], [2, 5, 3, 1, 4], [3, 5, 1, 2, 4], [3, 1, 4, 5, 2]),
    "up": ([1, 2, 3, 4, 5],) * 6,
    "down": ([5, 4, 3, 2, 1],) * 6,
    "mixed": ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]) * 3,
}


def over_widths(share: str, distance: str, smoothed: str = "") -> Change:
    """Values that follow one of the orders over the widths."""

    def change(control: str, seed: int) -> dict:
        if control not in WIDTHS:
            return {}
        i = WIDTHS.index(control)
        return {
            SHARES[0]: 0.3 + 0.1 * ORDERS[share][seed][i],
            SHARES[1]: 0.3 + 0.1 * ORDERS[smoothed or share][seed][i],
            W: 0.3 + 0.01 * ORDERS[distance][seed][i],
        }

    return change


def losses(of_seed: Callable[[int], np.ndarray]) -> Change:
    return at(["uniform"], lambda _, seed: {"loss": of_seed(seed)})


def flat(seed: int) -> np.ndarray:
    return 0.1 * np.exp(np.random.default_rng(seed).normal(0, 0.03, 10))


def undecided_loss(seed: int) -> np.ndarray:
    """Falling by four times in every other seed, rising by a tenth in the others."""
    return np.geomspace(0.4, 0.1, 10) if seed % 2 else np.geomspace(0.1, 0.11, 10)


CASES: dict[str, dict[str, Change]] = {
    "C1": {
        "reproduced": unchanged,
        "partly": losses(lambda seed: FALLING[::-1] * (1 + 0.01 * seed)),  # unequal, but the other way about
        "not reproduced": losses(flat),
        "inconclusive": losses(undecided_loss),
    },
    "C2": {
        "reproduced": at([EQUALISED], lambda *_: shifted(-0.2)),
        "not reproduced": unchanged,
        "inconclusive": at([EQUALISED], lambda _, seed: shifted(0.2 * MIXED[seed])),
    },
    "C3": {
        "reproduced": over_widths("up", "down"),
        "partly": over_widths("up", "none"),
        "not reproduced": over_widths("none", "none"),
        "inconclusive": over_widths("mixed", "mixed"),
    },
    "C4": {
        "reproduced": at(LOW, lambda *_: shifted(-0.2)),
        "partly": at(LOW[:1], lambda *_: shifted(-0.2)),
        "not reproduced": unchanged,
        "inconclusive": at(LOW, lambda _, seed: shifted(0.2 * MIXED[seed])),
    },
    "C5": {
        "reproduced": at(LOW, lambda *_: scaled(0.7)),
        "partly": at(LOW[1:], lambda *_: scaled(0.7)),
        "not reproduced": unchanged,
        "inconclusive": at(LOW, lambda _, seed: scaled(math.exp(0.5 * MIXED[seed]))),
    },
}
CASES["C4, read as high noise"] = {
    "reproduced": at(HIGH, lambda *_: shifted(-0.2)),
    "partly": at(HIGH[2:], lambda *_: shifted(-0.2)),
    "not reproduced": at(LOW, lambda *_: shifted(-0.2)),  # that is the other reading
    "inconclusive": at(HIGH, lambda _, seed: shifted(0.2 * MIXED[seed])),
}
CASES["C5, read as high noise"] = {
    "reproduced": at(HIGH, lambda *_: scaled(0.7)),
    "partly": at(HIGH[:2], lambda *_: scaled(0.7)),
    "not reproduced": at(LOW, lambda *_: scaled(0.7)),
    "inconclusive": at(HIGH, lambda _, seed: scaled(math.exp(0.5 * MIXED[seed]))),
}


@pytest.mark.parametrize(
    ("claim", "expected"), [(claim, expected) for claim, cases in CASES.items() for expected in cases]
)
def test_each_verdict_of_each_claim(claim: str, expected: str) -> None:
    found = verdict(made_up(CASES[claim][expected]), claim)
    assert found.verdict == expected
    assert found.by_dataset == {"ecg5000": expected, "emoji": expected}
    assert found.statement == STATEMENTS[claim]


@pytest.mark.parametrize("claim", [*CASES])
def test_one_data_set_that_agrees_and_one_that_does_not_is_partly(claim: str) -> None:
    lines = made_up(CASES[claim]["reproduced"], only="ecg5000")
    lines += made_up(CASES[claim]["not reproduced"], only="emoji")
    found = verdict(lines, claim)
    assert found.verdict == "partly"
    assert found.by_dataset == {"ecg5000": "reproduced", "emoji": "not reproduced"}


def with_everything(control: str, seed: int) -> dict:
    """C3, C4 and C5 at once: the widths rise to uniform, and the low-noise intervals lie below it."""
    changed = over_widths("up", "down")(control, seed)
    if control in LOW:
        changed = {SHARES[0]: 0.3, SHARES[1]: 0.3, W: 0.2, JS: 0.3}
        changed = {name: value + 0.001 * seed for name, value in changed.items()}
    return changed


def test_c6_needs_c3_c4_and_c5_on_signals_and_on_images() -> None:
    both = made_up(with_everything)
    for claim in ("C3", "C4", "C5"):
        assert verdict(both, claim).verdict == "reproduced", claim
    found = verdict(both, "C6")
    assert (found.verdict, found.by_dataset) == ("reproduced", {"ecg5000": "reproduced", "emoji": "reproduced"})
    less = [x for x in both if x["config"]["dataset"] == "ecg5000"] + made_up(over_widths("up", "down"), only="emoji")
    found = verdict(less, "C6")
    assert (found.verdict, found.by_dataset) == ("partly", {"ecg5000": "reproduced", "emoji": "partly"})
    assert verdict(made_up(), "C6").verdict != "reproduced"
    assert verdict(made_up(over_widths("none", "none")), "C6").verdict == "not reproduced"
    assert [v.claim for v in judge([])] == list(STATEMENTS) and {v.verdict for v in judge([])} == {"inconclusive"}
    for only in ("ecg5000", "emoji"):  # of the other kind nothing is known
        found = verdict(made_up(with_everything, only=only), "C6")
        assert (found.verdict, found.by_dataset) == ("partly", {only: "reproduced"})


# --- what must not count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"residual noise": 9.0}, {"energy to held-out": 2.5}])
@pytest.mark.parametrize(
    ("claim", "controls"), [("C4", LOW), ("C4, read as high noise", HIGH), ("C5", LOW), ("C2", [EQUALISED])]
)
def test_broken_denoisers_neither_memorize_less_nor_align_better(claim: str, controls, how: dict) -> None:
    """Far from the training set, and from everything else."""
    found = verdict(made_up(at(controls, lambda *_: shifted(-0.6) | scaled(0.5) | how)), claim)
    assert found.verdict == "inconclusive"
    own = [f for f in found.findings if f.group in controls]
    assert {f.says for f in own} == {"untestable"}
    assert {(f.pairs, f.broken, f.effect, f.p) for f in own} == {(0, 6, None, None)}


def test_a_broken_run_of_either_side_takes_its_pair_along() -> None:
    broken = at(LOW, lambda _, seed: shifted(-0.2) | ({"residual noise": 9.0} if seed == 3 else {}))
    found = verdict(made_up(broken), "C4")
    assert {(f.says, f.pairs, f.broken) for f in found.findings} == {("untestable", 5, 1)}
    assert all(f.effect.high < 0 for f in found.findings), "it is shown all the same"
    broken = at([*LOW, "uniform"], lambda c, seed: {"residual noise": 9.0} if (c, seed) == ("uniform", 3) else {})
    for claim in ("C2", "C4", "C5"):
        assert {(f.says, f.pairs, f.broken) for f in verdict(made_up(broken), claim).findings} == {("untestable", 5, 1)}


def test_broken_widths_are_left_out_of_the_trend() -> None:
    """The narrowest is broken in every seed: without it the trend is down, with it there would be none."""

    def change(control: str, seed: int) -> dict:
        rank = dict(zip(WIDTHS, [1, 5, 4, 3, 2], strict=True)).get(control)
        noise = {"residual noise": 9.0} if control == WIDTHS[0] else {}
        return {} if rank is None else {**dict.fromkeys((*SHARES, W), 0.1 * rank)} | {W: 1 / rank} | noise

    found = verdict(made_up(change), "C3")
    assert found.verdict == "reproduced"
    assert {(f.pairs, f.broken) for f in found.findings} == {(6, 6)}
    assert {f.measure: f.effect.value for f in found.findings} == pytest.approx({SHARES[0]: -1, SHARES[1]: -1, W: 1})

    def few(control: str, seed: int) -> dict:
        return change(control, seed) | ({"residual noise": 9.0} if control in WIDTHS[1:3] else {})

    assert verdict(made_up(few), "C3").verdict == "inconclusive", "two widths have no trend"


@pytest.mark.parametrize(("claim", "controls"), [("C2", [EQUALISED]), ("C4", LOW)])
def test_memorization_must_fall_below_the_finest_scale_too(claim: str, controls) -> None:
    """Raw distances grow with residue that is not yet broken; the smoothed ones do not see it."""
    assert verdict(made_up(at(controls, lambda *_: shifted(-0.2, SHARES[:1]))), claim).verdict == "not reproduced"
    assert verdict(made_up(at(controls, lambda *_: shifted(-0.2, SHARES[1:]))), claim).verdict == "not reproduced"


def test_trends_of_memorization_that_contradict_each_other_are_none() -> None:
    """Raw up with the width and smoothed down: that is residue, not memorization."""
    for distance in ("up", "down"):
        found = verdict(made_up(over_widths("up", distance, smoothed="down")), "C3")
        assert says(found, "memorization") != {"supports"}
        assert found.verdict != "reproduced"


def test_a_trend_of_alignment_of_the_same_sign_is_no_trade_off() -> None:
    assert verdict(made_up(over_widths("up", "up")), "C3").verdict == "partly"
    assert verdict(made_up(over_widths("down", "up")), "C3").verdict == "reproduced", "either way about"


@pytest.mark.parametrize(("share", "expected"), [("mixed", "inconclusive"), ("none", "not reproduced")])
@pytest.mark.parametrize("distance", ["up", "down"])
def test_a_trend_of_alignment_counts_only_beside_one_of_memorization(share: str, expected: str, distance: str) -> None:
    found = verdict(made_up(over_widths(share, distance)), "C3")
    assert found.verdict == expected
    assert says(found, "alignment") == {"untestable"}


def copycat(control: str, seed: int) -> dict:
    """What copies read: all nearer to train, at no distance to it, and no farther from held-out than a poor network."""
    return dict.fromkeys(SHARES, 1.0) | {"PCA-W to train": 0.0, "PCA-JS to train": 0.0} | scaled(0.8)


@pytest.mark.parametrize(("claim", "controls"), [("C5", LOW), ("C5, read as high noise", HIGH)])
def test_copies_are_not_better_aligned(claim: str, controls) -> None:
    found = verdict(made_up(at(controls, copycat)), claim)
    assert found.verdict == "not reproduced"
    for f in found.findings:
        assert f.says == ("supports" if f.measure in (W, JS) else "contradicts")


def test_copies_do_not_memorize_less() -> None:
    assert verdict(made_up(at([*LOW, EQUALISED], copycat)), "C4").verdict == "not reproduced"
    assert verdict(made_up(at([*LOW, EQUALISED], copycat)), "C2").verdict == "not reproduced"


def test_distance_to_the_training_set_changes_no_verdict() -> None:
    """It rewards copying; nothing that is judged may read it, nor distance or share without a floor."""
    names = ("PCA-W to train", "PCA-JS to train", "L2 to nearest", "memorized", "smoothed memorized")
    lines = made_up(with_everything)
    with_them = [x | {"measures": x["measures"] | {name: [0.0, 0.0, 0.0] for name in names}} for x in lines]
    assert judge(with_them) == judge(lines)


def test_where_uniform_does_not_memorize_nothing_is_judged_but_c1() -> None:
    lines = made_up(with_everything)
    as_null = lambda x: x | {"references": {"fresh": {name: [0.79, 0.7, 0.9] for name in x["measures"]}}}  # noqa: E731
    for found in judge([as_null(x) for x in lines]):
        if found.claim != "C1":
            assert found.verdict == "inconclusive"
            assert {f.says for f in found.findings} <= {"untestable"}
    assert any(f.says == "supports" for v in judge(lines) for f in v.findings if v.claim != "C1")


def real_is_no_better(lines: list[dict], *distances: str) -> list[dict]:
    """Fresh items as far from held-out data as uniform sampling's samples are, or nearly: 5 % better."""
    for x in lines:
        x["references"]["fresh"] |= {name: [0.95 * x["measures"][name][0], 0.1, 0.9] for name in distances}
    return lines


def test_alignment_is_judged_only_in_distances_in_which_real_data_are_better() -> None:
    better = at(LOW, lambda *_: scaled(0.7))
    for change in (unchanged, better):
        found = verdict(real_is_no_better(made_up(change), W, JS), "C5")
        assert found.verdict == "inconclusive"
        assert {f.says for f in found.findings if f.measure in (W, JS)} == {"untestable"}
    assert verdict(real_is_no_better(made_up(CASES["C4"]["reproduced"]), W, JS), "C4").verdict == "reproduced"
    assert verdict(real_is_no_better(made_up(better), JS), "C5").verdict == "inconclusive", "one distance is not enough"
    found = verdict(real_is_no_better(made_up(), JS), "C5")
    assert found.verdict == "not reproduced"
    for measure, expected in {W: "contradicts", JS: "untestable"}.items():
        assert {f.says for f in found.findings if f.measure == measure} == {expected}


def test_fewer_than_six_seeds_are_shown_and_never_counted() -> None:
    few = made_up(with_everything, seeds=claims.PAIRS - 1)
    for found in judge(few):
        assert found.verdict == "inconclusive"
        assert found.by_dataset == {"ecg5000": "exploratory", "emoji": "exploratory"}
        assert {(f.says, f.p) for f in found.findings} <= {("exploratory", None)}
        assert all(f.effect is not None and f.pairs == claims.PAIRS - 1 for f in found.findings)


def test_an_exploratory_data_set_changes_no_verdict_of_the_others() -> None:
    both = made_up(with_everything)
    more = both + made_up(with_everything, plans=["other_images"])
    for alone, beside in zip(judge(both), judge(more), strict=True):
        assert beside.verdict == alone.verdict, alone.claim
        assert {d: v for d, v in beside.by_dataset.items() if d in ("ecg5000", "emoji")} == alone.by_dataset
        assert {v for d, v in beside.by_dataset.items() if d not in alone.by_dataset} == {"exploratory"}
        assert [f for f in beside.findings if f.says != "exploratory"] == list(alone.findings)


def test_seeds_without_a_uniform_run_and_controls_not_yet_recorded_are_not_counted() -> None:
    lines = made_up(CASES["C4"]["reproduced"])
    lines = [x for x in lines if x["config"]["timesteps"] != {"name": "uniform"} or x["config"]["seed"] != 2]
    assert set(verdict(lines, "C4").by_dataset.values()) == {"exploratory"}
    found = verdict(made_up(CASES["C4"]["reproduced"], plans=["width", "position"]), "C4")
    assert found.verdict == "partly"
    assert {f.group for f in found.findings if f.says == "untestable"} == {LOW[2]}


def test_other_budgets_other_tails_weighted_and_spliced_runs_are_ignored() -> None:
    lines = made_up(with_everything)
    known = {x["key"] for x in lines}
    wild = {**dict.fromkeys(SHARES, 0.0), W: 9.0, JS: 0.9}
    configs = [c for name in ("length", "size", "matched_weight", "tails", "splice") for c in read_plan(name)]
    configs += [c for name in PLANS for c in read_plan(name, "quick")]
    more = [line(c, dict(wild)) for c in configs if key(c) not in known]
    assert len(more) > 300
    assert judge(more[::-1] + lines[::-1]) == judge(lines + more) == judge(lines)


def test_the_profile_that_is_judged_may_be_another() -> None:
    configs = {key(c): c for name in PLANS for c in read_plan(name, "quick")}.values()
    lines = [line(c, dict(with_everything(describe(c), c["seed"]))) for c in configs]
    assert {v.verdict for v in judge(lines)} == {"inconclusive"}
    assert {v.claim: v.verdict for v in judge(lines, "quick")}["C6"] == "reproduced"
    with pytest.raises(ValueError, match="profile = 'fast'"):
        judge(lines, "fast")


# --- what a finding says ----------------------------------------------------------------------------------------------


def plain_holm(p: list[float]) -> list[float]:
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


def test_holm_is_applied_over_all_that_is_judged(monkeypatch) -> None:
    """An effect of which each comparison alone would say p = 0.02 supports nothing among so many."""
    lines, given = made_up(at(LOW, lambda _, seed: shifted(-0.05 + 0.035 * MIXED[seed]))), []

    def spy(p: list[float]) -> list[float]:
        given.append(list(p))
        return plain_holm(p)

    corrected = verdict(lines, "C4")
    monkeypatch.setattr(claims, "holm", spy)
    found = judge(lines)
    judged = [f for v in found for f in v.findings if f.p is not None]
    (raw,) = given
    assert len(raw) == len(judged) == 2 * 37, "one family"
    assert sorted(f.p for f in judged) == pytest.approx(sorted(plain_holm(raw)))
    assert corrected == next(v for v in found if v.claim == "C4"), "ours is the plain one"
    monkeypatch.setattr(claims, "holm", list)
    alone = verdict(lines, "C4")
    assert says(alone) == {"supports"} and all(0.01 < f.p < ALPHA for f in alone.findings)
    assert says(corrected) == {"undecided"} and all(f.p > ALPHA for f in corrected.findings)


def test_an_effect_is_the_mean_paired_difference() -> None:
    lines = made_up(at(LOW, lambda *_: shifted(-0.2) | scaled(0.7)))
    runs = {(x["config"]["seed"], describe(x["config"])): x for x in lines if x["config"]["dataset"] == "emoji"}
    for claim, measure, change in (
        ("C4", SHARES[0], lambda a, b: a - b),
        ("C4", SHARES[1], lambda a, b: a - b),
        ("C5", W, lambda a, b: math.log(a / b)),
        ("C5", JS, lambda a, b: math.log(a / b)),
    ):
        for f in verdict(lines, claim).findings:
            if f.dataset == "emoji" and f.measure == measure:
                pairs = [
                    (runs[s, f.group]["measures"][measure], runs[s, "uniform"]["measures"][measure]) for s in range(6)
                ]
                assert f.effect.value == pytest.approx(np.mean([change(a[0], b[0]) for a, b in pairs]))
                assert (f.pairs, f.broken) == (6, 0)


def test_a_small_effect_that_is_certain_supports_and_one_with_no_room_contradicts() -> None:
    small = verdict(made_up(at(LOW, lambda *_: shifted(-0.03))), "C4")
    assert says(small) == {"supports"}
    none = verdict(made_up(), "C4")
    assert says(none) == {"contradicts"}
    assert all(f.effect.low > -claims.SHARE for f in none.findings)
    worse = verdict(made_up(at(LOW, lambda *_: shifted(0.1))), "C4")
    assert says(worse) == {"contradicts"}


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_contradiction_can_be_held_to_smaller_effects_or_to_the_whole_family() -> None:
    lines = made_up(at(LOW, lambda _, seed: shifted(0.03 * MIXED[seed])))  # from -0.035 to 0.035
    assert says(verdict(lines, "C4")) == {"contradicts"} and verdict(lines, "C4").verdict == "not reproduced"
    assert says(verdict(lines, "C4", least=2)) == {"contradicts"}
    for how in ({"least": 0.5}, {"corrected": True}):
        assert (
            says(verdict(lines, "C4", **how)) == {"undecided"} and verdict(lines, "C4", **how).verdict == "inconclusive"
        )
    certain = made_up(at(LOW, lambda _, seed: shifted(0.2)))
    assert verdict(certain, "C4", corrected=True).verdict == "not reproduced"


def test_support_can_be_held_to_another_level() -> None:
    lines = made_up(at(LOW, lambda _, seed: shifted(-0.1 + 0.02 * MIXED[seed])))
    assert max(f.p for f in verdict(lines, "C4").findings) > ALPHA / 50
    assert verdict(lines, "C4").verdict == "reproduced"
    assert says(verdict(lines, "C4", alpha=ALPHA / 50)) == {"undecided"}


# --- evidence is known by what was run --------------------------------------------------------------------------------


def test_a_readers_own_weights_beside_ours_are_no_evidence_whatever_they_are_called() -> None:
    lines = made_up(CASES["C2"]["reproduced"])
    own = [x["config"] for x in lines if describe(x["config"]) == EQUALISED]
    theirs = {"name": "interpolated", "at": [1.0, 2.0], "weights": [1.0, 2.0]}
    more = [line(c | {"timesteps": theirs}, shifted(0.0)) for c in own]
    with patch("memlib.lab.plans.words", lambda *_: EQUALISED):
        assert judge(lines + more) == judge(more + lines) == judge(lines)


def test_runs_on_other_data_or_of_another_version_are_never_pooled_with_ours() -> None:
    ours = made_up(CASES["C4"]["reproduced"])
    for other in ({"content": "d" * 64}, {"version": 2}):
        theirs = [x | other for x in made_up(CASES["C4"]["not reproduced"], only="emoji")]
        for lines in (ours + theirs, theirs + ours):
            found = verdict(lines, "C4").by_dataset
            assert found.pop("ecg5000") == "reproduced"
            assert sorted(found.values()) == ["not reproduced", "reproduced"] and all(
                "emoji@" in name for name in found
            )
    few = [x | {"content": "d" * 64} for x in ours if x["config"]["seed"] == 0]
    mixed = [x for x in ours if x["config"]["seed"] != 0] + few
    assert set(verdict(mixed, "C4").by_dataset.values()) == {"exploratory"}, "five seeds and one are not six"


def test_records_on_the_way_are_not_judged() -> None:
    lines = made_up(CASES["C4"]["reproduced"])
    early = [x | {"step": 10, "measures": {name: [9.0] * 3 for name in x["measures"]}} for x in lines]
    assert judge(early + lines) == judge(lines + early) == judge(lines)


# --- the recorded verdicts --------------------------------------------------------------------------------------------


def test_the_recorded_verdicts_are_as_ever_and_stand_in_the_readme(tmp_path) -> None:
    root, found, page = Path(__file__).resolve().parents[1], judge_claims(read()), tmp_path / "README.md"
    assert verdict_table(found) + "\n" == (root / "tests" / "golden" / "claims.txt").read_text()
    ours = (root / "README.md").read_text(encoding="utf-8")
    page.write_text(ours, encoding="utf-8")
    claims.write_verdicts(found, page)
    assert page.read_text(encoding="utf-8") == ours
    claims.write_verdicts([replace(v, verdict="partly") for v in found], page)
    assert page.read_text(encoding="utf-8") == ours.replace("**reproduced**", "**partly**").replace(
        "**not reproduced**", "**partly**"
    )
    page.write_text(f"{claims.MARKS[1]}\n{claims.MARKS[0]}\n")
    with pytest.raises(ValueError, match=r"README\.md"):
        claims.write_verdicts(found, page)
