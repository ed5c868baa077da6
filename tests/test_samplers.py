"""Samplers against exact recursions, closed-form solutions of the probability-flow ODE, and `diffusers`.

On Gaussian data N(m, v) the perfect denoiser is linear, so every sampler is a linear recursion, written out anew."""

import math
from collections import deque
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from memlib import Denoiser, ExactDenoiser, Schedule, ddim, ddpm, dpm_solver, initial_noise
from memlib import sample_generators as generators_of

MEAN, VARIANCE = 0.7, 0.25
SCHEDULE = Schedule.linear()
ZERO = SCHEDULE.zero_terminal_snr()


class GaussianDenoiser(nn.Module):
    """eps of E[x0 | x_t] = m + sqrt(a) v / (a v + 1 - a) (x_t - sqrt(a) m)."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.alpha_bar = schedule.alpha_bar

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        x0 = MEAN + a.sqrt() * VARIANCE / (a * VARIANCE + 1 - a) * (x - a.sqrt() * MEAN)
        return ((x - a.sqrt() * x0) / (1 - a).sqrt()).to(x.dtype)


def table(schedule: Schedule, t: int) -> float:
    return 1.0 if t == -1 else schedule.alpha_bar[t].item()


def x0_line(a: float) -> tuple[float, float]:
    """Slope and offset of the line x0'(x_t)."""
    slope = math.sqrt(a) * VARIANCE / (a * VARIANCE + 1 - a)
    return slope, MEAN - slope * math.sqrt(a) * MEAN


def ddim_step(a: float, b: float, slope: float, offset: float, eta: float) -> tuple[float, float, float]:
    """Song et al. 2010.02502 eq. 12: gain and shift of x_t on the way from alpha_bar a to b, and the variance added."""
    noise = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    along = math.sqrt(1 - b - noise) / math.sqrt(1 - a)  # of x_t - sqrt(a) x0'
    shift = (math.sqrt(b) - along * math.sqrt(a)) * offset
    return math.sqrt(b) * slope + along * (1 - math.sqrt(a) * slope), shift, noise


def ddpm_step(a: float, b: float, slope: float, offset: float) -> tuple[float, float, float]:
    """The posterior of Ho et al. 2006.11239 eq. 7."""
    beta = 1 - a / b
    on_x0, on_x = math.sqrt(b) * beta / (1 - a), math.sqrt(1 - beta) * (1 - b) / (1 - a)
    return on_x0 * slope + on_x, on_x0 * offset, (1 - b) / (1 - a) * beta


def moments(step, schedule: Schedule, times: list[int]) -> tuple[float, float]:
    """Mean and variance at the end, from N(0, 1)."""
    mean, variance = 0.0, 1.0
    for t, s in pairwise(times):
        a = table(schedule, t)
        gain, shift, noise = step(a, table(schedule, s), *x0_line(a))
        mean, variance = gain * mean + shift, gain**2 * variance + noise
    return mean, variance


def dpm_solver_line(schedule: Schedule, times: list[int]) -> tuple[float, float]:
    """Slope and offset of the sample as a function of x_T, after Lu et al. 2211.01095 algorithm 2."""
    x = np.array([1.0, 0.0])  # slope, offset
    lam = [math.log(math.sqrt(table(schedule, t)) / math.sqrt(1 - table(schedule, t))) for t in times if t >= 0]
    guesses = []
    for i in range(1, len(times)):
        a, b = table(schedule, times[i - 1]), table(schedule, times[i])
        slope, offset = x0_line(a)
        guesses.append(slope * x + np.array([0.0, offset]))
        if times[i] == -1:
            return tuple(guesses[-1])
        h = lam[i] - lam[i - 1]
        d = guesses[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            d = (1 + 1 / (2 * r)) * guesses[-1] - 1 / (2 * r) * guesses[-2]
        x = math.sqrt(1 - b) / math.sqrt(1 - a) * x - math.sqrt(b) * (math.exp(-h) - 1) * d
    return tuple(x)


def trailing(T: int, steps: int) -> list[int]:
    return [int(np.round(T - T / steps * i)) - 1 for i in range(steps)] + [-1]


def last(frames) -> Tensor:
    return deque(frames, maxlen=1)[0].x


def noise(n: int, *shape: int, seed: int = 0) -> Tensor:
    return initial_noise(shape, generators_of(n, seed)).double()


@pytest.mark.parametrize(
    ("eta", "T", "steps"),
    [(0.0, 1000, 50), (0.0, 1000, 10), (0.5, 1000, 50), (1.0, 1000, 50), (1.0, 1000, 7), ("ddpm", 200, None),
     ("ddpm", 200, 40)],
)  # fmt: skip
def test_samples_have_the_moments_of_their_recursion_within_five_standard_errors(eta, T: int, steps) -> None:
    schedule = Schedule.linear(T)
    own = {"generators": generators_of(200, seed=1), "steps": steps} | ({} if eta == "ddpm" else {"eta": eta})
    samples = last((ddpm if eta == "ddpm" else ddim)(GaussianDenoiser(schedule), schedule, noise(200, 200), **own))
    step = ddpm_step if eta == "ddpm" else partial(ddim_step, eta=eta)
    mean, variance = moments(step, schedule, trailing(T, steps or T))
    assert samples.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 40_000))
    assert samples.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / 40_000))


@pytest.mark.parametrize("times", [trailing(1000, 20), trailing(1000, 3), [999, 700, 650, 100, 20, 3], [500, 100, -1]])
def test_deterministic_samplers_are_their_recursions_point_by_point(times) -> None:
    model, x_T = GaussianDenoiser(SCHEDULE), noise(3, 4)
    slope, offset = dpm_solver_line(SCHEDULE, times)
    np.testing.assert_allclose(last(dpm_solver(model, SCHEDULE, x_T, steps=times)), slope * x_T + offset, atol=1e-10)
    mean, variance = moments(partial(ddim_step, eta=0.0), SCHEDULE, times)
    samples = last(ddim(model, SCHEDULE, x_T, steps=times))
    np.testing.assert_allclose(samples, math.sqrt(variance) * x_T + mean, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 333, 999])
def test_timesteps_trail(steps: int) -> None:
    times = [f.t for f in ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(1, 1), steps=steps)]
    assert times == trailing(1000, steps) and times[0] == 999 and len(set(times)) == steps + 1


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver, 2)])
def test_converges_at_its_order(sampler, order: int) -> None:
    """On Gaussian data the ODE keeps (x_t - sqrt(a) m) / sqrt(a v + 1 - a). The last jump onto clean data is left out:
    of any size, it is of first order."""
    T, first, final = 40_000, 24_000, 8_000
    schedule = Schedule.linear(T)
    model, x = GaussianDenoiser(schedule), torch.tensor([[-1.3, 0.4, 2.0]], dtype=torch.float64)
    a, b = table(schedule, first), table(schedule, final)
    exact = math.sqrt(b) * MEAN + math.sqrt((b * VARIANCE + 1 - b) / (a * VARIANCE + 1 - a)) * (x - math.sqrt(a) * MEAN)
    counts = (40, 80, 160, 320)
    steps = [range(first, final - 1, -(first - final) // n) for n in counts]
    errors = [(last(sampler(model, schedule, x, steps=each)) - exact).abs().max() for each in steps]
    orders = np.log2([errors[i] / errors[i + 1] for i in range(len(counts) - 1)])
    np.testing.assert_allclose(orders, order, atol=0.03)


class Wavy(nn.Module):
    """No denoiser at all: any function will do to compare arithmetic."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x + t[:, None]) + 0.1 * x


def reference(kind, zero: bool, **options):
    """A model and a schedule of ours, and a `diffusers` scheduler on our table in float64 (its own is float32); zero:
    the model predicts v, from zero terminal SNR on."""
    ours, predicts = (ZERO, "v") if zero else (SCHEDULE, "eps")
    options |= {"rescale_betas_zero_snr": zero, "prediction_type": "v_prediction" if zero else "epsilon"}
    scheduler = kind(num_train_timesteps=1000, beta_schedule="linear", timestep_spacing="trailing", **options)
    np.testing.assert_allclose(scheduler.alphas_cumprod, ours.alpha_bar, atol=1e-6)
    scheduler.alphas_cumprod = ours.alpha_bar
    return Denoiser(Wavy(), ours, predicts), ours, scheduler


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
@pytest.mark.parametrize(("steps", "eta"), [(50, 0.0), (20, 0.3), (10, 1.0), (1000, "ddpm"), (50, "ddpm")])
def test_ddim_and_ddpm_equal_diffusers(steps: int, eta, clip, zero: bool, monkeypatch) -> None:
    if eta == "ddpm":
        sampler, kind, theirs, options = ddpm, DDPMScheduler, {"variance_type": "fixed_small"}, {}
    else:
        sampler, kind, theirs = partial(ddim, eta=eta), DDIMScheduler, {"set_alpha_to_one": True}
        options = {"eta": eta, "use_clipped_model_output": clip is not None}
    model, ours, scheduler = reference(kind, zero, clip_sample=clip is not None, **theirs)
    scheduler.set_timesteps(steps)
    generators, x = generators_of(4, seed=3), noise(4, 3)
    drawn = lambda shape, **_: initial_noise(shape[1:], generators).double()  # noqa: E731
    monkeypatch.setattr(f"{kind.__module__}.randn_tensor", drawn)
    frames = list(sampler(model, ours, x, steps=steps, clip=clip, generators=generators_of(4, seed=3)))
    assert [f.t for f in frames[:-1]] == scheduler.timesteps.tolist()
    for t, frame, after in zip(scheduler.timesteps, frames, frames[1:], strict=False):
        step = scheduler.step(model.net(x, t.expand(4)), t, x, **options)
        np.testing.assert_allclose(frame.x0, step.pred_original_sample, atol=1e-8)
        np.testing.assert_allclose(after.x, step.prev_sample, atol=1e-8)
        x = after.x


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers' own, under a new numpy
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_dpm_solver_equals_diffusers(steps: int) -> None:
    """Its sigmas are float32: 1e-4."""
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_schedule="linear", timestep_spacing="trailing", algorithm_type="dpmsolver++",
        solver_order=2, solver_type="midpoint", final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    model, x = GaussianDenoiser(SCHEDULE), noise(4, 3)
    frames = list(dpm_solver(model, SCHEDULE, x, steps=steps))
    assert [f.t for f in frames[:-1]] == scheduler.timesteps.tolist()
    for t, after in zip(scheduler.timesteps, frames[1:], strict=True):
        x = scheduler.step(model(x, t.expand(4)), t, x).prev_sample
        np.testing.assert_allclose(after.x, x, atol=1e-4)


ALL = {
    "ddim": lambda model, x, **kw: ddim(model, SCHEDULE, x, **kw),
    "eta 0.7": lambda model, x, **kw: ddim(model, SCHEDULE, x, eta=0.7, generators=generators_of(len(x), 8), **kw),
    "ddpm": lambda model, x, **kw: ddpm(model, SCHEDULE, x, generators=generators_of(len(x), 8), **kw),
    "dpm_solver": lambda model, x, **kw: dpm_solver(model, SCHEDULE, x, **kw),
}
every_sampler = pytest.mark.parametrize("sampler", ALL.values(), ids=ALL)


@every_sampler
def test_with_the_exact_denoiser_samples_land_on_training_points(sampler) -> None:
    train = 3 * torch.randn(16, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (torch.cdist(train, train) + 99 * torch.eye(16)).min() > 4
    samples = last(sampler(ExactDenoiser(train, SCHEDULE), noise(64, 8), steps=50))
    distances, nearest = torch.cdist(samples, train).min(1)
    assert distances.max() < 1e-6
    assert len(nearest.unique()) >= 10  # many of them, not one attractor


@every_sampler
def test_clip_bounds_every_prediction(sampler) -> None:
    model, x, clips = GaussianDenoiser(SCHEDULE), 3 * noise(50, 2), (None, (0.6, 0.8), (-99, 99))
    free, tight, wide = (list(sampler(model, x, steps=25, clip=clip)) for clip in clips)
    assert all(f.x0.min() >= 0.6 and f.x0.max() <= 0.8 for f in tight) and max(f.x0.max() for f in free) > 0.9
    np.testing.assert_allclose(wide[-1].x, free[-1].x)


@pytest.mark.parametrize("ending", [0, 5, 400])
@every_sampler
def test_steps_may_end_before_clean_data(sampler, ending: int) -> None:
    """The last frame is then x_t as it stands, with the clean data it points to: where a splice changes networks."""
    model, x = GaussianDenoiser(SCHEDULE), noise(2, 3)
    frames = list(sampler(model, x, steps=[999, 700, ending]))
    assert [f.t for f in frames] == [999, 700, ending]
    a = table(SCHEDULE, ending)
    eps = model(frames[-1].x, torch.full((2,), ending))
    np.testing.assert_allclose(frames[-1].x0, (frames[-1].x - math.sqrt(1 - a) * eps) / math.sqrt(a), atol=1e-10)


@every_sampler
def test_at_zero_snr_the_noise_is_kept_if_x0_is_known_and_a_model_of_noise_is_refused(sampler, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "SCHEDULE", ZERO)
    for model in (GaussianDenoiser(ZERO), Denoiser(Wavy(), ZERO), Denoiser(Wavy(), ZERO, "x0", "sigma")):
        with pytest.raises(ValueError, match=r"zero terminal SNR.*Denoiser"):
            sampler(model, noise(2, 3), steps=10)
    assert last(sampler(GaussianDenoiser(ZERO), noise(2, 3), steps=[998, 500, -1])).isfinite().all()
    x, known = noise(2, 3), noise(2, 3)[[0, 0]]
    frames = list(sampler(ExactDenoiser(known, ZERO), x, steps=[999, 400, 30, -1]))
    assert torch.equal(frames[0].x, x) and all((frame.x0 - known).abs().max() < 1e-9 for frame in frames)
    if sampler in (ALL["ddim"], ALL["dpm_solver"]):
        np.testing.assert_allclose(frames[2].x, ZERO.noise(known, torch.tensor([30, 30]), x), atol=1e-12)
