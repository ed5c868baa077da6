"""Every figure of the project: data in, a Figure or Axes out. Call `use_style()` once, `caption()` always."""

from memlib.viz.curves import compare, distributions, loss_per_band, monitor_curves, snr_curves, watch
from memlib.viz.dose import dose, frontier, predictions, seed_dots, seed_lines, spectrum
from memlib.viz.items import beside_nearest, denoising_strip, grid, neighbour_panels, picture, points
from memlib.viz.style import FALLBACK, MEANINGS, Look, caption, looks, moving, use_style

__all__ = [
    "FALLBACK", "MEANINGS", "Look", "beside_nearest", "caption", "compare", "denoising_strip", "distributions",
    "dose", "frontier", "grid", "looks", "loss_per_band", "monitor_curves", "moving", "neighbour_panels",
    "picture", "points", "predictions", "seed_dots", "seed_lines", "snr_curves", "spectrum", "use_style", "watch",
]  # fmt: skip
