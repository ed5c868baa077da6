"""How the choice of training timesteps controls memorization in diffusion models."""

from memlib.models import MLP, ExactDenoiser, Spliced, UNet
from memlib.rivals import min_snr_weight, p2_weight, published
from memlib.samplers import Frame, ddim, ddpm, dpm_solver, initial_noise, sample, sample_generators
from memlib.schedules import Schedule
from memlib.timesteps import (
    TimestepDistribution,
    banded,
    from_log_snr,
    from_recipe,
    from_weights,
    gaussian_interval,
    interpolated,
    log_snr_interval,
    uniform,
    with_floor,
)  # fmt: skip
from memlib.training import Step, TrainConfig, loss_at, train

__version__ = "0.2.0"
__all__ = [
    "MLP", "ExactDenoiser", "Frame", "Schedule", "Spliced", "Step", "TimestepDistribution", "TrainConfig", "UNet",
    "__version__", "banded", "ddim", "ddpm", "dpm_solver", "from_log_snr", "from_recipe", "from_weights",
    "gaussian_interval", "initial_noise", "interpolated", "log_snr_interval", "loss_at", "min_snr_weight", "p2_weight",
    "published", "sample", "sample_generators", "train", "uniform", "with_floor",
]  # fmt: skip
