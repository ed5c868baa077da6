"""How long an explorer takes to answer, in the kernel: a slider, with a new picture; Train, with trained networks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import ipywidgets as widgets
import torch

from memlib import viz as plots
from memlib.lab import data
from memlib.lab.plans import key, read_plan
from memlib.lab.records import read
from memlib.viz import explore
from tests.benchmarks.measure import seconds, table

MOVES = 5  # of each slider, in a round


def sliders(repeats: int, device: str) -> Iterator[str]:
    plots.use_style()
    trainer = explore.live_trainer()  # first: the more objects a kernel holds, the longer Python tidies up
    asyncio.run(_train(trainer))
    waits: list[float] = []
    trained = [seconds(lambda: waits.append(asyncio.run(_train(trainer)))) for _ in range(repeats)]
    yield (
        f"live_trainer, from Train to its last picture: {explore.live.STEPS} steps of both networks, and the pictures "
        f"on the way; the longest time on that way in which the kernel hears no Stop. Median of {repeats} trainings; "
        "promised: 3 s and 200 ms."
    )
    yield ""
    yield from table(["s", "Stop, ms"], [(f"{median(trained):.1f}", f"{1000 * median(waits):.0f}")])
    yield ""

    panels = {
        "snr_explorer": explore.snr_explorer(),
        "interval_explorer": explore.interval_explorer(),
        "neighbour_explorer, signals": _neighbours("ecg5000"),
        "neighbour_explorer, images": _neighbours("emoji"),
        "tradeoff_explorer": _tradeoff(),
    }
    taken: dict[str, list[float]] = {name: [] for name in panels}
    for _ in range(repeats):
        for name, panel in panels.items():
            for control in panel.children[0].children:
                if isinstance(control, (widgets.IntSlider, widgets.FloatSlider, widgets.SelectionSlider)):
                    taken[name] += [seconds(lambda c=control: _move(c)) for _ in range(MOVES)]
            assert panel.errors.outputs == (), name
    yield f"Milliseconds from a slider's new value to the new picture, median of {repeats} rounds; promised: 150."
    yield ""
    rows = [(name, f"{1000 * median(times):.0f}", len(times)) for name, times in taken.items()]
    yield from table(["explorer", "ms", "moves"], rows)


def _move(slider: widgets.Widget) -> None:
    """A twentieth of the way to the right, or to the next option; from the end to the beginning."""
    if isinstance(slider, widgets.SelectionSlider):
        slider.index = (slider.index + 1) % len(slider.options)
    else:
        step = max(slider.step, (slider.max - slider.min) / 20)
        slider.value = slider.value + step if slider.value + step <= slider.max else slider.min


async def _train(trainer: widgets.Widget) -> float:
    """Press Train and wait for the end; the longest time without an answer. Raises RuntimeError if training fails."""
    trainer.reading.value = ""
    start = next(button for button in trainer.children[0].children[-1].children if button.description == "Train")
    start.click()
    (training,) = asyncio.all_tasks() - {asyncio.current_task()}
    longest = 0.0
    while not training.done():
        asked = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - asked)
    if trainer.errors.outputs or f"Step {explore.live.STEPS}." not in trainer.reading.value:
        raise RuntimeError(f"live_trainer did not train to the end: {trainer.errors.outputs or trainer.reading.value}")
    return longest


def _neighbours(name: str) -> widgets.Widget:
    """Over items of which half are copies."""
    dataset = data.load(name, 32)
    return explore.neighbour_explorer(torch.cat([dataset.train, dataset.fresh])[:64], dataset)


def _tradeoff() -> widgets.Widget:
    """Over this repository's recorded runs."""
    compared = {key(config) for plan in ("width", "position") for config in read_plan(plan)}
    return explore.tradeoff_explorer([line for line in read() if line["key"] in compared])
