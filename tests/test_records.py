"""Records: measured as they say, written once and in one piece, read back or named as damaged; and the shipped ones."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from memlib.lab import data, plans, records, runs
from memlib.lab.plans import key, networks, read_plan, record_key
from memlib.lab.profiles import profile
from memlib.lab.records import RESULTS, evaluate, is_broken, read, read_samples, record, summary, table
from memlib.lab.sweep import SweepError
from memlib.models import Spliced
from memlib.training import loss_at

GOLDEN = Path(__file__).parent / "golden"
PLAN = """
question = "Do records hold what was run?"
seeds.spiral = 2
[[controls]]
timesteps = { name = "uniform" }
[[controls]]
timesteps = { name = "gaussian_interval", low = 0, high = 500 }
[[controls]]
splice = { above = { name = "gaussian_interval", low = 0, high = 500 }, below = { name = "uniform" }, at = 400 }
"""
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["memlib.lab.records", "pytest"])  # imported once for all processes


class Untrained:
    """Stands for `runs.Result`: a network that was never trained."""

    def __init__(self, experiment) -> None:
        self.experiment, self.dataset = experiment, experiment.load_data()
        self.history = {"step": [100, 200], "loss": [[1.0, None], [3.0, None]], "seconds": 4.0}
        self.history |= {"fleet": 2, "device": "cpu", "precision": "float32"}
        self.samples = runs.draw(self.denoiser(), experiment, self.dataset)

    def denoiser(self, device: str = "cpu", step: int = 200):
        seed = self.experiment.seed + hash(self.experiment.timesteps) % 1000 + step
        return self.experiment.network.build(self.dataset.train.shape[1:], seed).eval()


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "tiny.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def configs(plan) -> list[dict]:
    return read_plan(plan, "smoke")


@pytest.fixture
def untrained(monkeypatch) -> list:
    """No run trains; what was asked for."""
    asked: list = []

    def sweep(experiments, client=None, **options):
        asked.extend(experiments := list(experiments))
        return map(Untrained, experiments)

    monkeypatch.setattr(records, "sweep", sweep)
    monkeypatch.setattr(runs, "run", lambda experiment, device: Untrained(experiment))
    return asked


def line(name: str = "a", dataset: str = "spiral", seed: int = 1, **more) -> dict:
    config = {"dataset": dataset, "seed": seed, "training": {"steps": 9}}
    rest: dict = {"measures": {}, "references": {}, "loss": {}}
    return {"key": f"{name:0>16}", "step": 9, "config": config, "content": "c", "version": 1, **rest, **more}


# --- recording --------------------------------------------------------------------------------------------------------


def test_a_record_holds_what_the_run_measures(untrained, configs, tmp_path) -> None:
    lines = list(record(configs, out=tmp_path))
    assert read(tmp_path) == lines and len(lines) == 6
    assert [x["config"] for x in lines][-2:] == [c for c in configs if "above" in c], "splices come last"
    for x in lines:
        made, *below = (Untrained(plans.experiment(part)) for part in networks(x["config"]))
        found, seed, denoiser, samples = made.dataset, made.experiment.seed, made.denoiser(), made.samples
        if below:
            denoiser = Spliced(denoiser, below[0].denoiser(), 400)
            samples = runs.draw(denoiser, made.experiment, found)
        assert (x["key"], x["content"], x["step"]) == (record_key(x["config"], found.sha256), found.sha256, 200)
        assert (x["seconds"], x["fleet"]) == ((0.0, 1) if below else (4.0, 2))
        assert x["loss"]["in_training"] == ([] if below else [2.0, None])
        again = torch.Generator().manual_seed(seed)
        items = {"fresh": found.fresh[:64], "copycat": found.train.repeat(4, 1)}
        for measures, own in ((x["measures"], samples), *((x["references"][k], items[k]) for k in items)):
            g = torch.Generator().manual_seed(seed)
            expected = evaluate(own, found.train, found.held_out, generator=g)
            assert list(measures) == list(expected)
            for name, e in expected.items():
                assert measures[name] == pytest.approx([e.value, e.low, e.high], rel=1e-5, abs=1e-9), name
        for part, own in (("train", found.train), ("held_out", found.held_out)):
            loss = loss_at(denoiser, own, made.experiment.build_schedule(), records.LOSS_AT, generator=again).mean(1)
            assert x["loss"][part] == pytest.approx(loss.tolist(), rel=1e-5)


def test_a_run_with_a_course_is_recorded_at_each_step(untrained, tmp_path) -> None:
    e = profile("smoke").points
    config = replace(e, course=(50, 100), training=replace(e.training, steps=200)).to_dict()
    lines = list(record([config], out=tmp_path))
    assert [x["step"] for x in lines] == [50, 100, 200] and len({x["key"] for x in lines}) == 1
    assert [x["loss"]["in_training"] for x in lines] == [[], [1.0, None], [2.0, None]]
    assert len({json.dumps(x["measures"]) for x in lines}) == 3
    path = tmp_path / "spiral.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert [x["step"] for x in record([config], out=tmp_path)] == [50, 100, 200], "what is missing is measured again"
    assert [x["step"] for x in read(tmp_path)] == [50, 100, 200]
    assert table(lines)["steps"].tolist() == [50, 100, 200]


def test_what_is_recorded_is_not_run_again_and_what_is_missing_is(untrained, configs, tmp_path) -> None:
    lines = list(record(configs, out=tmp_path))
    untrained.clear()
    assert list(record([*configs, *configs], out=tmp_path)) == [] and untrained == []
    path = tmp_path / "spiral.jsonl"
    path.write_bytes(path.read_bytes()[:-100])  # the second splice
    (again,) = record(configs, out=tmp_path)
    assert again == lines[-1] and len(untrained) == 2 and read(tmp_path) == lines
    with pytest.raises(ValueError, match="unifrom"):
        list(record([*configs, configs[0] | {"timesteps": {"name": "unifrom"}}], out=tmp_path / "other"))
    assert len(untrained) == 2, "it was refused before any run was started"


def test_other_data_of_the_same_name_are_run_and_never_mixed(untrained, tmp_path, monkeypatch) -> None:
    config = profile("smoke").images.to_dict()
    list(record([config], out=tmp_path / "out"))
    pictures = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    (tmp_path / "own" / "emoji").mkdir(parents=True)
    np.savez(tmp_path / "own" / "emoji" / "emoji.npz", images=pictures)
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path / "own"))
    (other,) = record([config], out=tmp_path / "out")
    ours, theirs = read(tmp_path / "out")
    assert theirs == other and ours["content"] != theirs["content"] and ours["key"] != theirs["key"]
    assert ours["references"] != theirs["references"]
    assert table([ours, theirs])["dataset"].nunique() == 2 == len(summary([ours, theirs]))
    assert table([theirs])["dataset"].tolist() == ["emoji"]
    assert len(summary([ours, theirs | {"content": ours["content"], "version": 2}])) == 2, "nor other numerics"


def test_one_failed_run_is_named_and_the_others_are_recorded(configs, tmp_path) -> None:
    failing = configs[0] | {"training": configs[0]["training"] | {"learning_rate": 1e30}}
    with pytest.raises(SweepError, match=f"(?s){key(failing)}.*FloatingPointError"):
        list(record([configs[0], failing, configs[1]], out=tmp_path, workers=1, progress=False))
    assert {key(x["config"]) for x in read(tmp_path)} == {key(configs[0]), key(configs[1])}


def test_sweep_results_and_claims_from_the_command_line(plan, configs, tmp_path, capsys) -> None:
    from memlib.__main__ import main

    arguments = ["--plan", str(plan), "--profile", "smoke", "--workers", "1", "--out", str(tmp_path)]
    for expected in (6, 0):
        assert main(["sweep", *arguments]) == 0
        assert len(capsys.readouterr().out.splitlines()) == expected
    assert {key(x["config"]) for x in read(tmp_path)} == set(map(key, configs))
    assert main(["results", "--out", str(tmp_path)]) == 0
    assert "interval 0 to 500 above t = 400, uniform below" in capsys.readouterr().out
    assert main(["claims", "--out", str(tmp_path)]) == 0
    assert "reproduced" not in capsys.readouterr().out, "points are no evidence for or against"
    (tmp_path / "spiral.jsonl").write_bytes(b"#" + (tmp_path / "spiral.jsonl").read_bytes())
    assert main(["results", "--out", str(tmp_path)]) == 2
    assert "spiral.jsonl, line 1" in capsys.readouterr().err


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_damaged_line_is_named_and_nothing_is_appended_to_it(tmp_path) -> None:
    for i in range(3):
        records._append(tmp_path, line(f"{i}"), torch.zeros(4, 2))
    path = tmp_path / "spiral.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for text in (lines[1][1:], b"\n", b"<<<<<<< HEAD\n", b"\xff\n"):
        path.write_bytes(lines[0] + text + lines[2])
        for use in (lambda: read(tmp_path), lambda: records._append(tmp_path, line("new"), torch.zeros(4, 2))):
            with pytest.raises(ValueError, match=r"spiral\.jsonl, line 2"):
                use()
        assert path.read_bytes() == lines[0] + text + lines[2]
    with pytest.raises(ValueError, match="not JSON compliant"):
        records._append(tmp_path / "other", line(value=math.nan), torch.zeros(4, 2))


def test_a_last_line_cut_short_is_left_out_and_overwritten(tmp_path) -> None:
    for i in range(2):
        records._append(tmp_path, line(f"{i}"), torch.zeros(4, 2))
    path = tmp_path / "spiral.jsonl"
    content, first = path.read_bytes(), read(tmp_path)[:1]
    for place in range(content.index(b"\n") + 1, len(content)):
        path.write_bytes(content[:place])
        assert read(tmp_path) == first
    records._append(tmp_path, line("new"), torch.zeros(4, 2))
    assert read(tmp_path) == [*first, line("new")]


def test_the_first_samples_of_seed_0_come_back_where_they_may_be_shown(tmp_path) -> None:
    g = torch.Generator().manual_seed(0)
    pictures, curves = torch.rand(40, 3, 8, 8, generator=g) * 2.2 - 1.1, torch.randn(5, 1, 30, generator=g)
    back = read_samples(records._append(tmp_path, line("a", "emoji", 0), pictures), tmp_path)
    assert back.shape == (32, 3, 8, 8) and (back - pictures[:32].clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    own = records._append(tmp_path, line("b", "ecg5000", 0), curves)
    back, path = read_samples(own, tmp_path), tmp_path / "samples" / f"{own['key']}.npz"
    np.testing.assert_allclose(back, curves, rtol=2**-11, atol=1e-7)
    content = path.read_bytes()
    for place in range(0, len(content), 3):  # a flipped byte is seen, or stands where no sample is
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            samples = read_samples(own, tmp_path)
        except Exception:  # of many kinds
            continue
        assert torch.equal(samples, back)
    for i, (dataset, seed) in enumerate([("emoji", 1), ("spiral", 0), ("pokemon", 0), ("flowers102", 0)]):
        own = records._append(tmp_path / "other", line(str(i), dataset, seed), torch.zeros(4, 3, 8, 8))
        assert read_samples(own, tmp_path / "other") is None and not list((tmp_path / "other").rglob("*.npz"))


def append_some(folder: Path, process: int, wait_for: int, seconds: float | None = None) -> None:
    (folder / f"{process}.started").touch()
    while len(list(folder.glob("*.started"))) < wait_for:  # all at once
        time.sleep(0.002)
    if seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    for i in range(6):
        records._append(folder, line(f"{process}-{i}", "emoji", 0, padding="x" * 3000), torch.full((4, 3, 8, 8), 0.5))
        records._append(folder, line(f"shared-{i}", made_by=process), torch.zeros(4, 2))


def test_eight_at_once_lose_nothing_and_none_writes_what_another_has(tmp_path) -> None:
    with ProcessPoolExecutor(8, CONTEXT) as pool:
        for done in [pool.submit(append_some, tmp_path, process, 8) for process in range(8)]:
            done.result(timeout=300)
    expected = {f"{process}-{i}" for process in range(8) for i in range(6)} | {f"shared-{i}" for i in range(6)}
    assert sorted(x["key"] for x in read(tmp_path)) == sorted(f"{name:0>16}" for name in expected)


def test_a_kill_at_any_moment_loses_no_earlier_line_and_leaves_none_half_written(tmp_path) -> None:
    chance = random.Random(0)
    for i in range(6):
        before = read(tmp_path)
        process = CONTEXT.Process(target=append_some, args=(tmp_path, i, 1, chance.uniform(0, 0.05)))
        process.start()
        process.join(120)
        after = read(tmp_path)
        assert [x["key"] for x in before] == [x["key"] for x in after if x in before]
        assert all(read_samples(x, tmp_path) is not None for x in after if x["config"]["dataset"] == "emoji")
    append_some(tmp_path, 0, 1)
    assert {x["key"] for x in read(tmp_path)} >= {f"{f'0-{i}':0>16}" for i in range(6)}


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "energy", "alone", "beside_uniform"),
    [(1.0, 1.0, False, False), (2.0, 2.0, False, False), (2.01, 0.5, True, True), (1.0, 2.01, False, True)],
)
def test_degenerate_is_over_twice_the_noise_of_real_data_or_the_energy_distance_of_uniform(
    noise, energy, alone, beside_uniform
) -> None:
    own = {"measures": {"residual noise": [noise] * 3, "energy to held-out": [energy] * 3}}
    uniform = {"measures": {"energy to held-out": [1.0] * 3}}  # points have no residual noise
    assert (is_broken(own, None), is_broken(own, uniform)) == (alone, beside_uniform)


def test_degenerate_is_judged_against_the_uniform_run_of_the_same_data_seed_budget_and_step() -> None:
    configs = [c for c in read_plan("length") if c["dataset"] == "ecg5000" and c["seed"] < 2]
    level, lines = {0: 1.0, 1: 10.0}, []  # the energy distance of uniform: the second seed's split is harder
    for c in configs:
        steps, even = c["training"]["steps"], c["timesteps"] == {"name": "uniform"}
        energy = level[c["seed"]] * (2500 / steps if even else 2.1)
        lines.append(line(key(c), config=c, step=steps, measures={"energy to held-out": [energy] * 3}, seconds=1.0))
        lines[-1]["loss"] = {"train": [1.0], "held_out": [1.0]}
    low = table(lines).query("control == 'interval 0 to 500'").set_index(["seed", "steps"])["broken"]
    for seed in (0, 1):
        assert low[seed].to_dict() == {625: False, 1250: False, 2500: True, 5000: True}
    last = lines[-1] | {"measures": {"energy to held-out": [99.0] * 3}}
    for other in ({"content": "other"}, {"version": 2}, {"step": 7}):
        assert not table([*lines, last | other])["broken"].iloc[-1], "no uniform run to compare with"


def test_summary_averages_runs_that_are_equal_and_not_those_that_are_called_the_same(
    untrained, configs, tmp_path
) -> None:
    lines = list(record(configs, out=tmp_path))
    frame = summary(lines)
    assert len(frame) == 3 and (frame["seeds"] == 2).all()
    own = [x["measures"]["closer to train"][0] for x in lines if x["config"].get("timesteps") == {"name": "uniform"}]
    assert frame.loc[("spiral", 16, 200, "uniform"), "closer to train"] == pytest.approx(np.mean(own), abs=0.006)
    wider = [x | {"config": x["config"] | {"n_samples": 65}} if "above" not in x["config"] else x for x in lines]
    assert len(summary(lines + wider)) == 5


# --- the records of this repository -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> list[dict]:
    return read()


def test_results_are_printed_as_ever(shipped) -> None:
    assert summary(shipped).to_string() + "\n" == (GOLDEN / "results.txt").read_text()


def test_every_record_is_of_a_plan_under_its_key_and_has_its_old_one(shipped) -> None:
    asked = {
        key(c) for path in plans.PLANS.glob("*.toml") for name in ("recorded", "paper") for c in read_plan(path, name)
    }
    assert {key(x["config"]) for x in shipped} <= asked
    assert len({x["key"] for x in shipped}) == len({x["old_key"] for x in shipped}) == len(shipped) == 438
    for x in shipped[::20]:
        assert x["key"] == record_key(x["config"], x["content"])
        for part in networks(x["config"]):
            assert plans.experiment(part).to_dict() == {"sampler": "ddim"} | part, "a newer field has its default"


def test_every_record_has_its_references_which_hold_for_all_runs_on_the_same_sets(shipped) -> None:
    found: dict[tuple, dict] = {}
    for x in shipped:
        config = networks(x["config"])[0]
        for values in (x["measures"], *x["references"].values()):
            assert set(values) == set(x["measures"]) and all(low <= v <= high for v, low, high in values.values())
        assert (
            x["references"]["copycat"]["closer to train"][0] == 1
            and x["references"]["copycat"].keys() == x["measures"].keys()
        )
        sets = (config["dataset"], config["n_train"], config["seed"], config["n_samples"])
        assert found.setdefault(sets, x["references"]) == x["references"]
    assert len({json.dumps(own) for own in found.values()}) == len(found)


def test_recorded_references_are_found_again_on_the_emoji_that_are_shipped(shipped, monkeypatch) -> None:
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    own = next(x for x in shipped if networks(x["config"])[0]["dataset"] == "emoji")
    config = networks(own["config"])[0]
    found, g = data.load("emoji", config["n_train"], seed=config["seed"]), torch.Generator().manual_seed(config["seed"])
    assert found.sha256 == own["content"]
    again = evaluate(found.fresh[: config["n_samples"]], found.train, found.held_out, generator=g)
    for name, (value, _, _) in own["references"]["fresh"].items():
        assert again[name].value == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_recorded_samples_are_those_of_seed_0_that_may_be_shown(shipped) -> None:
    kept = {x["key"] for x in shipped if records.keeps_samples(x)}
    assert {path.stem for path in (RESULTS / "samples").glob("*")} == kept and len(kept) == 78
    for x in shipped:
        samples = read_samples(x)
        assert samples is None or (len(samples) <= 32 and samples.isfinite().all() and samples.std() > 0.01)


def test_a_recorded_run_is_found_again_from_scratch(shipped) -> None:
    """The shortest on ECG5000, trained anew: each measure lies within its recorded interval."""
    own = min((x for x in shipped if x["config"].get("dataset") == "ecg5000"), key=lambda x: x["step"])
    described = plans.experiment(own["config"])
    try:
        found = described.load_data()
    except FileNotFoundError as error:
        pytest.skip(f"ECG5000 cannot be had: {error}")
    assert described.key(found.sha256) == own["key"]
    g, again = torch.Generator().manual_seed(described.seed), runs.run(described)
    measures = evaluate(again.samples, found.train, found.held_out, generator=g)
    for name, (_, low, high) in own["measures"].items():
        assert low <= measures[name].value <= high, name
