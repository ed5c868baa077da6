"""What was copied, how well the samples fit, and how sure one can be of either: `evaluate` calls all measures.

All take tensors or arrays (B, *D) and measure in float64. To add a measure, write it and one line in `evaluate`.
"""

from memlib.metrics.alignment import PCA, energy_distance, pca_jensen_shannon, pca_wasserstein, sliced_wasserstein
from memlib.metrics.copying import (  # fmt: skip
    closer_to_train,
    memorized_fraction,
    neighbour_ratio,
    ratio_of,
    share_below,
    share_closer,
)
from memlib.metrics.estimates import Estimate, bootstrap, wilson
from memlib.metrics.evaluation import evaluate
from memlib.metrics.finest_scale import finest_scale, residual_noise, without_finest_scale
from memlib.metrics.neighbours import Duplicate, find_duplicates, nearest_neighbours

__all__ = [
    "PCA", "Duplicate", "Estimate", "bootstrap", "closer_to_train", "energy_distance", "evaluate", "find_duplicates",
    "finest_scale", "memorized_fraction", "nearest_neighbours", "neighbour_ratio", "pca_jensen_shannon",
    "pca_wasserstein", "ratio_of", "residual_noise", "share_below", "share_closer", "sliced_wasserstein", "wilson",
    "without_finest_scale",
]  # fmt: skip
