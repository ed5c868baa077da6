"""Figures of recorded runs show each mean, keep degenerate runs apart, and draw the reference values."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from memlib import viz as plots
from memlib.lab.claims import Finding, Verdict
from memlib.metrics import Estimate
from memlib.schedules import Schedule
from memlib.timesteps import gaussian_interval, uniform
from memlib.viz.verdicts import SAYS, VERDICTS

LINEAR, RAW, SMOOTH = Schedule.linear(100), "closer to train", "smoothed closer to train"
CONTROLS = {"low noise": gaussian_interval(100, 0, 40), "uniform": uniform(100)}
WHITE = "#ffffff"
pytestmark = pytest.mark.usefixtures("fresh_style")


def runs(*values: tuple[float, float], broken: tuple[bool, ...] = ()) -> pd.DataFrame:
    """A row per (PCA-W, closer to train), each of its own seed; a seed's references are the same for all its runs."""
    frame = pd.DataFrame(values, columns=["PCA-W", RAW]).assign(seed=range(len(values)))
    frame["broken"] = broken or (False,) * len(values)
    frame["fresh: PCA-W"], frame["copycat: PCA-W"] = 0.2 + 0.2 * frame["seed"], 0.3
    frame[f"fresh: {RAW}"], frame[f"copycat: {RAW}"] = 0.5, 1.0
    return frame


UNIFORM = runs((0.4, 0.9), (0.6, 0.8))
PAIRS = [("PCA-W", RAW)]


def colour(meaning: str) -> str:
    return plots.MEANINGS[meaning].colour.lower()


def marks(ax: Axes) -> set[tuple[float, float, str, str]]:
    """(x, y, colour, what fills it) of each mark."""
    return {
        (*place.round(9).tolist(), to_hex(dots.get_edgecolors()[0]), to_hex(dots.get_facecolors()[0]))
        for dots in ax.collections
        if isinstance(dots, PathCollection)
        for place in dots.get_offsets()
    }


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_tradeoff_keeps_degenerate_runs_apart_and_draws_the_references() -> None:
    family = {"low noise": {"narrow": runs((0.5, 0.7), (1.5, 0.3), broken=(False, True)), "wide": runs((0.4, 0.8))}}
    (ax,) = plots.tradeoff(family, PAIRS, uniform=UNIFORM).axes
    orange, blue, green, black = (colour(name) for name in ("low noise", "uniform", "fresh", "copycat"))
    assert marks(ax) == {
        *((x, y, orange, orange) for x, y in ((0.5, 0.7), (0.4, 0.8), (0.5, 0.85))),
        (1.5, 0.3, orange, WHITE),
        (0.5, 0.85, blue, blue),
        (0.3, 0.5, green, green),
        (0.3, 1.0, black, black),
    }
    path = next(line for line in ax.lines if to_hex(line.get_color()) == orange)
    np.testing.assert_allclose(path.get_xydata(), [[0.5, 0.7], [0.4, 0.8], [0.5, 0.85]])


def test_tradeoff_bars_reach_from_the_smallest_to_the_largest_seed() -> None:
    three = runs((0.4, 0.9), (0.6, 0.8), (0.8, 0.4))
    (ax,) = plots.tradeoff({"mine": {"only": three}}, PAIRS, uniform=UNIFORM[:0]).axes
    ends = [bar.get_segments()[0].round(9).tolist() for bar in ax.containers[0].lines[2]]
    assert ends == [[[0.4, 0.7], [0.8, 0.7]], [[0.6, 0.4], [0.6, 0.9]]]


def test_along_joins_numbers_in_order_with_their_references() -> None:
    points = {20: runs((0.6, 0.9)), 10: runs((0.4, 0.8), (0.8, 0.6)), 30: UNIFORM[:0]}
    with_gap = {n: own.assign(gap=0.3) for n, own in points.items()}
    ax, gap = plots.along({"uniform": with_gap}, ["PCA-W", "gap"], xlabel="steps").axes
    lines = {to_hex(line.get_color()): line.get_xydata().round(9).tolist() for line in ax.lines}
    assert lines[colour("uniform")] == [[10, 0.6], [20, 0.6]] and ax.get_xscale() == "log"
    assert lines[colour("fresh")] == [[10, 0.3], [20, 0.2]] and lines[colour("copycat")] == [[10, 0.3], [20, 0.3]]
    assert [to_hex(line.get_color()) for line in gap.lines] == [colour("uniform")], "it has no references"


def test_along_puts_names_side_by_side_unjoined() -> None:
    curves = {"drawn": {"a": UNIFORM, "b": UNIFORM}, "weighted": {"b": UNIFORM.assign(broken=True)}}
    (ax,) = plots.along(curves, ["PCA-W"], xlabel="").axes
    assert labels(ax.xaxis) == ["a", "b"]
    references = {colour("fresh"), colour("copycat")}
    assert {to_hex(line.get_color()) for line in ax.lines} == references
    own = {(x, face == WHITE) for x, _, edge, face in marks(ax) if edge not in references}
    assert own == {(-0.1, False), (0.9, False), (1.1, True)}


def test_along_is_logarithmic_in_a_measure_that_spans_more_than_a_decade() -> None:
    for worst, scale in ((2.0, "linear"), (4.1, "log")):
        (ax,) = plots.along({"uniform": {1: runs((0.4, 0.9)), 2: runs((worst, 0.9))}}, ["PCA-W"], xlabel="").axes
        assert ax.get_yscale() == scale


def test_where_learned_writes_each_cell_greys_degenerate_ones_and_marks_what_is_trained() -> None:
    def table(*rows: list[Any]) -> pd.DataFrame:
        return pd.DataFrame(rows, index=list(CONTROLS), columns=[0, 1])

    changes = {"points": table([-12.0, np.nan], [0.0, 0.2]), "%": table([1500.0, 7.0], [0.0, 0.0])}
    ridges, first, second = plots.where_learned(CONTROLS, LINEAR, changes, table([True, False], [False, False])).axes
    assert labels(ridges.yaxis) == list(CONTROLS)
    assert sorted(text.get_text() for text in first.texts) == ["0", "0", "\u221212"]
    assert sorted(text.get_text() for text in second.texts) == ["+7", "0", "0", ">999"]
    kept, grey = second.collections
    assert kept.get_clim() == (-10, 10), "the degenerate cell must not set the colours"
    assert kept.get_array().mask.tolist() == [[True, False], [False, False]]
    assert grey.get_array().mask.tolist() == [[False, True], [True, True]]
    low, every = (line.get_ydata() for line in ridges.lines[1::2])
    np.testing.assert_array_equal(np.isfinite(low), CONTROLS["low noise"].effective_weight().numpy() > 0.01)
    assert np.isfinite(every).all() and ridges.xaxis_inverted()


# findings and verdicts


def finding(dataset: str, group: str, measure: str, says: str, **other: Any) -> Finding:
    found = {"effect": Estimate(-0.2, -0.3, -0.1), "p": None, "pairs": 6, "broken": 0}
    return Finding("C4", dataset, group, measure, says=says, **(found | other))


FINDINGS = [
    finding("pokemon", "wide", RAW, "exploratory", effect=Estimate(0.1, -0.2, 0.4), pairs=3),
    finding("pokemon", "narrow", RAW, "exploratory", effect=None, pairs=0, broken=0),
    finding("ecg5000", "narrow", RAW, "untestable", effect=None, pairs=0, broken=6),
    finding("ecg5000", "wide", RAW, "supports", p=0.0004),
    finding("ecg5000", "wide", SMOOTH, "undecided", effect=Estimate(-0.1, -0.25, 0.05), p=0.3),
]


def test_forest_draws_each_effect_with_its_interval_and_what_it_rests_on() -> None:
    scale = plots.Scale("change against uniform", 0.05)
    raw, smooth = plots.forest(FINDINGS, scales={RAW: scale, SMOOTH: scale}, names={"wide": "2,000 wide"}).axes
    assert [label.split("\n") for label in labels(raw.yaxis)] == [
        ["ecg5000: narrow", "0 pairs, 6 degenerate"],
        ["ecg5000: 2,000 wide", "6 pairs, 0 degenerate"],
        ["pokemon: 2,000 wide", "3 pairs, 0 degenerate, exploratory"],
    ], "exploratory rows last, and none that was not run"
    drawn = {(ax, y): line for ax in (raw, smooth) for line in ax.get_lines() for y in line.get_ydata()[-1:]}
    dots = [drawn[raw, 1], drawn[smooth, 1], drawn[raw, 2]]
    assert [tuple(dot.get_xdata()) for dot in dots] == [(-0.2,), (-0.1,), (0.1,)]
    assert [dot.get_marker() for dot in dots] == [
        SAYS[says].marker for says in ("supports", "undecided", "exploratory")
    ]
    assert [to_hex(dot.get_markerfacecolor()) for dot in dots] == ["#004488", WHITE, WHITE]
    assert (-0.3, -0.1) in [tuple(line.get_xdata()) for line in raw.get_lines()]
    assert {text.get_text() for text in raw.texts} == {"untestable", "p < 0.001"}
    assert raw.get_xlim() == smooth.get_xlim() and raw.get_xlim()[1] > 0.4, "one scale for both"
    band = raw.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.05, 0.05))


def test_forest_names_a_data_set_once_and_does_not_stretch_for_what_is_untestable() -> None:
    few = finding("ecg5000", "narrow", RAW, "untestable", effect=Estimate(-0.4, -9, 8), pairs=2, broken=4)
    (ax,) = plots.forest([few, finding("emoji", "narrow", RAW, "undecided")]).axes
    assert [label.split("\n")[0] for label in labels(ax.yaxis)] == ["ecg5000", "emoji"]
    assert ax.get_xlim()[0] > -1 and ax.get_xlim()[1] < 1, "the point is shown, its interval is not"


def test_what_a_finding_says_has_a_marker_and_a_colour_of_its_own() -> None:
    assert len({look.marker for look in SAYS.values()}) == len(SAYS)
    taken = {look.colour for look in (*plots.MEANINGS.values(), *plots.FALLBACK)}
    assert not taken & {look.colour for look in SAYS.values()}


def test_verdict_grid_writes_each_verdict_in_its_cell_on_its_colour() -> None:
    given = [
        Verdict("C4", "says", "partly", {"ecg5000": "reproduced", "pokemon": "exploratory"}, ()),
        Verdict("C6", "says", "inconclusive", {"emoji": "not reproduced"}, ()),
    ]
    (ax,) = plots.verdict_grid(given).axes
    columns = labels(ax.xaxis)
    assert columns == ["ecg5000", "pokemon", "emoji", "in all"] and labels(ax.yaxis) == ["C4", "C6"]
    cells = {(columns[int(t.get_position()[0])], int(t.get_position()[1])): t.get_text() for t in ax.texts}
    first = {("ecg5000", 0): "reproduced", ("pokemon", 0): "exploratory", ("in all", 0): "partly"}
    assert cells == first | {("emoji", 1): "not reproduced", ("in all", 1): "inconclusive"}
    mesh = ax.collections[0]
    for word, shade in VERDICTS.items():
        assert to_hex(mesh.cmap(mesh.norm(list(VERDICTS).index(word)))) == to_hex(shade)


# seeds


def test_seed_lines_leave_hollow_values_out_of_the_mean_unless_they_are_alone() -> None:
    seeds = np.array([[0.8, 0.9, 1.0, 2.0], [0.6, 0.7, np.nan, 4.0], [0.1, 0.5, 0.9, 3.0]])
    hollow = np.array([[False, False, False, True], [True, False, False, True], [True, False, False, True]])
    ax = plots.seed_lines({"emoji": seeds}, ["500", "1,000", "2,000", "uniform"], hollow={"emoji": hollow})
    np.testing.assert_array_equal([line.get_ydata() for line in ax.get_lines()[:3]], seeds)
    np.testing.assert_allclose(ax.get_lines()[3].get_ydata(), [0.8, 0.7, 0.95, 3.0])
    *single, mean = ax.collections
    places = [tuple(place) for dots in single for place in dots.get_offsets().compressed().reshape(-1, 2)]
    assert places == [(0, 0.6), (0, 0.1)]
    assert [to_hex(face) == WHITE for face in mean.get_facecolors()] == [False, False, False, True]
    assert labels(ax.xaxis) == ["500", "1,000", "2,000", "uniform"]


def test_seed_dots_average_the_other_runs_and_show_the_degenerate_ones_hollow() -> None:
    panels = {"noise": {"uniform": [1.0, 1.5], "low noise": [4.0, 9.0]}, "L2": {"uniform": [2.0, 3.0]}}
    broken = {"noise": {"low noise": [True, True], "uniform": [False, True]}}
    noise, distance = plots.seed_dots(panels, broken=broken, null={"L2": 2.5}, log=["noise"]).axes
    assert labels(noise.yaxis) == ["uniform", "low noise"]
    assert [text.get_text() for text in noise.texts] == ["1", "6.5"], "all degenerate: their own mean"
    assert [line.get_linestyle() for line in noise.get_lines()] == ["-", ":"]
    faces = [[to_hex(face) for face in dots.get_facecolors()] for dots in noise.collections]
    assert faces == [[colour("uniform"), WHITE], [WHITE, WHITE]]
    heights = [dots.get_offsets()[:, 1] % 1 for ax in (noise, distance) for dots in ax.collections]
    np.testing.assert_allclose(heights, [heights[0]] * 3, err_msg="a seed keeps its height in each row")
    assert distance.get_lines()[0].get_xdata()[0] == 2.5
    assert noise.get_xscale() == "log" and distance.get_xscale() == "linear"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plots.tradeoff({}, PAIRS), "curves"),
        (lambda: plots.tradeoff({"a": {1: UNIFORM}}, []), "pairs"),
        (lambda: plots.tradeoff({"a": {1: UNIFORM[:0]}}, PAIRS), "curves"),
        (lambda: plots.tradeoff({"a": {1: UNIFORM.assign(**{RAW: np.nan})}}, PAIRS), "curves.*'a'.*closer to train"),
        (lambda: plots.along({"a": {1: UNIFORM}}, [], xlabel=""), "measures"),
        (lambda: plots.where_learned({}, LINEAR, {}, UNIFORM), "distributions"),
        (lambda: plots.where_learned(CONTROLS, LINEAR, {}, UNIFORM), "changes"),
        (lambda: plots.forest([]), "findings"),
        (lambda: plots.verdict_grid([]), "verdicts"),
        (lambda: plots.seed_lines({}, [1.0]), "curves"),
        (lambda: plots.seed_lines({"a": [[1.0]]}, []), "x"),
        (lambda: plots.seed_lines({"a": [[1.0, 2.0]]}, [1.0]), "curves.*'a'"),
        (lambda: plots.seed_dots({}), "panels"),
        (lambda: plots.seed_dots({"a": {"uniform": [1.0, np.nan]}}), "panels.*'a'.*'uniform'"),
    ],
)
def test_what_cannot_be_drawn_is_named(call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
