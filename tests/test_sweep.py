"""Each run of a sweep arrives or is named: in this process, in others, on a client, and if a worker is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_experiment import EXACT, SMALL

from memlib.lab import runs as module
from memlib.lab.experiment import Experiment
from memlib.lab.runs import Result, run, run_fleet
from memlib.lab.sweep import SweepError, _groups, _work, sweep
from memlib.training import TrainConfig

KILLED_AT = 20  # of the 40 steps


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers, started before the tests name their folder of runs."""
    from distributed import Client, LocalCluster  # not at the top: workers import this file for `watched`

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Named as a reader might, relative to a folder that is not a worker's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMLIB_RUNS", "runs")
    return tmp_path / "runs"


@pytest.fixture
def way(request) -> Callable[..., Iterator[Result]]:
    """Each run alone, so that it ends with the same bits as `run`."""
    if request.param == "client":
        return partial(sweep, client=request.getfixturevalue("client"), fleet=1)
    return partial(sweep, workers={"here": 1, "processes": 2}[request.param], fleet=1)


def alone(folder: Path, *experiments: Experiment) -> list[Result]:
    """The runs, made here and in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMLIB_RUNS", str(folder))
        return run_fleet(experiments)


def watched(topic: str, group: Any, plain: list[dict[str, Any]], device: str, environment: dict[str, str]) -> list[str]:
    """`_work`, with a checkpoint at each step and notes of what happens; seed 1 is killed once, seed 2 always."""
    seed, write, train = plain[0]["seed"], module._write, module._train
    notes = Path(environment["MEMLIB_RUNS"]).parent / f"{seed}.notes"

    def note(what: str, value: int) -> None:
        with notes.open("a") as file:
            print(json.dumps([what, value]), file=file)

    def write_and_die(path: Path, content: dict) -> None:
        write(path, content)
        if content.get("state", {"step": 0})["step"] == KILLED_AT and "killed" not in notes.read_text():
            note("killed", KILLED_AT)
            os.kill(os.getpid(), signal.SIGKILL)

    def train_and_tell(members: Any, checkpoint: Path, saved: Any, *more: Any) -> Any:
        if saved:
            note("resumed", saved["state"]["step"])
        return train(members, checkpoint, saved, *more)

    note("process", os.getpid())
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        if seed == 1:
            patch.setattr(module, "CHECKPOINT_SECONDS", 0)
            patch.setattr(module, "_write", write_and_die)
            patch.setattr(module, "_train", train_and_tell)
        return _work(topic, group, plain, device, environment)


@pytest.fixture
def notes(runs, monkeypatch) -> Callable[[int, str], list[int]]:
    """Runs of this test are `watched`; what was noted of a seed."""
    monkeypatch.setattr(sys.modules["memlib.lab.sweep"], "_work", watched)

    def noted(seed: int, what: str) -> list[int]:
        path = runs.parent / f"{seed}.notes"
        return [value for kind, value in map(json.loads, path.read_text().splitlines()) if kind == what]

    return noted


@pytest.mark.parametrize("way", ["here", "processes", "client"], indirect=True)
def test_all_arrive_with_their_bits_and_what_failed_is_named(way, runs, notes, tmp_path, capfd):
    good = [replace(SMALL, seed=seed, label=f"seed {seed}") for seed in (0, 1, 3)]
    bad = replace(SMALL, training=TrainConfig(steps=200, learning_rate=1e30), label="diverges")
    results = []
    with pytest.raises(SweepError, match=r"(?s)1 of 4 runs failed:\ndiverges: .*training\.py.*FloatingPointError"):
        for result in way([bad, *good]):
            results.append(result)
    assert {id(result.experiment) for result in results} == {id(experiment) for experiment in good}
    assert {result.path.parent for result in results} == {runs}
    for result in results:
        (expected,) = alone(tmp_path / "alone", result.experiment)
        assert torch.equal(result.samples, expected.samples)
    shown = capfd.readouterr().err
    assert "320/320" in shown and "failed=1" in shown
    assert "distributed" not in shown or "client" in way.keywords, "workers of our own are silent"
    if way.keywords.get("workers") != 1:
        assert len(set(notes(1, "process"))) == 2, "another process took over"
        assert notes(1, "killed") == notes(1, "resumed") == [KILLED_AT]


def test_a_run_that_always_kills_its_worker_is_given_up_and_named(runs, notes, client, monkeypatch):
    client.wait_for_workers(2, timeout=60)
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    arrived = []
    with pytest.raises(SweepError, match=r"(?s)1 of 2 runs failed:\nspiral: .*KilledWorker"):
        for result in sweep([replace(SMALL, seed=2), SMALL], client, progress=False):
            arrived.append(result.experiment.seed)
    assert arrived == [0]


def test_who_stops_early_leaves_the_rest_alone(runs, notes, client):
    run(SMALL)  # so that each of the following is quick
    client.wait_for_workers(2, timeout=60)
    results = sweep([SMALL] * 200, client, progress=False)
    next(results)
    results.close()
    while any(task.state in ("waiting", "queued", "processing") for task in [*client.cluster.scheduler.tasks.values()]):
        time.sleep(0.1)
    assert 1 <= len(notes(0, "process")) < 200


@pytest.mark.parametrize("here", [True, False])
def test_runs_that_are_alike_are_trained_together_and_one_by_one_where_one_fails(here, runs, client, tmp_path, capsys):
    good = [replace(EXACT, seed=seed) for seed in range(4)]
    bad = replace(EXACT, training=replace(EXACT.training, learning_rate=1e30), label="diverges")
    fleets = [*good, bad, replace(bad, seed=1)]
    results = []
    with pytest.raises(SweepError, match=r"(?s)2 of 6 runs failed:\ndiverges: .*FloatingPointError: the loss is"):
        for result in sweep(fleets, **({"workers": 1} if here else {"client": client, "fleet": 2})):
            results.append(result)
    assert sorted(result.experiment.seed for result in results) == [0, 1, 2, 3]
    assert {result.history["fleet"] for result in results} == {4 if here else 2}
    for result in results:
        (expected,) = alone(tmp_path / "alone", result.experiment)
        assert (result.path.name, result.history["step"]) == (expected.path.name, expected.history["step"])
        torch.testing.assert_close(result.samples, expected.samples, rtol=1e-3, atol=1e-3)
    assert "240/240" in capsys.readouterr().err


def test_what_would_fail_in_each_run_fails_at_once_and_once(tmp_path, monkeypatch):
    """Before a worker is started; a sweep of no runs needs neither device nor folder."""
    monkeypatch.setattr(sys.modules["memlib.lab.sweep"], "_local", lambda workers: 1 / 0)
    for device in ("xpu:99", "no such"):
        with pytest.raises(RuntimeError, match=f"device = '{device}' cannot be used") as error:
            next(sweep([SMALL, SMALL], device=device, workers=2))
        assert not isinstance(error.value, SweepError)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "a file"))
    with pytest.raises(OSError, match="a file"):
        next(sweep([SMALL, SMALL], workers=2))
    assert list(sweep([], device="xpu:99")) == []


@pytest.mark.parametrize(
    ("runs", "device", "fleet", "workers", "sizes"),
    [(5, "cpu", None, 2, [3, 2]), (20, "cpu", None, 2, [5, 5, 5, 5]), (20, "cpu", 3, 1, [3, 3, 3, 3, 3, 3, 2]),
     (20, "cuda", None, 1, [10, 10]), (3, "cpu", 1, 2, [1, 1, 1]), (0, "cpu", None, 1, [])],
)  # fmt: skip
def test_fleets_are_of_equal_size_and_keep_all_workers_busy(runs, device, fleet, workers, sizes):
    groups = _groups([SMALL] * runs, device, fleet, workers)
    assert [len(group) for group in groups] == sizes
    assert sorted(i for group in groups for i in group) == list(range(runs))
    pictures = [replace(SMALL, dataset="emoji")] * 2
    assert _groups(pictures, device, None, 1) == ([[0], [1]] if device == "cpu" else [[0, 1]]), "together on a GPU only"


SCRIPT = """
from dataclasses import replace
from memlib import TrainConfig, uniform
from memlib.lab import Experiment, Network, sweep

def main():
    small = Experiment(uniform(100), "spiral", 8, network=Network(16), training=TrainConfig(steps=5), sampler_steps=5)
    print(len([*sweep([replace(small, seed=seed) for seed in range(2)], workers=2, fleet=1, progress=False)]), "runs")

"""


def script(given: list[str], tmp_path: Path, text: str = "", length: int = 100) -> subprocess.CompletedProcess:
    scratch = tmp_path / f"a folder with ü {length * 'x'}"
    scratch.mkdir()
    own = os.environ | {"MEMLIB_RUNS": str(scratch / "runs"), "TMPDIR": str(scratch)}
    return subprocess.run([sys.executable, *given], env=own, input=text, capture_output=True, text=True, timeout=300)


def test_a_script_without_the_main_guard_is_told_so_in_one_sentence(tmp_path):
    path = tmp_path / "own script.py"
    path.write_text(SCRIPT + "main()\n")
    done = script([str(path)], tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") < 20
    assert re.search(r'RuntimeError: .*own script\.py: .*if __name__ == "__main__":', done.stderr)


@pytest.mark.parametrize("way", ["guarded script", "stdin"])
def test_elsewhere_a_sweep_works_and_is_silent(way, tmp_path):
    path = tmp_path / "own script.py"
    path.write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    given = {"guarded script": [str(path)], "stdin": ["-"]}[way]
    done = script(given, tmp_path, SCRIPT + "main()\n", length=100 if way == "stdin" else 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 runs\n", "")
