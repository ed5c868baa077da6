"""Run the benchmarks, print a markdown table for each and write it in its place of RESULTS.md and the README's table.

The sides of a comparison take turns within one run, so that a busy machine slows them alike; the ratio is the median
over the rounds of that round's ratio. The rate of a matrix product, measured in each round too, says what the machine
gave at the time.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from memlib.devices import check_device
from memlib.lab.files import write_atomically
from memlib.lab.provenance import provenance
from tests.benchmarks import experiments, fleets, growth, metrics, neighbours, sampling, sliders, steps, sweeps
from tests.benchmarks.headlines import sections, write_headlines

RESULTS = Path(__file__).with_name("RESULTS.md")
INTRODUCTION = """# Benchmarks

Written by `make bench`: each section says when, where and with what it was measured. The sides of a comparison take
turns within each round. On a shared machine only ratios mean anything."""
BENCHMARKS: dict[str, Callable[[int, str], Iterator[str]]] = {
    "training": steps.training,
    "quality": steps.quality,
    "drawing": steps.drawing,
    "fleets": fleets.fleets,
    "budgets": fleets.budgets,
    "sampling": sampling.sampling,
    "solvers": sampling.solvers,
    "denoiser": sampling.denoiser,
    "neighbours": neighbours.neighbours,
    "pca": metrics.pca,
    "battery": metrics.battery,
    "experiment": experiments.experiment,
    "sweep": sweeps.sweeps,
    "growth": growth.growth,
    "imports": experiments.imports,
    "sliders": sliders.sliders,
}
PEERS = ("diffusers", "denoising-diffusion-pytorch", "scikit-learn", "scipy", "faiss-cpu")
OF_THE_CPU = {"sweep", "imports", "sliders"}  # whatever the device


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, each with all sides in turn (default: 7)")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: cpu)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    if options.repeats < 1:
        parser.error("need --repeats >= 1")
    try:
        device = check_device(options.device)
    except RuntimeError as error:
        parser.error(str(error))
    on_cpu = device.type == "cpu"
    results = RESULTS if on_cpu else RESULTS.with_stem(f"RESULTS-{device.type}")
    torch.set_num_threads(1)

    for name in options.names or [name for name in BENCHMARKS if on_cpu or name not in OF_THE_CPU]:
        lines = [f"## {name}", "", _made_with(options.repeats, options.device), ""]
        print("\n".join(lines))
        for line in BENCHMARKS[name](options.repeats, options.device):
            print(line, flush=True)
            lines.append(line)
        if options.repeats >= 7:
            before = results.read_text(encoding="utf-8") if results.exists() else ""
            write_atomically(results, _with(before, name, "\n".join(lines)))
            if on_cpu:
                write_headlines(results)
    if options.repeats < 7:
        print(f"not written to {results.name}: fewer than 7 rounds")
    return 0


def _with(results: str, name: str, section: str) -> str:
    """The page of results with this benchmark's section in place of its last one; those of the others stay."""
    parts = {own: f"## {own}\n\n{text}" for own, text in sections(results).items()} | {name: section.strip()}
    return "\n\n".join([INTRODUCTION, *(parts[name] for name in BENCHMARKS if name in parts)]) + "\n"


def _made_with(repeats: int, device: str) -> str:
    made = provenance()
    return (
        f"{date.today().isoformat()}, {made['hardware']}, {platform.machine()}, on {device}, one thread; "
        f"commit {made['commit']}; {made['versions']}, {', '.join(map(_version, PEERS))}; "
        f"median of {repeats} rounds."
    )


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


if __name__ == "__main__":
    sys.exit(main())
