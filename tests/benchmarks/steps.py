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

IMAGES, SIGNALS = (32, 3, 32, 32), (64, 1, 144)  # a length that all three networks take
# Widths of equal parameter count, at most 5 % apart (the table shows it): 2.2 to 2.3 and 0.46 to 0.49 million
WIDTH, MULTIPLIERS = 32, {IMAGES: (1, 2, 4), SIGNALS: (1, 2, 2)}
DIFFUSERS_CHANNELS = {IMAGES: (32, 64, 120), SIGNALS: (32, 32, 48)}
LUCIDRAINS_WIDTH = {IMAGES: 30, SIGNALS: 24}


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
        """Of forward and backward on one batch."""
        counter = FlopCounterMode(display=False)
        with counter:
            out = self.network(torch.randn(self.shape), torch.zeros(self.shape[0], dtype=torch.int64))
            (out if isinstance(out, Tensor) else out.sample).square().mean().backward()
        return counter.get_total_flops() / 1e9


def training(repeats: int, size: int) -> Iterator[str]:
    """Forward, backward, clipping, optimizer, EMA, data and timesteps drawn, in float32."""
    del size
    for shape in (IMAGES, SIGNALS):
        yield f"A batch of {' x '.join(map(str, shape))}:"
        yield ""
        yield from _compared(shape, repeats)
        yield ""


def _compared(shape: tuple[int, ...], repeats: int) -> Iterator[str]:
    peers, reasons = [], []
    for name, build in {"diffusers": _diffusers, "denoising-diffusion-pytorch": _lucidrains}.items():
        try:
            peers.append(build(shape))
        except ImportError as error:
            reasons.append(f"{name} is left out: {error}. README.md here says how to have it.")
    sides = [_memlib("memlib, plain", shape, 1), _memlib("memlib, unshuffle stem of 2", shape, 2), *peers]
    taken, rate = rounds({side.name: side.step for side in sides}, repeats)
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


def drawing(repeats: int, size: int) -> Iterator[str]:
    """Drawing 32 timesteps from an interval, as a share of the quickest training step above."""
    del size
    step = _memlib("", IMAGES, 2).step
    timesteps, generator = gaussian_interval(1000, 0, 500), torch.Generator().manual_seed(0)
    draws = 100

    def draw() -> None:
        for _ in range(draws):
            timesteps.sample(IMAGES[0], generator)

    taken, rate = rounds({"draw": draw, "step": step}, repeats)
    share = ratio(taken["draw"], taken["step"]) / draws
    microseconds = median(taken["draw"]) / draws * 1e6
    row = (f"{microseconds:.0f}", f"{median(taken['step']) * 1e3:.0f}", f"{share:.4%}")
    yield from table(["draw of 32 timesteps, microseconds", "training step, ms", "share"], [row])
    yield ""
    yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."


def _memlib(name: str, shape: tuple[int, ...], unshuffle: int) -> Side:
    torch.manual_seed(0)
    network = UNet(len(shape) - 2, shape[1], WIDTH, MULTIPLIERS[shape], unshuffle=unshuffle)
    run = train(
        network, _data(shape), Schedule.linear(), gaussian_interval(1000, 0, 500),
        TrainConfig(steps=10**9, batch_size=shape[0], precision="float32"),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return Side(name, network, shape, lambda: next(run))


def _diffusers(shape: tuple[int, ...]) -> Side:
    from diffusers import UNet1DModel, UNet2DModel

    torch.manual_seed(0)
    channels = DIFFUSERS_CHANNELS[shape]
    if shape == IMAGES:
        network = UNet2DModel(
            sample_size=shape[-1],
            layers_per_block=1,
            block_out_channels=channels,
            norm_num_groups=8,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            add_attention=False,
        )
    else:
        network = UNet1DModel(
            sample_size=shape[-1],
            in_channels=shape[1],
            out_channels=shape[1],
            time_embedding_type="fourier",
            use_timestep_embedding=False,
            extra_in_channels=2 * channels[0],
            block_out_channels=channels,
            down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "DownBlock1D"),
            up_block_types=("UpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
            mid_block_type="UNetMidBlock1D",
        )
    step = _peer_step(network, lambda x, t: network(x, t).sample, shape)
    return Side(f"diffusers {type(network).__name__}", network, shape, step)


def _lucidrains(shape: tuple[int, ...]) -> Side:
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

    torch.manual_seed(0)
    kind = Unet if shape == IMAGES else Unet1D
    network = kind(LUCIDRAINS_WIDTH[shape], dim_mults=MULTIPLIERS[shape], channels=shape[1])
    name = f"denoising-diffusion-pytorch {kind.__name__}"
    return Side(name, network, shape, _peer_step(network, network, shape))


def _peer_step(
    network: nn.Module, predict: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> Callable[[], object]:
    """The step that the peers' own training scripts take: the same work as memlib.train's, in plain PyTorch."""
    x, schedule, generator = _data(shape), Schedule.linear(), torch.Generator().manual_seed(0)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        x0 = x[torch.randint(len(x), shape[:1], generator=generator)]
        t = torch.randint(schedule.T, shape[:1], generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        loss = (predict(schedule.noise(x0, t, eps), t) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimizer.step()
        average.update_parameters(network)

    return step


def _data(shape: tuple[int, ...]) -> Tensor:
    return torch.rand((256, *shape[1:]), generator=torch.Generator().manual_seed(0)) * 2 - 1
