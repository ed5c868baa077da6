"""Plant each bug of mutants.toml in a copy of memlib and see that the test it names fails, which passes without it.

The working tree is never edited. Tests run in children of a process that has imported what they need but memlib, which
they import from the copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = Path(__file__).with_name("mutants.toml")
COPIED = ("memlib", "tests")  # all else beside them is linked
AT_ONCE = 2
SECONDS = 180  # for one mutant; without a bug the tests of all mutants get as much for each
PASSED, FAILED = 100, 101  # pytest's 0 and 1: a child that breaks down ends with 1 too
PRELOADED = ["torch", "scipy.stats", "pandas", "matplotlib.pyplot", "jupyter_client", "nbformat", "ipywidgets"]
FORKS = get_context("forkserver")  # a fork, and not a start of five seconds for each mutant


@dataclass(frozen=True)
class Mutant:
    """A bug: `find`, which occurs once in `file`, becomes `replace`. `killed_by` is pytest's name of one test."""

    name: str
    file: str
    find: str
    replace: str
    killed_by: str

    def source(self) -> str:
        """The file with the bug in it. Raises ValueError unless `find` occurs exactly once."""
        source = (ROOT / self.file).read_text(encoding="utf-8")
        if (count := source.count(self.find)) != 1:
            raise ValueError(f"{self.name}: `find` occurs {count} times in {self.file}; need exactly once")
        return source.replace(self.find, self.replace)


@dataclass(frozen=True)
class Trial:
    """Tests that were run: the child's exit status (None where it ran out of time), seconds, and what was printed."""

    status: int | None
    seconds: float
    output: str

    @property
    def verdict(self) -> str:
        """Of a mutant: only a test that failed kills it; no test, an error or a hang tells nothing."""
        return {PASSED: "SURVIVED", FAILED: "killed"}.get(self.status, f"no verdict (exit status {self.status})")


def read_mutants(path: Path = MUTANTS) -> list[Mutant]:
    return [Mutant(**mutant) for mutant in tomllib.loads(path.read_text(encoding="utf-8"))["mutants"]]


def try_out(tests: Iterable[str], mutant: Mutant | None = None, seconds: float = SECONDS) -> Trial:
    """Run the tests on a copy of memlib, with the bug where one is given."""
    with TemporaryDirectory(prefix="memlib-mutant-") as made:
        folder, started = Path(made).resolve(), time.monotonic()
        for path in ROOT.iterdir():
            if path.name in COPIED:
                shutil.copytree(path, folder / path.name)
            elif not path.name.startswith("."):
                (folder / path.name).symlink_to(path)
        if mutant:
            (folder / mutant.file).write_text(mutant.source(), encoding="utf-8")
        process = FORKS.Process(target=_test, args=(folder, list(tests)))
        process.start()
        process.join(seconds)
        status = process.exitcode
        process.kill()
        process.join()
        return Trial(status, time.monotonic() - started, (folder / "output.txt").read_text(encoding="utf-8"))


def _test(folder: Path, tests: Sequence[str]) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)  # for what a test starts
    with open("output.txt", "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    tested = Path(sys.modules["memlib"].__file__).parent
    if tested != folder / "memlib":
        raise ImportError(f"the tests imported {tested}, not the copy")
    sys.exit(PASSED + status)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME", help="the mutants whose name holds this")
    parser.add_argument("--mutants", type=Path, default=MUTANTS, metavar="FILE", help="default: mutants.toml")
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in read_mutants(options.mutants) if options.only in mutant.name]
    if not mutants:
        parser.error(f"--only {options.only!r}: no mutant's name holds this")
    for mutant in mutants:
        try:
            mutant.source()
        except ValueError as error:
            parser.exit(1, f"{error}\n")

    os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    FORKS.set_forkserver_preload(PRELOADED)
    tests = sorted({mutant.killed_by for mutant in mutants})
    killed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool, tqdm(total=len(mutants), desc="mutants") as bar:
        unchanged = pool.submit(try_out, tests, None, SECONDS * len(tests))
        for mutant, future in [(mutant, pool.submit(try_out, [mutant.killed_by], mutant)) for mutant in mutants]:
            trial = future.result()
            killed += trial.verdict == "killed"
            bar.write(f"{trial.verdict:<9} {trial.seconds:6.1f} s  {mutant.name}  ({mutant.killed_by})")
            if trial.verdict.startswith("no"):
                bar.write(trial.output[-2000:])
            bar.update()
        without = unchanged.result()
    print(f"{killed} of {len(mutants)} killed; without a bug the same tests took {without.seconds:.1f} s")
    if without.status != PASSED:
        print(f"{without.output[-4000:]}\nwithout a bug the tests do not pass, so that no mutant counts as killed")
    return int(killed < len(mutants) or without.status != PASSED)


if __name__ == "__main__":
    sys.exit(main())
