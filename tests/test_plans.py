"""A plan says what is run: each recipe by hand, each plan of the repository, and what a plan cannot hold."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from memlib import Schedule, uniform
from memlib.lab.experiment import Experiment
from memlib.lab.plans import PLANS, describe, distribution, experiment, key, read_plan, setting
from memlib.lab.profiles import profile

SCHEDULE = Schedule.linear()
NAMES = sorted(path.stem for path in PLANS.glob("*.toml"))
SETS = ("ecg5000", "emoji", "pokemon", "flowers102")


def plan(tmp_path: Path, text: str, seeds: str = "spiral = 1") -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(f'question = "Why?"\n[seeds]\n{seeds}\n{text}', encoding="utf-8")
    return path


def one(tmp_path: Path, control: str, budgets: str = "smoke") -> dict:
    (config,) = read_plan(plan(tmp_path, f"[[controls]]\n{control}"), budgets)
    return config


def parts(config: dict) -> list[dict]:
    return [config["above"], config["below"]] if "above" in config else [config]


# --- the plans of the repository --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_reads_and_each_configuration_is_an_experiment(name: str) -> None:
    configs = read_plan(name)
    for config in configs:
        assert json.loads(json.dumps(config)) == config, "JSON does not keep it"
        for part in parts(config):
            made = experiment(part)
            assert made.label == key(part)
            assert (made.dataset, made.seed, made.timesteps.T) == (part["dataset"], part["seed"], 1000)
    names = [key(config) for config in configs]
    assert len(set(names)) == len(names), "one configuration twice"
    described = [(parts(c)[0]["dataset"], parts(c)[0]["n_train"], parts(c)[0]["training"]["steps"]) for c in configs]
    seeds = [(parts(c)[0]["seed"], describe(c)) for c in configs]
    assert len(set(zip(described, seeds, strict=True))) == len(names), "two controls go by one name"


def test_plans_share_what_they_compare_so_that_it_is_run_once() -> None:
    """Uniform at the full budget stands in several plans, under one key for each data set and seed."""
    shared = {key(c) for c in read_plan("width")} & {key(c) for c in read_plan("position")}
    uniforms = {key(c) for c in read_plan("width") if c["timesteps"] == "uniform"}
    assert uniforms <= shared
    assert shared - uniforms, "500 wide about 500 and 2,000 wide about 500 stand in both"
    for name in ("length", "size", "equalised", "position_snr"):
        assert {key(c) for c in read_plan(name)} & uniforms, name


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_paired_and_none_is_the_one_on_which_budgets_were_chosen(name: str) -> None:
    """Every control of a data set has the seeds 0 to n - 1, so that a plan cut off holds whole pairs."""
    seen: dict[tuple, list[int]] = {}
    configs = read_plan(name)
    for config in configs:
        first = parts(config)[0]
        control = (first["dataset"], first["n_train"], first["training"]["steps"], describe(config))
        seen.setdefault(control, []).append(first["seed"])
    counts = {control[0]: len(seeds) for control, seeds in seen.items()}
    assert all(seeds == list(range(counts[control[0]])) for control, seeds in seen.items())
    assert max(counts.values()) < 100
    order = [parts(config)[0]["seed"] for config in configs]
    assert order == sorted(order), "seed by seed"


# --- recipes ----------------------------------------------------------------------------------------------------------


def gaussian(low: float, high: float) -> np.ndarray:
    """The mass of each timestep, not renormalised."""
    cdf = norm((low + high) / 2, (high - low) / 2 / 1.959963984540054).cdf
    t = np.arange(1000)
    return cdf(t + 0.5) - cdf(t - 0.5)


def test_uniform() -> None:
    np.testing.assert_allclose(distribution("uniform", SCHEDULE).pmf, 1e-3, rtol=1e-12)


@pytest.mark.parametrize("bounds", [[0, 500], [-1000, 1000], [-500.5, 1500]])
def test_interval_with_each_of_its_tails(bounds) -> None:
    mass, t = gaussian(*bounds), np.arange(1000)
    inside = (t >= bounds[0]) & (t <= bounds[1])
    clipped = mass.copy()
    clipped[0] += norm.cdf(-0.5, sum(bounds) / 2, (bounds[1] - bounds[0]) / 2 / 1.959963984540054)
    clipped[-1] += norm.sf(999.5, sum(bounds) / 2, (bounds[1] - bounds[0]) / 2 / 1.959963984540054)
    expected = {
        "proportional": mass / mass.sum(),
        "uniform": mass + (1 - mass.sum()) / 1000,
        "interval": mass * inside + inside * (1 - mass[inside].sum()) / inside.sum(),
        "clip": clipped,
    }
    for tails, pmf in expected.items():
        got = distribution({"interval": bounds, "tails": tails}, SCHEDULE)
        np.testing.assert_allclose(got.pmf, pmf, atol=1e-12, err_msg=tails)
    np.testing.assert_allclose(distribution({"interval": bounds}, SCHEDULE).pmf, expected["proportional"], atol=1e-12)


@pytest.mark.parametrize("bounds", [[2.77, 9.21], [-3.67, 2.77], [-10.11, -3.67], [0.0, 0.5]])
def test_log_snr_is_the_interval_between_the_timesteps_of_that_snr(bounds) -> None:
    alpha_bar = SCHEDULE.alpha_bar.numpy()
    log_snr = np.log(alpha_bar / (1 - alpha_bar))
    assert (np.diff(log_snr) < 0).all()
    low, high = (np.interp(-x, -log_snr, np.arange(1000)) for x in reversed(bounds))  # a high SNR is a low t
    mass = gaussian(low, high)
    got = distribution({"log_snr": bounds}, SCHEDULE)
    np.testing.assert_allclose(got.pmf, mass / mass.sum(), atol=1e-12)


def test_at_and_weights_are_interpolated_and_level_outside() -> None:
    pmf = distribution({"at": [100, 300, 900], "weights": [1.0, 3.0, 0.0]}, SCHEDULE).pmf.numpy()
    relative = pmf / pmf[100]
    np.testing.assert_allclose(relative[[0, 50, 100, 150, 200, 300, 600, 899]], [1, 1, 1, 1.5, 2, 3, 1.5, 0.005])
    assert (pmf[900:] == 0).all()
    assert pmf.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "recipe",
    [
        *("unifrom", {}, {"interval": [0, 500], "tail": "clip"}, {"log_snr": [0, 1], "tails": "clip"}, {"at": [1, 2]}),
        {"at": [1, 2], "weights": [1, 2], "name": 3},
    ],
)
def test_an_unknown_recipe_is_named_beside_the_known_ones(recipe) -> None:
    with pytest.raises(ValueError, match=r"timesteps = .*need 'uniform'.*interval.*log_snr.*at and weights") as caught:
        distribution(recipe, SCHEDULE)
    assert repr(recipe) in str(caught.value)


@pytest.mark.parametrize("at", [[300, 100], [100, 100], [100, float("nan")]])
def test_timesteps_between_which_nothing_can_be_interpolated_are_named(at) -> None:
    with pytest.raises(ValueError, match="at must rise"):
        distribution({"at": at, "weights": [1, 2]}, SCHEDULE)


def test_tails_that_do_not_exist_and_an_snr_out_of_reach_are_named() -> None:
    with pytest.raises(ValueError, match="tails = 'proportionate'"):
        distribution({"interval": [0, 500], "tails": "proportionate"}, SCHEDULE)
    with pytest.raises(ValueError, match=r"snr = .*spans"):
        distribution({"log_snr": [2.77, 10]}, SCHEDULE)


# --- controls ---------------------------------------------------------------------------------------------------------


def test_a_control_is_the_profile_with_its_timesteps(tmp_path) -> None:
    made = experiment(one(tmp_path, "timesteps = { interval = [0, 500] }"))
    base = profile("smoke").points
    plain = base.to_dict() | {"timesteps": made.timesteps.pmf.tolist(), "label": made.label}
    assert made.to_dict() == plain
    np.testing.assert_allclose(made.timesteps.pmf, gaussian(0, 500) / gaussian(0, 500).sum(), atol=1e-12)


def test_weighted_is_uniform_drawing_with_the_weight_t_p(tmp_path) -> None:
    drawn = experiment(one(tmp_path, "timesteps = { interval = [0, 500] }"))
    weighted = experiment(one(tmp_path, "timesteps = { interval = [0, 500] }\nweighted = true"))
    assert torch.equal(weighted.timesteps.pmf, uniform(1000).pmf)
    np.testing.assert_allclose(weighted.loss_weight, 1000 * drawn.timesteps.pmf, rtol=1e-12)
    assert weighted.loss_weight.mean().item() == pytest.approx(1)
    assert drawn.loss_weight is None
    assert weighted.label != drawn.label


def test_each_kind_of_data_has_its_own_budget(tmp_path) -> None:
    budget = profile("recorded")
    seeds = "\n".join(f"{name} = 1" for name in (*SETS, "moons"))
    configs = read_plan(plan(tmp_path, '[[controls]]\ntimesteps = "uniform"', seeds))
    assert [c["dataset"] for c in configs] == [*SETS, "moons"]
    for config, base in zip(configs, [budget.signals, *[budget.images] * 3, budget.points], strict=True):
        assert experiment(config).training == base.training
        assert experiment(config).network == base.network
        assert (config["n_train"], config["n_samples"]) == (base.n_train, base.n_samples)


def test_seeds_are_counted_per_data_set_and_come_seed_by_seed(tmp_path) -> None:
    controls = '[[controls]]\ntimesteps = "uniform"\n[[controls]]\nonly = ["moons"]\ntimesteps.interval = [0, 9]'
    configs = read_plan(plan(tmp_path, controls, "spiral = 3\nmoons = 1"), "smoke")
    assert [(c["seed"], c["dataset"], describe(c)) for c in configs] == [
        (0, "spiral", "uniform"),
        (0, "moons", "uniform"),
        (0, "moons", "interval 0 to 9"),
        (1, "spiral", "uniform"),
        (2, "spiral", "uniform"),
    ]


def test_size_and_length_scale_the_budget(tmp_path) -> None:
    base = profile("recorded").points
    control = 'timesteps = "uniform"\nsize = 0.5\nlength = 0.25'
    config = one(tmp_path, control, "recorded")
    assert config["n_train"] == base.n_train / 2
    assert config["training"]["steps"] == base.training.steps / 4
    assert config["training"]["cooldown"] == base.training.cooldown / 4
    left = base.to_dict()["training"] | {"steps": 250, "cooldown": 125}
    assert config["training"] == left, "nothing else changes"


def test_a_splice_is_two_configurations_that_stand_alone_too(tmp_path) -> None:
    splice = one(tmp_path, 'splice = { above = { interval = [0, 500] }, below = "uniform", at = 400 }')
    assert set(splice) == {"above", "below", "at"} and splice["at"] == 400
    assert splice["above"] == one(tmp_path, "timesteps = { interval = [0, 500] }")
    assert splice["below"] == one(tmp_path, 'timesteps = "uniform"')
    assert describe(splice) == "interval 0 to 500 above t = 400, uniform below"
    known = {key(c) for name in ("position", "width") for c in read_plan(name)}
    assert {key(part) for config in read_plan("splice") for part in parts(config)} <= known, "none is trained for it"


@pytest.mark.parametrize(
    ("control", "name"),
    [
        ('timesteps = "uniform"', "uniform"),
        ("timesteps.interval = [0, 500]", "interval 0 to 500"),
        ('timesteps = { interval = [-1e3, 1e3], tails = "clip" }', "interval -1000 to 1000, tails clip"),
        ("timesteps.log_snr = [2.77, 9.21]", "log-SNR 9.21 to 2.77"),
        ("timesteps.interval = [0, 500]\nweighted = true", "interval 0 to 500, as weight"),
        ("timesteps = { at = [1, 2], weights = [1, 2] }", "equal contributions"),
        ('timesteps = { at = [1, 2], weights = [1, 2], name = "rising" }', "rising"),
    ],
)
def test_controls_are_described_in_a_few_words(tmp_path, control, name: str) -> None:
    assert describe(one(tmp_path, control)) == name


def test_a_setting_is_all_but_where_training_looks() -> None:
    configs = read_plan("matched_weight")
    seeds = {(c["dataset"], c["seed"]) for c in configs}
    assert len({setting(c) for c in configs}) == len(seeds) < len(configs)
    wider = configs[0] | {"network": configs[0]["network"] | {"width": 48}}
    assert setting(wider) != setting(configs[0])


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_what_the_json_hashes_to_whatever_the_order(tmp_path) -> None:
    assert key({"b": 1, "a": [0.5, "x"]}) == hashlib.sha256(b'{"a": [0.5, "x"], "b": 1}').hexdigest()[:16]
    config = one(tmp_path, "timesteps.log_snr = [2.77, 9.21]")
    assert key(dict(reversed(config.items()))) == key(config) == key(json.loads(json.dumps(config)))


def test_every_change_changes_the_key(tmp_path) -> None:
    controls = (
        'timesteps = "uniform"',
        'timesteps = "uniform"\nsize = 0.5',
        'timesteps = "uniform"\nlength = 0.5',
        "timesteps.interval = [0, 500]",
        "timesteps.interval = [0, 501]",
        'timesteps = { interval = [0, 500], tails = "clip" }',
        "timesteps.interval = [0, 500]\nweighted = true",
        'splice = { above = { interval = [0, 500] }, below = "uniform", at = 400 }',
        'splice = { above = { interval = [0, 500] }, below = "uniform", at = 401 }',
        'splice = { above = "uniform", below = { interval = [0, 500] }, at = 400 }',
    )
    configs = [one(tmp_path, control) for control in controls]
    configs += [one(tmp_path, controls[0], "quick")]
    configs += read_plan(plan(tmp_path, f"[[controls]]\n{controls[0]}", "spiral = 2\nmoons = 1"), "smoke")[1:]
    names = {key(c) for c in configs}
    assert len(names) == len(configs)
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unknown_plan_is_named_beside_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=f"plan = 'breadth' is neither a file nor one of {', '.join(NAMES)}"):
        read_plan("breadth")


def test_an_unknown_profile_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"profile = 'fast'; choose one of 'smoke', 'quick', 'recorded', 'paper'"):
        read_plan("width", "fast")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[controls]\ntimesteps = 3", "is no TOML: .*line 4"),
        ('[[controls]]\ntimesteps = "uniform"\nlenght = 2', r"unknown \['lenght'\].*length"),
        ("[[controls]]\nlength = 2", "needs either timesteps or splice"),
        ('[[controls]]\ntimesteps = "uniform"\nsplice.at = 3', "needs either timesteps or splice"),
        ('[[controls]]\nsplice = { above = "uniform", below = "uniform" }', "splice"),
        ('[[controls]]\nsplice = { above = "uniform", below = "uniform", at = 4, under = 3 }', "splice"),
        ('[[controls]]\nlength = 2\nsplice = { above = "uniform", below = "uniform", at = 4 }', "length"),
        ('[[controls]]\nweighted = true\nsplice = { above = "uniform", below = "uniform", at = 4 }', "weighted"),
        ('[[controls]]\nsplice = { above = "uniform", below = "uniform", at = "4" }', "at, an integer >= 0"),
        ('[[controls]]\nsplice = { above = "uniform", below = "uniform", at = -1 }', "at, an integer >= 0"),
        ('[[controls]]\nsplice = "uniform"', "splice = uniform"),
        ('[[controls]]\ntimesteps = "uniform"\nweighted = "no"', "weighted = 'no'; need true or false"),
        ('[[controls]]\ntimesteps = "uniform"\nonly = "spiral"', "only = 'spiral'; need a list of"),
        ('[[controls]]\ntimesteps = "uniform"\nonly = ["spirals"]', "only = .*'spirals'.*; need a list of"),
        ('[[controls]]\ntimesteps = "uniform"\nsize = "big"', "size = 'big'; need a number above 0"),
        ('[[controls]]\ntimesteps = "uniform"\nlength = -1', "length = -1; need a number above 0"),
        ('[[controls]]\ntimesteps = "uniform"\nlength = nan', "length = nan; need a number above 0"),
        ("", "need question, seeds and controls"),
    ],
)
def test_what_a_plan_cannot_hold_is_named_with_the_file(tmp_path, text: str, says: str) -> None:
    path = plan(tmp_path, text)
    with pytest.raises(ValueError, match=says) as caught:
        read_plan(path, "smoke")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("seeds", ["", "spiral = 0", 'spiral = "6"', "spiral = 1.5", "spiral = true"])
def test_seeds_that_are_no_counts_are_named_with_the_file(tmp_path, seeds: str) -> None:
    path = plan(tmp_path, '[[controls]]\ntimesteps = "uniform"', seeds)
    with pytest.raises(ValueError, match="seeds") as caught:
        read_plan(path, "smoke")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("controls", ['"uniform"', "[1, 2]", "{ timesteps = 3 }"])
def test_controls_that_are_no_tables_are_named_with_the_file(tmp_path, controls: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f'question = "Why?"\nseeds.spiral = 1\ncontrols = {controls}')
    with pytest.raises(ValueError, match="controls = ") as caught:
        read_plan(path)
    assert str(path) in str(caught.value)


def test_an_unknown_data_set_and_a_size_too_small_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="dataset = 'cats'"):
        read_plan(plan(tmp_path, '[[controls]]\ntimesteps = "uniform"', "cats = 1"), "smoke")
    with pytest.raises(ValueError, match="n_train = 0"):
        one(tmp_path, 'timesteps = "uniform"\nsize = 0.01')
    with pytest.raises(ValueError, match="steps = 0"):
        one(tmp_path, 'timesteps = "uniform"\nlength = 0.001')


def test_a_configuration_with_a_key_that_no_experiment_has_is_refused(tmp_path) -> None:
    config = one(tmp_path, 'timesteps = "uniform"')
    assert isinstance(experiment(config), Experiment)
    with pytest.raises(ValueError, match=r"unknown Experiment keys \['epochs'\]"):
        experiment(config | {"epochs": 3})
