"""Recorded lines: measured as they say, written once and whole, read back or named as damaged; and the shipped ones."""

from __future__ import annotations

import json
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from memlib.__main__ import main
from memlib.lab import SweepError, plans, runs
from memlib.lab import records as results
from memlib.lab.data import load
from memlib.lab.plans import key, read_plan
from memlib.lab.records import RESULTS, is_broken, read, read_samples, record, summary, table
from memlib.metrics import evaluate as judge
from memlib.models import Spliced
from memlib.training import TrainConfig, loss_at

PLAN = """
question = "Does the evidence layer work?"
seeds.spiral = 2

[[controls]]
timesteps = "uniform"

[[controls]]
timesteps = { interval = [0, 500] }

[[controls]]
splice = { above = { interval = [0, 500] }, below = "uniform", at = 400 }
"""
SHARES = ("closer to train", "smoothed closer to train", "memorized", "smoothed memorized")


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "tiny.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def configs(plan) -> list[dict]:
    return read_plan(plan, "smoke")


@pytest.fixture(scope="module")
def recorded(configs, tmp_path_factory) -> tuple[Path, list[dict]]:
    """A folder with the whole of the tiny plan, and the lines as they were yielded."""
    out = tmp_path_factory.mktemp("results")
    return out, list(record(configs, out=out, workers=1, progress=False))


@pytest.fixture
def written(recorded, tmp_path) -> Path:
    """A copy of the recorded file, to be damaged."""
    path = tmp_path / "spiral.jsonl"
    path.write_bytes((recorded[0] / "spiral.jsonl").read_bytes())
    return path


def made_up(name: str = "a", dataset: str = "spiral", seed: int = 1, **more) -> dict:
    return {"key": f"{name:0>16}", "config": {"dataset": dataset, "seed": seed}, **more}


# --- recording --------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_what_is_read(recorded, configs) -> None:
    out, lines = recorded
    assert read(out) == lines
    assert sorted(line["key"] for line in lines) == sorted(map(key, configs))
    assert [line["config"] for line in lines][-2:] == [c for c in configs if "above" in c], "splices come last"
    assert {path.name for path in out.iterdir() if path.is_file()} - {".spiral.jsonl.lock"} == {"spiral.jsonl"}


def test_nothing_is_recorded_twice(recorded, configs, monkeypatch) -> None:
    out, _ = recorded
    before = (out / "spiral.jsonl").read_bytes()
    monkeypatch.setattr(sys.modules["memlib.lab.sweep"], "run_fleet", None)  # called, it would fail
    assert list(record([*configs, *configs], out=out, workers=1, progress=False)) == []
    assert (out / "spiral.jsonl").read_bytes() == before


def test_recording_goes_on_where_it_was(recorded, configs, tmp_path) -> None:
    """Of a plan that was cut off only the rest is recorded, and in the end all is as if it had not been."""
    out, lines = recorded
    whole = (out / "spiral.jsonl").read_bytes()
    (tmp_path / "spiral.jsonl").write_bytes(whole[: whole.index(b"\n", whole.index(b"\n") + 1) - 100])
    rest = list(record(configs, out=tmp_path, workers=1, progress=False))
    assert [line["key"] for line in rest] == [line["key"] for line in lines[1:]]
    for line, expected in zip(read(tmp_path), lines, strict=True):
        assert line["metrics"] == expected["metrics"]


def test_a_line_holds_what_the_run_measures(recorded) -> None:
    """Judged again from the run that is kept, by the functions that the notebooks use."""
    for line in recorded[1]:
        if "above" in line["config"]:
            made, other = (runs.run(plans.experiment(line["config"][k])) for k in ("above", "below"))
            denoiser = Spliced(made.denoiser(), other.denoiser(), 400)
            samples = runs.draw(denoiser, made.experiment, made.experiment.load_data())
            assert line["seconds"] == 0
        else:
            made = runs.run(plans.experiment(line["config"]))
            denoiser, samples = made.denoiser(), made.samples
            assert line["seconds"] == pytest.approx(made.history["seconds"], abs=0.05)
            bands = [[x for x in band if x is not None] for band in zip(*made.history["loss"], strict=True)]
            means = [float(f"{sum(b) / len(b):.6g}") if b else None for b in bands]
            assert line["loss"]["in_training"] == means
        data, seed = made.experiment.load_data(), made.experiment.seed
        assert line["data_sha256"] == data.sha256

        readings = judge(samples, data.train, data.held_out, generator=torch.Generator().manual_seed(seed))
        assert list(line["metrics"]) == list(readings)
        for name, e in readings.items():
            assert line["metrics"][name] == pytest.approx([e.value, e.low, e.high], rel=1e-5, abs=1e-9), name

        g, schedule = torch.Generator().manual_seed(seed), made.experiment.build_schedule()
        for part, items in (("train", data.train), ("held_out", data.held_out)):
            loss = loss_at(denoiser, items, schedule, line["loss"]["t"], generator=g).mean(1)
            assert line["loss"][part] == pytest.approx(loss.tolist(), rel=1e-5)


def test_floors_are_those_of_the_lines_own_sets(recorded) -> None:
    floors = {0: [], 1: []}
    for line in recorded[1]:
        floors[line["config"].get("above", line["config"])["seed"]].append(line["floors"])
    assert all(floor == own[0] for own in floors.values() for floor in own)
    assert floors[0][0] != floors[1][0], "each seed has its own split"
    data = load("spiral", 16, seed=1)
    for kind, items in (("fresh", data.fresh[:64]), ("copycat", data.train.repeat(4, 1))):
        for name, e in judge(items, data.train, data.held_out, generator=torch.Generator().manual_seed(1)).items():
            assert floors[1][0][kind][name] == pytest.approx([e.value, e.low, e.high], rel=1e-5, abs=1e-9), name
    assert floors[1][0]["copycat"]["closer to train"][0] == 1
    assert floors[1][0]["copycat"]["PCA-W to train"][0] == 0


def test_a_line_says_what_it_was_made_with(recorded) -> None:
    chosen = TrainConfig().precision_on(torch.device("cpu"))
    for line in recorded[1]:
        assert (line["device"], line["precision"]) == ("cpu", chosen)
        assert f"torch {torch.__version__}" in line["versions"] and line["commit"] and line["hardware"]


def test_a_splice_alone_trains_its_networks_but_records_only_itself(configs, tmp_path) -> None:
    (line,) = record(configs[2:3], out=tmp_path, workers=1, progress=False)
    assert line["config"] == configs[2]
    assert read(tmp_path) == [line]
    assert line["loss"]["in_training"] == []


def test_a_splice_is_neither_of_its_networks(recorded) -> None:
    by_key = {line["key"]: line["metrics"] for line in recorded[1]}
    for line in recorded[1]:
        if "above" in line["config"]:
            assert line["metrics"] not in [by_key[key(line["config"][k])] for k in ("above", "below")]


def test_one_failed_run_is_named_and_the_others_are_recorded(configs, tmp_path) -> None:
    failing = configs[0] | {"training": configs[0]["training"] | {"learning_rate": 1e30}}
    with pytest.raises(SweepError, match=f"(?s)1 of 3 runs failed:\n{key(failing)}: .*FloatingPointError.*the loss is"):
        list(record([configs[0], failing, configs[1]], out=tmp_path, workers=1, progress=False))
    assert {line["key"] for line in read(tmp_path)} == {key(configs[0]), key(configs[1])}


def test_a_configuration_that_makes_no_run_is_refused_before_any_is_started(configs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(results, "sweep", None)  # called, it would fail
    with pytest.raises(ValueError, match="timesteps = 'unifrom'"):
        list(record([*configs, configs[0] | {"timesteps": "unifrom"}], out=tmp_path, progress=False))


def test_a_folder_without_lines_reads_as_none(tmp_path) -> None:
    assert read(tmp_path) == read(tmp_path / "nowhere") == []


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_named_wherever_it_is(written, recorded) -> None:
    """In the text, the seal, the digest and the newlines; also where it makes a newline or takes one away."""
    whole = written.read_bytes()
    g = np.random.default_rng(0)
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    seal = {end - back for end in ends for back in range(33)}
    one_bit_off = [i for i, byte in enumerate(whole) if (byte ^ ord("\n")).bit_count() == 1]  # such as J and *
    flips = [(place, 1 << int(g.integers(8))) for place in (*g.integers(len(whole), size=400).tolist(), *seal)]
    flips += [(end, 1 << bit) for end in ends for bit in range(8)]
    flips += [(place, whole[place] ^ ord("\n")) for place in one_bit_off]
    assert len(one_bit_off) > 10
    for place, bit in flips:
        written.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        line = whole[:place].count(b"\n") + 1
        with pytest.raises(ValueError, match=rf"spiral\.jsonl, line {line} is damaged.*restore it with git"):
            read(written.parent)
    written.write_bytes(whole)
    assert read(written.parent) == recorded[1]


def test_a_missing_an_added_and_a_moved_piece_are_named(written) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    text = lines[1]
    for damaged in (
        text[:500] + text[501:],  # a byte is gone
        text[:500] + b" " + text[500:],
        text + b"\n",  # an empty line
        text[:-1] + b"\r\n",  # as an editor on Windows would save it
        text[1:],
        b"\n",
        text.replace(b'"seed": ', b'"seed": 1'),
        text[: text.rindex(b', "sha256"')] + b"}\n",  # without its checksum
        b"<<<<<<< HEAD\n" + text,
    ):
        written.write_bytes(lines[0] + damaged + b"".join(lines[2:]))
        with pytest.raises(ValueError, match=r"spiral\.jsonl, line [23] is damaged"):
            read(written.parent)


def test_a_last_line_cut_short_is_left_out_and_written_over(written, recorded) -> None:
    whole, lines = written.read_bytes(), recorded[1]
    last = whole.rindex(b"\n", 0, -1) + 1
    places = {last, last + 1, len(whole) - 1, *range(len(whole) - 40, len(whole), 3), (last + len(whole)) // 2}
    for place in places:
        written.write_bytes(whole[:place])
        assert read(written.parent) == lines[:-1]
        results._append(written.parent, made_up(), torch.zeros(4, 2))
        assert [line["key"] for line in read(written.parent)] == [line["key"] for line in lines[:-1]] + [f"{'a':0>16}"]
    written.write_bytes(whole[:300])
    assert read(written.parent) == []


def test_no_line_is_appended_to_a_damaged_file(written, configs) -> None:
    whole = written.read_bytes()
    for place in (100, len(whole) - 1):
        written.write_bytes(whole[:place] + b"#" + whole[place + 1 :])
        before = written.read_bytes()
        with pytest.raises(ValueError, match=r"spiral\.jsonl, line \d is damaged"):
            list(record(configs, out=written.parent, workers=1, progress=False))
        assert written.read_bytes() == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path, bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        results._append(tmp_path, made_up(value=bad), torch.zeros(4, 2))
    assert read(tmp_path) == []
    sealed = json.dumps(made_up(value=bad)).encode()[:-1]
    (tmp_path / "spiral.jsonl").write_bytes(sealed + results._SEAL + results._digest(sealed) + b"\n")
    with pytest.raises(ValueError, match=f"{json.dumps(bad)} in a recorded line; every number must be finite"):
        read(tmp_path)


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_of_images_come_back_within_half_a_step_of_256(tmp_path) -> None:
    samples = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    line = results._append(tmp_path, made_up(dataset="emoji", seed=0), samples)
    back = read_samples(line, tmp_path)
    assert back.dtype == torch.float32 and back.shape == (32, 3, 8, 8), "the first 32"
    assert (back - samples[:32].clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    assert back.min() == -1 and back.max() == 1
    levels = torch.arange(256.0).div(127.5).sub(1)[:, None, None, None].expand(-1, 3, 1, 1)
    for start in range(0, 256, 32):  # what is a level already stays the same bits
        line = results._append(tmp_path, made_up(f"b{start}", "emoji", 0), levels[start : start + 32])
        assert torch.equal(read_samples(line, tmp_path), levels[start : start + 32])


def test_samples_of_signals_keep_eleven_bits(tmp_path) -> None:
    samples = 3 * torch.randn(5, 1, 140, generator=torch.Generator().manual_seed(0))
    line = results._append(tmp_path, made_up(dataset="ecg5000", seed=0), samples)
    back = read_samples(line, tmp_path)
    assert back.dtype == torch.float32
    np.testing.assert_allclose(back, samples, rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize(("dataset", "seed"), [("emoji", 1), ("spiral", 0), ("pokemon", 0), ("flowers102", 0)])
def test_other_seeds_and_sets_that_may_not_be_shown_are_kept_as_numbers_only(tmp_path, dataset, seed) -> None:
    line = results._append(tmp_path, made_up(dataset=dataset, seed=seed), torch.zeros(4, 3, 8, 8))
    assert read_samples(line, tmp_path) is None
    assert not list(tmp_path.rglob("*.npz"))


def test_a_damaged_archive_is_named_and_so_is_a_missing_one(tmp_path) -> None:
    line = results._append(tmp_path, made_up(dataset="ecg5000", seed=0), torch.randn(4, 1, 30))
    path = tmp_path / "samples" / f"{line['key']}.npz"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=rf"{path.name} is damaged: its sha256.*restore it with git"):
            read_samples(line, tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        read_samples(line, tmp_path)


# --- many at once, and many lines -------------------------------------------------------------------------------------


def append_some(folder: Path, process: int, lines: int, started: Path) -> None:
    (started / str(process)).touch()
    while len(list(started.iterdir())) < 8:  # all at once
        time.sleep(0.002)
    for i in range(lines):
        results._append(folder, made_up(f"{process}-{i}", padding="x" * 3000), torch.zeros(4, 2))
        results._append(folder, made_up(f"shared-{i}", made_by=process), torch.zeros(4, 2))


def test_eight_processes_lose_nothing_and_none_writes_what_another_has(tmp_path) -> None:
    (started := tmp_path / "started").mkdir()
    context = get_context("forkserver")
    context.set_forkserver_preload(["memlib.__main__", "pytest"])  # all that this file imports, once for all eight
    with ProcessPoolExecutor(8, context) as pool:
        for done in [pool.submit(append_some, tmp_path, process, 3, started) for process in range(8)]:
            done.result(timeout=300)
    keys = sorted(line["key"] for line in read(tmp_path))
    expected = {f"{process}-{i}" for process in range(8) for i in range(3)} | {f"shared-{i}" for i in range(3)}
    assert keys == sorted(f"{name:0>16}" for name in expected)


def test_ten_thousand_lines_are_read_in_no_time(recorded, tmp_path) -> None:
    """About half a second of one core; the bound is for a busy machine."""
    path = next(RESULTS.glob("*.jsonl"), recorded[0] / "spiral.jsonl")
    line = path.read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "many.jsonl").write_bytes(line * 10_000)
    started = time.process_time()
    lines = read(tmp_path)
    seconds = time.process_time() - started
    print(f"{len(lines)} lines of {len(line)} bytes: {seconds:.2f} s of process time")
    assert len(lines) == 10_000
    assert seconds < 5


# --- tables -----------------------------------------------------------------------------------------------------------


def metrics(**changed: float) -> dict[str, list[float]]:
    values = {"closer to train": 0.8, "energy to held-out": 1.0, "residual noise": 1.0, "memorized": 0.1}
    return {name: [x, x, x] for name, x in (values | {k.replace("_", " "): v for k, v in changed.items()}).items()}


@pytest.mark.parametrize(
    ("noise", "energy", "alone", "beside_uniform"),
    [(1.0, 1.0, False, False), (2.0, 2.0, False, False), (2.01, 0.5, True, True), (1.0, 2.01, False, True)],
)
def test_broken_is_over_twice_the_noise_of_real_data_or_the_energy_distance_of_uniform(
    noise, energy, alone, beside_uniform
) -> None:
    line = {"metrics": metrics(residual_noise=noise) | {"energy to held-out": [energy] * 3}}
    uniform = {"metrics": metrics()}
    assert is_broken(line, None) == alone
    assert is_broken(line, uniform) == beside_uniform


def test_points_have_no_residual_noise_to_be_broken_by() -> None:
    line = {"metrics": {"energy to held-out": [3.0] * 3}}
    assert not is_broken(line, None)
    assert is_broken(line, {"metrics": metrics()})


def test_table_has_a_row_for_each_line(recorded) -> None:
    lines = recorded[1]
    frame = table(lines)
    assert frame["key"].tolist() == [line["key"] for line in lines]
    assert frame["splice"].tolist() == ["above" in line["config"] for line in lines]
    for row, line in zip(frame.to_dict("records"), lines, strict=True):
        assert row["control"] == plans.describe(line["config"])
        assert row["closer to train"] == line["metrics"]["closer to train"][0]
        assert row["fresh: memorized"] == line["floors"]["fresh"]["memorized"][0]
        assert row["copycat: energy to held-out"] == line["floors"]["copycat"]["energy to held-out"][0]
        assert row["held-out loss"] == pytest.approx(np.mean(line["loss"]["held_out"]))
    assert table([]).empty


def test_table_judges_broken_against_the_uniform_run_of_the_same_seed_and_budget() -> None:
    def line(config: dict, energy: float) -> dict:
        rest = {"floors": {}, "loss": {"train": [1.0], "held_out": [1.0]}, "seconds": 1.0}
        return {
            "key": key(config),
            "config": config,
            "metrics": metrics() | {"energy to held-out": [energy] * 3},
            **rest,
        }

    configs = [c for c in read_plan("length") if c["dataset"] == "ecg5000" and c["seed"] < 2]
    energy = {0: 1.0, 1: 10.0}  # of uniform at full length: the second seed's split is the harder one
    lines = []
    for c in configs:
        base = energy[c["seed"]] * 2500 / c["training"]["steps"]
        lines.append(line(c, base if c["timesteps"] == "uniform" else 2.1 * energy[c["seed"]]))
    frame = table(lines).set_index(["seed", "steps", "control"])["broken"]
    for seed in (0, 1):
        assert not frame.xs("uniform", level="control").any()
        broken = {steps: frame[seed, steps, "interval 0 to 500"] for steps in (625, 1250, 2500, 5000)}
        assert broken == {625: False, 1250: False, 2500: True, 5000: True}
    wider = configs[2] | {"network": configs[2]["network"] | {"width": 48}}
    assert not table([*lines, line(wider | {"timesteps": {"interval": [0, 500]}}, 99.0)]).broken.iloc[-1], (
        "no uniform run"
    )


def test_summary_counts_seeds_and_averages(recorded) -> None:
    lines = recorded[1]
    frame = summary(lines)
    assert len(frame) == 3 and (frame["seeds"] == 2).all()
    row = frame.loc["spiral", 16, 200, "uniform"]
    own = [line["metrics"]["closer to train"][0] for line in lines if line["config"].get("timesteps") == "uniform"]
    assert row["closer to train"] == pytest.approx(np.mean(own), abs=0.006)
    with pytest.raises(ValueError, match="nothing is recorded yet: run `python -m memlib sweep --plan NAME`"):
        summary([])


# --- the commands -----------------------------------------------------------------------------------------------------


def test_sweep_results_and_claims_from_the_command_line(plan, configs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", "--plan", str(plan), "--profile", "smoke", "--workers", "1", "--out", str(out)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert [line.split()[:2] for line in told.splitlines()] == [
        [line["key"], "splice" if "above" in line["config"] else "spiral"] for line in read(out)
    ]
    assert {line["key"] for line in read(out)} == set(map(key, configs))

    assert main([*arguments, "--plan", str(plan)]) == 0, "twice the same plan is once"
    assert capsys.readouterr().out == "", "nothing is recorded twice"

    assert main(["results", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "uniform" in told and "interval 0 to 500 above t = 400, uniform below" in told

    assert main(["claims", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith("| claim |")
    assert "reproduced" not in told and "inconclusive" in told, "points are no evidence for or against"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "--plan", "breadth"], "plan = 'breadth' is neither a file nor one of equalised, length"),
        (["sweep", "--plan", "width", "--profile", "fast"], "profile = 'fast'; choose one of 'smoke'"),
        (["sweep", "--plan", "width", "--device", "abacus"], "device = 'abacus' cannot be used"),
        (["results"], "none yet: run `python -m memlib sweep --plan NAME`"),
        (["claims"], "none yet: run `python -m memlib sweep --plan NAME`"),
    ],
)
def test_bad_input_has_exit_status_two_and_a_word_of_what_is_wrong(arguments, says, tmp_path, capsys) -> None:
    assert main([*arguments, "--out", str(tmp_path / "none")]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("memlib: ") and says in told.err and "Traceback" not in told.err
    assert told.out == ""
    assert not (tmp_path / "none").exists()


def test_a_failed_run_has_exit_status_one(plan, tmp_path, capsys, monkeypatch) -> None:
    def fail(*_, **__) -> None:
        raise SweepError("1 of 4 runs failed:\n0123: Traceback ...")
        yield

    monkeypatch.setattr("memlib.__main__.record", fail)
    assert main(["sweep", "--plan", str(plan), "--profile", "smoke", "--out", str(tmp_path)]) == 1
    assert "1 of 4 runs failed" in capsys.readouterr().err


def test_results_and_claims_of_a_damaged_file_name_it(written, capsys) -> None:
    written.write_bytes(b"#" + written.read_bytes())
    for command in ("results", "claims"):
        assert main([command, "--out", str(written.parent)]) == 2
        assert "spiral.jsonl, line 1 is damaged" in capsys.readouterr().err


# --- the recorded results of this repository --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    found = read()
    assert found, f"{RESULTS} holds no recorded run"
    return found


def test_each_recorded_key_is_its_configurations_and_each_configuration_an_experiment(lines) -> None:
    assert len({line["key"] for line in lines}) == len(lines), "a run is recorded twice"
    for line in lines:
        assert line["key"] == key(line["config"])
        for config in plans.networks(line["config"]):
            made = plans.experiment(config)
            assert made.build_schedule().T == 1000
            assert made.seed < 100, "budgets were chosen on seed 100"


def test_every_recorded_run_is_one_that_a_plan_asks_for(lines) -> None:
    files, profiles = plans.PLANS.glob("*.toml"), ("recorded", "paper")
    asked = {key(config) for path in files for budgets in profiles for config in read_plan(path, budgets)}
    assert {line["key"] for line in lines} <= asked


def test_recorded_emoji_are_the_ones_that_are_shipped(lines, monkeypatch) -> None:
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    shipped = load("emoji", 24).sha256
    own = {line["data_sha256"] for line in lines if plans.networks(line["config"])[0]["dataset"] == "emoji"}
    assert own <= {shipped}
    for dataset in {plans.networks(line["config"])[0]["dataset"] for line in lines}:
        hashes = {line["data_sha256"] for line in lines if plans.networks(line["config"])[0]["dataset"] == dataset}
        assert len(hashes) == 1, f"{dataset} was not the same data throughout"


def test_every_recorded_line_has_its_quality_and_its_floors(lines) -> None:
    floors: dict[tuple, dict] = {}
    for line in lines:
        config = plans.networks(line["config"])[0]
        names = set(line["metrics"])
        assert {*SHARES, "residual noise", "energy to held-out", "PCA-W to held-out", "PCA-JS to held-out"} <= names
        for reading in (line["metrics"], *line["floors"].values()):
            assert set(reading) == names
            assert all(low <= value <= high for value, low, high in reading.values())
        copycat, fresh = line["floors"]["copycat"], line["floors"]["fresh"]
        assert all(copycat[rule][0] == 1 for rule in SHARES) and copycat["L2 to nearest"][0] == 0
        assert fresh["L2 to nearest"][0] > 0
        sets = (config["dataset"], config["n_train"], config["seed"], config["n_samples"])
        assert floors.setdefault(sets, line["floors"]) == line["floors"], "equal sets, other floors"
    assert len({json.dumps(floor) for floor in floors.values()}) == len(floors), "other sets, equal floors"
    energies: dict[tuple, list] = {}
    for (dataset, n_train, *_), floor in floors.items():  # of one small split, chance decides which of them is nearer
        pair = [floor[kind]["energy to held-out"][0] for kind in ("fresh", "copycat")]
        energies.setdefault((dataset, n_train), []).append(pair)
    for pairs in energies.values():
        fresh, copycat = np.mean(pairs, 0)
        assert fresh < copycat


def test_recorded_floors_are_found_again(lines, monkeypatch) -> None:
    """For one line of emoji, which are shipped."""
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    line = next((x for x in lines if plans.networks(x["config"])[0]["dataset"] == "emoji"), None)
    if line is None:
        pytest.skip("no run on emoji is recorded")
    config = plans.networks(line["config"])[0]
    data = load("emoji", config["n_train"], seed=config["seed"])
    g = torch.Generator().manual_seed(config["seed"])
    again = judge(data.fresh[: config["n_samples"]], data.train, data.held_out, generator=g)
    for name, (value, low, high) in line["floors"]["fresh"].items():
        e = again[name]
        np.testing.assert_allclose([e.value, e.low, e.high], [value, low, high], rtol=1e-4, atol=1e-6, err_msg=name)


def test_recorded_samples_are_few_small_whole_and_may_be_shown(lines) -> None:
    kept = {line["key"]: line for line in lines if "samples_sha256" in line}
    files = {path.stem: path for path in (RESULTS / "samples").glob("*")}
    assert set(files) == set(kept), "an archive without a line, or a line without its archive"
    assert sum(path.stat().st_size for path in files.values()) <= 10e6
    for line in kept.values():
        assert plans.networks(line["config"])[0]["dataset"] in ("ecg5000", "emoji")
        samples = read_samples(line)
        assert len(samples) <= 32 and samples.isfinite().all() and samples.std() > 0.01
    shown = {line["key"] for line in lines if plans.networks(line["config"])[0]["dataset"] in ("ecg5000", "emoji")}
    assert {line["key"] for line in lines if plans.networks(line["config"])[0]["seed"] == 0} & shown == set(kept)


def test_a_recorded_run_is_found_again_from_scratch(lines) -> None:
    """The shortest on ECG5000, trained anew: each measure lies within its recorded interval."""
    own = [x for x in lines if "above" not in x["config"] and x["config"]["dataset"] == "ecg5000"]
    if not own:
        pytest.skip("no run on ecg5000 is recorded")
    line = min(own, key=lambda x: x["config"]["training"]["steps"])
    described = plans.experiment(line["config"])
    try:
        data = described.load_data()
    except FileNotFoundError as error:
        pytest.skip(f"ECG5000 cannot be had: {error}")
    assert data.sha256 == line["data_sha256"]
    again = runs.run(described)
    print(f"trained {line['key']} anew in {again.history['seconds']:.1f} s, recorded {line['seconds']} s")
    readings = judge(again.samples, data.train, data.held_out, generator=torch.Generator().manual_seed(described.seed))
    for name, (_, low, high) in line["metrics"].items():
        assert low <= readings[name].value <= high, name
