"""What was copied, how well the samples fit, and how sure one can be of either: `evaluate` calls all measures.

All take tensors or arrays (B, *D) and measure in float64. To add a measure, write it and one line in `evaluate`."""

from memlib.metrics.alignment import PCA, energy_distance, fidelity, finest_scale, without_finest_scale
from memlib.metrics.copying import closer_to_train, copied_items, memorized_fraction, neighbour_ratio, ratio_of
from memlib.metrics.estimates import Estimate, bootstrap, wilson
from memlib.metrics.evaluation import evaluate
from memlib.metrics.generalisation import membership
from memlib.metrics.neighbours import find_duplicates, nearest_neighbours
from memlib.metrics.nulls import model_nulls

__all__ = [
    "PCA", "Estimate", "bootstrap", "closer_to_train", "copied_items", "energy_distance", "evaluate", "fidelity",
    "find_duplicates", "finest_scale", "membership", "memorized_fraction", "model_nulls", "nearest_neighbours",
    "neighbour_ratio", "ratio_of", "wilson", "without_finest_scale",
]  # fmt: skip
