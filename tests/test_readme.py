"""The README's Python runs as printed, and what it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.S))
def test_code_runs_as_printed(code, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    results = [names[n] for n in ("loss", "samples") if n in names]
    assert results and all(r.isfinite().all() for r in results)


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert links and not missing


def test_commands_are_targets_of_the_makefile():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    named = set(re.findall(r"make ([a-z]+)", README))
    assert {"reproduce", "test", "lab"} <= named <= set(targets)
