"""Figures of time courses, of seeds, and those that move: what is drawn is what was recorded."""

import io
import re
from base64 import b64decode

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from memlib import Schedule, uniform, viz
from memlib.lab import courses
from memlib.lab.hypotheses import Finding
from memlib.lab.spectrum import memorization_spectrum
from memlib.metrics import Estimate

pytestmark = pytest.mark.usefixtures("fresh_style")


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = [
        [control, seed, step, 2.0 * step, measure, value + 0.1 * seed]
        for control, start in (("uniform", 0.2), ("other", 0.4))
        for seed in (0, 1)
        for step in (10, 20)
        for measure, value in (("near-copies", start * step / 20), ("fidelity", 3 - step / 20))
    ]
    return pd.DataFrame(rows, columns=["control", "seed", "step", "views", "measure", "value"])


def test_the_spectrum_is_drawn_band_by_band_over_log_snr() -> None:
    lines = [x for x in courses.read() if x["plan"] == "mixture_random" and x["control"] != "uniform"]
    own, schedule = memorization_spectrum(lines), Schedule.linear()
    above, below = viz.spectrum(own, schedule, {"uniform": uniform()}, (130, 280)).axes
    strip = next(x for x in above.patches if x.get_label() == "zone by geometry")
    assert [strip.get_x(), strip.get_x() + strip.get_width()] == pytest.approx(schedule.log_snr[[279, 130]].tolist())
    levels = [x for x in above.get_lines() if x.get_linewidth() == 2]
    assert [x.get_ydata()[0] for x in levels] == own.coefficients[0, -1].tolist()
    assert sorted(levels[1].get_xdata()) == sorted(schedule.log_snr[[75, 149]].tolist())
    assert len(below.get_lines()) == 1


def test_the_dose_puts_views_in_the_zone_against_the_mean_over_seeds(frame) -> None:
    (ax,) = viz.dose(frame, {"uniform": 0.25, "other": 0.5}, {"uniform": ["uniform"], "rest": ["other"]}).axes
    marks = {c.get_label(): c.lines[0].get_xydata().tolist() for c in ax.containers}
    assert marks["uniform"] == [pytest.approx([40 * 0.25, 0.25])] and marks["rest"] == [pytest.approx([20, 0.45])]


def test_the_frontier_follows_each_control_along_its_training(frame) -> None:
    (ax,) = viz.frontier(frame, ["uniform", "other"]).axes
    paths = {x.get_label(): np.array(x.get_xydata()) for x in ax.get_lines()}
    np.testing.assert_allclose(paths["other"], [[2.55, 0.25], [2.05, 0.45]])


def test_predictions_show_their_interval_and_the_colour_of_their_verdict_and_labels_stay_apart() -> None:
    found = [Finding("H1", d, "more", Estimate(0.1, 0.05, 0.15), 0.01, 12, 0, "supported") for d in ("a", "b", "c")]
    not_run = Finding("H1", "d", "x", None, None, 0, 0, "not run")
    figure = viz.predictions([*found, not_run], "ln ratio to uniform's distance")
    interval, mark = figure.axes[0].get_lines()[:2]
    assert [*interval.get_xdata(), *mark.get_xdata()] == [0.05, 0.15, 0.1]
    assert interval.get_color() == mark.get_color() == "#009E73" and len(figure.axes[0].get_yticks()) == 1
    figure.canvas.draw()
    one, two, _ = [ax.xaxis.label.get_window_extent() for ax in figure.axes]
    assert one.x1 < two.x0


def test_seeds_are_drawn_one_by_one_with_their_mean() -> None:
    ax = viz.seed_lines({"a": [[1.0, np.nan], [3.0, 5.0]]}, [1, 2])
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), [2, 5])
    assert len(ax.get_lines()) == 3
    (ax,) = viz.seed_dots({"share": {"x": [1.0, 2.0], "y": [4.0]}}, null={"share": 0.5}).axes
    dots = [[float(v) for v in c.get_offsets()[:, 0]] for c in ax.collections]
    assert dots == [[1, 2], [4]] and [t.get_text() for t in ax.texts] == ["1.5", "4"]


def test_a_moving_picture_holds_every_frame_and_its_last_one_for_print() -> None:
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    dot = ax.scatter([], [], s=400)
    html = viz.moving(figure, lambda i: dot.set_offsets([[i / 5, 0.5]]), 5, 'a "dot"').data
    assert '<source media="print, (prefers-reduced-motion: reduce)"' in html and 'alt="a &quot;dot&quot;"' in html
    still, film = (PIL.Image.open(io.BytesIO(b64decode(x))) for x in re.findall(r'base64,([^"]+)', html))
    assert film.n_frames == 5 and film.size == still.size == (720, 360)
    frames = [np.asarray((film.seek(i), film.convert("RGB"))[1], dtype=float) for i in range(5)]
    away = [np.abs(frame - np.asarray(still.convert("RGB"), dtype=float)).mean() for frame in frames]
    assert away[-1] < 0.1 and min(away[:-1]) > 0.5
    assert not plt.fignum_exists(figure.number), "else it is shown a second time"
