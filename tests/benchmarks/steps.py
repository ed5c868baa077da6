"""A training step of memlib beside those of two peers, and what drawing its timesteps costs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from memlib import Schedule, TrainConfig, UNet, gaussian_interval, loss_at, train, uniform
from memlib.devices import has_bfloat16
from memlib.lab.data import load
from memlib.lab.records import LOSS_AT
from tests.benchmarks.measure import gigaflops, ratio, rounds, table

PRECISIONS = ("float32", "bfloat16")
IMAGES, SIGNALS = (32, 3, 32, 32), (64, 1, 144)  # a length that all three networks take
# Widths of equal parameter count, at most 5 % apart (the table shows it): 2.2 to 2.3 and 0.46 to 0.49 million
WIDTH, MULTIPLIERS = 32, {4: (1, 2, 4), 3: (1, 2, 2)}  # by the axes of a batch
DIFFUSERS_CHANNELS = {4: (32, 64, 120), 3: (32, 32, 48)}
LUCIDRAINS_WIDTH = {4: 30, 3: 24}


@dataclass(frozen=True)
class Side:
    name: str
    network: nn.Module
    shape: tuple[int, ...]
    step: Callable[[], object]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @property
    def gigaflops(self) -> float:
        return gigaflops(self.network, self.shape)


def training(repeats: int, device: str) -> Iterator[str]:
    """Forward, backward, clipping, optimizer, EMA, data and timesteps drawn."""
    for precision in PRECISIONS[: 1 + has_bfloat16(torch.device(device))]:
        for shape in (IMAGES, SIGNALS):
            yield f"A batch of {' x '.join(map(str, shape))}, in {precision}:"
            yield ""
            yield from _compared(shape, repeats, device, precision)
            yield ""


def quality(repeats: int, device: str) -> Iterator[str]:
    """Whether the quicker network learns less: held-out loss after equally many steps on heartbeats."""
    del repeats  # nothing is timed
    heartbeats = load("ecg5000", 64)
    train, held_out = (x[..., : SIGNALS[2] - 8].to(device) for x in (heartbeats.train, heartbeats.held_out))
    shape, steps, seeds = (32, *train.shape[1:]), 300, 3
    losses: dict[str, list[float]] = {}
    for seed in range(seeds):
        sides, reasons = everybody(shape, train, seed)
        for side in sides:
            for _ in range(steps):
                side.step()
            generator = torch.Generator().manual_seed(seed)
            on_held_out = loss_at(side.network.eval(), held_out, Schedule.linear(), LOSS_AT, generator=generator)
            losses.setdefault(side.name, []).append(float(on_held_out.mean()))
    yield f"Loss on 64 held-out heartbeats, mean over {len(LOSS_AT)} timesteps, after {steps} steps of 32 on 64 others."
    yield ""
    rows = [(name, f"{np.mean(x):.3f}", f"{min(x):.3f} to {max(x):.3f}") for name, x in losses.items()]
    yield from table(["network", f"mean of {seeds} seeds", "smallest to largest"], rows)
    yield from ["", *reasons] if reasons else []


def random_data(shape: tuple[int, ...], device: str) -> Tensor:
    return (torch.rand((256, *shape[1:]), generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)


def everybody(
    shape: tuple[int, ...], x: Tensor, seed: int = 0, precision: str = "float32"
) -> tuple[list[Side], list[str]]:
    """memlib's networks, those of the peers that are installed, and who is missing; to train on x, where x is."""
    sides = [
        _memlib("memlib, plain", shape, x, seed, precision, unshuffle=1),
        _memlib("memlib, unshuffle stem of 2", shape, x, seed, precision, unshuffle=2),
    ]
    reasons = []
    for name, build in {"diffusers": _diffusers, "denoising-diffusion-pytorch": _lucidrains}.items():
        try:
            sides.append(build(shape, x, seed, precision))
        except ImportError as error:
            reasons.append(f"{name} is left out: {error}. README.md here says how to have it.")
    return sides, reasons


def _compared(shape: tuple[int, ...], repeats: int, device: str, precision: str) -> Iterator[str]:
    sides, reasons = everybody(shape, random_data(shape, device), precision=precision)
    peers = sides[2:]
    taken, rate = rounds({side.name: side.step for side in sides}, repeats, device, getattr(torch, precision))
    rows = [
        (
            side.name,
            f"{side.parameters / 1e6:.2f}",
            f"{side.parameters / sides[0].parameters - 1:+.1%}",
            f"{side.gigaflops:.1f}",
            f"{median(taken[side.name]):.3f}",
            f"{side.gigaflops / median(taken[side.name]) / rate:.0%}",
            *(f"{ratio(taken[peer.name], taken[side.name]):.2f}" for peer in peers),
        )
        for side in sides
    ]
    header = ["network", "parameters, M", "more than memlib's", "GFLOP a step", "s a step", "of the matrix rate"]
    yield from table([*header, *(f"times as fast as {peer.name}" for peer in peers)], rows)
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."
    yield from reasons


def drawing(repeats: int, device: str) -> Iterator[str]:
    """Drawing 32 timesteps from an interval, as a share of the quickest training step above."""
    step = everybody(IMAGES, random_data(IMAGES, device))[0][1].step
    timesteps, generator = gaussian_interval(1000, 0, 500), torch.Generator().manual_seed(0)
    draws = 100

    def draw() -> None:
        for _ in range(draws):
            timesteps.sample(IMAGES[0], generator)

    taken, rate = rounds({"draw": draw, "step": step}, repeats, device)
    share = ratio(taken["draw"], taken["step"]) / draws
    microseconds = median(taken["draw"]) / draws * 1e6
    row = (f"{microseconds:.0f}", f"{median(taken['step']) * 1e3:.0f}", f"{share:.4%}")
    yield from table(["draw of 32 timesteps, microseconds", "training step, ms", "share"], [row])
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."


def _memlib(name: str, shape: tuple[int, ...], x: Tensor, seed: int, precision: str, unshuffle: int) -> Side:
    torch.manual_seed(seed)
    network = UNet(len(shape) - 2, shape[1], WIDTH, MULTIPLIERS[len(shape)], unshuffle=unshuffle)
    run = train(
        network, x, Schedule.linear(), uniform(), TrainConfig(10**9, shape[0], precision=precision),
        generator=torch.Generator().manual_seed(seed), device=x.device,
    )  # fmt: skip
    return Side(name, network, shape, lambda: next(run))


def _diffusers(shape: tuple[int, ...], x: Tensor, seed: int, precision: str) -> Side:
    from diffusers import UNet1DModel, UNet2DModel

    class Model(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.model(x, t).sample

    torch.manual_seed(seed)
    channels = DIFFUSERS_CHANNELS[len(shape)]
    common = {
        "sample_size": shape[-1],
        "in_channels": shape[1],
        "out_channels": shape[1],
        "block_out_channels": channels,
    }
    if len(shape) == 4:
        network = UNet2DModel(
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            add_attention=False,
            **common,
        )
    else:
        network = UNet1DModel(
            time_embedding_type="fourier",
            use_timestep_embedding=False,
            extra_in_channels=2 * channels[0],
            down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "DownBlock1D"),
            up_block_types=("UpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
            mid_block_type="UNetMidBlock1D",
            **common,
        )
    return peer(f"diffusers {type(network).__name__}", Model(network), shape, x, seed, precision)


def _lucidrains(shape: tuple[int, ...], x: Tensor, seed: int, precision: str) -> Side:
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
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d import Unet1D

    torch.manual_seed(seed)
    kind = Unet if len(shape) == 4 else Unet1D
    network = kind(LUCIDRAINS_WIDTH[len(shape)], dim_mults=MULTIPLIERS[len(shape)], channels=shape[1])
    return peer(f"denoising-diffusion-pytorch {kind.__name__}", network, shape, x, seed, precision)


def peer(
    name: str, network: nn.Module, shape: tuple[int, ...], x: Tensor, seed: int, precision: str = "float32"
) -> Side:
    """With the step that the peers' own training scripts take: the same work as memlib.train's, in plain PyTorch."""
    network.to(x.device)
    own = {"generator": torch.Generator(x.device).manual_seed(seed), "device": x.device}
    schedule, warmup = Schedule.linear(), TrainConfig().warmup
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1)))

    def step() -> None:
        x0 = x[torch.randint(len(x), shape[:1], **own)]
        t = torch.randint(schedule.T, shape[:1], **own)
        eps = torch.randn(x0.shape, **own)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            predicted = network(schedule.noise(x0, t, eps), t)
        loss = (predicted.float() - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimizer.step()
        rising.step()
        average.update_parameters(network)

    return Side(name, network, shape, step)
