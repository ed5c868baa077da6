"""The planted bugs are well-formed, and the script that plants them tells a bug that is caught from one that is not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from mutate import ROOT, Mutant, main, read_mutants

ALL = read_mutants()
CORE = ("schedules", "timesteps", "models", "training", "samplers")
EVIDENCE = ("inference", "claims", "results", "experiment", "plans", "data", "sweep", "download")
METRICS = ("memorization", "alignment", "estimates", "finest_scale", "judge", "neighbours")


def mutate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def written(path: Path, *mutants: dict[str, str]) -> str:
    """A file of mutants: what JSON writes of a string, TOML reads."""
    tables = ["\n".join(["[[mutants]]", *(f"{k} = {json.dumps(v)}" for k, v in m.items())]) for m in mutants]
    path.write_text("\n".join(tables), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_each_is_found_once_compiles_and_names_a_test(mutant: Mutant) -> None:
    original = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.source())) != ast.dump(ast.parse(original)), "it changes nothing"
    compile(mutant.source(), mutant.file, "exec")
    file, _, test = mutant.killed_by.partition("::")
    assert test in {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}


def test_they_are_many_and_spread_over_all_that_counts() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL) >= 40
    assert len({(mutant.file, mutant.source()) for mutant in ALL}) == len(ALL)
    files = {mutant.file for mutant in ALL}
    assert {f"memlib/{name}.py" for name in (*CORE, *EVIDENCE)} <= files
    assert {f"memlib/metrics/{name}.py" for name in METRICS} <= files
    for folder in ("explore", "plots"):
        assert any(file.startswith(f"memlib/{folder}/") for file in files)
    assert f"plants {len(ALL)} bugs" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_planted_bug_is_killed_and_the_working_tree_left_alone() -> None:
    before = (ROOT / "memlib" / "timesteps.py").read_bytes()
    ended = mutate("--only", "Min-SNR weight bounded from below")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "killed" in ended.stdout and "1 of 1 killed" in ended.stdout
    assert (ROOT / "memlib" / "timesteps.py").read_bytes() == before


def test_what_no_test_can_see_survives(tmp_path) -> None:
    (bug,) = (asdict(mutant) for mutant in ALL if "Min-SNR weight bounded" in mutant.name)
    harmless = bug | {"name": "another comment", "find": "# scaled by", "replace": "# multiplied by"}
    ended = mutate("--mutants", written(tmp_path / "two.toml", bug, harmless))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    killed, survived = ended.stdout.splitlines()[:2]
    assert killed.startswith("killed") and bug["name"] in killed
    assert survived.startswith("SURVIVED") and "another comment" in survived
    assert "1 of 2 killed" in ended.stdout


def test_a_test_that_does_not_pass_without_the_bug_kills_nothing(tmp_path) -> None:
    failing = tmp_path / "test_always_fails.py"
    failing.write_text("import memlib\n\n\ndef test_it():\n    assert memlib is None\n")
    bug = {"name": "a", "file": "memlib/timesteps.py", "find": "# scaled by", "replace": "# by"}
    ended = mutate("--mutants", written(tmp_path / "one.toml", bug | {"killed_by": f"{failing}::test_it"}))
    assert ended.returncode == 1
    assert "without a bug the tests do not pass" in ended.stdout


@pytest.mark.parametrize(("find", "count"), [("no such text", 0), ("from ", 3)])
def test_text_that_is_not_there_exactly_once_is_named(tmp_path, capsys, find: str, count: int) -> None:
    bug = {"name": "lost", "file": "memlib/metrics/checks.py", "find": find, "replace": "x", "killed_by": "tests"}
    with pytest.raises(SystemExit) as ended:
        main(["--mutants", written(tmp_path / "one.toml", bug)])
    assert ended.value.code == 1
    says = f"lost: `find` occurs {count} times in memlib/metrics/checks.py; need exactly once"
    assert says in capsys.readouterr().err


def test_a_name_that_no_mutant_has_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "no such bug"])
    assert ended.value.code == 2
    assert "'no such bug'" in capsys.readouterr().err
