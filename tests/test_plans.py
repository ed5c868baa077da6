"""A plan says what is run: the plans of the repository, each kind of control, keys, and what a plan cannot hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from memlib import uniform
from memlib.lab.experiment import Experiment
from memlib.lab.plans import PLANS, control, describe, experiment, key, networks, read_plan, record_key, setting
from memlib.lab.profiles import profile
from memlib.timesteps import gaussian_interval

NAMES = sorted(path.stem for path in PLANS.glob("*.toml"))
EVEN, LOW = '{ name = "uniform" }', '{ name = "gaussian_interval", low = 0, high = 500 }'
SPLICE = f"splice = {{ above = {LOW}, below = {EVEN}, at = 400 }}"
RISING = '{ name = "interpolated", at = [1, 2], weights = [1, 2] }'


def plan(tmp_path: Path, text: str, seeds: str = "spiral = 1") -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(f'question = "Why?"\n[seeds]\n{seeds}\n{text}', encoding="utf-8")
    return path


def one(tmp_path: Path, text: str, budget: str = "smoke") -> dict:
    (config,) = read_plan(plan(tmp_path, f"[[controls]]\n{text}"), budget)
    return config


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_of_the_repository_makes_experiments_under_one_key_each(name: str) -> None:
    configs = read_plan(name)
    for config in (c for c in configs if networks(c)[0]["seed"] == 0):
        assert json.loads(json.dumps(config)) == config
        for part in networks(config):
            assert experiment(part).to_dict() == part
    assert len({key(c) for c in configs}) == len(configs)
    first = [networks(c)[0] for c in configs]
    named = [(c["dataset"], c["n_train"], c["training"]["steps"], c["seed"]) for c in first]
    assert len({(*n, describe(c)) for n, c in zip(named, configs, strict=True)}) == len(configs), (
        "one name, two controls"
    )
    seen: dict[tuple, list[int]] = {}
    for (*rest, seed), config in zip(named, configs, strict=True):
        seen.setdefault((*rest, describe(config)), []).append(seed)
    assert all(seeds == list(range(len(seeds))) for seeds in seen.values()), "seeds are paired"
    assert [c["seed"] for c in first] == sorted(c["seed"] for c in first), "seed by seed: what is cut off holds pairs"
    assert max(c["seed"] for c in first) < 100, "budgets were chosen on seed 100"


def test_plans_share_what_they_compare_so_that_it_is_run_once() -> None:
    uniforms = {key(c) for c in read_plan("width") if c["timesteps"] == {"name": "uniform"}}
    for name in ("length", "size", "equalised", "position", "position_snr"):
        assert {key(c) for c in read_plan(name)} & uniforms, name
    known = {key(c) for name in ("position", "width") for c in read_plan(name)}
    assert {key(part) for config in read_plan("splice") for part in networks(config)} <= known


def test_a_control_is_the_profile_with_its_timesteps_weight_size_and_length(tmp_path) -> None:
    config, base = one(tmp_path, f"timesteps = {LOW}"), profile("smoke").points
    recipe = {"name": "gaussian_interval", "low": 0.0, "high": 500.0}
    assert config == base.to_dict() | {"timesteps": recipe}
    assert experiment(config).timesteps == gaussian_interval(1000, 0, 500)
    weighted = experiment(one(tmp_path, f"timesteps = {LOW}\nweighted = true"))
    assert weighted.timesteps == uniform(1000) and weighted.loss_weight == gaussian_interval(1000, 0, 500)
    config, base = (
        one(tmp_path, f"timesteps = {EVEN}\nsize = 0.5\nlength = 0.25", "recorded"),
        profile("recorded").points,
    )
    assert config["n_train"] == base.n_train / 2
    assert config["training"] == base.to_dict()["training"] | {"steps": 250, "cooldown": 125}


def test_each_kind_of_data_has_its_own_budget_and_seeds_come_in_turn(tmp_path) -> None:
    budget, text = (
        profile("smoke"),
        f'[[controls]]\ntimesteps = {EVEN}\n[[controls]]\nonly = ["moons"]\ntimesteps = {LOW}',
    )
    configs = read_plan(plan(tmp_path, text, "emoji = 2\necg5000 = 1\nmoons = 1"), "smoke")
    expected = [(0, "emoji"), (0, "ecg5000"), (0, "moons"), (0, "moons"), (1, "emoji")]
    assert [(c["seed"], c["dataset"]) for c in configs] == expected
    for config, base in zip(configs, [budget.images, budget.signals, budget.points], strict=False):
        made = experiment(config)
        assert (made.training, made.network, made.n_train) == (base.training, base.network, base.n_train)


def test_a_splice_is_two_configurations_that_stand_alone_too(tmp_path) -> None:
    splice = one(tmp_path, SPLICE)
    assert splice == {
        "above": one(tmp_path, f"timesteps = {LOW}"),
        "below": one(tmp_path, f"timesteps = {EVEN}"),
        "at": 400,
    }
    two = read_plan(plan(tmp_path, f"[[controls]]\n{SPLICE}", "spiral = 2"), "smoke")
    assert [[part["seed"] for part in networks(c)] for c in two] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"timesteps = {EVEN}", "uniform"),
        (f"timesteps = {LOW}", "interval 0 to 500"),
        (
            'timesteps = { name = "gaussian_interval", low = -1e3, high = 1e3, tails = "clip" }',
            "interval -1000 to 1000, tails clip",
        ),
        ('timesteps = { name = "log_snr_interval", low = 2.77, high = 9.21 }', "log-SNR 9.21 to 2.77"),
        (f"timesteps = {LOW}\nweighted = true", "interval 0 to 500, as weight"),
        (SPLICE, "interval 0 to 500 above t = 400, uniform below"),
    ],
)
def test_controls_are_described_in_a_few_words(tmp_path, text: str, words: str) -> None:
    assert describe(one(tmp_path, text)) == words


def test_a_label_belongs_to_one_recipe_of_one_data_set(tmp_path) -> None:
    """A reader's own weights are never called what ours are called, with or without that label."""
    ours = next(c for c in read_plan("equalised") if describe(c) == "equal contributions")
    for label in ("", 'label = "equal contributions"'):
        theirs = read_plan(plan(tmp_path, f"[[controls]]\n{label}\ntimesteps = {RISING}", "emoji = 1"))[0]
        assert describe(theirs).startswith("interpolated ") and describe(theirs) != describe(ours)
        assert control(theirs) != control(ours)
    assert describe(ours | {"dataset": "spiral"}).startswith("interpolated ")


def test_a_claim_picks_its_controls() -> None:
    picked = read_plan("equalised", claim="C2")
    assert {describe(c) for c in picked} == {"equal contributions"} and len({control(c) for c in picked}) == 2


def test_a_setting_is_all_but_where_training_looks(tmp_path) -> None:
    configs = read_plan("matched_weight")
    assert len({setting(c) for c in configs}) == len({(c["dataset"], c["seed"]) for c in configs})
    assert len({setting(c, "seed") for c in configs}) == 2
    wider = configs[0] | {"network": configs[0]["network"] | {"width": 48}}
    assert setting(wider) != setting(configs[0])
    older = {name: value for name, value in configs[0].items() if name != "course"}
    assert (setting(older), key(older)) == (setting(configs[0]), key(configs[0])), "a new field renames nothing"


def test_every_change_changes_the_keys(tmp_path) -> None:
    texts = [f"timesteps = {EVEN}", f"timesteps = {EVEN}\nsize = 0.5", f"timesteps = {EVEN}\nlength = 0.5"]
    texts += [f"timesteps = {LOW}", f"timesteps = {LOW.replace('500', '501')}", f"timesteps = {LOW}\nweighted = true"]
    texts += [SPLICE, SPLICE.replace("400", "401"), f"splice = {{ above = {EVEN}, below = {LOW}, at = 400 }}"]
    configs = [one(tmp_path, text) for text in texts] + [one(tmp_path, texts[0], "quick")]
    assert len({key(c) for c in configs}) == len(configs)
    names = {record_key(c, content) for c in configs for content in ("a", "b")}
    assert len(names) == 2 * len(configs) and all(len(name) == 16 for name in names)
    assert record_key(configs[0], "a") == Experiment.from_dict(configs[0]).key("a")
    assert key(dict(reversed(configs[3].items()))) == key(configs[3])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[controls]\ntimesteps = 3", "line 4"),
        (f"[[controls]]\ntimesteps = {EVEN}\nlenght = 2", "lenght"),
        ("[[controls]]\nlength = 2", "timesteps"),
        (f"[[controls]]\ntimesteps = {EVEN}\n{SPLICE}", "timesteps"),
        ('[[controls]]\ntimesteps = { name = "unifrom" }', "unifrom"),
        ('[[controls]]\ntimesteps = { name = "gaussian_interval", low = 0, hihg = 9 }', "hihg"),
        (f"[[controls]]\n{SPLICE.replace(', at = 400', '')}", "at"),
        (f"[[controls]]\ntimesteps = {EVEN}\nweighted = 'no'", "weighted"),
        (f'[[controls]]\ntimesteps = {EVEN}\nonly = ["spirals"]', "spirals"),
        (f"[[controls]]\ntimesteps = {EVEN}\nsize = 0.01", "n_train"),
        ("", "controls"),
    ],
)
def test_what_a_plan_cannot_hold_is_named_with_the_file(tmp_path, text: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)plan\\.toml.*{named}"):
        read_plan(plan(tmp_path, text), "smoke")


def test_an_unknown_plan_profile_or_data_set_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=f"breadth.*{', '.join(NAMES)}"):
        read_plan("breadth")
    with pytest.raises(ValueError, match=r"profile = 'fast'.*recorded"):
        read_plan("width", "fast")
    with pytest.raises(ValueError, match=r"plan\.toml.*cats"):
        read_plan(plan(tmp_path, f"[[controls]]\ntimesteps = {EVEN}", "cats = 1"), "smoke")


def test_recipes_are_the_vectors_that_they_were(tmp_path) -> None:
    made = experiment(one(tmp_path, "timesteps = { name = 'interpolated', at = [100, 300, 900], weights = [1, 3, 0] }"))
    expected = np.interp(np.arange(1000), [100, 300, 900], [1.0, 3.0, 0.0])
    torch.testing.assert_close(made.timesteps.pmf, torch.from_numpy(expected / expected.sum()), rtol=1e-12, atol=0)
