"""Runs and sweeps lose nothing: kills, full disks, flipped bytes, hostile files, and eight who ask for the same run.

`make test` runs the short form, `make test-faults` (FAULTS=long) the long one."""

import json
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from test_experiment import kill

from memlib import uniform
from memlib.lab import runs as module
from memlib.lab.experiment import Experiment, Network
from memlib.lab.runs import Result, run, run_fleet
from memlib.lab.sweep import sweep
from memlib.training import TrainConfig

LONG = os.environ.get("FAULTS") == "long"
KILLS = 50 if LONG else 5
PLACES = 200  # where a byte is flipped, in each kind of file
CONTEXT = get_context("forkserver")  # one warm process that forks: torch is imported once, not at each kill
CONTEXT.set_forkserver_preload(["memlib.lab", "pytest", "torch._dynamo"])
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


def experiment(seed: int = 0) -> Experiment:
    own = {"training": TrainConfig(steps=60, batch_size=8), "course": (20, 45), "n_samples": 6, "sampler_steps": 5}
    return Experiment(uniform(100), "spiral", 8, network=Network(16), seed=seed, **own)


def alone() -> None:
    run(experiment())


def fleet() -> None:
    run_fleet([experiment(seed) for seed in range(3)])


def sweep_of_two(workers: int) -> None:
    list(sweep([experiment(seed) for seed in range(2)], workers=workers, fleet=1, progress=False))


def child(work: Callable[[], Any], folder: Path, at: float | int | None = None, note: Path | None = None) -> None:
    """Do it; killed after a time (a float) or right before a file operation in `folder` (an int)."""
    os.environ["MEMLIB_RUNS"] = str(folder)
    module.CHECKPOINT_SECONDS = 0
    operations = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal operations
        if event in FILE_OPERATIONS and str(folder) in str(arguments[0]):
            operations += 1
            if type(at) is int and operations == at:
                die()

    sys.addaudithook(count)
    if isinstance(at, float):
        timer = threading.Timer(at, die)
        timer.daemon = True
        timer.start()
    started = time.monotonic()
    work()
    if note:
        note.write_text(json.dumps([time.monotonic() - started, operations]))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended(target: Callable[..., None], *arguments: Any) -> int:
    """Call it in a process of its own; the exit code (-9: killed)."""
    return all_ended([CONTEXT.Process(target=target, args=arguments)])[0]


def all_ended(processes: list) -> list[int]:
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert None not in [process.exitcode for process in processes], "it hangs"
    return sorted(process.exitcode for process in processes)


def content(folder: Path) -> dict[str, str]:
    """What each file holds, but for locks and the seconds that a run took."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
        kept = module._read(path)
        kept["history"]["seconds"] = 0
        found[path.name] = repr([kept, bits(kept["samples"]), [bits(w) for w in kept["weights"].values()]])
    return found


def bits(tensors: Any) -> list:
    return tensors.tolist() if isinstance(tensors, torch.Tensor) else [bits(tensor) for tensor in tensors.values()]


@pytest.mark.parametrize("work", [alone, fleet])
def test_killed_at_any_moment_it_ends_with_the_same_bits(work, tmp_path) -> None:
    """Half of the kills come at random times, half right before a random file operation."""
    undisturbed, note = tmp_path / "undisturbed", tmp_path / "note"
    assert ended(child, work, undisturbed, None, note) == 0
    seconds, operations = json.loads(note.read_text())
    expected, g, killed = content(undisturbed), random.Random(1), 0
    assert expected
    for i in range(KILLS):
        folder = tmp_path / str(i)
        at = g.uniform(0, seconds) if i % 2 else g.randint(1, operations)
        killed += ended(child, work, folder, at) == -signal.SIGKILL
        assert ended(child, work, folder) == 0
        assert content(folder) == expected, f"killed at {at}"
    assert killed >= KILLS // 2


@pytest.mark.parametrize("seed", range(5 if LONG else 1))
def test_if_a_sweep_is_killed_its_workers_exit_and_it_can_go_on(seed, tmp_path) -> None:
    folder = tmp_path / "killed"
    process = CONTEXT.Process(target=child, args=(partial(sweep_of_two, 2), folder))
    process.start()
    deadline = time.monotonic() + 120
    while not [*folder.glob("*.checkpoint"), *folder.glob("*.pt")]:  # its workers are at work
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 0.5) if seed else 0)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join(30)
    left = psutil.wait_procs(started, timeout=30)[1]
    assert started and all(not w.is_running() or w.status() == psutil.STATUS_ZOMBIE for w in left), "a worker goes on"
    for place in (folder, tmp_path / "undisturbed"):
        assert ended(child, partial(sweep_of_two, 1), place) == 0
    assert content(folder) == content(tmp_path / "undisturbed")


def on_a_bad_disk(folder: Path, limit: int | None, said: Path) -> None:
    """`limit`: no file may grow beyond it; None: as a user who may not write to the folder."""
    said.write_text("")
    said.chmod(0o666)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    elif os.getuid() == 0:
        os.setuid(65534)  # root may write anywhere
    try:
        child(alone, folder)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(str(error))


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path) -> None:
    folder, said = tmp_path / "runs", tmp_path / "said"
    for limit in (10, 2_000, 20_000):
        assert ended(on_a_bad_disk, folder, limit, said) == 0
        assert "File too large" in said.read_text() and str(folder) in said.read_text()
        assert not [*folder.glob("*.pt"), *folder.glob("*.part")]
    assert ended(child, alone, folder) == 0, "with room it works"
    assert [path.suffix for path in folder.iterdir() if path.suffix != ".lock"] == [".pt"]


def test_a_folder_that_may_not_be_written_is_named() -> None:
    if os.getuid() == 0 and ended(os.setuid, 65534) != 0:
        pytest.skip("root may write anywhere, and cannot become another user here")
    with tempfile.TemporaryDirectory() as place:  # not pytest's, which others may not even enter
        folder, said = Path(place, "folder"), Path(place, "said")
        folder.mkdir()
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        assert ended(on_a_bad_disk, folder, None, said) == 0
        assert "Permission denied" in said.read_text() and str(folder) in said.read_text()
        folder.chmod(0o755)
        assert ended(child, alone, folder) == 0
        folder.chmod(0o555)
        assert ended(on_a_bad_disk, folder, None, said) == 0
        assert said.read_text() == "", "a stored run needs no write"


def flips(whole: bytes) -> Iterator[bytes]:
    """The content with one byte changed, to any other value, at random places."""
    g = random.Random(4)
    for _ in range(PLACES):
        place = g.randrange(len(whole))
        yield whole[:place] + bytes([whole[place] ^ g.randint(1, 255)]) + whole[place + 1 :]


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0)
    return tmp_path / "runs"


def checkpoint_of(runs: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run(experiment(), on_step=kill(40))
    (path,) = runs.glob("*.checkpoint")
    return path


@pytest.mark.parametrize("kind", ["run", "checkpoint"])
def test_a_flipped_byte_is_named_or_changes_nothing(kind, runs) -> None:
    path = checkpoint_of(runs) if kind == "checkpoint" else run(experiment()).path
    whole, named = path.read_bytes(), 0
    expected = repr(module._read(path))
    for damaged in (*flips(whole), b"", whole[:20], whole[:-1]):
        path.write_bytes(damaged)
        try:
            found = module._read(path)
        except ValueError as error:
            assert str(path) in str(error)
            named += 1
        else:  # in padding, or in what a zip file says twice
            assert repr(found) == expected
    assert named > PLACES / 2


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["cut short", "pickle", "pickle in a zip file"])
def test_a_damaged_file_is_named_and_made_again_and_a_hostile_one_is_not_executed(kind, runs, tmp_path) -> None:
    def spoil(path: Path) -> None:
        hostile = Payload(tmp_path / "executed")
        path.write_bytes(pickle.dumps(hostile) if kind == "pickle" else path.read_bytes()[:-1])
        if kind == "pickle in a zip file":
            torch.save({"samples": hostile}, path)

    spoil(path := checkpoint_of(runs))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged.*begins anew"):
        first = run(experiment())
    whole = content(runs)
    spoil(first.path)
    for read in (first.denoiser, partial(Result.load, first.path)):
        with pytest.raises(ValueError, match=first.path.name):
            read()
    with pytest.warns(UserWarning, match=f"{first.path.name} is damaged.*made again"):
        run(experiment())
    assert content(runs) == whole and not (tmp_path / "executed").exists()


def contender(folder: Path, flag: Path) -> None:
    """The first that works dies in the middle of it, unless `flag` is there."""

    def die_first(step: int) -> None:
        told.append(step)
        if step == 40:
            with suppress(FileExistsError):
                flag.touch(exist_ok=False)
                die()

    told: list[int] = []
    child(lambda: run(experiment(), on_step=die_first), folder)
    flag.with_name(f"{os.getpid()}.told").write_text(json.dumps(told[:1]))


@pytest.mark.parametrize("case", ["new", "killed", "damaged"])
def test_eight_at_once_get_one_run(case, tmp_path) -> None:
    """Also if the one that works is killed, and if the run is there, but damaged."""
    folder, flag = tmp_path / "together", tmp_path / "flag"
    if not (killed := case == "killed"):
        flag.touch()
    if case == "damaged":
        assert ended(child, alone, folder) == 0
        (path,) = folder.glob("*.pt")
        path.write_bytes(next(flips(path.read_bytes())))
    codes = all_ended([CONTEXT.Process(target=contender, args=(folder, flag)) for _ in range(8)])
    assert codes == [-signal.SIGKILL] * killed + [0] * (8 - killed)
    told = [json.loads(path.read_text()) for path in tmp_path.glob("*.told")]
    worked = [steps[0] for steps in told if steps]
    assert len(told) == 8 - killed and len(worked) == 1, "one does the work"
    assert (worked[0] > 1) == killed, "and goes on where a killed one was"
    assert ended(child, alone, tmp_path / "alone") == 0
    assert content(folder) == content(tmp_path / "alone")
