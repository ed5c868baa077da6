"""How the choice of training timesteps controls memorization in diffusion models."""

from torch.serialization import add_safe_globals

from memlib.levels import Denoiser, Levels
from memlib.models import MLP, ExactDenoiser, Spliced, UNet
from memlib.samplers import Frame, ddim, ddpm, dpm_solver, initial_noise, sample, sample_generators
from memlib.schedules import Schedule
from memlib.timesteps import (
    TimestepDistribution,
    from_log_snr,
    from_recipe,
    from_weights,
    gaussian_interval,
    interpolated,
    log_snr_interval,
    min_snr_weight,
    p2_weight,
    uniform,
)  # fmt: skip
from memlib.training import Step, TrainConfig, loss_at, train

__version__ = "0.2.0"
add_safe_globals([Schedule, TimestepDistribution])  # torch.load reads them with weights_only=True
__all__ = [
    "MLP", "Denoiser", "ExactDenoiser", "Frame", "Levels", "Schedule", "Spliced", "Step", "TimestepDistribution",
    "TrainConfig", "UNet", "__version__", "ddim", "ddpm", "dpm_solver", "from_log_snr", "from_recipe", "from_weights",
    "gaussian_interval", "initial_noise", "interpolated", "log_snr_interval", "loss_at", "min_snr_weight", "p2_weight",
    "sample", "sample_generators", "train", "uniform",
]  # fmt: skip
