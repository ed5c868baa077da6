"""What was copied, how well the samples fit, and how sure one can be of either: `evaluate` calls all measures.

All take tensors or arrays (B, *D) and measure in float64. To add a measure, write it and one line in `evaluate`.
"""

from memlib.metrics.alignment import PCA, energy_distance, finest_scale, without_finest_scale
from memlib.metrics.copying import closer_to_train, memorized_fraction, neighbour_ratio, ratio_of, share_below
from memlib.metrics.estimates import Estimate, bootstrap, wilson
from memlib.metrics.evaluation import evaluate
from memlib.metrics.neighbours import find_duplicates, nearest_neighbours

__all__ = [
    "PCA", "Estimate", "bootstrap", "closer_to_train", "energy_distance", "evaluate", "find_duplicates", "finest_scale",
    "memorized_fraction", "nearest_neighbours", "neighbour_ratio", "ratio_of", "share_below", "wilson",
    "without_finest_scale",
]  # fmt: skip
