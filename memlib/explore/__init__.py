"""Sliders: the only package that imports ipywidgets.

Each explorer returns a widget: controls, a picture (PNG bytes, so that nothing flickers), a reading in words, and the
error of a callback, if any. Its `draw_...` returns (figure, reading) for a static picture.
"""

from .live import draw_live, live_trainer, train_points
from .noise import SCHEDULES, draw_interval, draw_snr, interval_explorer, snr_explorer
from .tradeoff import FAMILIES, draw_tradeoff, tradeoff_explorer

__all__ = [
    "FAMILIES",
    "SCHEDULES",
    "draw_interval",
    "draw_live",
    "draw_snr",
    "draw_tradeoff",
    "interval_explorer",
    "live_trainer",
    "snr_explorer",
    "tradeoff_explorer",
    "train_points",
]
