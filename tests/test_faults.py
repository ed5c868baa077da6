"""Nothing is lost, nothing lies: kills, full disks, flipped bytes, hostile files, and eight who ask for the same.

`make test` runs the short form, `make test-faults` (FAULTS=long) the long one; the counts: tests/README.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest
import torch

from memlib import notebooks as batch
from memlib import uniform
from memlib.lab import data, download
from memlib.lab import records as results
from memlib.lab import runs as module
from memlib.lab.download import DownloadError, fetch, obtain, read_members
from memlib.lab.experiment import Experiment, Network
from memlib.lab.runs import Result, run
from memlib.lab.sweep import sweep
from memlib.training import TrainConfig

LONG = os.environ.get("FAULTS") == "long"
KILLS = 50 if LONG else 5
PLACES = 200  # where a byte is flipped, in each kind of file
CONTENT = random.Random(0).randbytes(300_000)
CONTEXT = get_context("forkserver")  # one warm process that forks: torch is imported once, not at each kill
CONTEXT.set_forkserver_preload(["memlib.__main__", "memlib.notebooks", "pytest", "requests", "torch._dynamo"])
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


def experiment(seed: int = 0) -> Experiment:
    training = TrainConfig(steps=60, batch_size=8)
    return Experiment(
        uniform(100), "spiral", 8, seed=seed, network=Network(16), training=training, n_samples=6, sampler_steps=5
    )


# --- what is done in a process of its own, and killed there -----------------------------------------------------------


def train(folder: Path, url: str) -> None:
    run(experiment())


def sweep_in_turn(folder: Path, url: str) -> None:
    list(sweep([experiment(seed) for seed in range(2)], workers=1, progress=False))


def sweep_in_processes(folder: Path, url: str) -> None:
    list(sweep([experiment(seed) for seed in range(3)], workers=2, progress=False))


def fetch_set(folder: Path, url: str) -> None:
    def build(work: Path) -> None:
        path = fetch(url, work / "x", digest="sha256:" + hashlib.sha256(CONTENT).hexdigest(), bar=False)
        (work / "y").write_bytes(path.read_bytes()[::-1])

    obtain(folder / "set", ["x", "y"], build)


def append_lines(folder: Path, url: str) -> None:
    for i in range(6):
        line = {"key": f"{i:016}", "config": {"dataset": "emoji", "seed": 0}, "padding": "x" * 3000}
        samples = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        assert "samples_sha256" in results._append(folder, line, samples)


def append_one(folder: Path, url: str) -> None:
    line = {"key": f"{7:016}", "config": {"dataset": "emoji", "seed": 0}}
    (folder / f"{os.getpid()}.answer").write_text(json.dumps(results._append(folder, line, torch.zeros(4, 3, 8, 8))))


def run_notebook(folder: Path, url: str) -> None:
    for outcome in batch.reproduce(batch.find_notebooks(["01_snr_analysis"]), {"profile": "smoke"}, folder):
        assert not outcome.error, outcome.error


Work = Callable[[Path, str], None]


def child(work: Work, folder: Path, url: str, at: float | int | None, note: Path | None) -> None:
    """Do it; killed after a time (a float) or right before a file operation in `folder` (an int)."""
    os.environ |= {"MEMLIB_RUNS": str(folder), "NO_PROXY": "127.0.0.1", "MEMLIB_OFFLINE": ""}
    module.CHECKPOINT_SECONDS = download.PAUSE = 0
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
    work(folder, url)
    if note:
        note.write_text(json.dumps([time.monotonic() - started, operations]))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended(target: Callable[..., None], *arguments: Any, seconds: float = 300) -> int:
    """Call it in a process of its own; the exit code (-9: killed)."""
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join(seconds)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def content(folder: Path) -> dict[str, str]:
    """What each file holds, but for locks and the seconds that a run took."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
        whole = path.read_bytes()
        if path.name == "history.json":
            whole = json.dumps(json.loads(whole) | {"seconds": 0}).encode()
        if path.name == "SHA256SUMS":
            whole = b"\n".join(line for line in whole.splitlines() if not line.endswith(b"history.json"))
        found[str(path.relative_to(folder))] = hashlib.sha256(whole).hexdigest()
    return found


class Server(BaseHTTPRequestHandler):
    """CONTENT, in pieces over a tenth of a second, from the byte that is asked for."""

    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        Server.asked.append(wanted)
        begin = int(wanted[6:-1]) if wanted else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        for place in range(begin, len(CONTENT), 10_000):
            try:
                self.wfile.write(CONTENT[place : place + 10_000])
            except OSError:
                return  # killed
            time.sleep(0.003)

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Its clients are killed: nothing to say."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with QuietServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/x"
        running.shutdown()


# --- kill -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [train, sweep_in_turn, fetch_set, append_lines])
def test_killed_at_any_moment_it_ends_with_the_same_bits(work, tmp_path, url) -> None:
    """Half of the kills come at random times, half right before a random file operation."""
    undisturbed, note = tmp_path / "undisturbed", tmp_path / "note"
    undisturbed.mkdir()
    assert ended(child, work, undisturbed, url, None, note) == 0
    seconds, operations = json.loads(note.read_text())
    expected, g, killed = content(undisturbed), random.Random(1), 0
    assert expected
    for i in range(KILLS):
        folder = tmp_path / str(i)
        folder.mkdir()
        at = g.uniform(0, seconds) if i % 2 else g.randint(1, operations)
        killed += ended(child, work, folder, url, at, None) == -signal.SIGKILL
        if work is append_lines:
            lines = results.read(folder)
            assert [int(line["key"]) for line in lines] == list(range(len(lines))), "a line is lost or half-written"
        assert ended(child, work, folder, url, None, None) == 0
        assert content(folder) == expected, f"killed at {at}"
    print(f"{killed} of {KILLS} were killed before they were done")
    assert killed >= KILLS // 2


def started_for(seconds: float, work: Callable, folder: Path, url: str) -> Any:
    """A process that has been at work for so long, or for less where it would have been done by then."""
    while True:
        process = CONTEXT.Process(target=child, args=(work, folder, url, None, None))
        process.start()
        process.join(seconds)
        if process.is_alive():
            return process
        shutil.rmtree(folder)
        seconds /= 2


def test_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path, url) -> None:
    """With processes of its own; fewer kills, as each costs two imports of torch and more."""
    undisturbed, note = tmp_path / "undisturbed", tmp_path / "note"
    assert ended(child, sweep_in_processes, undisturbed, url, None, note) == 0
    seconds, g = json.loads(note.read_text())[0], random.Random(2)
    for i in range(5 if LONG else 1):
        folder = tmp_path / str(i)
        process = started_for(g.uniform(0.5, 0.9) * seconds, sweep_in_processes, folder, url)
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join(30)
        assert not psutil.wait_procs(started, timeout=20)[1], "a process goes on without its sweep"
        assert ended(child, sweep_in_processes, folder, url, None, None) == 0
        assert content(folder) == content(undisturbed)


@pytest.mark.skipif(not LONG, reason="a notebook takes seconds: in the long form only (make test-faults)")
def test_a_killed_batch_is_run_again_to_the_same_outputs(tmp_path, url) -> None:
    def outputs(folder: Path) -> list[Any]:
        nb = nbformat.read(folder / "01_snr_analysis.ipynb", as_version=4)
        for bundle in (output.get("data", {}) for cell in nb.cells for output in cell.get("outputs", [])):
            bundle.pop("application/vnd.jupyter.widget-view+json", None)  # a widget's number is another each time
        return [(cell.source, cell.get("outputs")) for cell in nb.cells]

    undisturbed, note = tmp_path / "undisturbed", tmp_path / "note"
    assert ended(child, run_notebook, undisturbed, url, None, note) == 0
    seconds, g, folder = json.loads(note.read_text())[0], random.Random(3), tmp_path / "killed"
    for _ in range(5):
        process = started_for(g.uniform(0.2, 0.9) * seconds, run_notebook, folder, url)
        kernels = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join(30)
        assert not psutil.wait_procs(kernels, timeout=30)[1], "a kernel goes on without its batch"
        assert ended(child, run_notebook, folder, url, None, None) == 0
        assert {path.name for path in folder.iterdir()} == {path.name for path in undisturbed.iterdir()}
        assert outputs(folder) == outputs(undisturbed)
        shutil.rmtree(folder)


# --- full disks and read-only folders ---------------------------------------------------------------------------------


def on_a_bad_disk(work: Work, folder: Path, url: str, limit: int | None, said: Path) -> None:
    """`limit`: no file may grow beyond it; None: as a user who may not write to the folder."""
    said.touch()
    said.chmod(0o666)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    elif os.getuid() == 0:
        os.setuid(65534)  # root may write anywhere
    try:
        child(work, folder, url, None, None)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(str(error))


@pytest.mark.parametrize("work", [train, fetch_set, append_lines])
def test_a_full_disk_is_named_and_what_was_there_stays(work, tmp_path, url) -> None:
    (tmp_path / "emoji.jsonl").touch()
    append_one(tmp_path, url)  # an earlier result
    before, refused = content(tmp_path), 0
    for limit in (10, 500, 2_000, 5_000, 20_000, 200_000):
        said = tmp_path.parent / f"{tmp_path.name}.said"
        assert ended(on_a_bad_disk, work, tmp_path, url, limit, said) == 0
        if not said.read_text():
            break
        refused += 1
        assert "File too large" in said.read_text() and str(tmp_path) in said.read_text()
        assert results.read(tmp_path)[0]["key"] == f"{7:016}"
        found = content(tmp_path)
        assert not [name for name in found if ".part" in name and not name.endswith(".part/checkpoint")]
        assert all(found[name] == digest for name, digest in before.items() if name != "emoji.jsonl")
    assert refused >= 2
    assert ended(child, work, tmp_path, url, None, None) == 0, "with room it works"
    assert not [name for name in content(tmp_path) if ".part" in name]


@pytest.mark.parametrize("work", [train, fetch_set, append_lines])
def test_a_folder_that_may_not_be_written_is_named(work, url) -> None:
    if os.getuid() == 0 and ended(os.setuid, 65534) != 0:
        pytest.skip("root may write anywhere, and cannot become another user here")
    with tempfile.TemporaryDirectory() as place:  # not pytest's, which others may not even enter
        folder, said = Path(place, "folder"), Path(place, "said")
        folder.mkdir()
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        assert ended(on_a_bad_disk, work, folder, url, None, said) == 0
        assert "Permission denied" in said.read_text() and str(folder) in said.read_text()
        assert os.listdir(folder) == []


# --- corruption -------------------------------------------------------------------------------------------------------


def flips(whole: bytes, n: int = PLACES) -> Iterator[bytes]:
    """The content with one byte changed, to any other value, at n random places."""
    g = random.Random(4)
    for _ in range(n):
        place = g.randrange(len(whole))
        yield whole[:place] + bytes([whole[place] ^ g.randint(1, 255)]) + whole[place + 1 :]


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0)
    return tmp_path / "runs"


class Stop(BaseException):
    """Leaves everything where it is, as a kill does."""


def checkpoint_of(runs: Path) -> Path:
    def stop(step: int) -> None:
        if step == 40:
            raise Stop

    with pytest.raises(Stop):
        run(experiment(), on_step=stop)
    (path,) = runs.glob("*.part/checkpoint")
    return path


def test_a_flipped_byte_in_a_checkpoint_is_named_and_the_run_redone(runs) -> None:
    path = checkpoint_of(runs)
    whole = path.read_bytes()
    for damaged in (*flips(whole), b"", whole[:20], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint is damaged: its sha256 does not fit"):
            module.checkpoint.read(path)
    with pytest.warns(UserWarning, match="checkpoint is damaged.*the run begins anew"):
        redone = run(experiment())
    assert [path.name for path in runs.iterdir() if path.is_dir()] == [redone.folder.name]
    shutil.rmtree(runs)
    assert torch.equal(run(experiment()).samples, redone.samples)


def test_a_flipped_byte_in_a_finished_run_is_named(runs) -> None:
    folder = run(experiment()).folder
    kept, expected = {path: path.read_bytes() for path in folder.iterdir()}, content(folder)
    harmless = 0
    for path in kept:
        for damaged in flips(kept[path]):
            folder.mkdir(exist_ok=True)
            for other, whole in kept.items():
                other.write_bytes(damaged if other == path else whole)
            try:
                Result.load(folder)
            except ValueError as error:
                assert str(folder) in str(error) and not folder.exists()
            else:  # one line break for another
                assert path.name == "SHA256SUMS"
                assert content(folder) | {"SHA256SUMS": ""} == expected | {"SHA256SUMS": ""}
                harmless += 1
    assert harmless < 5


def test_weights_that_were_damaged_after_their_run_was_read_are_named(runs) -> None:
    result = run(experiment())
    path = result.folder / "weights.safetensors"
    path.write_bytes(next(flips(path.read_bytes())))
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        result.denoiser()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, text in members.items():
                file.writestr(name, text)
    else:
        with tarfile.open(path, "w:gz") as file:
            for name, text in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                file.addfile(info, io.BytesIO(text))
    return path


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_a_flipped_byte_in_an_archive_never_changes_a_member(kind, tmp_path) -> None:
    """Of a zip a member may be missing, which its reader names; its content is never another."""
    numbers = np.random.default_rng(0).normal(size=(2, 60))
    members = {f"folder/{i}.txt": "\n".join(map(str, row)).encode() for i, row in enumerate(numbers)}
    whole, named = archive(tmp_path / kind, members).read_bytes(), 0
    for damaged in flips(whole, 5 * PLACES):
        (tmp_path / kind).write_bytes(damaged)
        try:
            found = dict(read_members(tmp_path / kind, lambda name: True))
        except DownloadError as error:
            assert kind in str(error)
            named += 1
        else:
            assert found.items() <= members.items()
            assert found == members or kind == "a.zip"
    assert named > 4 * PLACES


@pytest.mark.parametrize("name", ["emoji.npz", "emoji.json"])
def test_a_flipped_byte_in_the_shipped_emoji_is_named(name, tmp_path, monkeypatch) -> None:
    for each in ("emoji.npz", "emoji.json"):
        shutil.copy(data.DATA / each, tmp_path)
    monkeypatch.delenv("MEMLIB_DATA", raising=False)
    whole, expected = (data.DATA / name).read_bytes(), data._emoji()
    monkeypatch.setattr(data, "DATA", tmp_path)
    for damaged in flips(whole):
        (tmp_path / name).write_bytes(damaged)
        try:
            found = data._emoji()
        except ValueError as error:
            assert str(tmp_path) in str(error) and "restore it with git" in str(error)
        else:  # in what describes the set and is not read
            assert name == "emoji.json" and np.array_equal(found, expected)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_flipped_byte_in_a_readers_own_pictures_is_named(write, tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    write(tmp_path / "own.npz", images=images)
    for damaged in flips((tmp_path / "own.npz").read_bytes(), 5 * PLACES):
        (tmp_path / "own.npz").write_bytes(damaged)
        try:
            assert np.array_equal(data._read_images(tmp_path / "own.npz"), images)
        except ValueError as error:
            assert "own.npz" in str(error)


# --- hostile files ----------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_unpickled(runs, tmp_path, monkeypatch) -> None:
    executed = tmp_path / "executed"
    payload = pickle.dumps(Payload(executed))

    checkpoint_of(runs).write_bytes(payload)
    with pytest.warns(UserWarning, match="checkpoint is damaged"):
        result = run(experiment())

    for name in ("samples.safetensors", "weights.safetensors", "history.json", "experiment.json"):
        folder = shutil.copytree(result.folder, tmp_path / "copy", dirs_exist_ok=True)
        (folder / name).write_bytes(payload)
        sums = "".join(f"{download.digest_of(folder / each)[7:]}  {each}\n" for each in module.FILES)
        (folder / "SHA256SUMS").write_text(sums)  # as who made it would
        with pytest.raises(ValueError, match=r"copy.* delete the folder"):
            Result.load(folder).denoiser()

    (tmp_path / "emoji").mkdir()
    monkeypatch.setenv("MEMLIB_DATA", str(tmp_path))
    (tmp_path / "emoji" / "emoji.npz").write_bytes(payload)
    with pytest.raises(ValueError, match=r"emoji\.npz is damaged"):
        data.load("emoji")

    (tmp_path / "samples").mkdir()
    path = tmp_path / "samples" / "a.npz"
    np.savez(path, samples=np.array([Payload(executed)], dtype=object), allow_pickle=True)
    for hostile in (path.read_bytes(), payload):
        path.write_bytes(hostile)
        with pytest.raises(ValueError, match="allow_pickle"):
            results.read_samples({"key": "a", "samples_sha256": hashlib.sha256(hostile).hexdigest()}, tmp_path)
    assert not executed.exists()


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_a_thousandfold_bomb_is_refused_in_little_memory(kind, tmp_path) -> None:
    path = archive(tmp_path / kind, {"zeros": bytes(100_000_000)})
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(DownloadError, match="unpacks to more than the 1000000 bytes"):
        list(read_members(path, lambda name: True, max_bytes=10**6))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 5000, "[" * 100_000, '"\\ud800', "NaN"])
def test_a_sealed_line_of_nonsense_is_refused_with_its_place(value, tmp_path) -> None:
    sealed = f'{{"key": "a", "value": {value}'.encode()
    (tmp_path / "a.jsonl").write_bytes(sealed + results._SEAL + results._digest(sealed) + b"\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: "):
        results.read(tmp_path)


def test_a_script_in_a_recorded_line_is_shown_as_text() -> None:
    line = results.read()[0]
    bad = "<script>alert(1)</script>"
    line = line | {"key": bad, "config": line["config"] | {"dataset": bad}}
    shown = results.table([line])._repr_html_() + results.summary([line])._repr_html_()
    assert "alert(1)" in shown and "<script" not in shown


# --- two at once ------------------------------------------------------------------------------------------------------


def contender(work: Work, folder: Path, url: str, flag: Path) -> None:
    """The first that works dies in the middle of it, unless `flag` is there."""

    def die_first(*_: Any) -> None:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        die()

    def train_and_note(folder: Path, url: str) -> None:
        told = []
        run(experiment(), on_step=lambda step: (told.append(step), step == 40 and die_first()))
        (folder / f"{os.getpid()}.told").write_text(json.dumps(told[:1]))

    replace, write = os.replace, results.write_atomically
    if work is fetch_set:
        download.os = type("os", (), vars(os) | {"replace": staticmethod(lambda a, b: (die_first(), replace(a, b)))})
    if work is append_one:
        results.write_atomically = lambda path, content: (write(path, content), die_first())
    child(train_and_note if work is train else work, folder, url, None, None)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("work", [train, fetch_set, append_one])
def test_eight_at_once_get_one_answer_also_when_the_worker_is_killed(work, killed, tmp_path, url) -> None:
    folder, flag = tmp_path / "together", tmp_path / "flag"
    folder.mkdir()
    if not killed:
        flag.touch()
    Server.asked.clear()
    processes = [CONTEXT.Process(target=contender, args=(work, folder, url, flag)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    codes = sorted(process.exitcode for process in processes)
    assert codes == [-signal.SIGKILL] * killed + [0] * (8 - killed)
    if work is append_one:
        answers = [json.loads(path.read_text()) for path in folder.glob("*.answer")]
        assert len(answers) == 8 - killed
        (line,) = results.read(folder)
        assert all(answer == line for answer in answers) and results.read_samples(line, folder) is not None
        return
    if work is fetch_set:
        assert len(Server.asked) == 1 + killed
    else:
        told = [json.loads(path.read_text()) for path in folder.glob("*.told")]
        worked = [steps[0] for steps in told if steps]
        assert len(told) == 8 - killed and len(worked) == 1, "one does the work"
        assert (worked[0] > 1) == killed, "and goes on where a killed one was"
        for path in folder.glob("*.told"):
            path.unlink()
    alone = tmp_path / "alone"
    alone.mkdir()
    assert ended(child, work, alone, url, None, None) == 0
    assert content(folder) == content(alone)


def test_eight_who_meet_a_damaged_run_remove_it_once(runs) -> None:
    """None removes the folder that another has made anew: it is named at least once, and in the end it is right."""
    result = run(experiment())
    path = result.folder / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(next(flips(whole)))
    processes = [CONTEXT.Process(target=child, args=(train, runs, "", None, None)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert {process.exitcode for process in processes} <= {0, 1} and 1 in {p.exitcode for p in processes}
    assert ended(child, train, runs, "", None, None) == 0
    assert path.read_bytes() == whole
