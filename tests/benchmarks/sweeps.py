"""A sweep beside plain runs: two processes against one, what the sweep itself costs, and reading what was recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from memlib import run, sweep
from memlib.profiles import profile
from memlib.results import RESULTS, read
from memlib.training import TrainConfig
from tests.benchmarks.measure import seconds, table

LINES = 10_000
TOLD = 500  # steps of a run: some 10 s, enough that starting the processes can be told from training


def sweeps(repeats: int, size: int) -> Iterator[str]:
    base = replace(profile("recorded").signals, training=TrainConfig(steps=TOLD, batch_size=32))
    alone, one, two = [], [], []
    for i in range(repeats):
        experiments = [replace(base, seed=2 * i + j) for j in range(2)]
        alone.append(_seconds(lambda e=experiments: [run(x) for x in e]))
        one.append(_seconds(lambda e=experiments: list(sweep(e, workers=1, progress=False))))
        two.append(_seconds(lambda e=experiments: list(sweep(e, workers=2, progress=False))))
    yield f"Two runs of {TOLD} steps on heartbeats, anew each time; median of {repeats} rounds."
    yield ""
    yield from table(
        ["", "s", "runs per hour, of one process"],
        [
            (
                "`run`, one after the other",
                f"{median(alone):.1f}",
                f"{median(b / a for a, b in zip(alone, one, strict=True)):.2f}",
            ),
            ("`sweep`, one process", f"{median(one):.1f}", "1.00"),
            (
                "`sweep`, two processes",
                f"{median(two):.1f}",
                f"{median(a / b for a, b in zip(one, two, strict=True)):.2f}",
            ),
        ],
    )
    yield ""
    overhead = median((b - a) / 2 for a, b in zip(alone, one, strict=True))
    start = median(b - a / 2 for a, b in zip(alone, two, strict=True))
    yield (
        f"What the sweep adds to a run, in one process: {overhead:.2f} s, or {overhead / 60:.1%} of a run of a minute; "
        f"starting two processes and sharing the cores cost {start:.1f} s over the whole sweep."
    )
    yield ""
    yield f"Reading {LINES:,} recorded lines: {_reading():.2f} s."


def _seconds(action: Callable[[], object]) -> float:
    """With a folder of runs of its own, so that nothing is read instead of run."""
    with TemporaryDirectory() as folder:
        before = os.environ.get("MEMLIB_RUNS")
        os.environ["MEMLIB_RUNS"] = folder
        try:
            return seconds(action)
        finally:
            os.environ.pop("MEMLIB_RUNS")
            os.environ.update({"MEMLIB_RUNS": before} if before else {})


def _reading() -> float:
    """Seconds to read and check the repository's own recorded lines, repeated until they are 10,000."""
    with TemporaryDirectory() as folder:
        recorded = [line for path in sorted(RESULTS.glob("*.jsonl")) for line in path.read_bytes().splitlines(True)]
        (Path(folder) / "lines.jsonl").write_bytes(b"".join(islice(cycle(recorded), LINES)))
        start = time.perf_counter()
        assert len(read(Path(folder))) == LINES
        return time.perf_counter() - start
