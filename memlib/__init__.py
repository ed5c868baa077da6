"""How the choice of training timesteps controls memorization in diffusion models."""

from .experiment import Experiment, Network, Result, run
from .models import MLP, ExactDenoiser, UNet
from .samplers import Frame, ddim, ddpm, dpm_solver, initial_noise, sample, sample_generators
from .schedules import Schedule
from .sweep import SweepError, sweep
from .timesteps import (
    TimestepDistribution,
    from_log_snr,
    from_weights,
    gaussian_interval,
    min_snr_weight,
    p2_weight,
    uniform,
)
from .training import Step, TrainConfig, loss_at, train

__all__ = [
    "MLP",
    "ExactDenoiser",
    "Experiment",
    "Frame",
    "Network",
    "Result",
    "Schedule",
    "Step",
    "SweepError",
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
    "min_snr_weight",
    "p2_weight",
    "run",
    "sample",
    "sample_generators",
    "sweep",
    "train",
    "uniform",
]
