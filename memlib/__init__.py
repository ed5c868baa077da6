"""How the choice of training timesteps controls memorization in diffusion models."""

from .experiment import Experiment, Network
from .fleet import FleetStep, train_fleet
from .models import MLP, ExactDenoiser, UNet
from .runs import Result, run, run_fleet
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
    "FleetStep",
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
    "run_fleet",
    "sample",
    "sample_generators",
    "sweep",
    "train",
    "train_fleet",
    "uniform",
]
