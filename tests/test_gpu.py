"""The command for a GPU that is lent for minutes: ends on time, loses nothing, and merges only what is sound."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from test_courses import PLAN

from memlib.__main__ import main
from memlib.lab import courses, gpu, plans
from memlib.lab.sweep import SweepError

RECORD = "import sys; from memlib.lab import gpu; gpu.PLANS = [sys.argv.pop()]; gpu.run_records(*sys.argv[1:])"
SLEEPS = """import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
print(child.pid, flush=True)
child.wait()"""


@pytest.fixture(scope="module", autouse=True)
def plan(tmp_path_factory) -> Iterator[plans.Plan]:
    (path := tmp_path_factory.mktemp("plans") / "mini.toml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "PLANS", path.parent)
        yield plans.read_plan(path)


@pytest.fixture(scope="module")
def made(plan, tmp_path_factory) -> Path:
    """What a run that was killed twice, and then went on, brings home."""
    out, chance, said = tmp_path_factory.mktemp("gpu"), random.Random(os.getpid()), []
    for seconds in (chance.uniform(2, 9), chance.uniform(2, 9), 400):
        with (out / "records.jsonl").open("ab") as file:
            file.write(b'{"seal": "half wri')  # as a machine that is taken away leaves it
        outcome = gpu._attend(["-c", RECORD, str(out), "cpu", str(plan.path)], time.monotonic() + seconds, said.append)
    assert outcome == "done", said
    return out


def test_what_was_killed_goes_on_and_each_line_comes_home_once(plan, made: Path, tmp_path: Path) -> None:
    words = list(gpu.merge(made, tmp_path))
    lines = courses.read(tmp_path)
    asked = {(seed, name) for seed in plan.seeds for name in (*plan.controls, *plan.splices)}
    assert len(lines) == 8 and {(x["seed"], x["control"]) for x in lines} == asked
    assert words == [f"8 lines added to {tmp_path / 'mini.jsonl'}", "0 lines were there already"]
    assert list(gpu.merge(made, tmp_path)) == ["8 lines were there already"] and courses.read(tmp_path) == lines
    assert list(courses.record(plan, out=tmp_path, progress=False)) == [], "what came home is not run again"
    (own,) = (x for x in lines if (x["seed"], x["control"]) == (300, "uniform"))
    recorded = next(courses.record(plan, out=tmp_path / "anew", progress=False))
    assert list(own.items()) == list(recorded.items()), "the same line as without a GPU"


def resealed(text: str, **changes: object) -> str:
    line = json.loads(text)["record"] | changes
    return json.dumps({"seal": gpu._hash(line), "record": line})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(lambda one: one.replace('"seed": ', '"seed": 1'), "line 2 is damaged"),
     (lambda one: one[:-9], "line 2 is damaged"),
     (lambda one: resealed(one, version=99), "line 2 is of VERSION 99"),
     (lambda one: resealed(one, plan_sha256="0" * 16), "line 2 is of another plan mini"),
     (lambda one: resealed(one, control="notch"), "line 2 is no run of the plan mini"),
     (lambda one: resealed(one, seed=302), "line 2 is no run"),
     (lambda one: resealed(one, config=json.loads(one)["record"]["config"] | {"course": [1]}), "line 2 is no run"),
     (lambda one: resealed(one, content="0" * 64), "line 2 is of other data than mixture4"),
     (lambda one: resealed(one, key="0" * 16), "line 2 is of other data"),
     (lambda one: f"{one}\n{one}", r"line 3 holds run \w{16} again")],
)  # fmt: skip
def test_a_merge_refuses_the_whole_file_for_a_line_that_is_not_sound(made, tmp_path, spoil, says: str) -> None:
    lines = (made / "records.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "records.jsonl").write_text("\n".join([lines[0], spoil(lines[1]), *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"records\.jsonl, {says}"):
        list(gpu.merge(tmp_path, tmp_path / "results"))
    assert courses.read(tmp_path / "results") == []


def test_other_numbers_of_a_recorded_run_or_a_changed_plan_are_refused(made: Path, tmp_path: Path, monkeypatch) -> None:
    list(gpu.merge(made, tmp_path))
    path = tmp_path / "mini.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"seconds": ', '"seconds": 9'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 holds run .* with other numbers"):
        list(gpu.merge(made, tmp_path))
    monkeypatch.setattr(gpu, "uncommitted", lambda path: True)
    with pytest.raises(ValueError, match=r"line 1 is of another plan mini than is committed"):
        list(gpu.merge(made, tmp_path / "other"))


def test_the_page_of_a_gpu_comes_along(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to merge"):
        list(gpu.merge(tmp_path))
    page, made = tmp_path / "page.md", tmp_path / "results.md"
    for text in ("## fleets, on cpu", "## fleets, on cuda"):
        made.write_text(text)
        list(gpu.merge(tmp_path, tmp_path / "results", page))
        assert page.exists() == ("cuda" in text), "a page of a CPU is none of a GPU"
    assert page.read_text() == text


def test_fleets_are_full_and_in_order_with_splices_last_and_go_on_after_a_failure(plan, tmp_path, monkeypatch) -> None:
    (path := tmp_path / "more.toml").write_text(PLAN.replace("[300, 301]", "[300, 305]"))
    asked, have = [], dict(zip(("key", "content"), plan.identity("weighted", 300), strict=True))

    def fails(fleet, **options) -> None:
        asked.append([(own.seed, own.label) for own in fleet])
        raise SweepError("2 of 16 runs failed")

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for name, value in (("sweep", fails), ("run_fleet", fails), ("PLANS", [str(path)] * 2)):
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(courses, "read", lambda: [have])
    with pytest.raises(SystemExit, match="1"):
        gpu.run_records(str(tmp_path), "cpu")
    assert not torch.backends.cudnn.allow_tf32, "the plan's precision holds"
    order = [(seed, name) for seed in range(300, 306) for name in ("uniform", "weighted", "long")]
    order.remove((300, "weighted"))
    assert asked == [order[:16], order[16:], *([(seed, "weighted")] for seed in range(300, 306))] * 2
    with pytest.raises(SystemExit, match="1"):
        gpu.run_records(str(tmp_path), "cpu", "small")
    assert asked[16][:2] == [(300, "uniform"), (300, "weighted")], "what is cut is another run"


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


def test_the_tests_of_a_gpu_need_no_conftest() -> None:
    """Which imports what a lent machine may lack."""
    command, said = ["-m", "pytest", "--noconftest", "-Wdefault", "tests/test_devices.py"], list[str]()
    assert gpu._attend(command, time.monotonic() + 120, said.append) == "done", said


def test_the_whole_command_says_its_parts_first_and_ends_on_time(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "papermill" else name)
    started = time.monotonic()
    assert main(["gpu", "--minutes", "0.1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert time.monotonic() - started < 6 + 10
    log = (tmp_path / "log.txt").read_text()
    assert log == capfd.readouterr().out
    assert all(log.index(f"  {part} ") < log.index("== tests") < log.index(f"== {part}\n") + 1 for part in gpu.PARTS)
    assert "notebooks left out: no papermill here" in log
    assert len(list(tmp_path.iterdir())) <= 8
    assert main(["gpu", "--device", "cuda:77", "--out", str(tmp_path)]) == 1
