"""Run the benchmarks, print a table for each, and put it into its place of RESULTS.md and of the site's table of speed.

The sides of a comparison take turns, so that a busy machine slows them alike; a ratio is the median over the rounds of
that round's ratio. The rate of a matrix product, measured in each round too, says what the machine gave."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from memlib.checks import check_device
from memlib.lab.files import write_atomically, write_between
from memlib.lab.provenance import provenance
from tests.benchmarks import fleets, parts, steps
from tests.benchmarks.measure import table

RESULTS = Path(__file__).with_name("RESULTS.md")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "support.md"
MARKS = ("<!-- speed -->", "<!-- end of speed -->")
BENCHMARKS: dict[str, Callable[[int, str], Iterator[str]]] = {
    "training": steps.training, "sampling": steps.sampling, "fleets": fleets.fleets, "denoiser": parts.denoiser,
    "neighbours": parts.neighbours, "evaluation": parts.evaluation, "sweep": parts.sweeps, "sliders": parts.sliders,
}  # fmt: skip
_2D, _1D = "times as fast as diffusers UNet2DModel", "times as fast as diffusers UNet1DModel"
# what, beside what; section, beginning of the row, column
HEADLINES = (
    ("training step, images", "`diffusers`", "training", "memlib, plain", _2D),
    ("the same with the unshuffle stem", "`diffusers`", "training", "memlib, unshuffle stem of 2", _2D),
    ("training step, signals", "`diffusers`", "training", "memlib, plain", _1D),
    ("50 steps of DDIM, images", "`diffusers`", "sampling", "memlib, plain", _2D),
    ("50 steps of DDIM, signals", "`diffusers`", "sampling", "memlib, plain", _1D),
    ("a fleet of 16, points", "one after the other", "fleets", "points | 16", "of K steps alone"),
    ("a fleet of 16, signals", "one after the other", "fleets", "signals | 16", "of K steps alone"),
    ("10,000 nearest neighbours of pictures", "`torch.cdist` and `topk`", "neighbours", "memlib", "time, of torch's"),
    ("exact denoiser of 10,000 pictures", "plain torch, float64", "denoiser", "memlib", "time, of plain float64"),
)


def sections(results: str) -> dict[str, str]:
    """The page of results by benchmark, each without its headline."""
    return {name: text.strip() for name, _, text in (part.partition("\n") for part in results.split("\n## ")[1:])}


def headlines(results: str) -> str:
    """The site's table, read from the page of results: nobody types a number. What was not measured is left out."""
    rows = []
    for what, beside, section, first, column in HEADLINES:
        header: list[str] = []
        for line in sections(results).get(section, "").splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            header = cells if not header or not cells else header
            if column in header and line.startswith(f"| {first}") and len(cells) == len(header):
                value, words = cells[header.index(column)], "times as fast" if "fast" in column else "of its time"
                rows.append((what, beside, f"{value} {words}"))
                break
    return "\n".join([*table(["memlib", "beside", "is"], rows)])


def put(page: Path, name: str, text: str) -> None:
    """The section of this name in its place of a page of results."""
    before = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks"
    found = sections(before) | {name: text.strip()}
    parts = [before.partition("\n## ")[0].strip(), *(f"## {own}\n\n{text}" for own, text in found.items())]
    write_atomically(page, "\n\n".join(parts) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, each with all sides in turn (default: 7)")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: cpu)")
    parser.add_argument("--out", type=Path, help="write to this page instead, each line as soon as it is known")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or set(options.names) - set(BENCHMARKS):
        parser.error(f"need --repeats >= 1 and names among {', '.join(BENCHMARKS)}")
    try:
        device = check_device(options.device)
    except RuntimeError as error:
        parser.error(str(error))
    results = options.out or (RESULTS if device.type == "cpu" else RESULTS.with_stem(f"RESULTS-{device.type}"))
    torch.set_num_threads(1)
    for name in options.names or BENCHMARKS:
        made = provenance()
        packages = ", ".join(f"{each} {version(each)}" for each in ("diffusers", "scipy") if find_spec(each))
        given = f"{date.today()}, {made['hardware']}, on {device}, one thread; commit {made['commit']}"
        lines = [f"{given}; {made['versions']}, {packages}; median of {options.repeats} rounds.", ""]
        print(f"## {name}\n\n{lines[0]}\n")
        for line in BENCHMARKS[name](options.repeats, options.device):
            print(line, flush=True)
            lines.append(line)
            if options.out:
                put(results, name, "\n".join(lines))
        if options.repeats >= 7:
            put(results, name, "\n".join(lines))
            if results == RESULTS:
                write_between(PAGE, MARKS, headlines(results.read_text(encoding="utf-8")))
    if options.repeats < 7 and not options.out:
        print(f"not written to {results.name}: fewer than 7 rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
