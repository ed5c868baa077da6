"""Time courses: plans, recording, and the yardstick."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from test_faults import CONTEXT

from memlib.__main__ import main
from memlib.lab import courses, data, made, plans, runs
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.hypotheses import decide
from memlib.lab.sweep import SweepError
from memlib.lab.yardstick import Yardstick
from memlib.models import ExactDenoiser
from memlib.timesteps import uniform
from memlib.training import TrainConfig

PLAN = """
question = "a test"
seeds = [300, 301]
[experiment]
dataset = "mixture4"
n_train = 16
sampler = "ddpm"
sampler_steps = 10
n_samples = 32
course = [20, 40]
network = { width = 16 }
training = { steps = 60, batch_size = 16 }
[controls]
uniform = { name = "uniform" }
weighted = { loss_weight = { name = "published", rival = "EDM", floor = 0.1 } }
long = { timesteps = { name = "uniform" }, training = { steps = 80 } }
[[splices]]
name = "weighted above"
above = "weighted"
below = "uniform"
at = 100
[[predictions]]
hypothesis = "H3"
control = "weighted"
against = "uniform"
sign = -1
margin = 0.03"""


@pytest.fixture
def plan(own_runs: Path) -> plans.Plan:
    (path := own_runs / "mini.toml").write_text(PLAN)
    return plans.read_plan(path)


def test_a_control_changes_what_it_names_and_shares_the_rest(plan) -> None:
    controls = plan.controls
    assert controls["long"].training.steps == 80 and controls["long"].training.batch_size == 16
    assert controls["weighted"].timesteps == uniform() and controls["weighted"].loss_weight is not None
    assert {own.seed for own in controls.values()} == {300}
    assert plan.splices == {"weighted above": ("weighted", "uniform", 100)}


def test_a_plan_is_recorded_once_read_on_the_way_and_says_which_plan_it_was(plan, tmp_path) -> None:
    assert len(plan.missing(plan.seeds, set())[0]) == 6
    made = list(courses.record(plan, out=tmp_path, progress=False))
    assert list(courses.record(plan, out=tmp_path, progress=False)) == [] and courses.seconds_of([]) == 0
    lines = courses.read(tmp_path)
    assert len(lines) == len(made) == 8 and {x["plan_sha256"] for x in lines} == {plan.sha256}
    assert {(x["control"], x["seed"]) for x in lines} == set(product([*plan.controls, *plan.splices], (300, 301)))
    steps = {x["control"]: [r["step"] for r in x["course"]] for x in lines}
    assert steps == {"uniform": [20, 40, 60], "weighted": [20, 40, 60], "long": [20, 40, 80], "weighted above": [60]}
    (uniform_run,) = (x for x in lines if x["control"] == "uniform" and x["seed"] == 300)
    assert set(uniform_run["references"]) == {"fresh", "copies", "gaussian", "mix", "kernel"}
    assert uniform_run["references"]["copies"]["near-copies"] == 1
    assert all(min(r["gradient"]) > 0 and len(r["gradient"]) == len(uniform_run["t"]) for r in uniform_run["course"])
    assert {"commit", "hardware", "precision", "fleet"} <= uniform_run.keys()
    stored = {x.stem for x in tmp_path.glob("*.pt")}
    assert stored == {x["key"] for x in lines if x["seed"] == 300 and x["control"] in plan.controls}
    frame = courses.tidy(lines)
    views = frame[(frame.control == "uniform") & (frame.step == 40)].views.unique()
    assert views == [40 * 16 / 16] and set(frame.measure) >= {"near-copies", "membership", "fidelity", "score error"}


def test_controls_of_other_sizes_are_recorded_once(own_runs) -> None:
    """Points are drawn anew for each number of items, so that each control has content of its own."""
    smaller = 'small = { timesteps = { name = "uniform" }, n_train = 8 }\n[[splices]]'
    (path := own_runs / "sizes.toml").write_text(PLAN.replace("[[splices]]", smaller))
    assert len(list(courses.record(plans.read_plan(path), out=own_runs, progress=False))) == 10
    assert list(courses.record(plans.read_plan(path), out=own_runs, progress=False)) == []


def test_runs_on_other_data_of_the_same_name_are_refused_and_never_compared(plan, tmp_path) -> None:
    line = next(courses.record(plan, out=tmp_path, progress=False))
    other = {**line, "content": "0" * 64}
    (tmp_path / "mini.jsonl").write_text(json.dumps(other) + "\n")
    with pytest.raises(ValueError, match=r"different data.*--out"):
        next(courses.record(plan, out=tmp_path, progress=False))
    for use in (courses.tidy, courses.summary, decide):
        for strange in (other, {**line, "version": VERSION + 1}):
            with pytest.raises(ValueError, match="different data"):
                use([line, strange])


def test_a_run_that_cannot_be_measured_is_named_and_the_others_are_recorded(plan, tmp_path, monkeypatch) -> None:
    measure, gone = courses.line_of, list[None]()

    def line_of(plan, name, *parts):
        if name == "long":
            raise ValueError("samples are not finite")
        if name == "weighted" and not gone:
            gone.append(parts[0].path.unlink())  # as a sweep of another plan does, beside this one
        return measure(plan, name, *parts)

    monkeypatch.setattr(courses, "line_of", line_of)
    with pytest.raises(SweepError, match=r"2 runs.*\nlong, seed 300: samples are not finite\nlong, seed 301"):
        list(courses.record(plan, out=tmp_path, progress=False))
    assert len(courses.read(tmp_path)) == 6 and len([*runs.runs_folder().glob("*.pt")]) == 4, "what it trained stays"


def test_a_run_that_diverges_stops_no_later_seed_and_what_a_reader_has_made_stays(plan, tmp_path) -> None:
    plan.controls["long"] = replace(plan.controls["long"], training=TrainConfig(steps=200, learning_rate=1e30))
    made = runs.run(replace(plan.controls["uniform"], seed=301))
    with pytest.raises(SweepError, match=r"(?s)long.*lower learning_rate.*long"):
        list(courses.record(plan, out=tmp_path, progress=False, fleet=3))  # seed by seed
    assert {(x["control"], x["seed"]) for x in courses.read(tmp_path)} >= {("uniform", 300), ("weighted", 301)}
    assert made.path.exists()


def append_some(folder: Path, process: int) -> None:
    line = dict.fromkeys(courses.FIELDS, "") | {"plan": "p"}
    for i in range(4):
        courses.append(folder, line | {"key": f"{process}-{i}", "by": process, "pad": "x" * 3000})
        courses.append(folder, line | {"key": f"shared-{i}", "by": None})


def test_eight_processes_lose_no_line_and_record_none_twice(tmp_path) -> None:
    with ProcessPoolExecutor(8, CONTEXT) as pool:
        for done in [pool.submit(append_some, tmp_path, k) for k in range(8)]:
            done.result(timeout=120)
    lines = courses.read(tmp_path)
    own = [x["key"] for x in lines if x["by"] is not None]
    assert sorted(own) == sorted(f"{k}-{i}" for k in range(8) for i in range(4))
    assert sorted(x["key"] for x in lines if x["by"] is None) == [f"shared-{i}" for i in range(4)]


def test_the_lines_of_this_repository_are_whole() -> None:
    lines, old = courses.read(), courses.read(courses.EXPLORATORY)
    assert len({(x["plan"], x["key"]) for x in lines}) == len(lines) > 1400
    assert len({x["key"] for x in old}) == len({x["old_key"] for x in old}) == len(old) == 438
    known = {path.stem: plans.read_plan(path) for path in plans.PLANS.glob("*.toml")}
    for line in lines:
        own = known[line["plan"]]
        assert line["plan_sha256"] == own.sha256 and line["seed"] in own.seeds and line["version"] == VERSION
        assert line["control"] in {*own.controls, *own.splices}
        assert line["references"]["copies"]["near-copies"] == 1 > line["references"]["fresh"]["near-copies"]
    for line in lines[::97]:
        own = known[line["plan"]]
        if line["control"] in own.controls:
            (made,) = own.parts(line["control"], line["seed"])
            assert made.to_dict() == line["config"] and made.key(line["content"]) == line["key"]


def test_a_recorded_run_is_found_again_from_scratch(own_runs) -> None:
    """On points, whose training takes seconds: the measures lie within the spread over seeds."""
    own = plans.read_plan("mixture_claims")
    seed, within = own.seeds[0], {"near-copies": 0.06, "fidelity": 0.1, "membership": 0.05}
    line = next(x for x in courses.read() if (x["plan"], x["control"], x["seed"]) == (own.name, "uniform", seed))
    again = courses.line_of(own, "uniform", runs.run(*own.parts("uniform", seed)))
    assert (again["key"], again["content"]) == (line["key"], line["content"])
    for then, now in zip(line["course"], again["course"], strict=True):
        for name, most in within.items():
            assert abs(now["measures"][name] - then["measures"][name]) < most, (then["step"], name)


def test_a_line_cut_short_is_dropped_and_a_damaged_one_is_named(plan, tmp_path) -> None:
    whole = json.dumps(line := dict.fromkeys(courses.FIELDS, 1)).encode() + b"\n"
    (path := tmp_path / "mini.jsonl").write_bytes(whole + b'{"key"')
    assert courses.read(tmp_path) == [line]
    path.write_bytes(whole + whole.strip())  # as an editor leaves it that takes the last line break
    assert courses.read(tmp_path) == [line] * 2 and courses.append(tmp_path, {**line, "plan": "mini", "key": 2})
    assert [x["key"] for x in courses.read(tmp_path)] == [1, 1, 2]
    for damaged in (b'{"key"', b"1", b"{}", whole.replace(b"1", b"NaN").strip()):
        path.write_bytes(whole + damaged + b"\n")
        with pytest.raises(ValueError, match=r"mini\.jsonl, line 2"):
            courses.read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [("sign = -1", "", "sign"), ("sign = -1", 'sign = -1\nat = "noon"', "at = 'noon'; choose from last, fidelity"),
     ("margin = 0.03", "", "margin"), ("n_train = 16", "n_train = 2", "n_train = 2; need at least 3"),
     ('control = "weighted"', 'control = "notch"', "notch"), ("[controls]", "[controles]", "controles"),
     ("sign = -1", 'sign = -1\nat = "final fidelity"\nstep = 30', "step = 30; choose from 20, 40"),
     ("sign = -1", "sign = -1\nstep = 20", "choose from final fidelity"), ("sign = -1", "sign = 2", "sign = 2"),
     ("sign = -1", 'sign = -1\nat = "views"', "no zone"), ("margin = 0.03", "margin = nan", "margin = nan"),
     ("sign = -1", 'sign = -1\nmesure = "energy"', "has mesure; choose"), ("margin = 0.03", 'margin = "x"', "'<='"),
     ("sign = -1", 'sign = -1\nmeasure = "copies"', "'copies'; choose from near-copies, closer"),
     ("sign = -1", 'sign = -1\nmeasure = "PCA-W to train"\nat = "fidelity"', "not read; choose from last"),
     ("[[predictions]]", "[predictions]\n[zone]", "predictions is empty"),
     ("[[predictions]]", "[predictions]", "keys"), ("[300, 301]", "[300]", "first and"),
     ("seeds = [300, 301]", "seeds = [301, 300]", "seeds.*need the first and the last"),
     ("seeds = [300, 301]", "", "seeds"), ("course = [20, 40]", "course = [20, 90]", "course"),
     ("question", "quest", "quest"), ("[experiment]", "zone = [300, 200]\n[experiment]", "zone = .* within 0..1000"),
     ('above = "weighted"', 'above = "notch"', "splice 'weighted above' of 'notch'"), ("at = 100", "at = 5000", "5000"),
     ("[[splices]]", 'again = { n_train = 16 }\n[[splices]]', "two controls are one run"),
     ("sign = -1", 'sign = -1\nmeasure = "residual noise"', "points lack"),
     ('control = "weighted"', 'control = "weighted above"\nat = "final fidelity"\nstep = 20', "weighted above'")],
)  # fmt: skip
def test_a_plan_that_lacks_or_mistakes_something_is_refused(tmp_path, old, new, named) -> None:
    (path := tmp_path / "bad.toml").write_text(PLAN.replace(old, new))
    with pytest.raises(ValueError, match=rf"bad\.toml.*{named}"):
        plans.read_plan(path)
    with pytest.raises(FileNotFoundError, match="neither a file nor one of"):
        plans.read_plan("no such plan")


@pytest.mark.skipif(not (Path(__file__).parents[1] / ".git").exists(), reason="no clone, where nothing is committed")
def test_a_plan_in_the_clone_must_be_committed_before_its_runs() -> None:
    path = plans.PLANS / "not_committed.toml"
    path.write_text(PLAN)
    try:
        with pytest.raises(ValueError, match="commit the plan"):
            next(courses.record(plans.read_plan(path)))
    finally:
        path.unlink()


def test_a_random_design_keeps_its_floor_and_its_draws() -> None:
    made = plans.random_design([100, 400], count=50, floor=0.15, seed=3)
    assert made == plans.random_design([100, 400], count=50, floor=0.15, seed=3)
    shares = torch.tensor([recipe["shares"] for recipe in made], dtype=torch.float64)
    assert torch.allclose(shares.sum(1), torch.ones(50, dtype=torch.float64), atol=1e-4)
    least = (shares / torch.tensor([0.1, 0.3, 0.6])).min()
    assert 0.15 <= least < 0.4 and len({tuple(x) for x in shares.tolist()}) == 50


def yardstick(dataset: str = "mixture16", n: int = 256, n_train: int = 32) -> Yardstick:
    return Yardstick.of(Experiment(uniform(), dataset, n_train, seed=5, n_samples=n))


def test_the_exact_denoisers_have_the_known_answers() -> None:
    """The population's own score makes samples of the mixture; that of the training set makes copies."""
    own = yardstick()
    exact = ExactDenoiser(made.mixture_centres("mixture16"), own.schedule, made.SPREAD)
    network, losses = own.of_network(exact)
    assert network["score error"] < 1e-12 and abs(network["membership"] - 0.5) < 0.15
    experiment = Experiment(uniform(), "mixture16", 32, seed=5, n_samples=256, sampler="ddpm", sampler_steps=100)
    real = own.of_samples(runs.draw(exact, experiment, own.dataset))
    assert real["near-copies"] < 0.01 and abs(real["fidelity"] - 1) < 0.05 and real["energy"] < 0.06
    memorizer = ExactDenoiser(own.dataset.train, own.schedule)
    network, losses = own.of_network(memorizer)
    assert network["membership"] == 1 and losses["train"][4] < losses["held_out"][4] / 2
    copies = own.of_samples(runs.draw(memorizer, experiment, own.dataset))
    assert copies["near-copies"] > 0.95 and copies["copied items"] > 25 and copies["copy entropy"] > 0.9


@pytest.mark.parametrize("name", ["mixture4", "mixture64"])
def test_a_mixture_has_unit_variance_and_its_exact_score_is_the_gradient_of_its_density(name) -> None:
    items = data.load(name, 3000).train.double()
    assert items.square().mean().item() == pytest.approx(1, abs=0.03) and items.mean().abs() < 0.03
    own = yardstick(name)
    exact = ExactDenoiser(made.mixture_centres(name), own.schedule, made.SPREAD)
    t, x = torch.tensor([300]), torch.randn(1, items.shape[1], dtype=torch.float64, requires_grad=True)
    abar = own.schedule.alpha_bar[300]
    parts = -(x - abar.sqrt() * made.mixture_centres(name)).square().sum(1) / (2 * (abar * made.SPREAD**2 + 1 - abar))
    (score,) = torch.autograd.grad(parts.logsumexp(0), x)
    assert torch.allclose(exact(x.detach(), t), -(1 - abar).sqrt() * score, rtol=1e-9)


def test_on_the_way_half_the_samples_and_calls_give_the_same_near_copies() -> None:
    own = yardstick()
    network = ExactDenoiser(own.dataset.train, own.schedule, std=0.2)  # between memorizer and mixture
    shares = []
    for n, steps in ((128, 50), (256, 100)):
        less = Experiment(uniform(), "mixture16", 32, seed=5, n_samples=n, sampler="ddpm", sampler_steps=steps)
        shares.append(own.of_samples(runs.draw(network, less, own.dataset))["near-copies"])
    assert 0.2 < shares[1] < 0.98 and abs(shares[0] - shares[1]) < 0.1, shares


def test_the_command_says_its_estimate_records_and_goes_on(plan, tmp_path, capsys) -> None:
    command = ["sweep", "--plan", str(plan.path), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("mini: 6 runs, about ") and len(courses.read(tmp_path / "out")) == 8
    assert main(command) == 0 and capsys.readouterr().out.startswith("mini: 0 runs")
    (tmp_path / "file").touch()
    assert main([*command[:4], str(tmp_path / "file")]) == 2
    assert "file" in (said := capsys.readouterr()).err and "step" not in said.err, "before a run is trained"
    for name, wrong in (("--workers", "-3"), ("--workers", "0"), ("--fleet", "0")):
        with pytest.raises(SystemExit):
            main([*command[:5], name, wrong])
        assert f"argument {name}: '{wrong}'; need an integer of at least 1" in capsys.readouterr().err
