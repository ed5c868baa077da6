"""What a reader's type checker must accept, and, where a line says `# wrong`, refuse (tests/test_typing.py)."""
# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor, nn

from memlib import (  # isort: skip
    Denoiser, Levels, Schedule, Step, TimestepDistribution, TrainConfig, UNet, ddim, from_log_snr,
    gaussian_interval, initial_noise, loss_at, sample, sample_generators, train,
)  # fmt: skip
from memlib.lab import Experiment, Network, data, run
from memlib.metrics import evaluate, memorized_fraction

schedule: Schedule = Schedule.from_sigmas(torch.linspace(0.01, 50, 1000))
p: TimestepDistribution = gaussian_interval(1000, low=0, high=500)
gaussian_interval("1000", low=0, high=500)  # wrong
gaussian_interval(1000, lo=0, high=500)  # wrong
t_one: float = schedule.t_at_snr(2.0)
t_many: Tensor = schedule.t_at_sigma(torch.ones(3))
t_float: float = schedule.t_at_sigma(torch.ones(3))  # wrong
schedule.T = 5  # wrong
density: TimestepDistribution = from_log_snr(schedule, lambda s: (-s.abs()).exp())

generator = torch.Generator()
drawn: Tensor = p.sample(8, generator, stratified=True)
p.sample(8, 0)  # wrong
levels = Levels(p, schedule, generator)
sigma: Tensor = levels.sigma((8, 1), "cpu")
levels.t("8")  # wrong

model: nn.Module = UNet(ndim=2, channels=3)
foreign = Denoiser(lambda x, sigma: x * sigma[:, None], schedule, predicts="x0", takes="sigma")
step: Step
for step in train(model, torch.zeros(4, 3, 8, 8), schedule, p, TrainConfig(steps=1), generator=generator):
    loss: Tensor = step.loss
    print(step.learning_rate)  # wrong
train(model, torch.zeros(4, 3, 8, 8), schedule, p)  # wrong
TrainConfig(steps="many")  # wrong

x_T: Tensor = initial_noise((3, 8, 8), sample_generators(4, seed=0))
last: Tensor = [frame.x for frame in ddim(foreign, schedule, x_T, steps=5, clip=(-1, 1))][-1]
samples: Tensor = sample(foreign, schedule, (3, 8, 8), 4, seed=0)
sample(foreign, schedule, (3, 8, 8), 4)  # wrong
by_level: Tensor = loss_at(foreign, samples, schedule, [5, 500], generator=generator)
share: float = memorized_fraction(samples, samples).value
rows: dict[str, float] = {k: e.high for k, e in evaluate(samples, samples, samples, generator=generator).items()}

mine: data.Dataset = data.from_items([torch.zeros(3)], n_train=2)
own = Experiment(p, dataset=mine, n_train=2)
network: nn.Module = Network(width=8).build((3, 8, 8))
run("uniform")  # wrong
data.from_items([1, 2, 3], n_train="all")  # wrong
