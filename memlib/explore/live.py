"""A small network that learns 2-D points before the reader's eyes."""

from __future__ import annotations

import asyncio
import time

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from .. import data, plots
from ..metrics import closer_to_train, energy_distance, memorized_fraction, nearest_neighbours
from ..models import MLP
from ..samplers import sample
from ..schedules import Schedule
from ..timesteps import TimestepDistribution, gaussian_interval, uniform
from ..training import TrainConfig, train
from .panel import INTERVAL, UNIFORM, Panel

SLICE = 0.03  # seconds that training holds the kernel before it listens for a press of Stop
REDRAW = 0.4  # seconds of training between two pictures


def live_trainer(dataset: data.Dataset | None = None, *, steps: int = 1000, seed: int = 0) -> widgets.Widget:
    """2-D points: set width and centre, press Train, and watch a small network learn them; Stop ends it at once.

    dataset: points, by default a spiral with 16 of them to train on. Raises ValueError for a set that is not points.
    """
    dataset = dataset or data.load("spiral", 16, seed=seed)
    if dataset.kind != "points":
        raise ValueError(f"dataset = {dataset.name!r} holds {dataset.kind}s; the live trainer needs 2-D points")
    schedule = Schedule.linear()
    controls = {
        "width": widgets.IntSlider(1000, min=20, max=2000, step=20, description="width"),
        "centre": widgets.IntSlider(500, min=0, max=999, step=1, description="centre"),
    }
    start, stop = widgets.Button(description="Train", icon="play"), widgets.Button(description="Stop", icon="stop")
    running: list[asyncio.Task] = []

    def chosen() -> TimestepDistribution:
        half, centre = controls["width"].value / 2, controls["centre"].value
        return gaussian_interval(schedule.T, centre - half, centre + half)

    async def learn() -> None:
        try:
            timesteps, drawn, listened = chosen(), time.monotonic(), time.monotonic()
            for step in train_points(dataset, schedule, timesteps, steps, seed):
                if time.monotonic() - drawn > REDRAW or step.step == steps:
                    panel.show(lambda step=step: draw_live(dataset, schedule, timesteps, step.ema, step.step, seed))
                    drawn = time.monotonic()
                if time.monotonic() - listened > SLICE:
                    await asyncio.sleep(0.001)
                    listened = time.monotonic()
        except Exception as error:
            panel.fail(error)

    def end(_: object = None) -> None:
        while running:
            running.pop().cancel()

    def begin(_: object = None) -> None:
        end()  # the interval asked for last is the one that trains
        running.append(asyncio.get_running_loop().create_task(learn()))

    def preview(**_: int) -> tuple[Figure, str]:
        end()
        return draw_live(dataset, schedule, chosen())

    start.on_click(begin)
    stop.on_click(end)
    panel = Panel(controls, preview, buttons=(start, stop))
    return panel


def train_points(dataset: data.Dataset, schedule: Schedule, timesteps: TimestepDistribution, steps: int, seed: int):
    """The Steps of a small network that learns the set's training points."""
    with torch.random.fork_rng(devices=[]):  # layers initialise from the global generator: give it back as it was
        torch.random.default_generator.manual_seed(seed)
        network = MLP(2, width=64)
    config = TrainConfig(steps=steps, batch_size=128, learning_rate=2e-3, ema_decay=0.99)
    return train(network, dataset.train, schedule, timesteps, config, generator=torch.Generator().manual_seed(seed))


def draw_live(
    dataset: data.Dataset,
    schedule: Schedule,
    timesteps: TimestepDistribution,
    model: torch.nn.Module | None = None,
    step: int = 0,
    seed: int = 0,
) -> tuple[Figure, str]:
    """Left: training points, samples of `model` and the line to the nearest training point. Right: where it trains."""
    figure, (plane, weight) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", width_ratios=(1.4, 1))
    text = "not trained yet: press Train"
    samples = nearest = None
    if model is not None:
        samples = sample(model, schedule, (2,), 128, seed=seed, steps=25)
        nearest = nearest_neighbours(samples, dataset.train, 1)[1][:, 0]
        ours, null = (
            f"memorized {memorized_fraction(points, dataset.train).value:.0%}, closer to train "
            f"{closer_to_train(points, dataset.train, dataset.held_out).value:.0%}, energy distance "
            f"{energy_distance(points, dataset.fresh[256:]):.3f}"
            for points in (samples, dataset.fresh[:256])
        )
        text = f"step {step}. samples: {ours}; fresh real points (the null): {null}"
    plots.points(dataset.train, samples, nearest=nearest, ax=plane)
    plane.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    for p, colour in ((uniform(timesteps.T), UNIFORM), (timesteps, INTERVAL)):
        weight.plot(p.effective_weight(), color=colour)
    weight.set(xlabel="timestep t (noise grows)", title="T p(t); blue: uniform", ylim=(0, None))
    return figure, text
