"""A training step and 50 steps of sampling beside diffusers, at equal parameters, batch and arithmetic."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor, nn

from memlib import Schedule, TrainConfig, UNet, sample, train, uniform
from tests.benchmarks.measure import ratio, rounds, table

IMAGES, SIGNALS = (32, 3, 32, 32), (64, 1, 144)
WIDTH, MULTIPLIERS = 32, {4: (1, 2, 4), 3: (1, 2, 2)}  # by the axes of a batch
DIFFUSERS_CHANNELS = {4: (32, 64, 120), 3: (32, 32, 48)}  # of equal parameter count, at most 5 % apart
STEPS = 50


@dataclass(frozen=True)
class Side:
    name: str
    network: nn.Module
    shape: tuple[int, ...]
    step: Callable[[], object]
    draw: Callable[[str], Tensor]


def training(repeats: int, device: str) -> Iterator[str]:
    """Data and timesteps drawn, forward, backward, clipping, optimizer, exponential average; in float32."""
    for shape in (IMAGES, SIGNALS):
        yield from ["", f"A batch of {' x '.join(map(str, shape))}, in float32:", ""]
        sides = everybody(shape, device)
        yield from _beside(sides, {side.name: side.step for side in sides}, "s a step", repeats, device)


def sampling(repeats: int, device: str) -> Iterator[str]:
    """DDIM of 50 steps, each side with its own sampler."""
    for shape in ((4, *IMAGES[1:]), (32, *SIGNALS[1:])):
        yield from ["", f"{shape[0]} samples of {' x '.join(map(str, shape[1:]))}, {STEPS} steps of DDIM:", ""]
        sides = everybody(shape, device)
        for side in sides:
            side.network.eval().requires_grad_(False)
        yield from _beside(sides, {side.name: partial(side.draw, device) for side in sides}, "s", repeats, device)


def _beside(sides: list[Side], actions: dict, unit: str, repeats: int, device: str) -> Iterator[str]:
    taken, rate = rounds(actions, repeats, device)
    peer, million = sides[-1].name, [sum(p.numel() for p in side.network.parameters()) / 1e6 for side in sides]
    rows = [
        (name, f"{size:.2f}", f"{median(x):.3f}", f"{ratio(taken[peer], x):.2f}")
        for (name, x), size in zip(taken.items(), million, strict=True)
    ]
    yield from table(["network", "parameters, M", unit, f"times as fast as {peer}"], rows)
    yield from ["", f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."]


def everybody(shape: tuple[int, ...], device: str) -> list[Side]:
    """memlib's network, the same with the unshuffle stem, and the peer if it is there; with steps and samplers."""
    x = (torch.rand((256, *shape[1:]), generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    own = [_memlib("memlib, plain", shape, x, 1), _memlib("memlib, unshuffle stem of 2", shape, x, 2)]
    return [*own, peer(shape, x, DIFFUSERS_CHANNELS[len(shape)])] if find_spec("diffusers") else own


def _memlib(name: str, shape: tuple[int, ...], x: Tensor, unshuffle: int) -> Side:
    torch.manual_seed(0)
    network = UNet(len(shape) - 2, shape[1], WIDTH, MULTIPLIERS[len(shape)], unshuffle=unshuffle)
    config, generator = TrainConfig(10**9, shape[0], precision="float32"), torch.Generator().manual_seed(0)
    run = train(network, x, Schedule.linear(), uniform(), config, generator=generator, device=x.device)

    def draw(device: str) -> Tensor:
        given = {"seed": 0, "steps": STEPS, "clip": (-1, 1), "device": device}
        return sample(network, Schedule.linear(), shape[1:], shape[0], **given)

    return Side(name, network, shape, lambda: next(run), draw)


class _Diffusers(nn.Module):
    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
        from diffusers import UNet1DModel, UNet2DModel

        super().__init__()
        inner = len(channels) - 1  # levels but the outermost
        given = {"sample_size": shape[-1], "in_channels": shape[1], "out_channels": shape[1]}
        given["block_out_channels"] = channels
        if len(shape) == 4:
            given |= {"layers_per_block": 1, "norm_num_groups": 8, "add_attention": False}
            given |= {"down_block_types": ("DownBlock2D",) * (inner + 1)}
            given["up_block_types"] = ("UpBlock2D",) * (inner + 1)
        else:
            given |= {"time_embedding_type": "fourier", "use_timestep_embedding": False}
            given |= {"extra_in_channels": 2 * channels[0], "mid_block_type": "UNetMidBlock1D"}
            given["down_block_types"] = ("DownBlock1DNoSkip", *["DownBlock1D"] * inner)
            given["up_block_types"] = (*["UpBlock1D"] * inner, "UpBlock1DNoSkip")
        self.model = (UNet2DModel if len(shape) == 4 else UNet1DModel)(**given)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.model(x, t).sample


def peer(shape: tuple[int, ...], x: Tensor, channels: tuple[int, ...], precision: str = "float32") -> Side:
    """diffusers' network, with the step of its own training scripts and the loop of its DDIMPipeline."""
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    network, config = _Diffusers(shape, channels).to(x.device), TrainConfig(precision=precision)
    own = {"generator": torch.Generator(x.device).manual_seed(0), "device": x.device}
    schedule = Schedule.linear()
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (config.warmup + 1)))

    def step() -> None:
        x0 = x[torch.randint(len(x), shape[:1], **own)]
        t = torch.randint(schedule.T, shape[:1], **own)
        eps = torch.randn(x0.shape, **own)
        with config.autocast(x.device):
            predicted = network(schedule.noise(x0, t, eps), t)
        loss = (predicted.float() - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        optimizer.step()
        rising.step()
        average.update_parameters(network)

    @torch.no_grad()
    def draw(device: str) -> Tensor:
        scheduler = DDIMScheduler(1000, beta_schedule="linear", timestep_spacing="trailing")
        scheduler.set_timesteps(STEPS)
        x_t = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        for t in scheduler.timesteps.to(device):
            x_t = scheduler.step(network(x_t, t.expand(len(x_t))), t, x_t).prev_sample
        return x_t.cpu()

    return Side(f"diffusers {type(network.model).__name__}", network, shape, step, draw)
