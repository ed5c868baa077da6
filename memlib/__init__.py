"""How the choice of training timesteps controls memorization in diffusion models."""

from torch.serialization import add_safe_globals

from memlib.levels import Denoiser, Levels
from memlib.models import MLP, ExactDenoiser, Spliced, UNet
from memlib.rivals import min_snr_weight, p2_weight, published
from memlib.samplers import Frame, ddim, ddpm, dpm_solver, initial_noise, sample, sample_generators
from memlib.schedules import Schedule
from memlib.timesteps import (
    TimestepDistribution, banded, from_log_snr, from_recipe, from_weights, gaussian_interval, interpolated,
    log_snr_interval, uniform, with_floor,
)  # fmt: skip
from memlib.training import Step, TrainConfig, gradient_norm_at, loss_at, train

__version__ = "0.2.0"
add_safe_globals([Schedule, TimestepDistribution])  # torch.load reads them with weights_only=True
__all__ = [
    "MLP", "Denoiser", "ExactDenoiser", "Frame", "Levels", "Schedule", "Spliced", "Step", "TimestepDistribution",
    "TrainConfig", "UNet", "__version__", "banded", "ddim", "ddpm", "dpm_solver", "from_log_snr", "from_recipe",
    "from_weights", "gaussian_interval", "gradient_norm_at", "initial_noise", "interpolated", "log_snr_interval",
    "loss_at", "min_snr_weight", "p2_weight", "published", "sample", "sample_generators", "train", "uniform",
    "with_floor",
]  # fmt: skip
