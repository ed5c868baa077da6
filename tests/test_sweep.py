"""Each run of a sweep arrives or is named: in turn, in processes, on a Dask cluster, and where a process is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from memlib import uniform
from memlib.lab import runs as module
from memlib.lab.experiment import Experiment, Network
from memlib.lab.runs import Result, run, run_fleet
from memlib.lab.sweep import DEATHS, SweepError, _groups, _work, sweep
from memlib.training import TrainConfig

SMALL = Experiment(
    uniform(100),
    "spiral",
    n_train=8,
    network=Network(width=16),
    training=TrainConfig(steps=120, batch_size=8),
    n_samples=6,
    sampler_steps=5,
)
EXACT = replace(SMALL, training=replace(SMALL.training, precision="float32"))  # in which rounding stays small
KILLED_AT = 60  # of the 120 steps


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers, started before the tests name their folder of runs; a nanny each starts anew one that is killed."""
    from distributed import Client, LocalCluster  # not at the top: local processes import this file for `watched`

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Named as a reader might, from the folder he stands in, which is not where a worker stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMLIB_RUNS", "runs")
    return tmp_path / "runs"


@pytest.fixture
def way(request) -> Callable[..., Iterator[Result]]:
    """Of runs each alone, which end with the same bits as `run`; fleets: below."""
    if request.param == "cluster":
        return partial(sweep, client=request.getfixturevalue("client"), fleet=1)
    return partial(sweep, workers={"in turn": 1, "processes": 2}[request.param], fleet=1)


def ways(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", names, indirect=True)


@pytest.fixture
def alone(tmp_path, monkeypatch) -> Callable[..., torch.Tensor]:
    """The samples of a seed's run, made here and in a folder of its own: nothing of the sweep's is read."""

    def samples(seed: int, base: Experiment = SMALL) -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setenv("MEMLIB_RUNS", str(tmp_path / "alone"))
            return run(replace(base, seed=seed)).samples

    return samples


def watched(group: tuple[int, ...], plains: list[dict[str, Any]], device: str, folders: dict[str, str]) -> list[str]:
    """`_work`, with a checkpoint at each reading, notes of what happens, and SIGKILL for a label that says so."""
    plain = plains[0]
    notes = Path(folders["MEMLIB_RUNS"]).parent / f"{plain['label']}.notes"
    write, read = module.checkpoint.write, module.checkpoint.read

    def note(what: str, value: int) -> None:
        with notes.open("a") as file:
            print(json.dumps([what, value]), file=file)

    def write_and_die(path: Path, content: dict) -> None:
        write(path, content)
        if plain["label"] == "dies once" and content["state"]["step"] == KILLED_AT:
            note("killed", KILLED_AT)
            os.kill(os.getpid(), signal.SIGKILL)

    def read_and_tell(path: Path) -> dict:
        content = read(path)
        note("resumed", content["state"]["step"])
        return content

    note("process", os.getpid())
    if plain["label"] == "dies at once":
        os.kill(os.getpid(), signal.SIGKILL)
    if plain["label"] == "meanwhile":  # it is under way when the other is killed
        other = notes.with_name("dies once.notes")
        for _ in range(1200):
            if other.exists() and "killed" in other.read_text():
                break
            time.sleep(0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHECKPOINT_SECONDS", 0)
        patch.setattr(module.checkpoint, "write", write_and_die)
        patch.setattr(module.checkpoint, "read", read_and_tell)
        return _work(group, plains, device, folders)


@pytest.fixture
def notes(runs, monkeypatch) -> Callable[[str, str], list[int]]:
    """Runs of this test are `watched`; what was noted of the one so labelled."""
    monkeypatch.setattr(sys.modules["memlib.lab.sweep"], "_work", watched)

    def noted(label: str, what: str) -> list[int]:
        lines = map(json.loads, (runs.parent / f"{label}.notes").read_text().splitlines())
        return [value for kind, value in lines if kind == what]

    return noted


@ways("in turn", "processes", "cluster")
def test_all_arrive_as_they_were_asked_for_and_what_failed_is_named(way, runs, notes, alone, capsys):
    good = [replace(SMALL, seed=seed, label=f"seed {seed}") for seed in range(3)]
    good[1:] = (
        replace(good[1], label="dies once"),
        replace(good[2], label="meanwhile"),
    )  # in turn, they are as any other
    bad = replace(SMALL, training=TrainConfig(steps=200, learning_rate=1e30), label="diverges")
    before = run(replace(good[0], label="of an earlier sweep"))
    results = []
    with pytest.raises(
        SweepError, match=r"(?s)1 of 4 runs failed:\ndiverges: .*memlib/training\.py.*FloatingPointError"
    ):
        for result in way([bad, *good]):
            results.append(result)

    assert {id(result.experiment) for result in results} == {id(experiment) for experiment in good}
    assert Result.load(before.folder).experiment.label == "of an earlier sweep"
    assert {result.folder.resolve().parent for result in results} == {runs}
    assert all(torch.equal(result.samples, alone(result.experiment.seed)) for result in results)
    shown = re.split(r"[\r\n]+", capsys.readouterr().err.strip())
    assert "failed=0" in shown[1] and "560/560" in shown[-1] and "failed=1" in shown[-1]
    if way.keywords.get("workers") != 1:
        first, second = notes("dies once", "process")
        assert first != second and not Path(f"/proc/{first}").exists()
        assert notes("dies once", "killed") == notes("dies once", "resumed") == [KILLED_AT]
        for other in ("diverges", "seed 0", "meanwhile"):
            assert len(notes(other, "process")) == 1, "a run beside it was disturbed"


@ways("processes", "cluster")
def test_a_run_that_always_kills_its_process_is_given_up_and_named(way, notes, monkeypatch):
    died, said = DEATHS, f"RuntimeError: its process died {DEATHS} times"
    if client := way.keywords.get("client"):
        client.wait_for_workers(2, timeout=60)
        monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
        died, said = 1, "KilledWorker"
    arrived = []
    with pytest.raises(SweepError, match=rf"(?s)1 of 2 runs failed:\ndies at once: .*{said}"):
        for result in way([replace(SMALL, label="dies at once"), replace(SMALL, seed=1)], progress=False):
            arrived.append(result.experiment.seed)
    assert arrived == [1]
    assert len(set(notes("dies at once", "process"))) == died


@ways("processes", "cluster")
def test_who_stops_early_leaves_the_rest_alone(way, notes):
    done = replace(SMALL, label="done")
    run(done)  # so that each of the following is quick
    results = way([done] * 200, progress=False)
    next(results)
    results.close()
    if client := way.keywords.get("client"):
        left = {"waiting", "queued", "processing", "no-worker"}
        while any(task.state in left for task in list(client.cluster.scheduler.tasks.values())):
            time.sleep(0.1)
    assert 1 <= len(notes("done", "process")) < 200


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_that_are_alike_are_trained_together_and_one_by_one_where_one_fails(workers, runs, alone, capsys):
    good = [replace(EXACT, seed=seed) for seed in range(6)]
    bad = replace(EXACT, loss_weight=torch.full((100,), 1e38, dtype=torch.float64), label="diverges")
    other = replace(EXACT, schedule="cosine")
    results = []
    with pytest.raises(SweepError, match=r"(?s)1 of 8 runs failed:\ndiverges: .*FloatingPointError: the loss is"):
        for result in sweep([bad, *good, other], workers=workers):
            results.append(result)
    together = {result.experiment.seed: result.history["fleet"] for result in results if result.experiment is not other}
    assert together == ({seed: 1 for seed in range(6)} if workers == 1 else {0: 3, 1: 1, 2: 3, 3: 1, 4: 3, 5: 1})
    for result in results:
        if result.experiment is not other:
            torch.testing.assert_close(result.samples, alone(result.experiment.seed, EXACT), rtol=1e-3, atol=1e-3)
    assert "960/960" in re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-1]


def test_a_fleet_whose_process_is_killed_goes_on_to_the_same_bits(notes, tmp_path, monkeypatch):
    fleet = [replace(SMALL, seed=seed, label="dies once" if seed == 0 else "") for seed in range(4)]
    killed = {result.experiment.seed: result for result in sweep(fleet, workers=2)}
    assert notes("dies once", "killed") == notes("dies once", "resumed") == [KILLED_AT]
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "whole"))
    for seed, whole in zip((0, 2), run_fleet([fleet[0], fleet[2]]), strict=True):
        assert killed[seed].history["fleet"] == 2
        assert torch.equal(killed[seed].samples, whole.samples)


@pytest.mark.parametrize(
    ("runs", "device", "fleet", "workers", "sizes"),
    [
        (5, "cpu", None, 2, [3, 2]),
        (20, "cpu", None, 2, [5, 5, 5, 5]),
        (20, "cpu", 3, 1, [3, 3, 3, 3, 3, 3, 2]),
        (20, "cuda", None, 1, [10, 10]),
        (3, "cpu", 1, 2, [1, 1, 1]),
        (0, "cpu", None, 1, []),
    ],
)
def test_fleets_are_of_equal_size_and_keep_all_workers_busy(runs, device, fleet, workers, sizes):
    groups = _groups([SMALL] * runs, device, fleet, workers)
    assert [len(group) for group in groups] == sizes
    assert sorted(i for group in groups for i in group) == list(range(runs))


def test_pictures_are_trained_together_on_a_gpu_only():
    experiments = [replace(SMALL, dataset="emoji")] * 2
    assert _groups(experiments, "cpu", None, 1) == [(0,), (1,)]
    assert _groups(experiments, "cuda", None, 1) == [(0, 1)]


@pytest.mark.parametrize("name", ["fleet", "workers"])
def test_a_fleet_of_none_and_no_worker_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} = 0"):
        next(sweep([SMALL], **{name: 0}))


def test_local_processes_beside_a_cluster_are_refused():
    with pytest.raises(ValueError, match=r"workers = 2"):
        next(sweep([SMALL], object(), workers=2))


def test_one_network_is_trained_at_a_time_in_a_process_of_several_threads(monkeypatch):
    """A Dask worker may have several, and networks are initialised from a generator that the process has once."""
    inside, most = [], []

    def busy(experiments: list[Experiment], **_: Any) -> list[SimpleNamespace]:
        inside.append(experiments)
        most.append(len(inside))
        time.sleep(0.02)
        inside.remove(experiments)
        return [SimpleNamespace(folder="done")]

    monkeypatch.setattr(sys.modules["memlib.lab.sweep"], "run_fleet", busy)
    with ThreadPoolExecutor(4) as threads:
        tasks = [threads.submit(_work, (i,), [SMALL.to_dict()], "cpu", {}) for i in range(4)]
    assert [task.result() for task in tasks] == [["done"]] * 4
    assert most == [1] * 4
