"""Two small networks that learn the same 2-D points before the reader's eyes, each in an interval of its own."""

import asyncio
import time
from collections.abc import Iterator, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from memlib import Schedule, TimestepDistribution, TrainConfig, gaussian_interval, metrics, samplers
from memlib import viz as plots
from memlib.lab import Network, data, train_fleet
from memlib.viz.explore.noise import Drawn, Panel, weigh, window

Sides = Sequence[TimestepDistribution]
SLICE, REDRAW = 0.03, 1.0  # seconds of training between two looks at the buttons, and between two pictures
ARROWS = 0.65  # the log-SNR at which arrows show where the denoiser points: t = 200 of the linear schedule


def live_trainer(dataset: data.Dataset | None = None, *, steps: int = 600, seed: int = 0) -> widgets.Widget:
    """2-D points (a spiral, unless given) and two intervals, A and B: press Train, and watch both being learnt. Stop
    ends training at once; with "live" on, each move of a slider trains anew."""
    points, noise = dataset or data.load("spiral", 16, seed=seed), Schedule.linear()
    T, controls = noise.T, {}
    for what, starts, low, high in (("width", (2 * T, T // 2), T // 10, 2 * T), ("centre", (T // 2, 3 * T // 4), 0, T)):
        for side, start in zip("AB", starts, strict=True):  # A's on the left, above its picture
            step = max(1, high // 200)
            start -= (start - low) % step  # on its grid, else the browser moves it there
            controls[f"{what}_{side}"] = widgets.IntSlider(start, low, high, step, description=f"{side}: {what}")
    train, stop = widgets.Button(description="Train", icon="play"), widgets.Button(description="Stop", icon="stop")
    live = widgets.Checkbox(False, description="live: train at each move", indent=False, layout={"width": "auto"})
    progress = widgets.IntProgress(0, max=steps, description="not trained", layout={"flex": "1 1 200px"})
    running: list[asyncio.Task[None]] = []

    def sides() -> Sides:
        ends = [(controls[f"centre_{side}"].value, controls[f"width_{side}"].value / 2) for side in "AB"]
        return [gaussian_interval(T, centre - half, centre + half) for centre, half in ends]

    shown = draw_live(points, noise, sides())

    async def learn() -> None:
        nonlocal shown
        try:
            chosen, drawn, listened = sides(), time.monotonic(), 0.0
            for step, networks in train_points(points, noise, chosen, steps, seed):
                if step == steps or time.monotonic() - drawn > REDRAW:
                    shown = draw_live(points, noise, chosen, networks, step, seed)
                    plt.close(shown[0])
                    await asyncio.sleep(0.001)  # listens between the two halves of the work
                    panel.show(*shown)
                    drawn = time.monotonic()
                if step == steps or time.monotonic() - listened > SLICE:
                    progress.value, progress.description = step, f"step {step}"
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

    def move(**_: int) -> Drawn:
        """Only p(t) follows the sliders: the planes keep what was learnt last, to compare with."""
        (begin if live.value else end)()
        for ax, side, p in zip(shown[0].axes, "AB", sides(), strict=False):
            weigh(ax, p, f"{side}:")
        return shown[0], f"Press Train for {_where(sides())}. Shown: {shown[1]}"

    train.on_click(begin)
    stop.on_click(end)
    panel = Panel(controls, move, train, stop, live, progress)
    return panel


def train_points(
    dataset: data.Dataset, schedule: Schedule, sides: Sides, steps: int, seed: int
) -> Iterator[tuple[int, Sequence[nn.Module]]]:
    """Small networks, one per distribution, learn the set's training points side by side. Yields, after each step, its
    number and the networks with averaged weights. They start from the same weights and draw the same numbers."""
    # for so small a network float32 is faster than bfloat16
    config = TrainConfig(steps, 128, learning_rate=6e-3, ema_decay=0.98, cooldown=steps // 2, precision="float32")
    networks = [Network(width=64).build((2,), seed) for _ in sides]
    generators = [torch.Generator().manual_seed(seed) for _ in sides]
    for step in train_fleet(networks, [dataset.train] * len(sides), schedule, sides, config, generators=generators):
        yield step.step, step.emas


def draw_live(
    dataset: data.Dataset, schedule: Schedule, sides: Sides, networks: Sequence[nn.Module] = (), step: int = 0,
    seed: int = 0,
) -> Drawn:  # fmt: skip
    """A column per distribution. Above: T p(t). Below: training points; once there are networks, their samples, the
    line from each to the nearest training point, and arrows to where the denoiser takes a point of log-SNR 0.65."""
    sizes = f"n_train = {len(dataset.train)}, n_held_out = {len(dataset.held_out)}, n_fresh = {len(dataset.fresh)}"
    if dataset.kind != "points" or len(dataset.fresh) < 2 or len(dataset.held_out) != len(dataset.train):
        raise ValueError(f"dataset of {dataset.kind}, {sizes}; need 2-D points, n_held_out = n_train, n_fresh >= 2")
    if not sides or any(p.T != schedule.T for p in sides):
        raise ValueError(f"sides have T = {[p.T for p in sides]}; need at least one, of T = {schedule.T}")
    real, half, size = torch.cat([dataset.train, dataset.held_out]), len(dataset.fresh) // 2, (4.2 * len(sides), 5.0)
    middle = (real.amax(0) + real.amin(0)) / 2
    reach = 1.4 * float((real - middle).abs().max())
    lattice = middle + torch.cartesian_prod(*[torch.linspace(-0.92 * reach, 0.92 * reach, 15)] * 2)
    figure, axes = plt.subplots(2, len(sides), figsize=size, layout="constrained", height_ratios=(1, 3), squeeze=False)
    texts = []

    def read(points: Tensor, name: str) -> None:
        copied = metrics.memorized_fraction(points, dataset.train).value
        closer = metrics.closer_to_train(points, dataset.train, dataset.held_out).value
        energy = metrics.energy_distance(points, dataset.fresh[half:])
        texts.append(f"{name}: near-copies {copied:.0%}, closer to train {closer:.0%}, energy distance {energy:.3f}.")

    for i, p in enumerate(sides):
        name, samples, nearest, field = chr(65 + i), None, None, None
        if networks:
            samples = samplers.sample(networks[i], schedule, (2,), 128, seed=seed, steps=min(25, schedule.T))
            nearest = metrics.nearest_neighbours(samples, dataset.train, 1)[1][:, 0]
            x0, _ = samplers.predict(networks[i], schedule, lattice, int((schedule.log_snr - ARROWS).abs().argmin()))
            field = lattice, 0.25 * (x0 - lattice)
            read(samples, name)
        weigh(axes[0, i], p, f"{name}:")
        plots.points(dataset.train, samples, nearest=nearest, field=field, ax=axes[1, i]).legend_ = None
        window(axes[1, i], middle, reach)
    handles = [handle for ax in axes[:, 0] for handle in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=2 * len(sides))
    read(dataset.fresh[:half], "Fresh real points (the null)")
    return figure, f"{_where(sides)}. " + (f"Step {step}. {' '.join(texts)}" if networks else "Not trained yet.")


def _where(sides: Sides) -> str:
    ends = [p.interval() for p in sides]
    return "; ".join(f"{chr(65 + i)} (95 % in t = {low} to {high})" for i, (low, high) in enumerate(ends))
