"""Every figure of the project: data in, matplotlib Axes (or a Figure, where there are many axes) out.

Nothing here trains, loads or computes a metric. Call `use_style()` once, and `caption()` on every figure.
"""

from memlib.viz.curves import band_contributions, compare, distributions, loss_per_band, snr_curves
from memlib.viz.items import beside_nearest, denoising_strip, grid, neighbour_panels
from memlib.viz.planes import pca_scatter, points
from memlib.viz.style import FALLBACK, MEANINGS, Look, caption, looks, use_style
from memlib.viz.sweeps import along, tradeoff, where_learned
from memlib.viz.verdicts import Scale, forest, seed_dots, seed_lines, verdict_grid

__all__ = [
    "FALLBACK",
    "MEANINGS",
    "Look",
    "Scale",
    "along",
    "band_contributions",
    "beside_nearest",
    "caption",
    "compare",
    "denoising_strip",
    "distributions",
    "forest",
    "grid",
    "looks",
    "loss_per_band",
    "neighbour_panels",
    "pca_scatter",
    "points",
    "seed_dots",
    "seed_lines",
    "snr_curves",
    "tradeoff",
    "use_style",
    "verdict_grid",
    "where_learned",
]
