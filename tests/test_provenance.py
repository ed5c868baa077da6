"""What a result was made with is told wherever it is made, with git or without."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from memlib.lab import provenance as module


def told() -> dict[str, str]:
    return module.provenance.__wrapped__()  # not what an earlier call kept


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A clone of one commit, in place of this one."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    names = {"user.name": "a", "user.email": "a@example.org"}
    options = [word for name, value in names.items() for word in ("-c", f"{name}={value}")]
    for command in (["init", "--quiet"], [*options, "commit", "--quiet", "--allow-empty", "--message", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_uncommitted_changes_are_marked(clone) -> None:
    head = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert told()["commit"] == head.stdout[:12]
    (clone / "new").touch()
    assert told()["commit"] == head.stdout[:12] + "+"


@pytest.mark.parametrize("without", ["git", "a clone"])
def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch, without) -> None:
    if without == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert told()["commit"] == "unknown"


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [
        ("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Slow\n", "Fast 9000"),
        ("processor\t: 0\n", platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_the_processor_is_named_as_well_as_the_system_can(tmp_path, monkeypatch, cpuinfo, named) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(module, "Path", lambda name: tmp_path / Path(name).relative_to("/proc"))
    assert module._processor() == named
