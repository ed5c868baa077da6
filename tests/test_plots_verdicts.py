"""Forests, grids and seeds: what is drawn is what was found, and what does not count looks as if it did not."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from memlib import viz as plots
from memlib.lab.claims import Finding, Verdict
from memlib.metrics import Estimate
from memlib.viz.verdicts import SAYS, VERDICTS

RAW, SMOOTH = "closer to train", "smoothed closer to train"
WORDS = plots.Scale("change against uniform", 0.05)


def finding(dataset: str, group: str, measure: str, says: str, **other: Any) -> Finding:
    found = {"effect": Estimate(-0.2, -0.3, -0.1), "p": None, "pairs": 6, "broken": 0}
    return Finding("C4", dataset, group, measure, says=says, **(found | other))


FINDINGS = [
    finding("ecg5000", "narrow", RAW, "untestable", effect=None, pairs=0, broken=6),
    finding("ecg5000", "narrow", SMOOTH, "untestable", effect=None, pairs=0, broken=6),
    finding("ecg5000", "wide", RAW, "supports", p=0.0004),
    finding("ecg5000", "wide", SMOOTH, "undecided", effect=Estimate(-0.1, -0.25, 0.05), p=0.3),
    finding("pokemon", "narrow", RAW, "exploratory", effect=None, pairs=0, broken=0),
    finding("pokemon", "wide", RAW, "exploratory", effect=Estimate(0.1, -0.2, 0.4), pairs=3),
]
SEEDS = np.array([[0.8, 0.9, 1.0], [0.6, 0.7, np.nan], [0.1, 0.5, 0.9]])


pytestmark = pytest.mark.usefixtures("fresh_style")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def draw_forest() -> Figure:
    return plots.forest(FINDINGS, scales={RAW: WORDS, SMOOTH: WORDS}, names={"wide": "2,000 wide"})


def draw_dots() -> Figure:
    panels = {"residual noise": {"uniform": [1.0, 1.5], "low noise": [4.0, 9.0]}, "L2": {"uniform": [2.0, 3.0]}}
    broken = {"residual noise": {"low noise": [True, True], "uniform": [False, True]}}
    return plots.seed_dots(panels, broken=broken, null={"L2": 2.5}, log=["residual noise"])


def draw_grid() -> Figure:
    given = [
        Verdict("C4", "says", "partly", {"ecg5000": "reproduced", "pokemon": "exploratory"}, ()),
        Verdict("C6", "says", "inconclusive", {"emoji": "not reproduced"}, ()),
    ]
    return plots.verdict_grid(given)


@pytest.mark.parametrize("draw", [draw_forest, draw_dots, draw_grid])
def test_caption_and_legend_cover_nothing_and_nothing_is_cut_off(draw) -> None:
    figure = draw()
    plots.caption(figure, "profile recorded, seeds 0-5, 2 CPU cores; " * 4)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    outer = [figure._supxlabel, *figure.legends]
    for text, ax in itertools.product(outer, figure.axes):
        assert not text.get_window_extent(renderer).overlaps(ax.get_tightbbox(renderer))
    for part in [*outer, *figure.axes]:
        box = part.get_tightbbox(renderer)
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, part


# forest


def test_forest_stands_under_its_data_sets_exploratory_last_and_without_what_was_not_run() -> None:
    expected = ["ecg5000", "narrow", "2,000 wide", "exploratory, never counted", "pokemon", "2,000 wide"]
    assert rows(draw_forest()) == expected
    assert rows(plots.forest(reversed(FINDINGS), names={"wide": "2,000 wide"}))[-3:] == expected[-3:]


def test_forest_of_one_comparison_for_each_data_set_names_it_once() -> None:
    kept = [f for f in FINDINGS if f.group == "wide"]
    assert rows(plots.forest(kept)) == ["ecg5000", "exploratory, never counted", "pokemon"]


def test_forest_draws_each_effect_with_its_interval_in_its_own_row() -> None:
    raw, smooth = draw_forest().axes
    for ax, y, effect in ((raw, 2, (-0.2, -0.3, -0.1)), (smooth, 2, (-0.1, -0.25, 0.05)), (raw, 5, (0.1, -0.2, 0.4))):
        drawn = [tuple(line.get_xdata()) for line in ax.get_lines() if y in line.get_ydata()]
        assert drawn == [effect[1:], effect[1:], effect[:1]]
    assert not [line for line in smooth.get_lines() if 5 in line.get_ydata()], "no finding, no mark"


def test_forest_tells_by_marker_and_fill_what_a_finding_says() -> None:
    raw, smooth = draw_forest().axes
    marks = {(ax, y): line for ax in (raw, smooth) for line in ax.get_lines() for y in line.get_ydata()[:1]}
    supports, undecided, exploratory = marks[raw, 2], marks[smooth, 2], marks[raw, 5]
    assert [line.get_marker() for line in (supports, undecided, exploratory)] == ["o", "s", "v"]
    assert to_hex(supports.get_markerfacecolor()) == "#004488"
    assert {to_hex(line.get_markerfacecolor()) for line in (undecided, exploratory)} == {"#ffffff"}
    assert legend(draw_forest()) == ["supports", "undecided", "exploratory", "too small to matter"]


def test_forest_writes_pairs_broken_ones_and_adjusted_p() -> None:
    said = texts(draw_forest())
    assert said.count("untestable") == 2 and "p < 0.001" in said and "p = 0.3" in said
    assert [text for text in said if "pairs" in text] == [
        "0 pairs, 6 broken",
        "6 pairs, 0 broken",
        "3 pairs, 0 broken",
    ]
    assert not any(text.startswith("p ") for text in texts(plots.forest(FINDINGS[-1:]))), "only the judged have a p"
    single = finding("ecg5000", "x", RAW, "exploratory", effect=None, pairs=1, broken=0)
    assert texts(plots.forest([single]))[1:] == ["1 pair, 0 broken"]
    lacking = finding("ecg5000", "x", RAW, "untestable", effect=None, pairs=0, broken=0)
    for nothing in (lacking, FINDINGS[4]):
        assert texts(plots.forest([nothing]))[1:] == ["not run"]


def test_what_is_untestable_does_not_stretch_the_axis() -> None:
    judged = finding("ecg5000", "wide", RAW, "undecided", effect=Estimate(0.1, -0.1, 0.3))
    few = finding("ecg5000", "narrow", RAW, "untestable", effect=Estimate(-0.4, -9, 8), pairs=2, broken=4)
    low, high = plots.forest([judged, few]).axes[0].get_xlim()
    assert -0.6 < low < -0.4 and 0.3 < high < 0.5, "the point is shown, its interval is not"


def test_forest_shares_the_axis_of_measures_of_one_scale_and_shades_what_is_too_small() -> None:
    raw, smooth = draw_forest().axes
    assert raw.get_xlim() == smooth.get_xlim()
    assert raw.get_xlim()[0] < -0.3 and raw.get_xlim()[1] > 0.4, "both columns' intervals are inside"
    band = raw.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.05, 0.05))
    plain = plots.forest(FINDINGS)
    assert plain.axes[0].get_xlim() != plain.axes[1].get_xlim() and not plain.axes[0].patches


def test_forest_refuses_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="findings"):
        plots.forest([])


def test_what_is_said_differs_in_grey_print() -> None:
    assert len({look.marker for look in SAYS.values()}) == len(SAYS)
    taken = {look.colour for look in (*plots.MEANINGS.values(), *plots.FALLBACK)}
    assert not taken & {look.colour for look in SAYS.values()}


# grid


def test_grid_writes_each_verdict_in_its_cell_on_its_colour() -> None:
    (ax,) = draw_grid().axes
    columns = [label.get_text() for label in ax.get_xticklabels()]
    assert columns == ["ecg5000", "pokemon", "emoji", "in all"] and rows(ax.figure) == ["C4", "C6"]
    places = dict(zip(ax.get_xticks(), columns, strict=True))
    cells = {(places[t.get_position()[0]], t.get_position()[1]): t.get_text() for t in ax.texts}
    assert cells == {
        ("ecg5000", 0): "reproduced",
        ("pokemon", 0): "exploratory",
        ("in all", 0): "partly",
        ("emoji", 1): "not reproduced",
        ("in all", 1): "inconclusive",
    }
    grounds = [to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert grounds == [to_hex(VERDICTS[t.get_text()][0]) for t in ax.texts]


def test_grid_words_are_readable_on_their_ground() -> None:
    def luminance(colour: str) -> float:
        channels = np.array(to_rgb(colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for ground, ink in VERDICTS.values():
        dark, light = sorted((luminance(ground), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2, AA"


def test_grid_refuses_no_verdict() -> None:
    with pytest.raises(ValueError, match="verdicts"):
        plots.verdict_grid([])


# seeds


def mean_line(ax: Any, label: str) -> np.ndarray:
    return next(line for line in ax.get_lines() if line.get_label() == label).get_ydata()


def test_seed_lines_show_each_seed_and_the_mean_of_the_others_than_hollow_ones() -> None:
    hollow = np.array([[False, False, False], [True, False, False], [True, False, False]])
    ax = plots.seed_lines({"emoji": SEEDS}, ["500", "1,000", "uniform"], hollow={"emoji": hollow})
    np.testing.assert_allclose(mean_line(ax, "emoji"), [0.8, 0.7, 0.95])
    np.testing.assert_array_equal([line.get_ydata() for line in ax.get_lines()[:3]], SEEDS)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [(0, 0.6), (0, 0.1)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["500", "1,000", "uniform"]


def test_seed_lines_keep_a_column_that_is_hollow_throughout_and_show_it() -> None:
    ax = plots.seed_lines({"emoji": SEEDS}, [5.0, 50.0, 500.0], hollow={"emoji": [True, False, False]}, log=True)
    np.testing.assert_allclose(mean_line(ax, "emoji"), [0.5, 0.7, 0.95])
    faces = [to_hex(face) for face in ax.collections[-1].get_facecolors()]
    assert faces[0] == "#ffffff" and "#ffffff" not in faces[1:]
    assert ax.get_yscale() == "log"


def test_seed_lines_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"curves\['a'\]"):
        plots.seed_lines({"a": SEEDS}, [1.0, 2.0])
    with pytest.raises(ValueError, match="curves"):
        plots.seed_lines({}, [1.0, 2.0])
    with pytest.raises(ValueError, match="x: empty"):
        plots.seed_lines({"a": SEEDS}, [])
    with pytest.raises(ValueError, match=r"hollow\['a'\]: expected shape \(3, 3\), got \(2,\)"):
        plots.seed_lines({"a": SEEDS}, [1.0, 2.0, 3.0], hollow={"a": [True, False]})


def test_seed_dots_average_unbroken_runs_and_show_the_broken_hollow() -> None:
    figure = draw_dots()
    noise, distance = figure.axes
    assert rows(figure) == ["uniform", "low noise"]
    assert [text.get_text() for text in noise.texts] == ["1", "6.5"], "without an unbroken run, the broken ones' mean"
    bars = [line.get_linestyle() for line in noise.get_lines()]
    assert bars == ["-", ":"]
    kinds = [
        (len(dots.get_offsets()), to_hex(dots.get_facecolor()[0]))
        for dots in noise.collections
        if len(dots.get_offsets())
    ]
    blue = plots.MEANINGS["uniform"].colour.lower()
    assert kinds == [(1, blue), (1, "#ffffff"), (2, "#ffffff")]
    assert [text.get_text() for text in distance.texts] == ["2.5"]
    assert legend(figure)[1:] == ["broken", "fresh real items"]


def test_seed_dots_keep_a_seeds_height_and_run_the_null_through_its_panel_only() -> None:
    noise, distance = draw_dots().axes
    heights = [dots.get_offsets()[:, 1] % 1 for ax in (noise, distance) for dots in ax.collections]
    np.testing.assert_allclose(np.concatenate(heights), [0.8, 0.2, 0.8, 0.2, 0.8, 0.2])
    assert distance.get_lines()[0].get_xdata()[0] == 2.5
    assert noise.get_xscale() == "log" and distance.get_xscale() == "linear"


def test_seed_dots_have_the_colours_that_all_figures_have() -> None:
    (ax,) = plots.seed_dots({"a": dict.fromkeys(("Uniform", "held-out", "low_noise", "mine"), (1.0,))}).axes
    drawn = [to_hex(dots.get_facecolor()[0]) for dots in ax.collections if len(dots.get_offsets())]
    looks = [*(plots.MEANINGS[name] for name in ("uniform", "held out", "low noise")), plots.FALLBACK[2]]
    assert drawn == [look.colour.lower() for look in looks]


def test_seed_dots_refuse_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"panels\['a'\]\['uniform'\]"):
        plots.seed_dots({"a": {"uniform": [1.0, float("nan")]}})
    with pytest.raises(ValueError, match="panels"):
        plots.seed_dots({})
