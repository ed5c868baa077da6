"""Sliders: the only package that imports ipywidgets.

Each explorer returns a widget: controls, a picture (PNG bytes, so that nothing flickers), a reading in words, and the
error of a callback, if any. Where no kernel runs it is shown as HTML in which one slider still moves. Its `draw_...`
returns (figure, reading) for a static picture.
"""

from memlib.viz.explore.live import draw_live, live_trainer, train_points
from memlib.viz.explore.neighbours import draw_neighbours, find_neighbours, neighbour_explorer
from memlib.viz.explore.noise import SCHEDULES, draw_interval, draw_snr, interval_explorer, snr_explorer
from memlib.viz.explore.process import denoising_explorer, draw_denoising, follow
from memlib.viz.explore.tradeoff import FAMILIES, draw_tradeoff, tradeoff_explorer

__all__ = [
    "FAMILIES",
    "SCHEDULES",
    "denoising_explorer",
    "draw_denoising",
    "draw_interval",
    "draw_live",
    "draw_neighbours",
    "draw_snr",
    "draw_tradeoff",
    "find_neighbours",
    "follow",
    "interval_explorer",
    "live_trainer",
    "neighbour_explorer",
    "snr_explorer",
    "tradeoff_explorer",
    "train_points",
]
