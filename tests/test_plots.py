"""Figures show what they are given, in colours that mean one thing, and refuse what they cannot draw."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from draws import normal as draw
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import integrate

from memlib import Frame, Schedule, TimestepDistribution, gaussian_interval, uniform
from memlib import viz as plots
from memlib.metrics import Estimate, nearest_neighbours

LINEAR = Schedule.linear(100)
CONTROLS = {"uniform": uniform(100)}
CONTROLS |= {f"{name} noise": gaussian_interval(100, low, low + 50) for name, low in (("low", 0), ("high", 50))}
LOSSES = {"train": torch.tensor([0.4, 0.3, 0.2, 0.1]), "held-out": torch.tensor([0.9, 0.6, 0.3, 0.1])}
ROWS: dict[str, Any] = {
    "uniform": {"closer to train": Estimate(0.82, 0.74, 0.88), "L2": 0.87},
    "low noise 0-50": {"closer to train": Estimate(0.86, 0.79, 0.91), "L2": 0.67},
    "fresh real (null)": {"closer to train": Estimate(0.57, 0.5, 0.64), "L2": 1.16},
    "memorizing baseline": {"closer to train": 1.0},
}
NAN = float("nan")
pytestmark = pytest.mark.usefixtures("fresh_style")


def frames(*shape: int) -> list[Frame]:
    """Ten frames at t = 99, 89, ..., 19 and the sample, with the numbers of each drawn from its own seed."""
    steps = [Frame(t, draw(*shape, seed=t), draw(*shape, seed=t + 1)) for t in range(99, 9, -10)]
    return [*steps, Frame(-1, draw(*shape, seed=7), draw(*shape, seed=7))]


def neighbours(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten samples of which the last two are near-copies of training items 3 and 4, with their neighbours."""
    train = draw(12, *shape)
    samples = draw(10, *shape, seed=1)
    samples[8] = train[3] + 0.1 * draw(*shape, seed=2)
    samples[9] = train[4] + 0.01 * draw(*shape, seed=3)
    return samples, train, *nearest_neighbours(samples, train)


IMAGES = neighbours(3, 8, 8)
FIGURES: dict[str, Callable[[], Figure | Axes]] = {
    "snr_curves": lambda: plots.snr_curves({"linear": LINEAR, "zero terminal": LINEAR.zero_terminal_snr()}),
    "distributions": lambda: plots.distributions(CONTROLS, weight_axis=True),
    "distributions over log-SNR": lambda: plots.distributions(CONTROLS, schedule=LINEAR),
    "loss_per_band": lambda: plots.loss_per_band(LOSSES, gap=("train", "held-out")),
    "seed_dots": lambda: plots.seed_dots({panel: {"x": [1.0, 2.0], "y": [3.0]} for panel in "abcdefgh"}, null={"a": 2}),
    "seed_lines": lambda: plots.seed_lines({"a": [[1.0, 2.0], [3.0, 5.0]]}, [1, 2]),
    "compare": lambda: plots.compare(ROWS, ["closer to train", "L2"], null="fresh real (null)"),
    "strip of images": lambda: plots.denoising_strip(frames(2, 3, 8, 8), samples=(0, 1), schedule=LINEAR),
    "strip of signals": lambda: plots.denoising_strip(frames(2, 1, 20)),
    "grid of images": lambda: plots.grid(draw(10, 3, 8, 8)),
    "grid of signals": lambda: plots.grid(draw(10, 1, 20), label="train"),
    "grid of points": lambda: plots.grid(draw(10, 2)),
    "neighbours of images": lambda: plots.neighbour_panels(*IMAGES),
    "neighbours of signals": lambda: plots.neighbour_panels(*neighbours(1, 20)),
    "points": lambda: plots.points(draw(9, 2), draw(5, 2, seed=1), nearest=torch.arange(5), field=(draw(6, 2),) * 2),
}


def line(ax: Axes, label: str) -> Any:
    return next(line for line in ax.get_lines() if line.get_label() == label)


def shown(image: torch.Tensor) -> np.ndarray:
    """The pixels (H, W, 3) of an image (3, H, W) in [-1, 1]."""
    return ((image.double() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_alike_each_time_without_a_warning(name: str) -> None:
    drawn = []
    for _ in range(2):
        figure: Any = FIGURES[name]().figure
        plots.caption(figure, "profile quick, seed 0, 2 CPU cores; " * 4)
        figure.canvas.draw()
        drawn.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    np.testing.assert_array_equal(*drawn)
    assert len(plt.get_fignums()) == 2, "each call opens its own figure and no other"
    assert figure.get_figwidth() < 10.5, "JupyterLab shrinks a wider one"
    figure.set_layout_engine("none")  # which would move it again
    figure.savefig(full := BytesIO(), dpi=180, bbox_inches="tight")
    every, kept = (plt.imread(BytesIO(x))[..., :3] for x in (full.getvalue(), plots.style.as_png(figure)[0]))
    assert (abs(every - kept).max(2) > 0.1).mean() < 0.03, "few colours, but the right ones"


def test_a_figure_is_drawn_into_given_axes() -> None:
    for draw_into, given in (
        (plots.grid, (draw(4, 3, 8, 8),)), (plots.points, (draw(4, 2),)), (plots.loss_per_band, (LOSSES,)),
        (plots.beside_nearest, (*draw(2, 2, 1, 9), ["", ""])), (plots.seed_lines, ({"a": [[1.0, 2.0]]}, [1, 2])),
    ):  # fmt: skip
        figure, ax = plt.subplots()
        assert draw_into(*given, ax=ax) is ax and plt.get_fignums()[-1] == figure.number


def test_a_colour_has_one_meaning() -> None:
    meanings = {name: look for name, look in plots.MEANINGS.items() if name != "memorizing baseline"}
    colours = [look.colour for look in meanings.values()]
    cycle = {*plt.rcParams["axes.prop_cycle"].by_key()["color"], *(look.colour for look in plots.FALLBACK)}
    assert len(set(colours)) == len(colours) and not set(colours) & cycle
    baseline, train = plots.MEANINGS["memorizing baseline"], plots.MEANINGS["train"]
    assert baseline.colour == train.colour, "its samples are the training data"


def test_looks_follow_the_first_words_of_a_label_and_are_given_once() -> None:
    drawn = plots.looks(["Held-out beats", "samples (uniform)", "high noise"])
    assert list(drawn.values()) == [plots.MEANINGS[name] for name in ("held out", "sample", "high noise")]
    drawn = plots.looks(["uniform", "low_noise 0-500", "high noise", "mine", "yours", "low noise 0-250"])
    assert drawn["low_noise 0-500"] == plots.MEANINGS["low noise"]
    assert {drawn["mine"], drawn["yours"], drawn["low noise 0-250"]} <= set(plots.FALLBACK)
    assert len({look[1:] for look in drawn.values()}) == len(drawn), "in a grey print, line and marker differ"


def test_snr_curves_show_each_schedule_and_leave_out_a_zero_terminal_snr() -> None:
    figure = plots.snr_curves({"linear": LINEAR, "zero": LINEAR.zero_terminal_snr()})
    a = LINEAR.alpha_bar.numpy()
    for ax, expected in zip(figure.axes, (a / (1 - a), np.log(a) - np.log1p(-a), np.sqrt((1 - a) / a)), strict=True):
        np.testing.assert_allclose(line(ax, "linear").get_ydata(), expected, rtol=1e-9)
        np.testing.assert_array_equal(line(ax, "zero").get_xdata(), np.arange(99))


def test_distributions_show_pmf_density_and_weight() -> None:
    figure = plots.distributions(CONTROLS, schedule=LINEAR, weight_axis=True)
    over_t, over_log_snr = figure.axes
    for label, distribution in CONTROLS.items():
        np.testing.assert_array_equal(line(over_t, label).get_ydata(), distribution.pmf.numpy())
        curve = line(over_log_snr, label)
        np.testing.assert_array_equal(curve.get_xdata(), LINEAR.log_snr.numpy())
        assert -integrate.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(1, abs=0.03)
    assert over_log_snr.xaxis_inverted(), "noise must grow to the right in both panels"
    (weight,) = over_t.child_axes
    figure.canvas.draw()
    np.testing.assert_allclose(weight.get_ylim(), 100 * np.array(over_t.get_ylim()), rtol=1e-9)


def test_distributions_mark_what_is_never_trained() -> None:
    pmf = torch.zeros(100, dtype=torch.float64)
    pmf[20:30], pmf[60:80] = 0.05, 0.025
    figure = plots.distributions({"mine": TimestepDistribution(pmf), "uniform": uniform(100)}, schedule=LINEAR)
    for ax, x in zip(figure.axes, (np.arange(100), LINEAR.log_snr.numpy()), strict=True):
        _, bars, even = ax.collections
        boxes = [path.get_extents() for path in bars.get_paths()]
        spans = [sorted((x[first], x[last])) for first, last in ((0, 19), (30, 59), (80, 99))]
        np.testing.assert_allclose([(box.x0, box.x1) for box in boxes], spans, rtol=1e-9)
        assert len(even.get_paths()) == 1, "uniform trains every step"


def test_loss_per_band_shows_values_gaps_and_gap() -> None:
    unseen = LOSSES["held-out"].bfloat16().requires_grad_()
    given = {"train": LOSSES["train"], "held-out": unseen, "mine": [0.2, NAN, 0.2, 0.2]}
    ax = plots.loss_per_band(given, T=1000, gap=("train", "held-out"))
    np.testing.assert_array_equal(line(ax, "held-out").get_xdata(), [125, 375, 625, 875])
    np.testing.assert_array_equal(line(ax, "held-out").get_ydata(), unseen.detach().double())
    np.testing.assert_array_equal(line(ax, "mine").get_ydata(), [0.2, np.nan, 0.2, 0.2])
    scales = [ax.get_yscale(), plots.loss_per_band({"uniform": [0.2, -0.1]}).get_yscale()]
    assert scales == ["log", "linear"], "a logarithm would hide what is negative"


def test_compare_shows_values_intervals_and_the_null() -> None:
    first, second = plots.compare(ROWS, ["closer to train", "L2"], null="fresh real (null)").axes
    assert [label.get_text() for label in first.get_yticklabels()] == list(ROWS)
    dots = [container[0] for container in first.containers]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(0.82, 0), (0.86, 1), (0.57, 2), (1.0, 3)]
    np.testing.assert_allclose(first.containers[0][2][0].get_segments()[0][:, 0], [0.74, 0.88])
    assert [bool(container[2]) for container in second.containers] == [False] * 3, "a number has no interval"
    band = first.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.5, 0.64))
    assert [text.get_text() for text in second.texts] == ["0.87", "0.67", "1.16", "\u2013"]


def test_strips_show_x_above_x0_from_noise_to_sample() -> None:
    given = frames(2, 3, 8, 8)
    panels = np.array(plots.denoising_strip(iter(given), samples=(1,), schedule=LINEAR).axes).reshape(2, 8)
    picked = [given[i] for i in (0, 1, 3, 4, 5, 6, 8, 9)]
    for row, part in zip(panels, ("x", "x0"), strict=True):
        for ax, frame in zip(row, picked, strict=True):
            np.testing.assert_allclose(ax.images[0].get_array(), shown(getattr(frame, part)[1]), rtol=1e-12)
    titles = [ax.get_title().split("\n") for ax in panels[0]]
    assert titles[0] == ["t = 99", f"\u03c3 = {float(LINEAR.sigma[99]):.3g}"] and titles[-1] == ["sample"]
    signals = plots.denoising_strip(frames(2, 1, 20), samples=(0, 1)).axes
    assert len({ax.get_ylim() for ax in signals}) == 1, "one scale"


def test_grid_lays_items_out_in_order_and_signals_on_one_scale() -> None:
    images = draw(5, 3, 4, 6)
    for i, (picture, image) in enumerate(zip(plots.grid(images, columns=3).images, images, strict=True)):
        np.testing.assert_allclose(picture.get_array(), shown(image), rtol=1e-12)
        assert int(picture.get_extent()[0]) == i % 3
    signals = torch.tensor([[[0.0, 1.0]], [[0.0, 4.0]], [[-1.0, 0.0]]])
    rise = np.array([np.diff(line.get_ydata())[0] for line in plots.grid(signals, columns=2).get_lines()])
    np.testing.assert_allclose(rise / rise[0], [1, 4, 1])
    assert all(np.ptp(line.get_ydata()) == 0 for line in plots.grid(torch.zeros(2, 1, 5)).get_lines())


def test_points_joins_samples_to_their_nearest() -> None:
    train, samples, nearest = draw(9, 2), draw(4, 2, seed=1), torch.tensor([3, 0, 0, 8])
    ax = plots.points(train, samples, nearest=nearest, field=(draw(5, 2), 2 * draw(5, 2)))
    arrows, known, drawn, lines = ax.collections
    np.testing.assert_array_equal(known.get_offsets(), train.double().numpy())
    np.testing.assert_array_equal(drawn.get_offsets(), samples.double().numpy())
    expected = torch.stack([samples, train[nearest]], 1).double().numpy()
    np.testing.assert_array_equal(np.array(lines.get_segments()), expected)
    np.testing.assert_array_equal(np.stack([arrows.U, arrows.V], 1), 2 * draw(5, 2).double().numpy())


def test_neighbour_panels_of_images_put_the_worst_first_and_frame_copies() -> None:
    samples, train, distances, indices = IMAGES
    (ax,) = plots.neighbour_panels(*IMAGES, count=3).axes
    ratio = (distances[:, 0] / distances[:, 1]).numpy()
    worst = np.argsort(ratio)[:3]
    assert worst[:2].tolist() == [9, 8]
    expected = [samples[worst], train[indices[worst, 0]], train[indices[worst, 1]]]
    for picture, image in zip(ax.images, torch.cat(expected), strict=True):
        np.testing.assert_allclose(picture.get_array(), shown(image), rtol=1e-12)
    notes = [label.get_text() for label in ax.get_xticklabels()]
    assert all(f"{ratio[b]:.2f}" in note for b, note in zip(worst, notes, strict=True))
    assert [patch.get_x() for patch in ax.patches] == [0, 1], "ratios below 1/3 are framed"
    samples = torch.stack([torch.ones(1, 4), torch.zeros(1, 4)])
    (ax,) = plots.neighbour_panels(samples, torch.zeros(3, 1, 4), [[2.0, 2.0], [0.0, 0.0]], [[0, 1], [0, 1]]).axes
    first, second = (label.get_text() for label in ax.get_xticklabels())
    assert "= 0.00" in first and "= 1.00" in second, "0/0 is an exact copy, and the worst"


def test_beside_nearest_puts_images_above_and_signals_over_their_neighbour() -> None:
    ax = plots.beside_nearest(np.ones((2, 3, 4, 4)), -np.ones((2, 3, 4, 4)), ["a", "b"], framed=[False, True])
    assert [float(image.get_array().mean()) for image in ax.images] == [1, 1, 0, 0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"] and [p.get_x() for p in ax.patches] == [1]
    signals = np.stack([np.linspace(0, 2, 5), np.linspace(2, 0, 5)])[:, None]
    drawn = [line.get_ydata() for line in plots.beside_nearest(signals, signals, ["", ""]).lines]
    np.testing.assert_allclose(drawn[:2], drawn[2:])


@pytest.mark.parametrize(
    ("call", "match"),
    [(lambda: plots.snr_curves({}), "schedules"), (lambda: plots.compare(ROWS, ["L3"]), "metrics.*L3"),
     (lambda: plots.distributions({"a": uniform(10), "b": uniform(20)}), "distributions.*'b': 20"),
     (lambda: plots.loss_per_band({"a": [1.0], "b": [1.0, 2.0]}), "'b'"),
     (lambda: plots.loss_per_band({"a": [NAN, NAN]}), "'a'"), (lambda: plots.caption(plt.figure(), " "), "text"),
     (lambda: plots.compare(ROWS, ["L2"], null="real"), "null = 'real'"),
     (lambda: plots.compare({"a": {"L2": NAN}}, ["L2"]), "'a'.*'L2'"), (lambda: plots.denoising_strip([]), "frames"),
     (lambda: plots.denoising_strip(frames(2, 1, 5), samples=[]), "samples"),
     (lambda: plots.grid(torch.full((2, 1, 5), NAN)), "items"),
     (lambda: plots.neighbour_panels(draw(3, 2), draw(4, 2), *IMAGES[2:]), "samples"),
     (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2].flip(1), IMAGES[3]), "distances"),
     (lambda: plots.beside_nearest(np.ones((2, 1, 9)), np.ones((2, 1, 9)), [""]), "notes"),
     (lambda: plots.beside_nearest(np.ones((2, 1, 9)), np.ones((2, 1, 8)), ["", ""]), "nearest"),
     (lambda: plots.points(draw(5, 3)), "train"),
     (lambda: plots.points(draw(5, 2), draw(5)), "samples")],
)  # fmt: skip
def test_bad_input_is_named(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
