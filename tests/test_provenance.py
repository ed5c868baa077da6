"""What a result was made with, and where memlib finds its files: in a clone, in another project, installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from memlib.lab import files
from memlib.lab import provenance as module

ROOT = Path(__file__).resolve().parent.parent


def test_the_commit_is_the_clones_and_uncommitted_changes_are_marked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert module._commit() == "unknown"

    def git(*command: str) -> str:
        return subprocess.check_output(["git", "-C", str(tmp_path), *command], text=True).strip()

    (tmp_path / "file").write_text("old")
    git("init", "--quiet")
    git("add", "file")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")[:12]
    assert module._commit() == head
    (tmp_path / "file").write_text("new")
    assert module._commit() == head + "+"
    (tmp_path / "memlib").mkdir()  # an archive of memlib, unpacked in another project
    monkeypatch.setattr(module, "ROOT", tmp_path / "memlib")
    assert module._commit() == "unknown"
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert module._commit() == "unknown", "without git"


def test_a_write_is_seen_complete_or_not_at_all(tmp_path, monkeypatch) -> None:
    files.write_atomically(tmp_path / "ü", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*ü"):
        files.write_atomically(tmp_path / "ü", b"new")
    assert (tmp_path / "ü").read_text() == "old" and os.listdir(tmp_path) == ["ü"]


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
