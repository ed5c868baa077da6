"""How the choice of training timesteps controls memorization in diffusion models."""

from .models import MLP, ExactDenoiser, UNet
from .samplers import Frame, ddim, ddpm, dpm_solver, initial_noise, sample, sample_generators
from .schedules import Schedule
from .timesteps import TimestepDistribution, from_log_snr, from_weights, gaussian_interval, uniform
from .training import Step, TrainConfig, loss_at, train

__all__ = [
    "MLP",
    "ExactDenoiser",
    "Frame",
    "Schedule",
    "Step",
    "TimestepDistribution",
    "TrainConfig",
    "UNet",
    "ddim",
    "ddpm",
    "dpm_solver",
    "from_log_snr",
    "from_weights",
    "gaussian_interval",
    "initial_noise",
    "loss_at",
    "sample",
    "sample_generators",
    "train",
    "uniform",
]
