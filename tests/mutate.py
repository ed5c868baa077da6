"""Plant each bug of mutants.toml in a copy of memlib: one of the tests that it names must fail.

The working tree is never edited. A bug whose text is gone from its file is named: choose another, or a new text."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """A bug: `find`, which occurs once in `file`, becomes `replace`; one of `tests` must see it."""

    name: str
    find: str
    replace: str
    file: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def source(self) -> str:
        """The file with the bug in it. Raises LookupError unless `find` occurs exactly once."""
        source = (ROOT / self.file).read_text(encoding="utf-8")
        if (count := source.count(self.find)) != 1:
            raise LookupError(f"{self}: its text occurs {count} times; need exactly once")
        return source.replace(self.find, self.replace)


def read_mutants() -> list[Mutant]:
    files = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))["files"]
    return [Mutant(*texts, each["file"], tuple(each["tests"])) for each in files for texts in each["mutants"]]


def try_out(folder: Path, tests: Iterable[str], mutant: Mutant | None = None) -> subprocess.CompletedProcess:
    """Run the tests on a copy in `folder`, with the bug where one is given."""
    for path in ROOT.iterdir():
        if path.name in ("memlib", "tests"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    if mutant:
        (folder / mutant.file).write_text(mutant.source(), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.mark.parametrize("mutant", read_mutants(), ids=str)
def test_a_test_sees_it(mutant: Mutant, tmp_path: Path) -> None:
    done = try_out(tmp_path, mutant.tests, mutant)
    said = f"{mutant} survived, or no test was run:\n{done.stdout}{done.stderr}"
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, said


def test_without_a_bug_the_same_tests_pass(tmp_path: Path) -> None:
    done = try_out(tmp_path, sorted({test for mutant in read_mutants() for test in mutant.tests}))
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-n", "2", "-o", "tmp_path_retention_policy=failed", *sys.argv[1:]]))
