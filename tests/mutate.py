"""Plant each bug of mutants.toml in a copy of memlib and see that one of the tests it names fails.

The working tree is never edited. A bug whose text is gone from its file is named: choose another, or a new text."""

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = Path(__file__).with_name("mutants.toml")
AT_ONCE, SECONDS = 2, 600  # mutants, and for one of them
RUN = """import sys, pathlib, pytest, memlib
assert pathlib.Path(memlib.__file__).is_relative_to(pathlib.Path.cwd()), memlib.__file__
sys.exit(100 + pytest.main(["-x", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))"""  # a crash ends with less
VERDICTS = {100: "SURVIVED", 101: "killed", None: "TOO LONG"}  # any other status: no test was run, or one broke down


@dataclass(frozen=True)
class Mutant:
    """A bug: `find`, which occurs once in `file`, becomes `replace`; one of `tests` must see it."""

    name: str
    find: str
    replace: str
    file: str
    tests: tuple[str, ...]

    def source(self) -> str:
        """The file with the bug in it. Raises LookupError unless `find` occurs exactly once."""
        path = ROOT / self.file
        source = path.read_text(encoding="utf-8") if path.exists() else ""
        if (count := source.count(self.find)) != 1:
            raise LookupError(f"{self.file}: {self.name}: its text occurs {count} times; need exactly once")
        return source.replace(self.find, self.replace)


def read_mutants(path: Path = MUTANTS) -> list[Mutant]:
    files = tomllib.loads(path.read_text(encoding="utf-8"))["files"]
    return [Mutant(*texts, each["file"], tuple(each["tests"])) for each in files for texts in each["mutants"]]


def try_out(tests: Sequence[str], mutant: Mutant | None = None) -> tuple[int | None, float, str]:
    """Run the tests on a copy, with the bug where one is given: (exit status, seconds, what was printed)."""
    with TemporaryDirectory(prefix="memlib-mutant-") as made:
        folder, started = Path(made).resolve(), time.monotonic()
        for path in ROOT.iterdir():
            if path.name in ("memlib", "tests"):
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif not path.name.startswith("."):
                (folder / path.name).symlink_to(path)
        if mutant:
            (folder / mutant.file).write_text(mutant.source(), encoding="utf-8")
        command, environment = [sys.executable, "-c", RUN, *tests], os.environ | {"PYTHONPATH": str(folder)}
        given = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
        try:
            done = subprocess.run(command, timeout=SECONDS if mutant else None, **given)
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - started, ""
        return done.returncode, time.monotonic() - started, done.stdout + done.stderr


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME", help="the mutants whose file and name hold this")
    parser.add_argument("--mutants", type=Path, default=MUTANTS, metavar="FILE", help="default: mutants.toml")
    options = parser.parse_args(arguments)
    mutants = [m for m in read_mutants(options.mutants) if options.only in f"{m.file}: {m.name}"]
    if not mutants:
        parser.error(f"--only {options.only!r}: no mutant's name holds this")
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

    def verdict(mutant: Mutant) -> tuple[str, float, str]:
        try:
            status, seconds, printed = try_out(mutant.tests, mutant)
        except LookupError as error:
            return "TEXT GONE", 0.0, str(error)
        return VERDICTS.get(status, "NO VERDICT"), seconds, printed

    killed, tests = 0, sorted({test for mutant in mutants for test in mutant.tests})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        unchanged = pool.submit(try_out, tests)
        for mutant, (told, seconds, printed) in zip(mutants, pool.map(verdict, mutants), strict=True):
            killed += told == "killed"
            print(f"{told:<10} {seconds:6.1f} s  {mutant.file}: {mutant.name}", flush=True)
            if told in ("TEXT GONE", "NO VERDICT"):
                print(printed[-2000:])
        status, seconds, printed = unchanged.result()
    print(f"{killed} of {len(mutants)} killed; without a bug the same tests took {seconds:.0f} s")
    if status != 100:
        print(f"{printed[-4000:]}\nwithout a bug the tests do not pass, so that no mutant counts as killed")
    return int(killed < len(mutants) or status != 100)


if __name__ == "__main__":
    sys.exit(main())
