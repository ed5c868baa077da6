"""What a result was made with, and where memlib finds its files: in a clone, in another project, installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from memlib.lab import files
from memlib.lab import provenance as module

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A clone of one commit, in place of this one."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    options = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], [*options, "commit", "--quiet", "--allow-empty", "--message", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_uncommitted_changes_are_marked(clone) -> None:
    head = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert module._commit() == head.stdout[:12]
    (clone / "new").touch()
    assert module._commit() == head.stdout[:12] + "+"


@pytest.mark.parametrize("without", ["git", "a clone", "a repository of its own"])
def test_without_a_repository_of_memlib_the_commit_is_unknown(clone, monkeypatch, without) -> None:
    if without == "git":
        monkeypatch.setenv("PATH", str(clone))
    elif without == "a clone":
        shutil.rmtree(clone / ".git")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(clone.parent))
    else:  # an archive of memlib, unpacked in another project
        monkeypatch.setattr(module, "ROOT", clone / "memlib")
        (clone / "memlib").mkdir()
    assert module._commit() == "unknown"


@pytest.mark.parametrize(
    ("installed", "commit"),
    [
        (
            json.dumps({"url": "https://a/b", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}}),
            "0123456789ab",
        ),
        (json.dumps({"url": "file:///a", "dir_info": {"editable": True}}), "unknown"),
        (None, "unknown"),  # from a package index
    ],
)
def test_an_installed_memlib_names_the_commit_that_pip_recorded(monkeypatch, installed, commit) -> None:
    monkeypatch.setattr(module, "CLONE", False)
    monkeypatch.setattr(module, "distribution", lambda name: SimpleNamespace(read_text=lambda name: installed))
    assert module._commit() == commit


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [
        ("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Slow\n", "Fast 9000"),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_the_processor_is_named_as_well_as_the_system_can(tmp_path, monkeypatch, cpuinfo, named) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(module, "Path", lambda name: tmp_path / Path(name).relative_to("/proc"))
    assert module._processor() == named


def test_a_write_is_seen_complete_or_not_at_all(tmp_path, monkeypatch) -> None:
    files.write_atomically(tmp_path / "ü", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*ü"):
        files.write_atomically(tmp_path / "ü", b"new")
    assert (tmp_path / "ü").read_text() == "old" and os.listdir(tmp_path) == ["ü"]
    with pytest.raises(ValueError, match="marks"):
        files.write_between(tmp_path / "ü", ("<!--a-->", "<!--b-->"), "new")


def test_the_wheel_has_its_data_and_writes_nothing_beside_itself(tmp_path) -> None:
    """Built from a copy, unpacked and used from elsewhere, as an installed memlib is."""
    source, unpacked, cache = tmp_path / "source", tmp_path / "site packages", tmp_path / "cache"
    shutil.copytree(ROOT / "memlib", source / "memlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data", source / "data", ignore=shutil.ignore_patterns("downloads"))
    (source / "data" / "downloads").mkdir()
    (source / "data" / "downloads" / "large.npz").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(unpacked)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "memlib").rglob("*.py")}
    shipped = {f"memlib/_data/{path}" for path in ("README.md", "emoji.json", "emoji.npz")}
    for pattern in ("*.toml", "plans/*", "results/*.jsonl", "results/samples/*"):
        shipped |= {
            f"memlib/_data/{path.relative_to(ROOT / 'data').as_posix()}" for path in (ROOT / "data").glob(pattern)
        }
    assert modules | shipped <= names and not [name for name in names if "downloads" in name]

    script = (
        "from memlib.lab import data, files, provenance; data.load('emoji')\n"
        "print(data.__file__, provenance.provenance()['commit'], data.DOWNLOADS, files.home(), sep='|')"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEMLIB")}
    environment |= {"PYTHONPATH": str(unpacked), "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    before = sorted(unpacked.rglob("*"))
    said = subprocess.check_output([sys.executable, "-c", script], cwd=tmp_path, env=environment, text=True).strip()
    module_file, commit, downloads, home = said.split("|")
    assert Path(module_file).is_relative_to(unpacked) and commit == "unknown"
    assert not Path(downloads).is_relative_to(unpacked) and Path(downloads).parent == Path(home)
    assert sorted(unpacked.rglob("*")) == before
