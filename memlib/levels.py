"""The method in other people's loops: noise levels drawn by p, in the loop's own unit, and networks of any convention.

A loop draws timesteps t, noise-to-signal ratios sigma (x0 + sigma eps, as in EDM), or flow times of noise u = sigma /
(1 + sigma) ((1 - u) x0 + u eps, as in flow matching; where time runs from noise to data, it is 1 - u)."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, distributed, nn

from memlib.checks import call_model, check_count
from memlib.schedules import Schedule
from memlib.timesteps import OBJECTIVES, TimestepDistribution

INPUTS = ("t", "sigma", "u")


class Levels(nn.Module):
    """Noise levels drawn by `p`. Its generator is saved and resumed with the model it is part of, or by `state_dict`.

    All processes of a torch.distributed group share a draw, and each takes its part: ranks differ, and one saved state
    serves all ranks that ask for equally many and were seeded alike (by default as torch was). See also `p.sample`."""

    def __init__(
        self, p: TimestepDistribution, schedule: Schedule, generator: torch.Generator | None = None,
        stratified: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.p, self.schedule, self.stratified = p, schedule, stratified
        self.generator = torch.Generator().manual_seed(torch.initial_seed()) if generator is None else generator
        for name, kind in {"p": TimestepDistribution, "schedule": Schedule, "generator": torch.Generator}.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} = {getattr(self, name)!r}; need a {kind.__name__}")
        if p.T != schedule.T:
            raise ValueError(f"p has T = {p.T}, the schedule T = {schedule.T}; they must be equal")

    def t(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """(n,) int64 timesteps."""
        check_count(n, "n", 0)
        return self._draw(n, real=False).to(device)

    def sigma(self, shape: int | Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """Continuous noise-to-signal ratios of this shape, float32: those of `schedule.sigma_at` at real-valued
        timesteps, spread uniformly within half a step of those that p draws."""
        return self._snr(shape).rsqrt().float().to(device)

    def u(self, shape: int | Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """The same as flow times of noise, sigma / (1 + sigma), in [0, 1], float32."""
        return (1 / (1 + self._snr(shape).sqrt())).float().to(device)

    def _snr(self, shape: int | Sequence[int]) -> Tensor:
        shape = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        return self.schedule.snr_at(self._draw(prod(shape), real=True)).reshape(shape)

    def _draw(self, n: int, real: bool) -> Tensor:
        together = distributed.is_available() and distributed.is_initialized()
        rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
        t = self.p.sample(n * ranks, self.generator, self.stratified)
        if real:
            within = torch.rand(t.shape, generator=self.generator, device=t.device, dtype=torch.float64) - 0.5
            t = self.p.T - 1 - (self.p.T - 1 - (t + within).abs()).abs()  # half steps beyond both ends are folded back
        return t[rank * n : (rank + 1) * n]

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())


class Denoiser(nn.Module):
    """A network of another convention as the noise predictor that `sample`, `train`, `loss_at` and `Spliced` take.

    takes: what `net` is called with, "t": x_t and t; "sigma": x0 + sigma eps and sigma; "u": (1 - u) x0 + u eps and u.
    predicts: "eps", "x0", "v" = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2202.00512), or "flow" =
    eps - x0; as a tensor, or as the `.sample` of what it returns (diffusers)."""

    def __init__(
        self, net: nn.Module | Callable[[Tensor, Tensor], Any], schedule: Schedule, predicts: str = "eps",
        takes: str = "t",
    ) -> None:  # fmt: skip
        super().__init__()
        if predicts not in OBJECTIVES or takes not in INPUTS:
            choices = f"choose predicts from {', '.join(OBJECTIVES)} and takes from {', '.join(INPUTS)}"
            raise ValueError(f"predicts = {predicts!r}, takes = {takes!r}; {choices}")
        self.net, self.schedule, self.predicts, self.takes = net, schedule, predicts, takes
        self.blind = predicts == "eps" or takes == "sigma"  # where alpha_bar = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *D), t (B,) -> the noise (B, *D)."""
        y, a, s = self._call(x, t)
        return {"eps": y, "x0": (x - a * y) / s, "v": a * y + s * x, "flow": (a * y + x) / (a + s)}[self.predicts]

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *D), t (B,) -> x0 (B, *D), unless `blind` also where alpha_bar = 0."""
        y, a, s = self._call(x, t)
        return {"eps": (x - s * y) / a, "x0": y, "v": a * x - s * y, "flow": (x - s * y) / (a + s)}[self.predicts]

    def error(self, x: Tensor, t: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
        """The network's own prediction at x_t, minus its target, made from x0 and eps: (B, *D), but t (B,)."""
        y, a, s = self._call(x, t)
        return y - {"eps": eps, "x0": x0, "v": a * eps - s * x0, "flow": eps - x0}[self.predicts]

    def _call(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The network's own output at x_t, sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""
        alpha_bar = self.schedule.alpha_bar.to(t.device)[t].reshape(-1, *[1] * (x.ndim - 1))
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        if self.takes == "t":
            return call_model(self.net, x, t), a.to(x), s.to(x)
        signal = a if self.takes == "sigma" else a + s  # x_t is this times what the network knows
        return call_model(self.net, (1 / signal).to(x) * x, (s / signal).flatten().to(x)), a.to(x), s.to(x)
