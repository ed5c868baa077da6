"""A GPU that is lent for minutes: one command that makes the most valuable figures first, and how they come home.

Each part is a process that ends at its deadline; what it prints goes to DIR/log.txt, line by line. Benchmarks fill
DIR/results.md and records DIR/records.jsonl as they go; executed notebooks stand beside them. Wherever it is cut off,
what is there can be merged. Given the same DIR again, the records go on with what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch import Tensor

from memlib.devices import check_device
from memlib.lab import plans, records
from memlib.lab.experiment import VERSION
from memlib.lab.files import ROOT, write_atomically
from memlib.lab.provenance import provenance
from memlib.lab.runs import Result
from memlib.lab.sweep import FLEET, SweepError, sweep

PLANS = (("size", "ecg5000"), ("other_images", "pokemon"), ("other_images", "flowers102"), ("size", "emoji"))
SEEDS = 6  # of a line of PLANS before the next line's turn
NOTEBOOKS = ("04_train_signals", "05_train_images")
PARTS = {  # minutes of each twelve, what is done, the packages without which it is left out
    "tests": (2.0, "the tests of a GPU, by name", ("pytest",)),
    "fleets": (3.0, "fleets of 1 to 64 networks beside loops and torch.func's ensemble", ()),
    "sampling": (1.0, "50 steps of DDIM, beside diffusers if it is there", ()),
    "notebooks": (2.5, " and ".join(NOTEBOOKS), ("papermill", "ipykernel", "ipywidgets", "seaborn")),
    "records": (3.5, ", ".join(f"{plan} of {dataset}" for plan, dataset in PLANS), ()),
}
PAGE = ROOT / "tests" / "benchmarks" / "RESULTS-cuda.md"
GUARD = """import os, signal, subprocess, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os.killpg(0, signal.SIGKILL)), daemon=True).start()
os._exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL) % 256)
"""  # runs a command, and kills it and all that it started when this process closes the guard's input, or dies


def run(minutes: float, out: Path, device: str) -> int:
    """All parts, within so many minutes; 1 if one failed. A CPU takes the budgets of `smoke`, to try the command."""
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
        "records": ["-c", call.format("run_records"), str(out), device, "smoke" if small else "recorded"],
    }
    with (out / "log.txt").open("ab") as log:

        def say(text: str) -> None:
            print(text, flush=True)
            log.write(text.encode(errors="replace") + b"\n")
            log.flush()
            os.fsync(log.fileno())

        say(f"{time.strftime('%F %T')}, {', '.join(provenance().values())}; {device}, {minutes:g} minutes:")
        seconds = {part: 60 * minutes * share / 12 for part, (share, _, _) in PARTS.items()}
        for part, (_, words, _) in PARTS.items():
            say(f"  {part:9} at most {seconds[part]:4.0f} s, and what is left of those before: {words}")
        outcomes, end = {}, start
        for part, (_, _, needed) in PARTS.items():
            end += seconds[part]
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
    from memlib.notebooks import find_notebooks, run_notebook

    failed = False
    for path in find_notebooks(NOTEBOOKS):
        made = run_notebook(path, Path(out), {"profile": profile, "device": device})
        print(f"{made.name}: {made.seconds:.0f} s, {made.error or 'ran through'}")
        failed |= bool(made.error)
    sys.exit(int(failed))


def run_records(out: str, device: str, profile: str) -> None:
    """In a process of its own: what PLANS hold and nobody has recorded, one fleet after the other, by value. Others
    measure meanwhile what is trained."""
    path, failed, measured = Path(out) / "records.jsonl", False, []
    path.touch()
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)  # without what a kill left half-written
    lines = [*records.read(), *(line for _, line, _ in unsealed(path))]
    have = {(plans.key(line["config"]), line["step"]) for line in lines if line["version"] == VERSION}
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 1) // 2), mp_context=get_context("spawn")) as pool:
        for fleet in by_value(profile, have):
            configs, start = {plans.key(config): config for config in fleet}, time.monotonic()
            try:
                todo = [replace(plans.experiment(config), label=key) for key, config in configs.items()]
                for made in sweep(todo, device=device, workers=1, progress=False):
                    measured.append(pool.submit(_measure, configs[made.experiment.label], made.path, have, path))
            except (SweepError, FileNotFoundError) as error:  # runs that failed, or data that are not here
                print(error)
                failed = True
            print(f"{fleet[0]['dataset']}: {len(fleet)} runs trained in {time.monotonic() - start:.0f} s")
        for wrong in filter(None, (one.exception() for one in measured)):
            print(f"{type(wrong).__name__}: {wrong}")
            failed = True
    sys.exit(int(failed))


def _measure(config: plans.Config, run: Path, have: set[tuple[str, int]], path: Path) -> None:
    """In a worker: measure a run and seal its records; those of its course that are sealed already are not again."""
    for line, samples in records.measure(config, Result.load(run)):
        if (plans.key(config), line["step"]) not in have:
            seal(path, line, samples)
            print(f"{line['key']}  {config['dataset']:10}  step {line['step']}")


def by_value(profile: str, have: set[tuple[str, int]]) -> list[list[plans.Config]]:
    """What is to be recorded, in the order of PLANS, as many seeds at once as make a fleet; `have`: (key, step)."""
    found: dict[tuple[int, int, int], list[plans.Config]] = {}
    for place, (plan, dataset) in enumerate(PLANS):
        own = [c for c in plans.read_plan(plan, profile) if not plans.is_splice(c) and c["dataset"] == dataset]
        seeds = sorted({c["seed"] for c in own})
        together = max(1, FLEET["cuda"] * len(seeds) // max(1, len(own)))  # seeds
        for config in own:
            turn, rank = divmod(seeds.index(config["seed"]), SEEDS)
            if any((plans.key(config), step) not in have for step in records.steps(config)):
                found.setdefault((turn, place, rank // together), []).append(config)
    return [found[order] for order in sorted(found)]


def seal(path: Path, line: records.Record, samples: Tensor) -> None:
    """Append a record, with its samples where they are kept, and the hash of both."""
    kept = base64.b64encode(records.packed(samples)).decode() if records.keeps_samples(line) else ""
    text = json.dumps({"seal": _hash(line, kept), "record": line, "samples": kept}, allow_nan=False).encode() + b"\n"
    with path.open("ab", buffering=0) as file:  # in one piece, as other processes append, too
        file.write(text)
        os.fsync(file.fileno())


def unsealed(path: Path) -> Iterator[tuple[str, records.Record, bytes]]:
    """Where each line is, its record, and its packed samples. A last line cut short is left out."""
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        where = f"{path}, line {number}"
        try:
            found = json.loads(text)
            line, kept = found["record"], found["samples"]
            if found["seal"] != _hash(line, kept):
                raise ValueError("its seal does not fit")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{where} is damaged ({error!r}); fetch the file again, or remove the line") from error
        yield where, line, base64.b64decode(kept)


def _hash(line: records.Record, kept: str) -> str:
    return hashlib.sha256(json.dumps([line, kept], sort_keys=True).encode()).hexdigest()


def merge(folder: Path, results: Path = records.RESULTS, page: Path = PAGE) -> Iterator[str]:
    """Add what a GPU has made to the recorded runs and to the page of benchmarks; what was added, in words.

    Nothing is added unless all is sound: each line's seal, VERSION, its data's content, and no run twice or with other
    numbers than those recorded. Records that are there already are passed over, so that a merge can be repeated.
    """
    there = {(line["key"], line["step"]): line for line in records.read(results)}
    fresh: dict[str, list[tuple[records.Record, bytes]]] = {}
    seen: set[tuple[str, int]] = set()
    content: dict[tuple, str] = {}
    path, made = folder / "records.jsonl", folder / "results.md"
    for where, line, samples in unsealed(path) if path.exists() else ():
        if line["version"] != VERSION:
            raise ValueError(f"{where} is of VERSION {line['version']}, not {VERSION}; record it again")
        own, run = plans.experiment(line["config"]), (line["key"], line["step"])
        split = own.dataset, own.image_size, own.n_train, own.seed
        content[split] = content.get(split) or own.load_data().sha256
        if line["content"] != content[split] or line["key"] != own.key(content[split]):
            raise ValueError(f"{where} is of other data than {own.dataset} here, or of another description")
        if run in seen or there.get(run, line) != line:
            raise ValueError(f"{where} holds run {run[0]}, step {run[1]}, again, or with other numbers")
        seen.add(run)
        if run not in there:
            fresh.setdefault(str(own.dataset), []).append((line, samples))
    (results / "samples").mkdir(parents=True, exist_ok=True)
    for dataset, own_lines in fresh.items():
        for line, samples in own_lines:
            if samples:
                write_atomically(results / "samples" / f"{line['key']}.npz", samples)
        target = results / f"{dataset}.jsonl"
        before = target.read_bytes() if target.exists() else b""
        added = b"".join(json.dumps(line).encode() + b"\n" for line, _ in own_lines)
        write_atomically(target, before[: before.rfind(b"\n") + 1] + added)
        yield f"{len(own_lines)} records added to {target}"
    yield f"{len(seen) - sum(map(len, fresh.values()))} records were there already"
    if made.exists() and ", on cuda" in (text := made.read_text(encoding="utf-8")):
        write_atomically(page, text)
        yield f"{page} is now {made}"
