"""Figures of many runs show each mean, each broken run apart and the floors, and refuse runs that lack them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from memlib import viz as plots
from memlib.schedules import Schedule
from memlib.timesteps import gaussian_interval, uniform

LINEAR = Schedule.linear(100)
PAIRS = [("PCA-W", "closer to train")]
CONTROLS = {"low noise": gaussian_interval(100, 0, 40), "uniform": uniform(100)}


def runs(*values: tuple[float, float], broken: tuple[bool, ...] | None = None) -> pd.DataFrame:
    """A row per (PCA-W, closer to train), each of its own seed; a seed's floors are the same for all of its runs."""
    frame = pd.DataFrame(values, columns=["PCA-W", "closer to train"]).assign(seed=range(len(values)))
    frame["broken"] = broken or (False,) * len(values)
    frame["fresh: PCA-W"], frame["copycat: PCA-W"] = 0.2 + 0.2 * frame["seed"], 0.3
    frame["fresh: closer to train"], frame["copycat: closer to train"] = 0.5, 1.0
    return frame


UNIFORM = runs((0.4, 0.9), (0.6, 0.8))
FAMILY = {"low noise": {"narrow": runs((0.5, 0.7), (1.5, 0.3), broken=(False, True)), "wide": runs((0.4, 0.8))}}


def changes(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=list(CONTROLS), columns=[0, 1])


MAPS = {"closer to train: points above uniform": changes([-12, np.nan], [0, 0]), "PCA-W: %": changes([1500, 7], [0, 0])}
BROKEN = changes([True, False], [False, False]).astype(bool)
FIGURES: dict[str, Callable[[], Figure]] = {
    "tradeoff": lambda: plots.tradeoff(FAMILY, PAIRS * 2, uniform=UNIFORM),
    "along numbers": lambda: plots.along({"uniform": {10: UNIFORM, 20: UNIFORM}}, ["PCA-W"], xlabel="steps"),
    "along names": lambda: plots.along({"a": {"x": UNIFORM}, "b": {"x": UNIFORM}}, ["PCA-W"], xlabel=""),
    "where_learned": lambda: plots.where_learned(CONTROLS, LINEAR, MAPS, BROKEN),
    "beside_nearest": lambda: plots.beside_nearest(np.ones((2, 3, 4, 4)), np.zeros((2, 3, 4, 4)), ["", ""]).figure,
}


pytestmark = pytest.mark.usefixtures("fresh_style")


def marks(ax: Axes) -> list[tuple[float, float, str, str, float]]:
    """(x, y, colour, what fills it, size) of each mark, in the order drawn."""
    found = []
    for dot in (container.lines[0] for container in ax.containers):
        colours = to_hex(dot.get_color()), to_hex(dot.get_markerfacecolor())
        found.append((*map(float, dot.get_xydata()[0]), *colours, dot.get_markersize()))
    return found


def colour(meaning: str) -> str:
    return plots.MEANINGS[meaning].colour.lower()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_deterministic_and_covers_none_of_its_own_words(name: str) -> None:
    drawn = []
    for _ in range(2):
        figure = FIGURES[name]()
        plots.caption(figure, "profile recorded, seeds 0 to 5, 2 CPU cores; " * 4)
        figure.canvas.draw()
        drawn.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    np.testing.assert_array_equal(*drawn)
    for text, ax in itertools.product([figure._supxlabel, *figure.legends], figure.axes):
        box = text.get_window_extent(figure.canvas.get_renderer())
        assert not box.overlaps(ax.get_tightbbox())
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_tradeoff_marks_means_apart_from_broken_runs() -> None:
    figure = plots.tradeoff(FAMILY, PAIRS, uniform=UNIFORM)
    orange, blue = colour("low noise"), colour("uniform")
    small, large = 4.0, 9.0
    assert marks(figure.axes[0]) == [
        (1.5, 0.3, orange, "#ffffff", small),
        (0.5, 0.7, orange, orange, small),
        (0.4, 0.8, orange, orange, (small + large) / 2),
        (pytest.approx(0.5), pytest.approx(0.85), blue, blue, large),
        (pytest.approx(0.3), 0.5, colour("fresh"), colour("fresh"), 7),
        (pytest.approx(0.3), 1.0, colour("copycat"), colour("copycat"), 7),
    ]
    assert legend(figure) == ["low noise", "uniform", "fresh", "copycat", "larger marker: wider", "hollow: broken"]


def test_tradeoff_bars_reach_from_the_smallest_to_the_largest_seed() -> None:
    ax = plots.tradeoff({"low noise": {}}, PAIRS, uniform=runs((0.4, 0.9), (0.6, 0.8), (0.8, 0.4))).axes[0]
    (blue,) = (c for c in ax.containers if to_hex(c.lines[0].get_color()) == colour("uniform"))
    across, up = (bar.get_segments()[0] for bar in blue.lines[2])
    np.testing.assert_allclose(across, [[0.4, 0.7], [0.8, 0.7]])
    np.testing.assert_allclose(up, [[0.6, 0.4], [0.6, 0.9]])


def test_tradeoff_lines_end_in_uniform_and_are_faint_at_broken_points() -> None:
    only_broken = {"low noise": {"narrow": runs((1.5, 0.45), broken=(True,)), "wide": runs((0.5, 0.8))}}
    ax = plots.tradeoff(only_broken, PAIRS, uniform=UNIFORM).axes[0]
    paths = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [line.get_linewidth() for line in paths] == [0.9, 1.6]
    np.testing.assert_allclose([line.get_xdata() for line in paths], [[1.5, 0.5], [0.5, 0.5]])
    assert ax.get_ylim() == (0.4, 1.03)


def test_along_joins_numbers_in_order_with_their_floors() -> None:
    points = {20: runs((0.6, 0.9)), 10: runs((0.4, 0.8), (0.8, 0.6))}
    figure = plots.along({"uniform": points}, ["closer to train", "PCA-W"], xlabel="steps")
    ax = figure.axes[1]
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["10", "20"]
    assert [mark[:2] for mark in marks(ax)] == [(10, pytest.approx(0.6)), (20, 0.6)]
    lines = {to_hex(line.get_color()): line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata()) == 2}
    assert lines[colour("fresh")] == [[10, pytest.approx(0.3)], [20, 0.2]] and lines[colour("copycat")] == [
        [10, 0.3],
        [20, 0.3],
    ]
    assert lines[colour("uniform")] == [[10, pytest.approx(0.6)], [20, 0.6]]
    assert legend(figure) == ["uniform", "fresh", "copycat"]


def test_along_puts_names_side_by_side_unjoined() -> None:
    curves = {"drawn": {"a": UNIFORM, "b": UNIFORM}, "weighted": {"b": UNIFORM.assign(broken=True)}}
    ax = plots.along(curves, ["PCA-W"], xlabel="").axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]
    assert [mark[0] for mark in marks(ax)] == pytest.approx([-0.1, 0.9, 1.1])
    assert [mark[3] == "#ffffff" for mark in marks(ax)] == [False, False, True]
    floors = {colour("fresh"), colour("copycat")}
    assert {to_hex(line.get_color()) for line in ax.lines if len(line.get_xdata()) == 2} == floors


@pytest.mark.parametrize("empty", [1, 2, 3])
def test_a_point_without_a_run_is_left_out(empty: int) -> None:
    points = {1: UNIFORM, 2: UNIFORM, 3: UNIFORM} | {empty: UNIFORM[:0]}
    ax = plots.along({"uniform": points}, ["PCA-W"], xlabel="").axes[0]
    drawn = [n for n in points if n != empty]
    assert [mark[0] for mark in marks(ax)] == drawn
    joined = [list(line.get_xdata()) for line in ax.lines if to_hex(line.get_color()) == colour("uniform")]
    assert [x for x in joined if len(x) == 2] == [drawn]


def test_tradeoff_without_a_uniform_run_is_that_of_the_others() -> None:
    assert len(marks(plots.tradeoff({"a": {1: UNIFORM}}, PAIRS, uniform=UNIFORM[:0]).axes[0])) == 3, "it and two floors"


def test_along_draws_a_measure_that_has_no_floors() -> None:
    figure = plots.along({"uniform": {1: UNIFORM.assign(gap=0.3)}}, ["gap"], xlabel="")
    assert legend(figure) == ["uniform"]


def test_along_is_logarithmic_in_a_measure_that_spans_more_than_a_decade() -> None:
    for worst, scale in ((4.0, "linear"), (4.1, "log")):
        figure = plots.along({"uniform": {1: runs((0.4, 0.9)), 2: runs((worst, 0.9))}}, ["PCA-W"], xlabel="")
        assert figure.axes[0].get_yscale() == scale


def test_where_learned_shows_each_cell_hatches_broken_ones_and_what_is_trained() -> None:
    figure = plots.where_learned(CONTROLS, LINEAR, MAPS, BROKEN)
    ridges, first, second = figure.axes
    assert [t.get_text() for t in ridges.get_yticklabels()] == list(CONTROLS)
    assert [t.get_text() for t in first.texts] == ["\u221212", "0", "0"]
    assert [t.get_text() for t in second.texts] == [">999", "+7", "0", "0"]
    assert [patch.get_xy() for patch in first.patches] == [(-0.5, -0.5)]
    assert second.images[0].get_clim() == (-10, 10), "the broken cell must not set the colours"
    low, whole = (line.get_ydata() for line in ridges.lines[1::2])
    weight = CONTROLS["low noise"].effective_weight().numpy()
    np.testing.assert_array_equal(np.isfinite(low), weight > 0.01)
    assert np.isfinite(whole).all() and ridges.xaxis_inverted()


def test_beside_nearest_puts_images_above_and_signals_over_their_neighbour() -> None:
    ax = plots.beside_nearest(np.ones((2, 3, 4, 4)), -np.ones((2, 3, 4, 4)), ["a", "b"])
    assert [float(image.get_array().mean()) for image in ax.images] == [1, 1, 0, 0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]
    signals = np.stack([np.linspace(0, 2, 5), np.linspace(2, 0, 5)])[:, None]
    ax = plots.beside_nearest(signals, signals, ["", ""])
    assert len(ax.lines) == 4
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.linspace(1, 0, 5))
    assert ax.lines[1].get_xdata().min() > 1


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.tradeoff({}, PAIRS), "curves: empty"),
        (lambda: plots.tradeoff(FAMILY, []), "pairs: empty"),
        (lambda: plots.tradeoff(FAMILY, PAIRS, axes=[]), "axes: need one for each of the 1 pairs, got 0"),
        (lambda: plots.tradeoff({"a": {"x": UNIFORM[:0]}}, PAIRS), "no run"),
        (lambda: plots.tradeoff({"a": {"x": UNIFORM.drop(columns="fresh: PCA-W")}}, PAIRS), "fresh: PCA-W"),
        (lambda: plots.along({"a": {1: UNIFORM}}, ["energy"], xlabel=""), "energy"),
        (lambda: plots.along({"a": {1: UNIFORM}}, [], xlabel=""), "measures: empty"),
        (lambda: plots.where_learned(CONTROLS, LINEAR, {}, BROKEN), "changes: empty"),
        (lambda: plots.where_learned(CONTROLS, LINEAR, MAPS, BROKEN[[0]]), r"no row or column for \['1'\]"),
        (lambda: plots.where_learned(CONTROLS, LINEAR, MAPS, BROKEN[:1]), "no row or column for"),
        (lambda: plots.beside_nearest(np.ones((2, 2)), np.ones((2, 2)), ["", ""]), "'points'"),
        (lambda: plots.beside_nearest(np.ones((2, 1, 9)), np.ones((2, 1, 9)), [""]), "1 notes"),
        (lambda: plots.beside_nearest(np.ones((2, 1, 9)), np.ones((2, 1, 8)), ["", ""]), "nearest: expected shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw()
