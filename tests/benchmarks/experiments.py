"""One experiment end to end beside the bare loop, and what `import memlib` adds to `import torch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch

from memlib import sample
from memlib.lab import run
from memlib.lab.profiles import profile
from memlib.metrics import evaluate as judge
from memlib.training import TrainConfig
from tests.benchmarks.measure import ratio, rounds, table
from tests.benchmarks.steps import peer

STEPS = 100
LOAD = {
    "nothing": "pass",
    "torch": "import torch",
    "memlib": "import memlib",
    "all of memlib": "import memlib.viz.explore",
}


def experiment(repeats: int, device: str) -> Iterator[str]:
    """Heartbeats at the recorded profile, but for the steps: trained, sampled from, kept, judged."""
    one = replace(profile("recorded").signals, training=TrainConfig(STEPS, 32, precision="float32"), n_samples=64)
    dataset, schedule = one.load_data(), one.build_schedule()
    shape = tuple(dataset.train.shape[1:])

    def whole() -> None:
        with TemporaryDirectory() as folder, patch.dict(os.environ, MEMLIB_RUNS=folder):
            samples = run(one, device=device).samples
        judge(samples, dataset.train, dataset.held_out, generator=torch.Generator().manual_seed(0))

    def bare() -> None:
        network = one.network.build(shape)
        step = peer("", network, (one.training.batch_size, *shape), dataset.train.to(device), one.seed).step
        for _ in range(one.training.steps):
            step()
        network.eval().requires_grad_(False)
        sample(network, schedule, shape, one.n_samples, seed=one.seed, steps=one.sampler_steps, device=device)

    taken, rate = rounds({"`run` and `judge`": whole, "the bare loop": bare}, repeats, device)
    rows = [(name, f"{median(x):.1f}", f"{ratio(x, taken['the bare loop']):.2f}") for name, x in taken.items()]
    yield (
        f"{one.training.steps} steps of {one.training.batch_size} heartbeats and {one.n_samples} samples of "
        f"{one.sampler_steps} steps of DDIM. The bare loop is plain PyTorch; it keeps and judges nothing."
    )
    yield ""
    yield from table(["", "s", "time, of the bare loop"], rows)
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."


def imports(repeats: int, device: str) -> Iterator[str]:
    """In a new process each time; of the processor's time, for that of the clock is mostly the disk's and others'."""
    del device
    taken: dict[str, list[float]] = {what: [] for what in LOAD}
    for i in range(repeats + 1):
        for what, code in list(LOAD.items())[:: -1 if i % 2 else 1]:
            before = os.times()
            subprocess.run([sys.executable, "-c", code], check=True)
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            taken[what].append(spent)
    taken = {what: times[1:] for what, times in taken.items()}  # the first round reads the files
    rows = [
        (f"`{LOAD[what]}`", f"{median(times):.2f}", f"{ratio(times, taken['torch']):.2f}")
        for what, times in taken.items()
    ]
    yield from table(["process", "s of the processor", "of torch's"], rows)
    yield ""
    added = median(a - b for a, b in zip(taken["memlib"], taken["torch"], strict=True))
    yield f"`import memlib` adds {added:.2f} s to `import torch`; promised: 0.2 s."
