"""What a result was made with, and where memlib finds its files: in a clone, in another project, installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from memlib.lab import files
from memlib.lab import provenance as module

ROOT = Path(__file__).resolve().parent.parent


def test_the_commit_is_the_clones_and_uncommitted_changes_are_marked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "distribution", lambda name: SimpleNamespace(read_text=lambda file: origin))
    origin = None
    assert module._commit() == "unknown"

    def git(*command: str) -> str:
        return subprocess.check_output(["git", "-C", str(tmp_path), *command], text=True).strip()

    (tmp_path / "file").write_text("old")
    git("init", "--quiet")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "memlib"\n')
    git("add", "file", "pyproject.toml")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")[:12]
    assert module._commit() == head
    (tmp_path / "file").write_text("new")
    assert module._commit() == head + "+"
    (tmp_path / "memlib").mkdir()  # an archive of memlib, unpacked in another project
    monkeypatch.setattr(module, "ROOT", tmp_path / "memlib")
    assert module._commit() == "unknown"
    origin = json.dumps({"url": "ssh://host/memlib", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}})
    assert module._commit() == "0123456789ab", "what pip installed it from"
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert module._commit() == "unknown", "without git"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    origin = json.dumps({"dir_info": {"editable": True}, "url": "file:///elsewhere"})
    assert module._commit() == "unknown", "vendored in another project, whose commit is not memlib's"


def test_a_write_is_seen_complete_or_not_at_all(tmp_path, monkeypatch) -> None:
    files.write_atomically(tmp_path / "ü", "old")
    monkeypatch.setattr(files.os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left.*ü"):
        files.write_atomically(tmp_path / "ü", b"new")
    assert (tmp_path / "ü").read_text() == "old" and os.listdir(tmp_path) == ["ü"]
    with pytest.raises(ValueError, match="lacks the marks"):
        files.write_between(tmp_path / "ü", ("<!-- a -->", "<!-- b -->"), "text")


def test_the_wheel_has_its_data_and_writes_nothing_beside_itself(tmp_path) -> None:
    """Built from a copy, unpacked and used from elsewhere, beside what it requires and nothing else."""
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
    for pattern in ("**/*.toml", "**/*.jsonl", "networks/*.pt", "results/samples/*"):
        shipped |= {f"memlib/_data/{path.relative_to(ROOT / 'data')}" for path in (ROOT / "data").glob(pattern)}
    assert modules | shipped <= names and not [name for name in names if "downloads" in name]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch, core = closure(["torch"]), closure(project["dependencies"])
    assert len(core - torch) < 25
    lab = closure([*project["dependencies"], *project["optional-dependencies"]["lab"]])
    environment = {"PYTHONPATH": f"{unpacked}{os.pathsep}{tmp_path / 'bare'}", "XDG_CACHE_HOME": str(cache)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-S", *arguments]  # without the site-packages of this environment
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    link(core, tmp_path / "bare")
    before = sorted(unpacked.rglob("*"))
    (readme,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    done = run("-c", readme.replace("TrainConfig(2000", "TrainConfig(2") + "print(samples.shape)")
    assert done.stdout.endswith("torch.Size([512, 16])\n"), done.stderr
    done = run("-m", "memlib", "claims")
    assert done.returncode == 2 and "pip install '.[lab]'" in done.stderr

    link(lab - core, tmp_path / "bare")
    script = "from memlib.lab import data, files, provenance; data.load('emoji')\n"
    script += "print(data.__file__, provenance.provenance()['commit'], data.DOWNLOADS, files.home(), sep='|')"
    module_file, commit, downloads, home = run("-c", script).stdout.strip().split("|")
    assert Path(module_file).is_relative_to(unpacked) and commit == "unknown"
    assert not Path(downloads).is_relative_to(unpacked) and Path(downloads).parent == Path(home)
    assert "| C1 |" in run("-m", "memlib", "claims").stdout
    for command, extra in (("reproduce", "site"), ("refresh", "notebooks")):
        done = run("-m", "memlib", command)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and f"pip install '.[{extra}]'" in done.stderr
    assert sorted(unpacked.rglob("*")) == before


def closure(required: Iterable[str]) -> set[str]:
    """The distributions that these requirements bring."""
    found, left = set(), [Requirement(line) for line in required]
    while left:
        one = left.pop()
        if (one.marker is None or one.marker.evaluate({"extra": ""})) and canonicalize_name(one.name) not in found:
            found.add(canonicalize_name(one.name))
            left += map(Requirement, distribution(one.name).requires or [])
    return found


def link(names: Iterable[str], folder: Path) -> None:
    """Make the packages of these distributions, and no others, importable from `folder`."""
    folder.mkdir(exist_ok=True)
    for name in names:
        for top in {file.parts[0] for file in distribution(name).files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution(name).locate_file(top))))
