"""The laboratory: data sets, experiments, their runs and records, and what the records say of the paper's claims."""

from memlib.lab.experiment import Experiment, Network
from memlib.lab.fleet import FleetStep, train_fleet
from memlib.lab.runs import Result, run, run_fleet
from memlib.lab.sweep import SweepError, sweep

__all__ = ["Experiment", "FleetStep", "Network", "Result", "SweepError", "run", "run_fleet", "sweep", "train_fleet"]
