"""A GPU that is lent for minutes: one command that makes the most valuable figures first, and how they come home.

Each part is a process that ends at its deadline; what it prints goes to DIR/log.txt, line by line. Benchmarks fill
DIR/results.md and records DIR/records.jsonl as they go; executed notebooks stand beside them. Wherever it is cut off,
what is there can be merged. Given the same DIR again, the records go on with what is missing."""

import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from memlib.checks import check_device
from memlib.lab import courses, plans
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.files import ROOT, append_line, read_lines, write_atomically
from memlib.lab.provenance import provenance, uncommitted
from memlib.lab.runs import Result, run_fleet
from memlib.lab.sweep import FLEET, sweep

# of data/plans/dose, by what a line is worth
PLANS = ("heartbeats_500", "pokemon_256", "flowers_1020", "emoji_256", "emoji_claims", "pokemon_zone", "emoji_zone")
NOTEBOOKS = ("04_train_signals", "05_train_images")
PARTS = {  # seconds of each minute, what is done, the packages without which it is left out
    "tests": (10.0, "the tests of a GPU, by name", ("pytest",)),
    "fleets": (15.0, "fleets of 1 to 64 networks beside loops and torch.func's ensemble", ()),
    "sampling": (5.0, "50 steps of DDIM, beside diffusers if it is there", ()),
    "notebooks": (12.5, " and ".join(NOTEBOOKS), ("papermill", "ipykernel", "ipywidgets", "seaborn")),
    "records": (17.5, f"what is not yet recorded of {', '.join(PLANS)}", ()),
}
PAGE = ROOT / "tests" / "benchmarks" / "RESULTS-cuda.md"
GUARD = """import os, signal, subprocess, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os.killpg(0, signal.SIGKILL)), daemon=True).start()
os._exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL) % 256)
"""  # runs a command, and kills it and all that it started when this process closes the guard's input, or dies


def run(minutes: float, out: Path, device: str) -> int:
    """All parts, within so many minutes; 1 if one failed. A CPU takes the budgets of `smoke`, to try the command."""
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes = {minutes}; need a number above 0")
    start, small = time.monotonic(), check_device(device).type == "cpu"
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not small and not (page := out / "results.md").exists():
        write_atomically(page, PAGE.read_bytes())  # its other sections stay
    bench = ["--repeats", "1" if small else "7", "--device", device, "--out", str(out / "results.md")]
    call = "import sys; from memlib.lab import gpu; gpu.{}(*sys.argv[1:])"
    commands = {
        "tests": ["-m", "pytest", "--noconftest", "-v", "--tb=short", "-Wdefault", "tests/test_devices.py"],
        "fleets": ["-m", "tests.benchmarks", "fleets", *bench],
        "sampling": ["-m", "tests.benchmarks", "sampling", *bench],
        "notebooks": ["-c", call.format("run_notebooks"), str(out), device, "smoke" if small else "paper"],
        "records": ["-c", call.format("run_records"), str(out), device, *["small"] * small],
    }
    with (out / "log.txt").open("ab") as log:

        def say(text: str) -> None:
            print(text, flush=True)
            log.write(text.encode(errors="replace") + b"\n")
            log.flush()
            os.fsync(log.fileno())

        say(f"{time.strftime('%F %T')}, {', '.join(provenance().values())}; {device}, {minutes:g} minutes:")
        for part, (seconds, words, _) in PARTS.items():
            say(f"  {part:9} at most {minutes * seconds:4.0f} s, and what is left of those before: {words}")
        outcomes, end = {}, start
        for part, (seconds, _, needed) in PARTS.items():
            end += minutes * seconds
            say(f"\n== {part}")
            lacking = ", ".join(name for name in needed if not find_spec(name))
            outcomes[part] = f"left out: no {lacking} here" if lacking else _attend(commands[part], end, say)
            say(f"== {part} {outcomes[part]}, {time.monotonic() - start:.0f} s after the start")
        parts = "; ".join(f"{part} {outcome}" for part, outcome in outcomes.items())
        say(f"\n{parts}\nin a clone: python -m memlib gpu --merge {out}")
    return int("failed" in outcomes.values())


def _attend(command: list[str], end: float, say: Callable[[str], None]) -> str:
    """Run a command until it ends, or until `end`; how it went."""
    ones = "MEMLIB_OFFLINE PYTHONUNBUFFERED PYTEST_DISABLE_PLUGIN_AUTOLOAD OMP_NUM_THREADS OPENBLAS_NUM_THREADS"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "process_group": 0}
    pipes |= {"cwd": ROOT, "env": dict.fromkeys(ones.split(), "1") | os.environ}
    guard: Any = subprocess.Popen([sys.executable, "-c", GUARD, sys.executable, *command], **pipes)
    with guard:
        timer = threading.Timer(max(0.0, end - time.monotonic()), guard.stdin.close)
        timer.start()
        for line in guard.stdout:
            say(line.decode(errors="replace").rstrip("\n"))
        timer.cancel()
    return "done" if guard.returncode == 0 else "cut off at its deadline" if time.monotonic() > end else "failed"


def run_notebooks(out: str, device: str, profile: str) -> None:
    """In a process of its own: the notebooks, each into `out`."""
    from memlib.notebooks import find_notebooks, run_notebook, tell

    given = {"profile": profile, "device": device}
    sys.exit(tell(run_notebook(path, Path(out), given) for path in find_notebooks(NOTEBOOKS)))


def run_records(out: str, device: str, small: str = "") -> None:
    """In a process of its own: train what PLANS hold and nobody has recorded, plan by plan and seed by seed, in full
    fleets, and splices last. Others read meanwhile what is trained."""
    torch.backends.cudnn.allow_tf32 = False  # a plan's float32 is not to have the 10 bits of TF32
    path, start, failed, reading = Path(out) / "records.jsonl", time.monotonic(), [], []
    path.touch()
    have = {(x["key"], x["content"]) for x in [*courses.read(), *(line for _, line in unsealed(path))]}

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except Exception as error:  # such as runs that failed, or data that are not here: the rest goes on
            print(f"{type(error).__name__}: {error}")
            failed.append(error)

    with ProcessPoolExecutor(max(1, (os.cpu_count() or 1) - 1), mp_context=get_context("spawn")) as pool:
        for plan in map(plans.read_plan, PLANS):
            if small:
                plan.controls.update({name: _tiny(own) for name, own in plan.controls.items()})
            with noting():
                todo = (own for seed in plan.seeds for own in plan.missing([seed], have)[0])
                while fleet := list(islice(todo, FLEET["cuda"])):
                    with noting():
                        for made in sweep(fleet, device=device, workers=1, progress=False):
                            name, seed = made.experiment.label, made.experiment.seed
                            have.add(plan.identity(name, seed))
                            reading.append(pool.submit(_read, path, plan, name, [made.path]))
                    print(f"{plan.name}, up to seed {fleet[-1].seed}: trained after {time.monotonic() - start:.0f} s")
                for name, seed in plan.missing(plan.seeds, have)[1]:
                    with noting():
                        parts = [run_fleet([part], device=device)[0].path for part in plan.parts(name, seed)]
                        reading.append(pool.submit(_read, path, plan, name, parts))
        for one in reading:
            with noting():
                one.result()
    sys.exit(int(bool(failed)))


def _tiny(own: Experiment) -> Experiment:
    """A run cut to a second, to try the command. It is no plan's any more: `merge` refuses its line."""
    training, network = replace(own.training, steps=2, batch_size=2), replace(own.network, width=8)
    return replace(own, training=training, network=network, course=(1,), n_samples=8, sampler_steps=2)


def _read(path: Path, plan: plans.Plan, name: str, parts: list[Path]) -> None:
    """In a worker: read a run, or a splice of two, and append its line with a seal, its hash."""
    line = courses.line_of(plan, name, *map(Result.load, parts))
    with FileLock(path.with_suffix(".lock")):
        append_line(path, json.dumps({"seal": _hash(line), "record": line}, allow_nan=False).encode())
    print(f"{line['key']}  {plan.name}: {name}, seed {line['seed']}")


def unsealed(path: Path) -> Iterator[tuple[str, courses.Line]]:
    """Where each line is, and the line. A last one cut short is left out."""
    for number, found in enumerate(read_lines(path, ("seal", "record")), 1):
        where = f"{path}, line {number}"
        if found["seal"] != _hash(found["record"]):
            raise ValueError(f"{where} is damaged: its seal does not fit; restore it or remove the line")
        yield where, found["record"]


def _hash(line: courses.Line) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()


def merge(folder: Path, results: Path = courses.COURSES, page: Path = PAGE) -> Iterator[str]:
    """Add what a GPU has made to the recorded time courses and to the page of benchmarks; what was added, in words.

    Nothing is added unless all is sound: each line's seal, VERSION, its plan as it is committed, a configuration of
    that plan, its key and data as they are here, and no run twice or with other numbers than recorded. Lines that are
    there already are passed over, so that a merge can be repeated."""
    there = {(line["key"], line["content"]): line for line in courses.read(results)}
    found: dict[tuple[str, str], courses.Line] = {}
    plan_of, changed = cache(lambda name: plans.read_plan(plans.PLANS / f"{name}.toml")), cache(uncommitted)
    path, made = folder / "records.jsonl", folder / "results.md"
    if not path.exists() and not made.exists():
        raise FileNotFoundError(f"{folder} holds neither {path.name} nor {made.name}: nothing to merge")
    for where, line in unsealed(path) if path.exists() else ():
        if line["version"] != VERSION:
            raise ValueError(f"{where} is of VERSION {line['version']}, not {VERSION}; record it again")
        plan, name, seed, run = plan_of(line["plan"]), line["control"], line["seed"], (line["key"], line["content"])
        if line["plan_sha256"] != plan.sha256 or changed(plan.path):
            raise ValueError(f"{where} is of another plan {plan.name} than is committed here")
        asked = seed in plan.seeds and name in {*plan.controls, *plan.splices}
        if not asked or line["config"] != plan.parts(name, seed)[0].to_dict():
            raise ValueError(f"{where} is no run of the plan {plan.name}")
        if run != plan.identity(name, seed):
            raise ValueError(f"{where} is of other data than {line['config']['dataset']} here, or of another key")
        if run in found or there.get(run, line) != line:
            raise ValueError(f"{where} holds run {run[0]} again, or with other numbers")
        found[run] = line
    fresh = [line for run, line in found.items() if run not in there]
    results.mkdir(parents=True, exist_ok=True)
    for line in fresh:
        courses.append(results, line)
    for name, count in Counter(line["plan"] for line in fresh).items():
        yield f"{count} lines added to {results / f'{name}.jsonl'}"
    yield f"{len(found) - len(fresh)} lines were there already"
    if made.exists() and ", on cuda" in (text := made.read_text(encoding="utf-8")):
        write_atomically(page, text)
        yield f"{page} is now {made}"
