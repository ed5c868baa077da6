"""Two small networks that learn the same 2-D points before the reader's eyes, each in an interval of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from memlib import viz as plots
from memlib.checks import check_count
from memlib.lab import data
from memlib.lab.experiment import Network
from memlib.lab.fleet import train_fleet
from memlib.metrics import closer_to_train, energy_distance, memorized_fraction, nearest_neighbours
from memlib.samplers import predict, sample
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution, gaussian_interval, uniform
from memlib.training import TrainConfig
from memlib.viz.explore.panel import INTERVAL, NOISE_GROWS, UNIFORM, Frame, Panel

SLICE = 0.03  # seconds that training holds the kernel before it listens for a press of Stop
REDRAW = 1.0  # seconds of training between two pictures, each of which costs some 0.2
STEPS = 600
NAMES = "ABCDEFGH"  # of the sides
ARROWS_T = 200  # the timestep at which the arrows show where the denoiser points


def live_trainer(dataset: data.Dataset | None = None, *, steps: int = STEPS, seed: int = 0) -> widgets.Widget:
    """2-D points and two intervals, A and B: set their widths and centres, press Train, and watch both being learnt.

    Stop ends training at once; with "live" on, each move of a slider trains anew. dataset: points, by default a spiral
    with 16 of them to train on. Raises ValueError for a set that is not points.
    """
    dataset = dataset or data.load("spiral", 16, seed=seed)
    _check_points(dataset)
    schedule = Schedule.linear()
    controls: dict[str, widgets.Widget] = {}
    for side, width in (("A", 2000), ("B", 500)):  # A's on the left, above its picture
        slider = widgets.IntSlider(width, min=20, max=2000, step=20, description=f"{side}: width")
        controls[f"width_{side}"] = slider
    for side, centre in (("A", 500), ("B", 750)):
        slider = widgets.IntSlider(centre, min=0, max=1000, step=10, description=f"{side}: centre")
        controls[f"centre_{side}"] = slider
    start, stop = widgets.Button(description="Train", icon="play"), widgets.Button(description="Stop", icon="stop")
    live = widgets.Checkbox(False, description="live: train at each move", indent=False)
    running: list[asyncio.Task] = []

    def chosen(width_A: int, centre_A: int, width_B: int, centre_B: int) -> list[TimestepDistribution]:
        pairs = ((width_A, centre_A), (width_B, centre_B))
        return [gaussian_interval(schedule.T, centre - width / 2, centre + width / 2) for width, centre in pairs]

    def now() -> list[TimestepDistribution]:
        return chosen(**{name: control.value for name, control in controls.items()})

    async def learn() -> None:
        try:
            sides, drawn, listened = now(), time.monotonic(), time.monotonic()
            for step, networks in train_points(dataset, schedule, sides, steps, seed):
                if time.monotonic() - drawn > REDRAW or step == steps:
                    picture = draw_live(dataset, schedule, sides, networks, step, seed)
                    plt.close(picture[0])  # the panel shows it, the notebook should not
                    await asyncio.sleep(0.001)  # listens between the two halves of the work
                    panel.show(lambda picture=picture: picture)
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
        end()  # the intervals asked for last are those that train
        running.append(asyncio.get_running_loop().create_task(learn()))

    def preview(**values: int) -> tuple[Figure, str]:
        end()
        if live.value:
            begin()
        return draw_live(dataset, schedule, chosen(**values))

    def frames() -> Iterator[Frame]:
        shown = {round(steps * share) for share in (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 1)}
        for step, networks in train_points(dataset, schedule, now(), steps, seed):
            if step in shown:
                yield f"{step}", *draw_live(dataset, schedule, now(), networks, step, seed)

    start.on_click(begin)
    stop.on_click(end)
    panel = Panel(controls, preview, ("training step", frames), buttons=(start, stop, live))
    return panel


def train_points(
    dataset: data.Dataset, schedule: Schedule, sides: Sequence[TimestepDistribution], steps: int, seed: int
) -> Iterator[tuple[int, list[torch.nn.Module]]]:
    """Small networks, one per distribution, learn the set's training points side by side: after each step its number
    and the networks with averaged weights. They start from the same weights and draw the same numbers.

    Raises ValueError for a set that is not points, no side, steps below 1 and a seed below 0, and as `train` does."""
    _check_points(dataset)
    check_count(len(sides), "the number of sides", 1)
    check_count(steps, "steps", 1)
    check_count(seed, "seed", 0)
    budget = {"batch_size": 128, "learning_rate": 6e-3, "ema_decay": 0.98, "cooldown": steps // 2}
    config = TrainConfig(steps=steps, precision="float32", **budget)  # for so small a network faster than bfloat16

    networks = [Network(width=64).build((2,), seed) for _ in sides]
    generators = [torch.Generator().manual_seed(seed) for _ in sides]
    for step in train_fleet(networks, [dataset.train] * len(sides), schedule, sides, config, generators=generators):
        yield step.step, step.emas


def draw_live(
    dataset: data.Dataset,
    schedule: Schedule,
    sides: Sequence[TimestepDistribution],
    networks: Sequence[torch.nn.Module] = (),
    step: int = 0,
    seed: int = 0,
) -> tuple[Figure, str]:
    """A column per distribution. Above: training points; once there are networks, their samples, the line from each to
    the nearest training point, and arrows to where the denoiser takes a point of t = 200. Below: where it trains.

    Raises ValueError for a set that is not points, unless there are 1 to 8 sides, and no network or one for each."""
    _check_points(dataset)
    if not 0 < len(sides) <= len(NAMES) or len(networks) not in (0, len(sides)):
        raise ValueError(
            f"sides holds {len(sides)} and networks {len(networks)}; need 1 to 8 sides, a network for each"
        )
    size = (4.4 * len(sides), 5.8)
    figure, axes = plt.subplots(2, len(sides), figsize=size, layout="constrained", height_ratios=(3, 1), squeeze=False)
    trained, readings = [], []
    for i, (timesteps, name) in enumerate(zip(sides, NAMES, strict=False)):
        plane, weight = axes[:, i]
        t = torch.arange(timesteps.T)
        mean = (timesteps.pmf * t).sum()
        spread = (timesteps.pmf * (t - mean).square()).sum().sqrt()
        trained.append(f"{name} draws t = {mean:.0f} \u00b1 {spread:.0f}")
        samples = nearest = field = None
        if networks:
            samples = sample(networks[i], schedule, (2,), 128, seed=seed, steps=25)
            nearest = nearest_neighbours(samples, dataset.train, 1)[1][:, 0]
            field = _arrows(networks[i], schedule)
            readings.append(f"{name}: {_read(samples, dataset)}")
        plots.points(dataset.train, samples, nearest=nearest, field=field, ax=plane)
        plane.get_legend().remove()
        plane.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), title=name)
        even = ("uniform drawing", uniform(timesteps.T), UNIFORM)
        for label, p, colour in (even, ("drawing from its interval", timesteps, INTERVAL)):
            weight.plot(p.effective_weight(), color=colour, label=label)
        weight.set(xlabel=f"timestep t {NOISE_GROWS}", ylabel="T\u00b7p(t)", ylim=(0, None))
        weight.locator_params(axis="y", nbins=4)
    plots.style.top_legend(figure, [h for ax in axes[:, 0] for h in ax.get_legend_handles_labels()[0]])
    where = "; ".join(trained)
    if not networks:
        return figure, f"{where}. Not trained yet: press Train."
    null = f"Fresh real points (the null): {_read(dataset.fresh[: len(dataset.fresh) // 2], dataset)}."
    return figure, f"{where}. Step {step}. {'. '.join(readings)}. {null}"


def _check_points(dataset: data.Dataset) -> None:
    if dataset.kind != "points":
        raise ValueError(f"dataset = {dataset.name!r} holds {dataset.kind}s; the live trainer needs 2-D points")


def _read(points: torch.Tensor, dataset: data.Dataset) -> str:
    return (
        f"memorized {memorized_fraction(points, dataset.train).value:.0%}, closer to train "
        f"{closer_to_train(points, dataset.train, dataset.held_out).value:.0%}, energy distance "
        f"{energy_distance(points, dataset.fresh[len(dataset.fresh) // 2 :]):.3f}"
    )


def _arrows(network: torch.nn.Module, schedule: Schedule) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (M, 2) of a lattice and, from each, a quarter of the way to the clean point predicted at `ARROWS_T`."""
    side = torch.linspace(-2.3, 2.3, 15)
    lattice = torch.cartesian_prod(side, side)
    x0, _ = predict(network, schedule, lattice, ARROWS_T)
    return lattice, 0.25 * (x0 - lattice)
