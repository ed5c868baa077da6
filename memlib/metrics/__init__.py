"""What was copied, how well the samples fit, and how sure one can be of either.

Every function takes tensors of shape (B, *D), flattens what follows the first axis, measures in float64, and refuses
NaN, infinity, empty sets and sets whose items differ in shape. Nothing here draws a random number without a generator.
"""

from memlib.metrics.alignment import (
    PCA,
    energy_distance,
    pca_jensen_shannon,
    pca_wasserstein,
    prdc,
    sliced_wasserstein,
)
from memlib.metrics.estimates import Estimate, bootstrap, clopper_pearson, wilson
from memlib.metrics.finest_scale import finest_scale, residual_noise, without_finest_scale
from memlib.metrics.memorization import (
    authenticity,
    calibrated_l2,
    closer_to_train,
    data_copying_test,
    memorized_fraction,
    neighbour_ratio,
)
from memlib.metrics.neighbours import Duplicate, find_duplicates, nearest_neighbours

__all__ = [
    "PCA",
    "Duplicate",
    "Estimate",
    "authenticity",
    "bootstrap",
    "calibrated_l2",
    "clopper_pearson",
    "closer_to_train",
    "data_copying_test",
    "energy_distance",
    "find_duplicates",
    "finest_scale",
    "memorized_fraction",
    "nearest_neighbours",
    "neighbour_ratio",
    "pca_jensen_shannon",
    "pca_wasserstein",
    "prdc",
    "residual_noise",
    "sliced_wasserstein",
    "wilson",
    "without_finest_scale",
]
