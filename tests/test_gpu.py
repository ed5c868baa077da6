"""The command for a GPU that is lent for minutes: ends on time, loses nothing, and merges only what is sound."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from memlib.__main__ import main
from memlib.lab import gpu, plans, records, run

PLAN = """
question = "Does it come home?"
seeds.spiral = {seeds}
seeds.moons = {seeds}
[[controls]]
timesteps = {{ name = "uniform" }}
[[controls]]
timesteps = {{ name = "gaussian_interval", low = 0, high = 500 }}
"""
RECORD = (
    "import sys; from memlib.lab import gpu; gpu.PLANS = [(sys.argv.pop(), 'spiral')]; gpu.run_records(*sys.argv[1:])"
)
SLEEPS = """import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
print(child.pid, flush=True)
child.wait()"""


def write_plan(folder: Path, seeds: int) -> str:
    path = folder / "plan.toml"
    path.write_text(PLAN.format(seeds=seeds), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What a run that was killed twice, and then went on, brings home."""
    out, chance, said = tmp_path_factory.mktemp("gpu"), random.Random(os.getpid()), []
    command = ["-c", RECORD, str(out), "cpu", "smoke", write_plan(tmp_path_factory.mktemp("plan"), 3)]
    for seconds in (chance.uniform(2, 12), chance.uniform(2, 12), 400):
        with (out / "records.jsonl").open("ab") as file:
            file.write(b'{"seal": "half wri')  # as a machine that is taken away leaves it
        outcome = gpu._attend(command, time.monotonic() + seconds, said.append)
    assert outcome == "done", said
    return out


def test_what_was_killed_goes_on_and_each_record_comes_home_once(made: Path, tmp_path: Path) -> None:
    words = list(gpu.merge(made, tmp_path / "results"))
    lines = records.read(tmp_path / "results")
    assert sorted((x["config"]["seed"], plans.describe(x["config"])) for x in lines) == [
        (seed, control) for seed in range(3) for control in ("interval 0 to 500", "uniform")
    ]
    assert words[0].startswith("6 records added") and words[1].startswith("0 records were there")
    assert next(gpu.merge(made, tmp_path / "results")).startswith("6 records were there"), "repeated, it adds nothing"
    assert records.read(tmp_path / "results") == lines


def resealed(text: str, **changes: object) -> str:
    line = json.loads(text)["record"] | changes
    return json.dumps({"seal": gpu._hash(line, ""), "record": line, "samples": ""})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda one: one.replace('"seed": ', '"seed": 1'), "line 2 is damaged"),
        (lambda one: one[:-9], "line 2 is damaged"),
        (lambda one: resealed(one, version=99), "line 2 is of VERSION 99"),
        (lambda one: resealed(one, content="0" * 64), "line 2 is of other data than spiral"),
        (lambda one: resealed(one, key="0" * 16), "line 2 is of other data"),
        (lambda one: f"{one}\n{one}", r"line 3 holds run \w{16}, step 200, again"),
    ],
)
def test_a_merge_refuses_the_whole_file_for_a_line_that_is_not_sound(
    made: Path, tmp_path: Path, spoil: Callable[[str], str], says: str
) -> None:
    lines = (made / "records.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "records.jsonl").write_text("\n".join([lines[0], spoil(lines[1]), *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"records\.jsonl, {says}"):
        list(gpu.merge(tmp_path, tmp_path / "results"))
    assert records.read(tmp_path / "results") == []


def test_other_numbers_of_a_recorded_run_are_refused(made: Path, tmp_path: Path) -> None:
    list(gpu.merge(made, tmp_path))
    path = tmp_path / "spiral.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"seconds": ', '"seconds": 9'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 holds run .* with other numbers"):
        list(gpu.merge(made, tmp_path))


def test_samples_and_the_page_of_a_gpu_come_along(tmp_path: Path) -> None:
    (config, *_) = plans.read_plan("size", "smoke")
    config |= {"dataset": "emoji", "n_train": 8, "n_samples": 8, "network": {"width": 8, "multipliers": [1]}}
    config["training"] = {"steps": 1, "batch_size": 2}
    gpu._measure(config, run(plans.experiment(config)).path, set(), tmp_path / "records.jsonl")
    page, made = tmp_path / "page.md", tmp_path / "results.md"
    for text in ("## fleets, on cpu", "## fleets, on cuda"):
        made.write_text(text)
        list(gpu.merge(tmp_path, tmp_path / "results", page))
        assert page.exists() == ("cuda" in text), "a page of a CPU is none of a GPU"
    assert page.read_text() == text
    (line,) = records.read(tmp_path / "results")
    assert records.read_samples(line, tmp_path / "results").shape == (8, 3, 32, 32)


def test_six_seeds_of_a_set_come_before_the_next_set_and_fleets_are_of_whole_seeds(tmp_path, monkeypatch) -> None:
    plan = write_plan(tmp_path, 14)
    monkeypatch.setattr(gpu, "PLANS", ((plan, "spiral"), (plan, "moons")))
    first = plans.read_plan(plan, "smoke")[0]
    fleets = gpu.by_value("smoke", {(plans.key(first), 200)})
    order = [(fleet[0]["dataset"], sorted({config["seed"] for config in fleet})) for fleet in fleets]
    blocks = [list(range(6)), list(range(6, 12)), [12, 13]]
    assert order == [(name, block) for block in blocks for name in ("spiral", "moons")]
    assert [len(fleet) for fleet in fleets] == [11, 12, 12, 12, 4, 4] and first not in fleets[0]


def gone(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_a_part_ends_with_all_that_it_started_at_its_deadline_or_when_its_parent_dies() -> None:
    said: list[str] = []
    assert gpu._attend(["-c", "raise SystemExit(3)"], time.monotonic() + 60, said.append) == "failed"
    assert gpu._attend(["-c", SLEEPS], time.monotonic() + 5, said.append) == "cut off at its deadline"
    assert gone(int(said[0]))
    code = f"import time; from memlib.lab import gpu; gpu._attend({['-c', SLEEPS]!r}, time.monotonic() + 99, print)"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)


def test_the_whole_command_says_its_parts_first_and_ends_on_time(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "papermill" else name)
    started = time.monotonic()
    assert main(["gpu", "--minutes", "0.2", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert time.monotonic() - started < 12 + 10
    log = (tmp_path / "log.txt").read_text()
    assert log == capfd.readouterr().out
    assert all(log.index(f"  {part} ") < log.index("== tests") < log.index(f"== {part}\n") + 1 for part in gpu.PARTS)
    assert "notebooks left out: no papermill here" in log
    assert len(list(tmp_path.iterdir())) <= 8
    assert main(["gpu", "--device", "cuda:77", "--out", str(tmp_path)]) == 1
