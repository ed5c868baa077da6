"""Sliders: the only package that imports ipywidgets. The `draw_...` of each explorer gives its static picture."""

from memlib.viz.explore.live import draw_live, live_trainer, train_points
from memlib.viz.explore.noise import draw_interval, draw_snr
from memlib.viz.explore.playground import interval_explorer, playground, snr_explorer
from memlib.viz.explore.samples import denoising_explorer, draw_denoising, follow

# isort: split
from memlib.viz.explore.samples import draw_neighbours, find_neighbours, neighbour_explorer

__all__ = [
    "denoising_explorer", "draw_denoising", "draw_interval", "draw_live", "draw_neighbours", "draw_snr",
    "find_neighbours", "follow", "interval_explorer", "live_trainer", "neighbour_explorer", "playground",
    "snr_explorer", "train_points",
]  # fmt: skip
