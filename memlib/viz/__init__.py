"""Every figure of the project: data in, a Figure or Axes out. Call `use_style()` once, `caption()` always."""

from memlib.viz.curves import (
    band_contributions,
    compare,
    distributions,
    loss_per_band,
    monitor_curves,
    pca_scatter,
    snr_curves,
    watch,
)
from memlib.viz.dose import dose, frontier, predictions, spectrum
from memlib.viz.items import beside_nearest, denoising_strip, grid, neighbour_panels, picture, points
from memlib.viz.records import along, seed_dots, seed_lines, tradeoff, where_learned
from memlib.viz.style import FALLBACK, MEANINGS, Look, caption, looks, use_style
from memlib.viz.verdicts import Scale, forest, verdict_grid

__all__ = ["FALLBACK", "MEANINGS", "Look", "Scale", "along", "band_contributions", "beside_nearest", "caption"]
__all__ += [
    "compare",
    "denoising_strip",
    "distributions",
    "dose",
    "forest",
    "frontier",
    "grid",
    "looks",
    "loss_per_band",
]
__all__ += [
    "neighbour_panels",
    "pca_scatter",
    "picture",
    "points",
    "predictions",
    "seed_dots",
    "seed_lines",
    "snr_curves",
]
__all__ += ["spectrum", "tradeoff", "use_style", "verdict_grid", "where_learned"]
__all__ += ["monitor_curves", "watch"]
