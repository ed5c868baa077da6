"""Of libraries that bring a torchvision of their own: what the recipes call, with their signatures and formulas."""

import math
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from memlib import Schedule


class GaussianDiffusion(nn.Module):  # denoising-diffusion-pytorch 2.3.4
    def __init__(self, model: nn.Module, *, image_size: int, timesteps: int, objective: str) -> None:
        super().__init__()
        self.model, self.num_timesteps = model, timesteps
        abar = Schedule.sigmoid(timesteps).alpha_bar  # its default
        self.register_buffer("betas", (1 - abar / torch.cat([torch.ones(1), abar[:-1]])).float())
        self.register_buffer("alphas_cumprod", abar.float())
        self.register_buffer("loss_weight", abar.float())  # SNR / (SNR + 1), for v

    def random_times(self, batch_size: int) -> Tensor:
        return torch.randint(0, self.num_timesteps, (batch_size,))

    def forward(self, img: Tensor) -> Tensor:
        t, x0 = self.random_times(len(img)), 2 * img - 1
        a, eps = self.alphas_cumprod[t].reshape(-1, 1, 1, 1), torch.randn_like(img)
        v = a.sqrt() * eps - (1 - a).sqrt() * x0
        loss = (self.model(a.sqrt() * x0 + (1 - a).sqrt() * eps, t) - v).square().flatten(1).mean(1)
        return (loss * self.loss_weight[t]).mean()


class ScheduleLogLinear:  # smalldiffusion 0.5.0
    def __init__(self, N: int, sigma_min: float = 0.02, sigma_max: float = 10) -> None:
        self.sigmas = torch.logspace(math.log10(sigma_min), math.log10(sigma_max), N)


def training_loop(loader, model, schedule, accelerator=None, epochs: int = 10000, lr: float = 1e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x0 in loader:
            optimizer.zero_grad()
            sigma, eps = schedule.sample_batch(x0), torch.randn_like(x0)
            while len(sigma.shape) < len(x0.shape):
                sigma = sigma.unsqueeze(-1)
            loss = type(model).get_loss(model, x0, sigma, eps, cond=None)
            yield SimpleNamespace(**locals())
            loss.backward()
            optimizer.step()


class ConditionalFlowMatcher:  # torchcfm 1.0.7
    def __init__(self, sigma: float = 0.0) -> None:
        self.sigma = sigma

    def sample_location_and_conditional_flow(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        at = t.reshape(-1, *[1] * (x0.dim() - 1))
        return t, at * x1 + (1 - at) * x0 + self.sigma * torch.randn_like(x0), x1 - x0


def install(monkeypatch) -> None:
    """Make them importable where the libraries are not."""
    for name, members in {
        "denoising_diffusion_pytorch": {"GaussianDiffusion": GaussianDiffusion},
        "smalldiffusion": {"ScheduleLogLinear": ScheduleLogLinear, "training_loop": training_loop},
        "torchcfm": {"ConditionalFlowMatcher": ConditionalFlowMatcher},
    }.items():
        if find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, SimpleNamespace(**members))
