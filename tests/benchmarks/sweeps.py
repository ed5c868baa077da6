"""A sweep: processes and fleets against one process, what the sweep itself costs, and reading what was recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

from memlib.lab import Experiment, run, sweep
from memlib.lab.profiles import profile
from memlib.lab.records import RESULTS, read
from memlib.training import TrainConfig
from tests.benchmarks.measure import ratio, seconds, table

LINES = 10_000
RUNS, STEPS = 8, 1000  # of the profile's 2,500: enough that training can be told from starting the processes


def sweeps(repeats: int, device: str) -> Iterator[str]:
    """Heartbeats at the recorded profile, but for the steps; every round trains networks of other seeds."""
    del device  # of the CPU's processes
    base = replace(profile("recorded").signals, training=TrainConfig(steps=STEPS, batch_size=32))
    ways = {
        "one process": {"workers": 1, "fleet": 1},
        "two processes": {"workers": 2, "fleet": 1},
        "two processes, a fleet each": {"workers": 2},
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(repeats):
        experiments = [replace(base, seed=RUNS * i + j) for j in range(RUNS)]
        for way in list(ways)[:: -1 if i % 2 else 1]:
            taken[way].append(_seconds(lambda e=experiments, way=way: list(sweep(e, progress=False, **ways[way]))))
    yield f"{RUNS} runs of {STEPS} steps on heartbeats, trained and sampled from; median of {repeats} rounds."
    yield ""
    yield from table(
        ["`sweep` in", "s", "runs per hour, of one process"],
        [(way, f"{median(x):.1f}", f"{ratio(taken['one process'], x):.2f}") for way, x in taken.items()],
    )
    yield ""
    added = median(_overhead(base, i) for i in range(repeats))
    yield f"What the sweep adds to a run, in one process: {1e3 * added:.0f} ms, or {added / 60:.2%} of a minute's run."
    yield f"Reading {LINES:,} recorded lines: {_reading():.2f} s."


def _overhead(base: Experiment, i: int) -> float:
    """Seconds a run, from runs of one step each: their training would hide it."""
    tiny = replace(base, training=TrainConfig(steps=1), n_samples=2, sampler_steps=1)
    experiments = [replace(tiny, seed=10 * i + j) for j in range(10)]
    alone = _seconds(lambda: [run(x) for x in experiments])
    return (_seconds(lambda: list(sweep(experiments, workers=1, fleet=1, progress=False))) - alone) / len(experiments)


def _seconds(action: Callable[[], object]) -> float:
    """With a folder of runs of its own, so that nothing is read instead of run."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, MEMLIB_RUNS=folder):
        return seconds(action)


def _reading() -> float:
    """Seconds to read and check the repository's own recorded lines, repeated until they are 10,000."""
    with TemporaryDirectory() as folder:
        recorded = [line for path in sorted(RESULTS.glob("*.jsonl")) for line in path.read_bytes().splitlines(True)]
        (Path(folder) / "lines.jsonl").write_bytes(b"".join(islice(cycle(recorded), LINES)))
        start = time.perf_counter()
        assert len(read(Path(folder))) == LINES
        return time.perf_counter() - start
