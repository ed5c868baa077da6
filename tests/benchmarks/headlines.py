"""The README's table of speed, read from the recorded results: no number of it is typed by hand."""

from __future__ import annotations

from pathlib import Path

from memlib.lab.files import write_between
from memlib.lab.provenance import ROOT
from tests.benchmarks.measure import table

README = ROOT / "README.md"
MARKS = ("<!-- speed -->", "<!-- end of speed -->")
FASTER, TIME = "{} times as fast", "{} of its time"
DIFFUSERS, LUCIDRAINS = "`diffusers`", "`denoising-diffusion-pytorch`"
STEP, STEM = "memlib, plain", "memlib, unshuffle stem of 2"
_2D, _1D = "times as fast as diffusers UNet2DModel", "times as fast as diffusers UNet1DModel"
_LUCID_2D, _LUCID_1D = (f"times as fast as denoising-diffusion-pytorch {name}" for name in ("Unet", "Unet1D"))

# what, beside what, in which words; and where it stands: section, first cells of the row, column
HEADLINES: tuple[tuple[str, str, str, str, tuple[str, ...], str], ...] = (
    ("training step, images", DIFFUSERS, FASTER, "training", (STEP,), _2D),
    ("training step, images", LUCIDRAINS, FASTER, "training", (STEP,), _LUCID_2D),
    ("the same with the unshuffle stem", DIFFUSERS, FASTER, "training", (STEM,), _2D),
    ("the same with the unshuffle stem", LUCIDRAINS, FASTER, "training", (STEM,), _LUCID_2D),
    ("training step, signals", DIFFUSERS, FASTER, "training", (STEP,), _1D),
    ("training step, signals", LUCIDRAINS, FASTER, "training", (STEP,), _LUCID_1D),
    ("50 steps of DDIM, images", DIFFUSERS, FASTER, "sampling", (STEP,), _2D),
    ("50 steps of DDIM, images", LUCIDRAINS, FASTER, "sampling", (STEP,), _LUCID_2D),
    ("50 steps of DDIM, signals", DIFFUSERS, FASTER, "sampling", (STEP,), _1D),
    ("50 steps of DDIM, signals", LUCIDRAINS, FASTER, "sampling", (STEP,), _LUCID_1D),
    ("a fleet of 16, points", "one after the other", TIME, "fleets", ("points", "16"), "of K steps alone"),
    ("a fleet of 16, signals", "one after the other", TIME, "fleets", ("signals", "16"), "of K steps alone"),
    ("a fleet of 16, images", "one after the other", TIME, "fleets", ("images", "16"), "of K steps alone"),
    ("two processes, a fleet each", "one process", "{} times the runs per hour", "sweep",
     ("two processes, a fleet each",), "runs per hour, of one process"),
    ("nearest neighbours, 10,000 x 10,000 pictures", "`torch.cdist` and `topk`", TIME, "neighbours",
     ("memlib.metrics.nearest_neighbours",), "time, of torch's"),
    ("exact denoiser of 10,000 pictures", "plain torch, float64", TIME, "denoiser",
     ("memlib.ExactDenoiser",), "time, of plain float64"),
    ("`judge`, with intervals", "its measures, without", TIME, "battery",
     ("`judge`, with bootstrapped intervals",), "time, of one by one"),
    ("an experiment, to its figures", "a bare training loop", TIME, "experiment", ("`run` and `judge`",),
     "time, of the bare loop"),
    ("`import memlib`", "`import torch`", TIME, "imports", ("`import memlib`",), "of torch's"),
)  # fmt: skip


def sections(results: str) -> dict[str, str]:
    """The page of results by benchmark, each without its headline."""
    parts = (part.partition("\n") for part in results.split("\n## ")[1:])
    return {name: text.strip() for name, _, text in parts}


def headlines(results: str) -> str:
    """The README's table. Raises ValueError, naming it, for a number that the page of results does not hold."""
    recorded = sections(results)
    rows = [
        (what, beside, words.format(_cell(recorded.get(section, ""), section, first, column)))
        for what, beside, words, section, first, column in HEADLINES
    ]
    # date, machine and device; commit; versions; rounds
    made_with = recorded["training"].partition("\n")[0].split("; ")
    return "\n".join([*table(["memlib", "beside", "is"], rows), "", f"Training measured {'; '.join(made_with[:3])}."])


def write_headlines(results: Path) -> None:
    """Put the table of the page of results into the README. Raises ValueError as `headlines` and `write_between` do."""
    write_between(README, MARKS, headlines(results.read_text(encoding="utf-8")))


def _cell(text: str, section: str, first: tuple[str, ...], column: str) -> str:
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not header or not cells:
            header = cells
        elif column in header and tuple(cells[: len(first)]) == first:
            return cells[header.index(column)]
    raise ValueError(f"the results have no {column!r} of {' '.join(first)!r} in the section {section!r}")
