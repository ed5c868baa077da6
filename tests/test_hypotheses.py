"""Verdicts on predictions, and the spectrum, from made-up courses whose answer is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memlib.lab import courses, plans
from memlib.lab.hypotheses import decide
from memlib.lab.spectrum import explained, memorization_spectrum, recorded_spectra
from memlib.timesteps import banded, uniform

PLAN = """
question = "a test"
seeds = [0, 11]
zone = [0, 500]
[experiment]
dataset = "mixture4"
n_train = 16
training = {{ steps = 100 }}
course = [20]
[controls]
uniform = {{ name = "uniform" }}
other = {{ name = "gaussian_interval", low = 0, high = 500 }}
third = {{ name = "gaussian_interval", low = 500, high = 1000 }}
{predictions}"""


def prediction(sign: int, control: str = "other", **more: object) -> str:
    extra = "".join(f"{k} = {v!r}\n" for k, v in more.items())
    head = '[[predictions]]\nhypothesis = "H1"\nagainst = "uniform"\n'
    return f'{head}control = "{control}"\nsign = {sign}\nmargin = 0.03\n{extra}'


def plan(tmp_path: Path, *predictions: str) -> plans.Plan:
    (path := tmp_path / "made.toml").write_text(PLAN.format(predictions="\n".join(predictions)))
    return plans.read_plan(path)


def line(plan: plans.Plan, control: str, seed: int, readings: list[dict[str, float]]) -> courses.Line:
    course = [{"step": 10 * 2**k, "measures": reading} for k, reading in enumerate(readings)]
    made = {"plan": plan.name, "plan_sha256": plan.sha256, "control": control, "seed": seed, "course": course}
    config = {"dataset": "mixture4", "n_train": 16, "image_size": 32, "seed": seed}
    return made | {"config": config, "content": f"{seed}"}


def lines(plan: plans.Plan, effect: float, noise: float, control: str = "other", fidelity: float = 1.0):
    """Uniform at 0.2 near-copies; the control so much above it, in the mean over twelve seeds."""
    spread = noise * np.random.default_rng(0).standard_normal(12)
    for seed, off in enumerate(spread - spread.mean()):
        yield line(plan, "uniform", seed, [{"near-copies": 0.2, "fidelity": 1.0}])
        yield line(plan, control, seed, [{"near-copies": 0.2 + effect + off, "fidelity": fidelity}])


@pytest.mark.parametrize(
    ("sign", "effect", "noise", "verdict"),
    [(1, 0.1, 0.02, "supported"), (1, 0.0, 0.2, "undecided"), (1, 0.1, 0.3, "undecided"),
     (1, 0.0, 0.02, "refuted"), (1, 0.02, 0.001, "refuted"),  # an effect of the margin is excluded; there, but below it
     (-1, 0.1, 0.02, "refuted"), (-1, -0.1, 0.02, "supported"), (0, 0.0, 0.02, "supported"),
     (0, 0.1, 0.02, "refuted"), (0, 0.0, 0.2, "undecided"), (0, 0.02, 0.05, "undecided")],
)  # fmt: skip
def test_support_and_contradiction_follow_one_rule(tmp_path, sign, effect, noise, verdict) -> None:
    own = plan(tmp_path, prediction(sign))
    (found,) = decide(lines(own, effect, noise), [own])
    assert found.verdict == verdict and found.seeds == 12 and not found.changed
    assert found.effect is not None and found.effect.value == pytest.approx(effect)
    assert (found.needed is not None) == (verdict == "undecided")
    assert found.needed is None or found.needed > 12


def test_the_seeds_that_would_decide_depend_on_the_side_that_the_effect_is_on(tmp_path) -> None:
    own = plan(tmp_path, prediction(1))
    for effect, gap in ((0.1, 0.1), (0.0, 0.03), (-0.1, 0.13)):  # only p is missing; an effect of the margin stays open
        (found,) = decide(lines(own, effect, 0.7), [own])
        assert found.effect and found.verdict == "undecided"
        spread = (found.effect.high - found.effect.value) * math.sqrt(12) / stats.t.isf(0.025, 11)
        few, enough = (stats.t.isf(0.025, n - 1) * spread / math.sqrt(n) for n in (found.needed - 1, found.needed))
        assert few > gap >= enough  # half the interval's width, were the spread the same


def test_a_family_is_corrected_by_holm(tmp_path) -> None:
    one, two = plan(tmp_path, prediction(1)), plan(tmp_path, prediction(1), prediction(1, "third"))
    (alone,) = decide(lines(one, 0.06, 0.08), [one])
    both = [*lines(two, 0.06, 0.08), *(x for x in lines(two, 0.0, 0.3, "third") if x["control"] == "third")]
    first, second = decide(both, [two])
    assert alone.p is not None and first.p == pytest.approx(2 * alone.p) and second.p is not None and second.p > 0.9
    assert first.effect is not None and alone.effect is not None and first.effect.low < alone.effect.low


def test_a_degenerate_run_is_excluded_and_counted(tmp_path) -> None:
    own = plan(tmp_path, prediction(-1))
    recorded = [*lines(own, -0.2, 0.01, fidelity=1.6)]
    assert [(x.degenerate, x.verdict) for x in decide(recorded, [own])] == [(12, "too few seeds")]
    assert [x.verdict for x in decide(recorded, [own], degenerate=True)] == ["supported"]


def test_a_plan_that_was_changed_after_its_runs_is_said(tmp_path) -> None:
    own = plan(tmp_path, prediction(1))
    recorded = [*lines(own, 0.1, 0.02)]
    assert [x.changed for x in decide(recorded, [own])] == [False]
    assert [x.changed for x in decide(recorded, [plan(tmp_path, prediction(-1))])] == [True]


def test_stopping_in_time_is_compared_at_equal_fidelity(tmp_path) -> None:
    """A control that runs along uniform's own course at half the speed copies as much at equal fidelity, half as much
    at the last step. The last seed's two courses never have one fidelity."""
    own = plan(tmp_path, prediction(0, at="fidelity"), prediction(-1))
    steps = 10 * 2.0 ** np.arange(6)

    def reading(step: float) -> dict[str, float]:
        return {"near-copies": 0.05 * math.log(step), "fidelity": 1 + 1 / math.log(step)}

    recorded = [line(own, "uniform", 11, [reading(2.0)]), line(own, "other", 11, [reading(9.0) | {"near-copies": 0.0}])]
    for seed in range(11):
        recorded.append(line(own, "uniform", seed, [reading(s) for s in steps]))
        slow = [{**reading(s / 2), "near-copies": reading(s / 2)["near-copies"] + 1e-3 * seed} for s in steps]
        recorded.append(line(own, "other", seed, slow))
    matched, last = decide(recorded, [own], degenerate=True)
    assert matched.verdict == "supported" and matched.effect is not None and (matched.seeds, matched.apart) == (11, 1)
    assert matched.effect.value == pytest.approx(0.005, abs=1e-3), "the mean of what was added, where both met"
    assert last.effect is not None and last.effect.value == pytest.approx(-0.05 * math.log(2), abs=0.01)


def test_one_clock_is_compared_at_equal_views_in_the_zone(tmp_path) -> None:
    """Near-copies that follow the views in the zone agree at equal views, though not at equal steps."""
    own = plan(tmp_path, prediction(0, at="views"), prediction(1))
    share = float(own.controls["other"].timesteps.pmf[:500].sum())
    recorded, steps = [], 10 * 2.0 ** np.arange(8)
    for seed in range(12):
        for control, each in (("uniform", 0.5), ("other", share)):
            readings = [{"near-copies": 0.05 * math.log(s * each) + 1e-4 * seed, "fidelity": 1.0} for s in steps]
            recorded.append(line(own, control, seed, readings))
    clock, last = decide(recorded, [own])
    assert share > 0.9 and clock.verdict == "supported" and clock.effect is not None and abs(clock.effect.value) < 0.005
    assert last.effect is not None and last.effect.value == pytest.approx(0.05 * math.log(share / 0.5), abs=1e-6)


EDGES = [100, 300]


def design(truth: list[float], noise: float, tell: float = 1.0) -> list[courses.Line]:
    """24 controls, four seeds of each."""
    rng, made = np.random.default_rng(0), []
    for k in range(24):
        shares = rng.dirichlet([2, 2, 2])
        recipe = {"name": "banded", "edges": EDGES, "shares": shares.tolist()}
        config = {"timesteps": recipe, "T": 1000, "n_train": 32, "training": {"batch_size": 32}}
        for seed in range(4):
            copies = tell * float(shares @ truth) + noise * rng.standard_normal() + 0.1 * seed
            course = [{"step": s, "measures": {"near-copies": copies * s / 1000}} for s in (500, 1000)]
            made.append({"control": f"random {k}", "seed": seed, "config": config, "course": course})
    return made


def test_the_spectrum_finds_the_band_and_predicts_controls_that_were_left_out() -> None:
    recorded = design([0.0, 0.6, 0.1], 0.02)
    controls, seeds = explained(recorded)
    assert controls.low > 0.8 and seeds.low > 0.8
    own = memorization_spectrum(recorded)
    assert np.argmax(own.coefficients[0, -1]) == 1 and own.steps.tolist() == [500, 1000]
    found = own.predict(banded(1000, EDGES, [0.2, 0.5, 0.3]), 1000)
    assert found.low < 0.15 + 0.5 * 0.6 + 0.03 < found.high and found.high - found.low < 0.15
    half = own.predict(banded(1000, EDGES, [0.2, 0.5, 0.3]), 500)
    assert half.value == pytest.approx(found.value / 2, abs=0.01)
    for p, steps in ((banded(1000, EDGES, [0.2, 0.5, 0.3]), 5000), (uniform(1001), 1000)):
        with pytest.raises(ValueError, match="T = 1000 and 500 to 1000 steps"):
            own.predict(p, steps)
    floored = [
        {**x, "config": x["config"] | {"timesteps": x["config"]["timesteps"] | {"floor": 0.5}}} for x in recorded
    ]
    twice = memorization_spectrum(floored).coefficients[0, -1]  # as half of the spread of shares makes the same copies
    np.testing.assert_allclose(twice, 2 * own.coefficients[0, -1])
    with pytest.raises(ValueError, match="2 of data and budget"):
        memorization_spectrum(recorded[:48] + [{**x, "config": x["config"] | {"n_train": 16}} for x in recorded[48:]])
    with pytest.raises(ValueError, match="0 controls"):
        memorization_spectrum([])
    assert [f.verdict for f in decide([], [plans.read_plan("mixture4_random")])] == ["not run"]


def test_a_random_design_whose_second_seed_is_being_recorded_is_not_run_as_yet() -> None:
    own = plans.read_plan("mixture_random")
    lines = [x for x in courses.read() if x["plan"] == own.name and x["control"] != "uniform"]
    first, second, third = ([x for x in lines if x["seed"] == seed] for seed in own.seeds[:3])
    assert [f.verdict for f in decide([*first, *second[:4]], [own])] == ["not run"]
    assert recorded_spectra([*first, *second[:4]], "mixture") == {}
    assert explained([*first, *second, *third[:4]]) == explained([*first, *second])  # a third one does not undo it


def test_shares_that_tell_nothing_explain_nothing() -> None:
    controls, seeds = explained(design([0, 0.6, 0.1], 0.05, tell=0.0))
    assert controls.value < 0.1 and seeds.value < 0.1


@pytest.mark.parametrize("more", [{}, {"step": 20}])
def test_a_control_is_compared_where_it_had_the_fidelity_with_which_uniform_ends(tmp_path, more) -> None:
    """Uniform ends at fidelity 1.2 with .2; the other passes 1.2 half-way (in ln steps) between .05 and .15."""
    own, made = plan(tmp_path, prediction(-1, at="final fidelity", **more)), []
    last = [(0.9, 0.8)] * len(more)  # a reading of which nothing is asked where a step is named
    for seed in range(12):
        off = 0.001 * (seed % 3)
        for control, pairs in (("uniform", ((0.1, 1.5), (0.2, 1.2))), ("other", ((0.05 + off, 1.44), (0.15 + off, 1)))):
            made.append(line(own, control, seed, [{"near-copies": x, "fidelity": f} for x, f in [*pairs, *last]]))
    (found,) = decide(made, [own])
    assert found.verdict == "supported" and found.effect and found.effect.value == pytest.approx(0.101 - 0.2)


def test_at_equal_best_fidelity_both_courses_are_taken_where_they_first_had_it(tmp_path) -> None:
    """Uniform has its best fidelity up to step 20 at step 10, with .2; compared with itself it differs by nothing."""
    predicted = (prediction(-1, name, at="best fidelity", step=20) for name in ("other", "third"))
    own, made = plan(tmp_path, *predicted), []
    even, less = ((0.2, 1.1), (0.3, 1.3)), ((0.05, 1.21), (0.15, 1.0))
    for seed in range(12):
        off = 0.001 * (seed % 3)
        for control, pairs in (("uniform", even), ("other", even), ("third", less)):
            readings = [(x + off * (control == "third"), f) for x, f in (*pairs, (0.9, 0.8))]
            made.append(line(own, control, seed, [{"near-copies": x, "fidelity": f} for x, f in readings]))
    same, fewer = decide(made, [own])
    assert same.effect and same.effect.value == 0 and same.seeds == 12 and same.verdict == "refuted"
    assert fewer.effect and fewer.effect.value == pytest.approx(0.101 - 0.2) and fewer.verdict == "supported"
    assert fewer.says == "third: less than uniform, at the best fidelity of its first 20 steps"


C1 = '[[predictions]]\nhypothesis = "C1"\ncontrol = "uniform"\nmargin = 0.5\nof = "{}"\nshare = "{}"\nsign = {}'
UNEQUAL = C1.replace('"C1"', '"C1b"\nunequal = true').replace("sign = {}", "sign = 1")


@pytest.mark.parametrize("of", ["loss", "gradient"])
@pytest.mark.parametrize(("share", "sign"), [("eps", -1), ("x0", 1), ("v", 1)])
def test_the_same_loss_falls_as_error_of_noise_and_rises_as_error_of_the_clean_item(tmp_path, share, sign, of) -> None:
    own = plan(tmp_path, C1.format(of, share, sign), UNEQUAL.format(of, share))
    t, values = [5, 100, 500, 900], [0.5, 0.48, 0.3, 0.2]
    made = [{**line(own, "uniform", k, [{}]), "t": t} for k in range(6)]
    for one in made:
        one["course"][-1][of] = {"train": values} if of == "loss" else values
    old = {**made[0], "seed": 99, "course": [{"measures": {}}]}  # recorded before gradients were
    assert of == "loss" or decide([*made, old], [own]) == decide(made, [own])
    trend, unequal = decide(made, [own])
    assert trend.verdict == "supported" and trend.effect is not None and trend.effect.value == sign
    kept = own.controls["uniform"].build_schedule().alpha_bar[t].numpy()
    errors = np.array(values) * {"eps": 1, "x0": (1 - kept) / kept, "v": 1 / kept}[share]
    wanted = math.log(errors.max() / errors.min()) - math.log(2)
    assert unequal.effect and unequal.effect.value == pytest.approx(wanted)


def test_a_run_that_another_plan_recorded_first_counts_in_both_but_no_splice_of_it(tmp_path) -> None:
    own = plan(tmp_path, prediction(1))
    made = []
    for one in lines(own, 0.1, 0.02):
        run = replace(own.controls[one["control"]], seed=one["seed"])
        place = {"dataset": f"moved {one['seed']}"} if one["seed"] % 2 else {}  # a reader's own data may be moved
        made.append({**one, "config": run.to_dict() | place, "key": run.key(one["content"])})
    elsewhere = {"plan": "first", "plan_sha256": "another"}
    others = [{**x, **elsewhere} if x["control"] == "uniform" else x for x in made]
    (found,) = decide(others, [own])
    assert [replace(found, others=())] == decide(made, [own]) and found.others == ("first",)
    assert found.seeds == 12 and not found.changed
    # a splice has the description of the run above and a key of its own
    bad = [{"step": 10, "measures": {"near-copies": 1.0, "fidelity": 1.0}}]
    splices = [{**x, **elsewhere, "control": "splice", "key": "0", "course": bad} for x in made]
    assert [found] == decide([*others, *splices], [own])
