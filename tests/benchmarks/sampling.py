"""Sampling beside the peers' own samplers, the exact denoiser beside plain torch, and how few calls a sample needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from memlib import ExactDenoiser, Schedule, ddpm, dpm_solver, initial_noise, sample, sample_generators, train
from memlib.lab.data import load
from memlib.lab.profiles import profile
from memlib.metrics import Estimate, bootstrap
from memlib.metrics.alignment import energy_rows as _energy
from tests.benchmarks.measure import ratio, rounds, table
from tests.benchmarks.steps import IMAGES, SIGNALS, Side, everybody, random_data

STEPS = 50
BATCH = {IMAGES: 4, SIGNALS: 32}
EXAMPLES = 10_000  # pictures of the exact denoiser
SAMPLES = 1024  # of each sampler whose quality is measured


def sampling(repeats: int, device: str) -> Iterator[str]:
    """DDIM of 50 steps with each peer's own sampler, on the networks of `training`, in float32."""
    for training_batch, batch in BATCH.items():
        shape = (batch, *training_batch[1:])
        sides, reasons = everybody(shape, random_data(shape, device))
        for side in sides:
            side.network.eval().requires_grad_(False)
        taken, rate = rounds({side.name: partial(_sampler(side), side, device) for side in sides}, repeats, device)
        peers = sides[2:]
        rows = [
            (
                side.name,
                f"{side.parameters / 1e6:.2f}",
                f"{side.parameters / sides[0].parameters - 1:+.1%}",
                f"{median(taken[side.name]):.2f}",
                *(f"{ratio(taken[peer.name], taken[side.name]):.2f}" for peer in peers),
            )
            for side in sides
        ]
        yield f"{batch} samples of {' x '.join(map(str, shape[1:]))}, {STEPS} steps of DDIM:"
        yield ""
        header = ["network", "parameters, M", "more than memlib's", "s"]
        yield from table([*header, *(f"times as fast as {peer.name}" for peer in peers)], rows)
        yield ""
        yield f"Matrix product in the same rounds: {rate:.0f} GFLOP/s."
        yield from reasons
        yield ""


def _sampler(side: Side) -> Callable[[Side, str], Tensor]:
    named = {"diffusers": _diffusers, "denoising-diffusion-pytorch": _lucidrains}
    return named.get(side.name.split(" ")[0], _memlib)


def _memlib(side: Side, device: str) -> Tensor:
    return sample(
        side.network, Schedule.linear(), side.shape[1:], side.shape[0],
        seed=0, steps=STEPS, clip=(-1, 1), device=device,
    )  # fmt: skip


@torch.no_grad()
def _diffusers(side: Side, device: str) -> Tensor:
    """The loop of its DDIMPipeline, which takes images only."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(1000, beta_schedule="linear", timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    x = torch.randn(side.shape, generator=torch.Generator().manual_seed(0)).to(device)
    for t in scheduler.timesteps.to(device):
        x = scheduler.step(side.network(x, t.expand(len(x))), t, x).prev_sample
    return x.cpu()


def _lucidrains(side: Side, device: str) -> Tensor:
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as of_images
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch_1d as of_signals

    module = of_images if len(side.shape) == 4 else of_signals
    module.tqdm = lambda steps, **_: steps  # no bar
    kind = of_images.GaussianDiffusion if len(side.shape) == 4 else of_signals.GaussianDiffusion1D
    length = {"image_size": side.shape[-1]} if len(side.shape) == 4 else {"seq_length": side.shape[-1]}
    given = {"timesteps": 1000, "sampling_timesteps": STEPS, "objective": "pred_noise", "beta_schedule": "linear"}
    diffusion = kind(side.network, **length, **given).to(device)
    return diffusion.sample(batch_size=side.shape[0]).cpu()


def denoiser(repeats: int, device: str) -> Iterator[str]:
    """The posterior mean over many pictures, the networks' limit, beside one expression of plain torch."""
    generator = torch.Generator().manual_seed(0)
    examples = torch.randn(EXAMPLES, *IMAGES[1:], generator=generator).to(device)
    schedule, t = Schedule.linear(), torch.arange(50, 1000, 30, device=device)
    x = schedule.noise(examples[: len(t)], t, torch.randn(len(t), *IMAGES[1:], generator=generator).to(device))
    sides = {
        "memlib.ExactDenoiser": partial(ExactDenoiser(examples, schedule).denoise, x, t),
        "plain torch, float64": partial(_posterior_mean, x.double(), t, examples.double(), schedule),
        "plain torch, float32": partial(_posterior_mean, x, t, examples, schedule),
    }
    expected = sides["plain torch, float64"]()
    taken, rate = rounds(sides, repeats, device)
    plain = taken["plain torch, float64"]
    rows = [
        (
            name,
            f"{median(times):.2f}",
            f"{ratio(times, plain):.2f}",
            f"{float((sides[name]() - expected).abs().max()):.0e}",
        )
        for name, times in taken.items()
    ]
    yield f"{len(t)} noisy pictures of 3 x 32 x 32, at as many timesteps, {EXAMPLES:,} training pictures."
    yield ""
    yield from table(["", "s", "time, of plain float64", "largest difference from it"], rows)
    yield ""
    yield (
        f"Matrix product in the same rounds: {rate:.0f} GFLOP/s. memlib takes its training set in float32 and in "
        "chunks, and makes it float64 on the way; the plain expression was given it in float64, twice the memory."
    )


def _posterior_mean(x: Tensor, t: Tensor, examples: Tensor, schedule: Schedule) -> Tensor:
    alpha_bar = schedule.alpha_bar.to(x.device)[t][:, None].to(x)
    x, flat = x.flatten(1), examples.flatten(1)
    squares = x.square().sum(1, keepdim=True) - 2 * alpha_bar.sqrt() * (x @ flat.T) + alpha_bar * flat.square().sum(1)
    return ((-squares / (2 * (1 - alpha_bar))).softmax(1) @ flat).view(-1, *examples.shape[1:])


class Halved(nn.Module):
    """A network whose arithmetic is bfloat16 where autocast makes it so."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x, t).float()


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of independent estimates, its interval from theirs (MOVER; Zou & Donner 2008)."""
    value = a.value - b.value
    return Estimate(
        value,
        value - math.hypot(a.value - a.low, b.high - b.value),
        value + math.hypot(a.high - a.value, b.value - b.low),
    )


def solvers(repeats: int, device: str) -> Iterator[str]:
    """Energy distance to held-out heartbeats, by sampler and network calls; DDPM with all 1000 is the measure."""
    del repeats  # nothing is timed
    base = profile("recorded").signals
    heartbeats = load(base.dataset, SAMPLES, n_fresh=SAMPLES)
    schedule, shape = base.build_schedule(), heartbeats.train.shape[1:]
    torch.manual_seed(0)
    for step in train(
        base.network.build(tuple(shape)), heartbeats.train, schedule, base.timesteps, base.training,
        generator=torch.Generator().manual_seed(0), device=device,
    ):  # fmt: skip
        network = step.ema

    def measured(samples: Tensor) -> Estimate:
        return bootstrap(*_energy(samples, heartbeats.held_out), generator=torch.Generator().manual_seed(0))

    def drawn(steps: int, model: nn.Module = network, **sampler) -> Tensor:
        return sample(model, schedule, shape, SAMPLES, seed=1, steps=steps, device=device, **sampler)

    def ancestral(steps: int) -> Tensor:
        generators = sample_generators(SAMPLES, 1)
        start = initial_noise(shape, generators).to(device)
        *_, last = ddpm(network, schedule, start, steps=steps, generators=generators)
        return last.x.cpu()

    found = {("none: fresh heartbeats", 0): measured(heartbeats.fresh)}
    for calls in (1000, 200, 100):
        found["DDPM", calls] = measured(ancestral(calls))
    for calls in (5, 10, 20, 50):
        found["DPM-Solver++(2M)", calls] = measured(drawn(calls, sampler=dpm_solver))
    for calls in (10, 20, 50, 100):
        found["DDIM", calls] = measured(drawn(calls))
    found["DDIM, bfloat16", 50] = measured(drawn(50, Halved(network)))
    reference = found["DDPM", 1000]
    yield (
        f"{SAMPLES:,} samples of a network trained on as many heartbeats for {base.training.steps:,} steps, against as "
        "many held-out ones; with 95 % bootstrap intervals."
    )
    yield ""
    more = {key: _difference(energy, reference) for key, energy in found.items() if energy is not reference}
    rows = [(*key, f"{energy:.3f}", f"{more[key]:+.3f}" if key in more else "") for key, energy in found.items()]
    yield from table(["sampler", "network calls", "energy distance", "more than DDPM-1000"], rows)
    yield ""
    for name in ("DPM-Solver++(2M)", "DDIM", "DDPM"):
        enough = min((calls for (other, calls), e in more.items() if other == name and e.low <= 0), default=None)
        told = "is worse than DDPM-1000 with all numbers of calls here"
        if enough:
            told = f"cannot be told from DDPM-1000, or is better, with {enough} calls, {1000 / enough:.0f} times fewer"
        yield f"{name} {told}."
    full, half = found["DDIM", 50], found["DDIM, bfloat16", 50]
    yield f"bfloat16 changes the energy distance of DDIM-50 by {half.value - full.value:+.4f}."
