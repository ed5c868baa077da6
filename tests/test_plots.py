"""Figures show the data they are given, refuse what they cannot draw, and leave nothing behind."""

import itertools
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import integrate

from memlib import viz as plots
from memlib.metrics import Estimate, nearest_neighbours
from memlib.samplers import Frame
from memlib.schedules import Schedule
from memlib.timesteps import TimestepDistribution, gaussian_interval, uniform
from memlib.viz import style

LINEAR = Schedule.linear(100)
CONTROLS = {
    "uniform": uniform(100),
    "low noise 0-50": gaussian_interval(100, 0, 50),
    "high noise 50-100": gaussian_interval(100, 50, 100),
}
LOSSES = {"train": torch.tensor([0.4, 0.3, 0.2, 0.1]), "held-out": torch.tensor([0.9, 0.6, 0.3, 0.1])}
ROWS: dict[str, Any] = {
    "uniform": {"closer to train": Estimate(0.82, 0.74, 0.88), "L2": 0.87},
    "low noise 0-50": {"closer to train": Estimate(0.86, 0.79, 0.91), "L2": 0.67},
    "fresh real (null)": {"closer to train": Estimate(0.57, 0.5, 0.64), "L2": 1.16},
    "copycat": {"closer to train": 1.0},
}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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


FIGURES: dict[str, Callable[[], Figure | Axes]] = {
    "snr_curves": lambda: plots.snr_curves({"linear": LINEAR, "zero terminal": LINEAR.zero_terminal_snr()}),
    "distributions": lambda: plots.distributions(CONTROLS, weight_axis=True),
    "distributions over log-SNR": lambda: plots.distributions(CONTROLS, schedule=LINEAR),
    "loss_per_band": lambda: plots.loss_per_band(LOSSES, gap=("train", "held-out")),
    "band_contributions": lambda: plots.band_contributions(LOSSES, [9, 4, 0, -4, -9]),
    "compare": lambda: plots.compare(ROWS, ["closer to train", "L2"], null="fresh real (null)"),
    "strip of images": lambda: plots.denoising_strip(frames(2, 3, 8, 8), samples=(0, 1), schedule=LINEAR),
    "strip of signals": lambda: plots.denoising_strip(frames(2, 1, 20)),
    "strip of points": lambda: plots.denoising_strip(frames(30, 2), train=draw(9, 2)),
    "grid of images": lambda: plots.grid(draw(10, 3, 8, 8)),
    "grid of signals": lambda: plots.grid(draw(10, 1, 20), label="train"),
    "grid of points": lambda: plots.grid(draw(10, 2)),
    "neighbours of images": lambda: plots.neighbour_panels(*neighbours(3, 8, 8)),
    "neighbours of signals": lambda: plots.neighbour_panels(*neighbours(1, 20)),
    "pca_scatter": lambda: plots.pca_scatter({"train": draw(20, 3), "samples": draw(30, 2, seed=1)}),
    "points": lambda: plots.points(draw(9, 2), draw(5, 2, seed=1), nearest=torch.arange(5), field=(draw(6, 2),) * 2),
}


pytestmark = pytest.mark.usefixtures("fresh_style")


def figure_of(drawn: Figure | Axes) -> Figure:
    return drawn if isinstance(drawn, Figure) else drawn.figure


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def labels_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def line(ax: Axes, label: str) -> Any:
    return next(line for line in ax.get_lines() if line.get_label() == label)


def test_a_curve_without_a_name_has_the_colour_of_no_meaning() -> None:
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(cycle)) == len(cycle) == 4
    assert not set(cycle) & {look.colour for look in plots.MEANINGS.values()}


# all figures


@pytest.mark.parametrize("name", FIGURES)
def test_is_deterministic_silent_and_opens_its_own_figure_only(name: str) -> None:
    figures = [figure_of(FIGURES[name]()) for _ in range(2)]  # a warning is an error in every test
    first, second = map(pixels, figures)
    np.testing.assert_array_equal(first, second)
    assert first.std() > 0
    assert plt.get_fignums() == [figure.number for figure in figures]


@pytest.mark.parametrize("name", FIGURES)
def test_caption_and_legends_cover_nothing(name: str) -> None:
    drawn = FIGURES[name]()
    plots.caption(drawn, "profile quick, seed 0, 2 CPU cores; " * 4)
    figure = figure_of(drawn)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    seen = [ax for ax in figure.axes if ax.get_visible()]
    texts = [figure._supxlabel, *figure.legends]
    for text, ax in itertools.product(texts, seen):
        assert not text.get_window_extent(renderer).overlaps(ax.get_tightbbox(renderer)), (name, text, ax)
    for ax in seen:
        if ax.get_legend() is not None:
            assert ax.get_legend().get_window_extent(renderer).x0 >= ax.get_window_extent(renderer).x1
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width, (name, text)


@pytest.mark.parametrize(
    "draw_into",
    [
        lambda ax: plots.grid(draw(4, 3, 8, 8), ax=ax),
        lambda ax: plots.points(draw(4, 2), ax=ax),
        lambda ax: plots.loss_per_band(LOSSES, ax=ax),
        lambda ax: plots.band_contributions(LOSSES, range(5), ax=ax),
    ],
)
def test_draws_into_given_axes(draw_into: Callable[[Axes], Axes]) -> None:
    figure, ax = plt.subplots()
    assert draw_into(ax) is ax
    assert plt.get_fignums() == [figure.number]


# style


def test_style_keeps_pictures_small() -> None:
    assert plt.rcParams["figure.dpi"] <= 100
    assert plt.rcParams["savefig.dpi"] <= 100


def test_a_colour_has_one_meaning() -> None:
    meanings = {meaning: look for meaning, look in plots.MEANINGS.items() if meaning != "copycat"}
    colours = [look.colour for look in meanings.values()]
    assert len(set(colours)) == len(colours)
    assert not set(colours) & {look.colour for look in plots.FALLBACK}
    assert plots.MEANINGS["copycat"].colour == plots.MEANINGS["train"].colour


@pytest.mark.parametrize(
    "group", [("train", "held out", "fresh", "sample"), ("uniform", "low noise", "middle noise", "high noise")]
)
def test_grey_prints_are_told_apart(group: tuple[str, ...]) -> None:
    for part in ("line", "marker"):
        used = [getattr(plots.MEANINGS[meaning], part) for meaning in group]
        if part == "line" and group[0] == "train":
            used = used[:3]  # samples are drawn as items and clouds beside train, told apart by their marker
        assert len(set(used)) == len(used), part


def test_fallback_looks_all_differ() -> None:
    assert len({look[1:] for look in plots.FALLBACK}) == len(plots.FALLBACK)


def test_looks_follow_the_first_words_of_a_label() -> None:
    drawn = plots.looks(["Held-out beats", "samples (uniform)", "low_noise 0-500", "mine", "yours"])
    assert list(drawn.values()) == [
        plots.MEANINGS["held out"],
        plots.MEANINGS["sample"],
        plots.MEANINGS["low noise"],
        plots.FALLBACK[0],
        plots.FALLBACK[2],  # the second has low noise's line and marker
    ]


def test_a_label_of_ones_own_can_be_told_from_the_controls_in_a_grey_print() -> None:
    drawn = plots.looks(["uniform", "low noise", "high noise", "mine", "yours"])
    assert len({look[1:] for look in drawn.values()}) == len(drawn)


def test_looks_gives_a_meaning_once() -> None:
    drawn = plots.looks(["low noise 0-500", "low noise 0-250"])
    assert drawn == {"low noise 0-500": plots.MEANINGS["low noise"], "low noise 0-250": plots.FALLBACK[0]}


def test_caption_is_replaced_and_may_not_be_empty() -> None:
    ax = plots.grid(draw(3, 2))
    plots.caption(ax, "profile smoke")
    plots.caption(ax.figure, "profile quick")
    assert ax.figure.get_supxlabel() == "profile quick"
    with pytest.raises(ValueError, match="text"):
        plots.caption(ax, "  ")


def test_caption_keeps_clear_of_axes_laid_out_by_hand() -> None:
    figure, ax = plt.subplots(layout="none")
    ax.set_xlabel("x")
    plots.caption(figure, "profile quick")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    assert figure._supxlabel.get_window_extent(renderer).y1 <= ax.get_tightbbox(renderer).y0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_arrays_come_from_any_float_tensor(dtype: torch.dtype) -> None:
    array = style.as_array("x", torch.tensor([1.5, -2.0], dtype=dtype, requires_grad=True), (2,))
    np.testing.assert_array_equal(array, np.array([1.5, -2.0]))


def test_pictures_are_mapped_and_clipped() -> None:
    grey = style.picture(np.array([[[-3.0, -1.0, 0.0, 1.0, 2.0]]]))
    np.testing.assert_array_equal(grey, np.repeat([[[0.0], [0.0], [0.5], [1.0], [1.0]]], 3, axis=2))


# curves


def test_snr_curves_show_each_schedule() -> None:
    figure = plots.snr_curves({"linear": LINEAR})
    a = LINEAR.alpha_bar.numpy()
    for ax, expected in zip(figure.axes, (a / (1 - a), np.log(a) - np.log1p(-a), np.sqrt((1 - a) / a)), strict=True):
        np.testing.assert_allclose(line(ax, "linear").get_ydata(), expected, rtol=1e-9)
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear", "log"]


def test_snr_curves_leave_out_a_zero_terminal_snr() -> None:
    figure = plots.snr_curves({"zero": LINEAR.zero_terminal_snr()})
    for ax in figure.axes:
        np.testing.assert_array_equal(line(ax, "zero").get_xdata(), np.arange(99))


def test_distributions_show_pmf_density_and_weight() -> None:
    figure = plots.distributions(CONTROLS, schedule=LINEAR, weight_axis=True)
    over_t, over_log_snr = figure.axes
    for label, distribution in CONTROLS.items():
        np.testing.assert_array_equal(line(over_t, label).get_ydata(), distribution.pmf.numpy())
        curve = line(over_log_snr, label)
        np.testing.assert_array_equal(curve.get_xdata(), LINEAR.log_snr.numpy())
        area = -integrate.trapezoid(curve.get_ydata(), curve.get_xdata())  # log-SNR falls with t
        assert area == pytest.approx(1, abs=0.03)
    left, right = over_log_snr.get_xlim()
    assert left > right, "noise must grow to the right in both panels"
    (weight,) = over_t.child_axes
    figure.canvas.draw()
    np.testing.assert_allclose(weight.get_ylim(), 100 * np.array(over_t.get_ylim()), rtol=1e-9)


def test_distributions_mark_where_nothing_is_trained() -> None:
    pmf = torch.zeros(100, dtype=torch.float64)
    pmf[20:30] = 0.05
    pmf[60:80] = 0.025
    figure = plots.distributions({"mine": TimestepDistribution(pmf)}, schedule=LINEAR, negligible=0.0)
    assert any("never trained" in label for label in labels_of(figure))
    boxes = [path.get_extents() for path in figure.axes[0].collections[1].get_paths()]
    np.testing.assert_allclose([(b.x0, b.x1) for b in boxes], [(0, 19.5), (29.5, 59.5), (79.5, 99)], rtol=1e-9)
    log_snr = LINEAR.log_snr.numpy()
    first = figure.axes[1].collections[1].get_paths()[0].get_extents()
    np.testing.assert_allclose((first.x1, first.x0), (log_snr[0], log_snr[[19, 20]].mean()), rtol=1e-9)


def test_distributions_count_a_negligible_weight_as_never_trained() -> None:
    narrow = {"narrow": gaussian_interval(100, 40, 60)}
    spans = {}
    for negligible in (1e-6, 0.5):
        ax = plots.distributions(narrow, negligible=negligible).axes[0]
        boxes = [path.get_extents() for path in ax.collections[1].get_paths()]
        spans[negligible] = sum(box.x1 - box.x0 for box in boxes)
        weight = 100 * narrow["narrow"].pmf
        assert spans[negligible] == pytest.approx(int((weight <= negligible).sum()) - 1)  # half a step at each end
    assert spans[1e-6] < spans[0.5]


def test_distributions_have_no_mark_where_all_is_trained() -> None:
    figure = plots.distributions({"uniform": uniform(100)})
    assert labels_of(figure) == ["uniform"]


def test_loss_per_band_shows_values_gaps_and_gap() -> None:
    ax = plots.loss_per_band({**LOSSES, "mine": [0.2, float("nan"), 0.2, 0.2]}, T=1000, gap=("train", "held-out"))
    np.testing.assert_array_equal(line(ax, "held-out").get_xdata(), [125, 375, 625, 875])
    np.testing.assert_array_equal(line(ax, "held-out").get_ydata(), LOSSES["held-out"].double().numpy())
    np.testing.assert_array_equal(line(ax, "mine").get_ydata(), [0.2, np.nan, 0.2, 0.2])
    (area,) = ax.collections
    vertices = area.get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx(0.9)
    assert ax.get_yscale() == "log"


def test_loss_per_band_draws_negative_differences() -> None:
    assert plots.loss_per_band({"uniform": [0.2, -0.1]}).get_yscale() == "linear"


@pytest.mark.parametrize("edges", [[9, 4, 0, -4, -9], [-9, -4, 0, 4, 9]])
def test_band_contributions_are_shares_with_noise_to_the_right(edges: list[float]) -> None:
    values = {"uniform": [1.0, 2.0, 3.0, 4.0], "mine": [0.0, 0.0, 5.0, 5.0]}
    ax = plots.band_contributions(values, edges)
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}
    step = 1 if edges[0] > edges[-1] else -1
    np.testing.assert_allclose(heights["uniform"], [10, 20, 30, 40][::step])
    np.testing.assert_allclose(heights["mine"], [0, 0, 50, 50][::step])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["9", "4", "0", "\u22124", "\u22129"]
    np.testing.assert_array_equal(line(ax, "equal shares").get_ydata(), [25, 25])


def test_compare_shows_values_intervals_and_the_null() -> None:
    figure = plots.compare(ROWS, ["closer to train", "L2"], null="fresh real (null)")
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == list(ROWS)
    dots = [container[0] for container in first.containers]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(0.82, 0), (0.86, 1), (0.57, 2), (1.0, 3)]
    segment = first.containers[0][2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [0.74, 0.88])
    assert [bool(container[2]) for container in second.containers] == [False] * 3, "a number has no interval"
    band = first.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.5, 0.64))
    assert [text.get_text() for text in second.texts] == ["0.87", "0.67", "1.16", "\u2013"]
    assert first.get_ylim()[0] > first.get_ylim()[1], "the first row stands on top"


# items


def test_strip_of_images_shows_x_above_x0_from_noise_to_sample() -> None:
    given = frames(2, 3, 8, 8)
    figure = plots.denoising_strip(iter(given), samples=(1,), columns=4, schedule=LINEAR)
    shown = np.array(figure.axes).reshape(2, 4)
    picked = [given[i] for i in (0, 3, 6, 9)]
    for row, part in zip(shown, ("x", "x0"), strict=True):
        for ax, frame in zip(row, picked, strict=True):
            expected = ((getattr(frame, part)[1].double() + 1) / 2).clamp(0, 1).permute(1, 2, 0)
            np.testing.assert_allclose(ax.images[0].get_array(), expected, rtol=1e-12)
    titles = [ax.get_title() for ax in shown[0]]
    assert titles[-1] == "sample"
    assert [title.splitlines()[0] for title in titles[:3]] == ["t = 99", "t = 69", "t = 39"]
    assert titles[0].splitlines()[1] == f"\u03c3 = {float(LINEAR.sigma[99]):.3g}"


def test_strip_of_signals_shares_the_scale_of_x() -> None:
    given = frames(2, 1, 20)
    figure = plots.denoising_strip(given, samples=(0, 1), columns=3)
    shown = np.array(figure.axes).reshape(4, 3)
    np.testing.assert_array_equal(shown[2, 0].get_lines()[0].get_ydata(), given[0].x[1, 0].double().numpy())
    np.testing.assert_array_equal(shown[1, 2].get_lines()[0].get_ydata(), given[-1].x0[0, 0].double().numpy())
    assert len({ax.get_ylim() for ax in shown.flat}) == 1


def test_strip_of_points_shows_the_batch_over_the_training_points() -> None:
    given, train = frames(30, 2), draw(9, 2)
    figure = plots.denoising_strip(given, columns=3, train=train)
    below, above = figure.axes[-1].collections
    np.testing.assert_array_equal(below.get_offsets(), train.double().numpy())
    np.testing.assert_array_equal(above.get_offsets(), given[-1].x0.double().numpy())


def test_grid_lays_images_out_in_order_on_white() -> None:
    images = draw(5, 3, 4, 6).clamp(-1, 1)
    sheet = plots.grid(images, columns=3).images[0].get_array()
    assert sheet.shape == (2 * 5, 3 * 7, 3)
    expected = (images[4].double().permute(1, 2, 0).numpy() + 1) / 2
    np.testing.assert_allclose(sheet[5:9, 7:13], expected, rtol=1e-12)
    assert (sheet[5:, 14:] == 1).all(), "the place that is left over is white"


def test_grid_of_signals_keeps_order_and_one_scale() -> None:
    signals = torch.tensor([[[0.0, 1.0]], [[0.0, 4.0]], [[-1.0, 0.0]]])
    lines = plots.grid(signals, label="train", columns=2).get_lines()
    assert {to_hex(line.get_color()) for line in lines} == {plots.MEANINGS["train"].colour}
    rise = [np.diff(line.get_ydata())[0] for line in lines]
    np.testing.assert_allclose(rise, np.array([1, 4, 1]) * 0.9 / 5)
    assert [line.get_xdata()[0] for line in lines] == [0, 1, 0]
    assert lines[2].get_ydata().max() < min(lines[0].get_ydata().min(), lines[1].get_ydata().min())


def test_grid_of_points() -> None:
    items = draw(6, 2)
    np.testing.assert_array_equal(plots.grid(items).collections[0].get_offsets(), items.double().numpy())


@pytest.mark.parametrize("signal", [torch.zeros(2, 1, 5), torch.full((1, 2, 5), 3.0)])
def test_grid_of_constant_signals(signal: torch.Tensor) -> None:
    for drawn in plots.grid(signal).get_lines():
        assert np.ptp(drawn.get_ydata()) == 0


def test_neighbour_panels_of_images_put_the_worst_first() -> None:
    samples, train, distances, indices = neighbours(3, 8, 8)
    figure = plots.neighbour_panels(samples, train, distances, indices, count=3)
    shown = np.array(figure.axes).reshape(3, 3)
    ratio = (distances[:, 0] / distances[:, 1]).numpy()
    worst = np.argsort(ratio)[:3]
    assert worst[:2].tolist() == [9, 8]
    for column, b in zip(shown.T, worst, strict=True):
        for ax, item in zip(column, (samples[b], train[indices[b, 0]], train[indices[b, 1]]), strict=True):
            expected = ((item.double() + 1) / 2).clamp(0, 1).permute(1, 2, 0)
            np.testing.assert_allclose(ax.images[0].get_array(), expected, rtol=1e-12)
        assert column[0].get_title().endswith(f"{ratio[b]:.2f}")
    framed = [[bool(ax.patches) for ax in row] for row in shown]
    assert framed[0] == framed[1] == (ratio[worst] < 1 / 3).tolist() == [True, True, False]
    assert framed[2] == [False] * 3, "the second nearest is no part of a copy"
    assert len(labels_of(figure)) == 1


@pytest.mark.parametrize("count", [5, 7])
def test_neighbour_panels_of_signals_lie_over_each_other(count: int) -> None:
    samples, train, distances, indices = neighbours(1, 20)
    figure = plots.neighbour_panels(samples, train, distances, indices, count=count, threshold=1e-9)
    seen = [ax for ax in figure.axes if ax.get_visible()]
    assert len(seen) == count
    expected = [samples[9], train[indices[9, 1]], train[indices[9, 0]]]
    for drawn, item in zip(seen[0].get_lines(), expected, strict=True):
        np.testing.assert_array_equal(drawn.get_ydata(), item[0].double().numpy())
    assert labels_of(figure) == ["sample", "nearest training item", "second nearest"]


def test_neighbour_panels_of_an_exact_copy_of_a_duplicate() -> None:
    train = torch.zeros(3, 1, 4)
    samples = torch.stack([torch.ones(1, 4), torch.zeros(1, 4)])
    figure = plots.neighbour_panels(samples, train, [[2.0, 2.0], [0.0, 0.0]], [[0, 1], [0, 1]])
    first, second = (ax.get_title() for ax in figure.axes)
    assert "= 0.00" in first, "0/0 is an exact copy, and the worst"
    assert "= 1.00" in second


# planes


def test_pca_scatter_shows_points_and_densities() -> None:
    clouds = {"train": draw(20, 3), "samples": draw(30, 2, seed=1)}
    figure = plots.pca_scatter(clouds, bins=7)
    main = next(ax for ax in figure.axes if ax.get_xlabel())
    for scatter, cloud in zip(main.collections, clouds.values(), strict=True):
        np.testing.assert_array_equal(scatter.get_offsets(), cloud[:, :2].double().numpy())
    sides = [ax for ax in figure.axes if ax is not main]
    everything = torch.cat([cloud[:, :2] for cloud in clouds.values()]).double().numpy()
    for k, ax in enumerate(sides):
        edges = np.linspace(everything[:, k].min(), everything[:, k].max(), 8)
        for stairs, cloud in zip(ax.patches, clouds.values(), strict=True):
            expected = np.histogram(cloud[:, k].double().numpy(), edges, density=True)[0]
            np.testing.assert_allclose(stairs.get_data().values, expected, rtol=1e-9)


def test_pca_scatter_of_a_constant_component() -> None:
    figure = plots.pca_scatter({"train": torch.ones(4, 2)})
    figure.canvas.draw()
    assert all(np.isfinite(stairs.get_data().values).all() for ax in figure.axes for stairs in ax.patches)


def test_points_joins_samples_to_their_nearest() -> None:
    train, samples, nearest = draw(9, 2), draw(4, 2, seed=1), torch.tensor([3, 0, 0, 8])
    ax = plots.points(train, samples, nearest=nearest, field=(draw(5, 2), 2 * draw(5, 2)))
    arrows, lines, known, shown = ax.collections
    np.testing.assert_array_equal(known.get_offsets(), train.double().numpy())
    np.testing.assert_array_equal(shown.get_offsets(), samples.double().numpy())
    expected = torch.stack([samples, train[nearest]], 1).double().numpy()
    np.testing.assert_array_equal(np.array(lines.get_segments()), expected)
    np.testing.assert_array_equal(np.stack([arrows.U, arrows.V], 1), 2 * draw(5, 2).double().numpy())


# bad input

IMAGES = neighbours(3, 8, 8)
NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: plots.snr_curves({}), ValueError, "schedules: empty"),
        (lambda: plots.snr_curves([LINEAR]), TypeError, "schedules = .*a list; need Mapping"),
        (lambda: plots.snr_curves({1: LINEAR}), TypeError, "schedules = .*a dict; need Mapping"),
        (lambda: plots.distributions({}), ValueError, "distributions: empty"),
        (lambda: plots.distributions({"a": uniform(10), "b": uniform(20)}), ValueError, "one common T"),
        (lambda: plots.distributions({"a": uniform(10)}, schedule=LINEAR), ValueError, "T = 100"),
        (lambda: plots.distributions({"a": uniform(10)}, negligible=1.0), ValueError, "negligible = 1.0"),
        (lambda: plots.loss_per_band({}), ValueError, "losses: empty"),
        (lambda: plots.loss_per_band({"a": [1.0], "b": [1.0, 2.0]}), ValueError, "same number of bands"),
        (lambda: plots.loss_per_band({"a": [NAN, NAN]}), ValueError, "'a'.*every value is NaN"),
        (lambda: plots.loss_per_band({"a": [1.0, np.inf]}), ValueError, "'a'.*infinity"),
        (lambda: plots.loss_per_band({"a": [1.0]}, gap=("a", "b")), ValueError, "gap"),
        (lambda: plots.loss_per_band({"a": "many"}), TypeError, "losses = .*'a'"),
        (lambda: plots.loss_per_band({"a": [1.0]}, T=0), ValueError, "T = 0"),
        (lambda: plots.band_contributions({}, [1, 0]), ValueError, "contributions: empty"),
        (lambda: plots.band_contributions({"a": [1.0, 2.0]}, [1, 0]), ValueError, r"edges: expected shape \(3\)"),
        (lambda: plots.band_contributions({"a": [1.0, 2.0]}, [1, 0, 1]), ValueError, "edges: must rise or fall"),
        (lambda: plots.band_contributions({"a": [1.0, -2.0]}, [2, 1, 0]), ValueError, "'a'.*>= 0"),
        (lambda: plots.band_contributions({"a": [0.0, 0.0]}, [2, 1, 0]), ValueError, "sum > 0"),
        (lambda: plots.band_contributions({"a": [1.0, NAN]}, [2, 1, 0]), ValueError, "'a'.*>= 0"),
        (lambda: plots.compare({}, ["L2"]), ValueError, "rows: empty"),
        (lambda: plots.compare(ROWS, []), ValueError, "metrics"),
        (lambda: plots.compare(ROWS, "L2"), TypeError, "metrics"),
        (lambda: plots.compare(ROWS, ["L3"]), ValueError, "L3.*the rows have.*L2"),
        (lambda: plots.compare(ROWS, ["L2"], null="real"), ValueError, "null = 'real'"),
        (lambda: plots.compare({"a": {"L2": NAN}}, ["L2"]), ValueError, "'a'.*'L2'.*NaN"),
        (lambda: plots.compare({"a": {"L2": "much"}}, ["L2"]), TypeError, "'a'.*'L2'"),
        (lambda: plots.compare({"a": {"L2": Estimate(3, 1, 2)}}, ["L2"]), ValueError, "outside its own interval"),
        (lambda: plots.denoising_strip([]), ValueError, "frames: empty"),
        (lambda: plots.denoising_strip(frames(2, 1, 5), columns=1), ValueError, "columns = 1"),
        (lambda: plots.denoising_strip(frames(2, 1, 5), samples=[2]), ValueError, r"samples = \[2\].*0\.\.1"),
        (lambda: plots.denoising_strip(frames(2, 1, 5), samples=[]), ValueError, "samples"),
        (lambda: plots.denoising_strip(frames(2, 1, 5), train=draw(3, 2)), ValueError, "train"),
        (lambda: plots.denoising_strip([*frames(2, 1, 5), *frames(2, 1, 6)]), ValueError, "frames: x"),
        (lambda: plots.denoising_strip(frames(5)), ValueError, "1 dimensions"),
        (lambda: plots.grid(draw(2, 4, 8, 8)), ValueError, "1 or 3 channels"),
        (lambda: plots.grid(draw(2, 3)), ValueError, r"items: expected shape \(n, 2\)"),
        (lambda: plots.grid(torch.empty(0, 3, 8, 8)), ValueError, "items"),
        (lambda: plots.grid(torch.full((2, 1, 5), NAN)), ValueError, "items: holds NaN"),
        (lambda: plots.grid(draw(2, 2), columns=0), ValueError, "columns = 0"),
        (lambda: plots.grid([[1.0, 2.0], [3.0]]), TypeError, "items: expected rows of equal length"),
        (lambda: plots.grid(torch.zeros(2, 2, dtype=torch.cfloat)), TypeError, "items: expected a tensor.* of numbers"),
        (lambda: plots.neighbour_panels(draw(3, 2), draw(4, 2), *IMAGES[2:]), ValueError, "points"),
        (lambda: plots.neighbour_panels(IMAGES[0], draw(4, 3, 8, 9), *IMAGES[2:]), ValueError, "train"),
        (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2][:5], IMAGES[3]), ValueError, "distances"),
        (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2][:, :1], IMAGES[3][:, :1]), ValueError, "two nearest"),
        (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2].flip(1), IMAGES[3]), ValueError, "nearest first"),
        (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2], IMAGES[3] + 12), ValueError, r"indices.*0\.\.11"),
        (lambda: plots.neighbour_panels(*IMAGES[:2], IMAGES[2], IMAGES[3] + 0.5), ValueError, "indices.*whole"),
        (lambda: plots.neighbour_panels(*IMAGES, count=0), ValueError, "count = 0"),
        (lambda: plots.pca_scatter({}), ValueError, "projected: empty"),
        (lambda: plots.pca_scatter({"a": draw(5, 1)}), ValueError, "'a'.*two components"),
        (lambda: plots.pca_scatter({"a": draw(5, 2)}, bins=0), ValueError, "bins = 0"),
        (lambda: plots.points(draw(5, 3)), ValueError, "train"),
        (lambda: plots.points(draw(5, 2), draw(5)), ValueError, "samples"),
        (lambda: plots.points(draw(5, 2), nearest=[0]), ValueError, "no samples"),
        (lambda: plots.points(draw(5, 2), draw(1, 2), nearest=[5]), ValueError, r"nearest.*0\.\.4"),
        (lambda: plots.points(draw(5, 2), field=(draw(3, 2), draw(4, 2))), ValueError, r"field\[1\]"),
    ],
)
def test_bad_input_is_named_and_opens_no_figure(call: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "ends", [(15, 32.5), (0.5, 250), (0.31, 0.72), (0.9, 1.1), (1e-3, 1e4), (2, 2.0001), (1e-12, 1e12)]
)
def test_a_logarithmic_axis_has_few_plain_numbers(ends) -> None:
    ax = plots.style.new_axes(None, 1.8, 2)
    plots.style.logarithmic(ax, "x")
    ax.set_xlim(*ends)
    shown = [tick for tick in ax.get_xticks() if ends[0] <= tick <= ends[1]]
    ax.figure.canvas.draw()
    assert 1 <= len(shown) <= 6
    assert all(float(label.get_text().replace("\N{MINUS SIGN}", "-")) > 0 for label in ax.get_xticklabels())
