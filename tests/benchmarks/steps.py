"""A training step of memlib beside those of two peers, and what drawing its timesteps costs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from memlib import Schedule, TrainConfig, UNet, gaussian_interval, train
from tests.benchmarks.measure import ratio, rounds, table

SHAPE = (32, 3, 32, 32)
# Widths of equal parameter count, at most 5 % apart (the table shows it): 2.2 to 2.3 million
WIDTH, MULTIPLIERS = 32, (1, 2, 4)
DIFFUSERS_CHANNELS = (32, 64, 120)
LUCIDRAINS_WIDTH = 30


@dataclass(frozen=True)
class Side:
    name: str
    network: nn.Module
    step: Callable[[], object]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @property
    def gigaflops(self) -> float:
        """Of forward and backward on one batch."""
        counter = FlopCounterMode(display=False)
        with counter:
            out = self.network(torch.randn(SHAPE), torch.zeros(SHAPE[0], dtype=torch.int64))
            (out if isinstance(out, Tensor) else out.sample).square().mean().backward()
        return counter.get_total_flops() / 1e9


def training(repeats: int, size: int) -> Iterator[str]:
    """Forward, backward, clipping, optimizer, EMA, data and timesteps drawn, on 32 x 3 x 32 x 32, in float32."""
    del size
    peers, reasons = [], []
    for name, build in {"diffusers": _diffusers, "denoising-diffusion-pytorch": _lucidrains}.items():
        try:
            peers.append(build())
        except ImportError as error:
            reasons.append(f"{name} is left out: {error}. README.md here says how to have it.")
    sides = [_memlib("memlib, plain", 1), _memlib("memlib, 2 x 2 unshuffle stem", 2), *peers]
    most = max(side.parameters for side in sides)
    taken, rate = rounds({side.name: side.step for side in sides}, repeats)
    rows = [
        (
            side.name,
            f"{side.parameters / 1e6:.2f}",
            f"{side.parameters / most - 1:+.1%}",
            f"{side.gigaflops:.1f}",
            f"{median(taken[side.name]):.3f}",
            *(f"{ratio(taken[peer.name], taken[side.name]):.2f}" for peer in peers),
        )
        for side in sides
    ]
    header = ["network", "parameters, M", "of the largest", "GFLOP a step", "s a step"]
    yield from table([*header, *(f"times as fast as {peer.name}" for peer in peers)], rows)
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."
    yield from reasons


def drawing(repeats: int, size: int) -> Iterator[str]:
    """Drawing 32 timesteps from an interval, as a share of the quickest training step above."""
    del size
    step = _memlib("", 2).step
    timesteps, generator = gaussian_interval(1000, 0, 500), torch.Generator().manual_seed(0)
    draws = 100

    def draw() -> None:
        for _ in range(draws):
            timesteps.sample(SHAPE[0], generator)

    taken, rate = rounds({"draw": draw, "step": step}, repeats)
    share = ratio(taken["draw"], taken["step"]) / draws
    microseconds = median(taken["draw"]) / draws * 1e6
    row = (f"{microseconds:.0f}", f"{median(taken['step']) * 1e3:.0f}", f"{share:.4%}")
    yield from table(["draw of 32 timesteps, microseconds", "training step, ms", "share"], [row])
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."


def _memlib(name: str, unshuffle: int) -> Side:
    torch.manual_seed(0)
    network = UNet(2, SHAPE[1], WIDTH, MULTIPLIERS, unshuffle=unshuffle)
    run = train(
        network, _data(), Schedule.linear(), gaussian_interval(1000, 0, 500),
        TrainConfig(steps=10**9, batch_size=SHAPE[0], precision="float32"),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return Side(name, network, lambda: next(run))


def _diffusers() -> Side:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=SHAPE[-1],
        layers_per_block=1,
        block_out_channels=DIFFUSERS_CHANNELS,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        add_attention=False,
    )
    return Side("diffusers UNet2DModel", network, _peer_step(network, lambda x, t: network(x, t).sample))


def _lucidrains() -> Side:
    """Its Unet alone, in the same loop as the other peer. Raises ImportError, saying what is missing."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):  # imported by it, used for files only
        if name not in sys.modules:
            stub = types.ModuleType(name)
            stub.__spec__, stub.__path__ = ModuleSpec(name, None, is_package=True), []
            sys.modules[name] = stub
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, stub)
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    torch.manual_seed(0)
    network = Unet(LUCIDRAINS_WIDTH, dim_mults=MULTIPLIERS)
    return Side("denoising-diffusion-pytorch Unet", network, _peer_step(network, network))


def _peer_step(network: nn.Module, predict: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
    """The step that the peers' own training scripts take: the same work as memlib.train's, in plain PyTorch."""
    x, schedule, generator = _data(), Schedule.linear(), torch.Generator().manual_seed(0)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        x0 = x[torch.randint(len(x), SHAPE[:1], generator=generator)]
        t = torch.randint(schedule.T, SHAPE[:1], generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        loss = (predict(schedule.noise(x0, t, eps), t) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimizer.step()
        average.update_parameters(network)

    return step


def _data() -> Tensor:
    return torch.rand((256, *SHAPE[1:]), generator=torch.Generator().manual_seed(0)) * 2 - 1
