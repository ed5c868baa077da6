"""Samplers against exact recursions, closed-form solutions of the probability-flow ODE, and `diffusers`.

On Gaussian data N(m, v) the perfect denoiser is linear, so every sampler is a linear recursion, written out here anew.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from memlib import MLP, Denoiser, ExactDenoiser, Frame, Schedule, UNet, ddim, ddpm, dpm_solver, initial_noise, sample
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


def x0_line(a: float, v: float = VARIANCE) -> tuple[float, float]:
    """Slope and offset of the line x0'(x_t)."""
    slope = math.sqrt(a) * v / (a * v + 1 - a)
    return slope, MEAN - slope * math.sqrt(a) * MEAN


def ddim_moments(schedule: Schedule, times: list[int], eta: float, v: float = VARIANCE) -> tuple[float, float]:
    """Mean and variance after Song et al. 2010.02502 eq. 12, from N(0, 1)."""
    mean, variance = 0.0, 1.0
    for t, s in pairwise(times):
        a, b = table(schedule, t), table(schedule, s)
        slope, offset = x0_line(a, v)
        noise = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        along = math.sqrt(1 - b - noise) / math.sqrt(1 - a)  # of x_t - sqrt(a) x0'
        gain = math.sqrt(b) * slope + along * (1 - math.sqrt(a) * slope)
        shift = (math.sqrt(b) - along * math.sqrt(a)) * offset
        mean, variance = gain * mean + shift, gain**2 * variance + noise
    return mean, variance


def ddpm_moments(schedule: Schedule, times: list[int]) -> tuple[float, float]:
    """Mean and variance after the posterior of Ho et al. 2006.11239 eq. 7; no noise at the last step."""
    mean, variance = 0.0, 1.0
    for t, s in pairwise(times):
        a, b = table(schedule, t), table(schedule, s)
        slope, offset = x0_line(a)
        beta = 1 - a / b
        on_x0, on_x = math.sqrt(b) * beta / (1 - a), math.sqrt(1 - beta) * (1 - b) / (1 - a)
        gain, shift = on_x0 * slope + on_x, on_x0 * offset
        mean, variance = gain * mean + shift, gain**2 * variance + (1 - b) / (1 - a) * beta
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


def check_moments(samples: Tensor, mean: float, variance: float) -> None:
    """Within five standard errors."""
    n = samples.numel()
    assert samples.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / n))
    assert samples.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


@pytest.mark.parametrize(("steps", "eta"), [(50, 0.0), (10, 0.0), (50, 0.5), (50, 1.0), (7, 1.0)])
def test_ddim_has_the_moments_of_its_recursion(steps: int, eta: float) -> None:
    mean, variance = ddim_moments(SCHEDULE, trailing(1000, steps), eta)
    x_T = noise(200, 200)
    frames = ddim(
        GaussianDenoiser(SCHEDULE), SCHEDULE, x_T, steps=steps, eta=eta, generators=generators_of(200, seed=1)
    )
    check_moments(last(frames), mean, variance)


@pytest.mark.parametrize("steps", [None, 40])
def test_ddpm_has_the_moments_of_its_recursion(steps: int | None) -> None:
    schedule = Schedule.linear(200)
    mean, variance = ddpm_moments(schedule, trailing(200, steps or 200))
    own = generators_of(200, seed=2)
    frames = ddpm(GaussianDenoiser(schedule), schedule, noise(200, 200), steps=steps, generators=own)
    check_moments(last(frames), mean, variance)


@pytest.mark.parametrize("times", [trailing(1000, 20), trailing(1000, 3), [999, 700, 650, 100, 20, 3], [500, 100, -1]])
def test_deterministic_samplers_are_their_recursions_point_by_point(times) -> None:
    model, x_T = GaussianDenoiser(SCHEDULE), noise(3, 4)
    slope, offset = dpm_solver_line(SCHEDULE, times)
    np.testing.assert_allclose(last(dpm_solver(model, SCHEDULE, x_T, steps=times)), slope * x_T + offset, atol=1e-10)
    mean, variance = ddim_moments(SCHEDULE, times, 0.0)
    samples = last(ddim(model, SCHEDULE, x_T, steps=times))
    np.testing.assert_allclose(samples, math.sqrt(variance) * x_T + mean, atol=1e-10)


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
    errors = [
        (last(sampler(model, schedule, x, steps=range(first, final - 1, -(first - final) // n))) - exact).abs().max()
        for n in counts
    ]
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


CLIPS = [None, (-1.0, 1.0)]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("steps", "eta"), [(50, 0.0), (20, 0.3), (10, 1.0)])
def test_ddim_equals_diffusers(steps: int, eta: float, clip, zero: bool) -> None:
    model, ours, scheduler = reference(DDIMScheduler, zero, set_alpha_to_one=True, clip_sample=clip is not None)
    scheduler.set_timesteps(steps)
    x = noise(4, 3)
    frames = list(ddim(model, ours, x, steps=steps, eta=eta, clip=clip, generators=generators_of(4, seed=3)))
    assert [f.t for f in frames[:-1]] == scheduler.timesteps.tolist()
    generators = generators_of(4, seed=3)
    for t, frame, after in zip(scheduler.timesteps, frames, frames[1:], strict=False):
        z = initial_noise((3,), generators).double()
        options = {"eta": eta, "use_clipped_model_output": clip is not None, "variance_noise": z}
        step = scheduler.step(model.net(x, t.expand(4)), t, x, **options)
        np.testing.assert_allclose(frame.x0, step.pred_original_sample, atol=1e-8)
        np.testing.assert_allclose(after.x, step.prev_sample, atol=1e-8)
        x = after.x


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("steps", [1000, 50])
def test_ddpm_equals_diffusers(steps: int, clip, zero: bool, monkeypatch) -> None:
    model, ours, scheduler = reference(DDPMScheduler, zero, variance_type="fixed_small", clip_sample=clip is not None)
    scheduler.set_timesteps(steps)
    generators = generators_of(4, seed=4)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor",
        lambda shape, **_: initial_noise(shape[1:], generators).double(),
    )
    x = noise(4, 3)
    frames = list(ddpm(model, ours, x, steps=steps, clip=clip, generators=generators_of(4, seed=4)))
    assert [f.t for f in frames[:-1]] == scheduler.timesteps.tolist()
    for t, after in zip(scheduler.timesteps, frames[1:], strict=True):
        x = scheduler.step(model.net(x, t.expand(4)), t, x).prev_sample
        np.testing.assert_allclose(after.x, x, atol=1e-7)
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
def test_the_last_step_adds_no_noise(sampler) -> None:
    frames = list(sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), steps=[999, 500, 3, -1]))
    np.testing.assert_allclose(frames[-1].x, frames[-2].x0, atol=1e-14)


@every_sampler
def test_same_noise_same_samples_without_a_gradient_whatever_the_form_of_the_noise(sampler) -> None:
    model, x = untrained(MLP(2, width=16, depth=1)), noise(4, 2).float()
    first = list(sampler(model, x, steps=3))
    assert not any(f.x.requires_grad or f.x0.requires_grad for f in first)
    for same in (x, x.double(), x.numpy(), x.clone().requires_grad_(), x.T.contiguous().T):
        frames = list(sampler(model, same, steps=3))
        assert torch.equal(frames[-1].x, first[-1].x) and not any(f.x.requires_grad for f in frames)


@every_sampler
def test_clip_bounds_every_prediction(sampler) -> None:
    frames = list(sampler(GaussianDenoiser(SCHEDULE), 3 * noise(50, 2), steps=25, clip=(0.6, 0.8)))
    assert min(f.x0.min() for f in frames) >= 0.6
    assert max(f.x0.max() for f in frames) <= 0.8
    free, wide = (
        list(sampler(GaussianDenoiser(SCHEDULE), 3 * noise(50, 2), steps=25, clip=c)) for c in (None, (-99, 99))
    )
    assert max(f.x0.max() for f in free) > 0.9
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


def test_a_way_cut_in_two_is_the_same_way() -> None:
    model, x, times = GaussianDenoiser(SCHEDULE), noise(3, 2), trailing(1000, 20)
    halfway = last(ddim(model, SCHEDULE, x, steps=times[:11]))
    joined = last(ddim(model, SCHEDULE, halfway, steps=times[10:]))
    np.testing.assert_allclose(joined, last(ddim(model, SCHEDULE, x, steps=times)), atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 33, 50, 333, 999, 1000])
def test_timesteps_trail(steps: int) -> None:
    times = [f.t for f in ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(1, 1), steps=steps)]
    assert times == trailing(1000, steps)
    assert times[0] == 999
    assert len(set(times)) == steps + 1


@torch.no_grad()
def untrained(model: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.copy_(torch.randn(p.shape, generator=g) / (2 * math.sqrt(p[0].numel()) if p.ndim > 1 else 4))
    return model.eval()


BATCHED = {
    "mlp": (untrained(MLP(2, width=32)), (2,)),
    "unet": (untrained(UNet(1, 1, width=8)), (1, 20)),
    "exact": (ExactDenoiser(torch.randn(9, 2, generator=torch.Generator().manual_seed(1)), SCHEDULE), (2,)),
}


@pytest.mark.parametrize(("model", "shape"), BATCHED.values(), ids=BATCHED)
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_sample_does_not_depend_on_its_batch(model, shape, stochastic: bool) -> None:
    def draw(start: int, stop: int) -> Tensor:
        generators = generators_of(stop, seed=5)[start:]
        x = initial_noise(shape, generators)
        if stochastic:
            return last(ddpm(model, SCHEDULE, x, steps=10, generators=generators, clip=(-3, 3)))
        return last(ddim(model, SCHEDULE, x, steps=10, clip=(-3, 3)))

    together = draw(0, 7)
    apart = torch.cat([draw(0, 1), draw(1, 5), draw(5, 7)])
    np.testing.assert_allclose(apart, together, atol=2e-4)


def test_generators_depend_on_seed_and_place_only() -> None:
    few, many = (initial_noise((3,), generators_of(n, seed=11)) for n in (3, 10))
    assert torch.equal(few, many[:3])
    assert not torch.isclose(many, initial_noise((3,), generators_of(10, seed=12))).any()
    assert len(many.unique()) == 30
    # torch keeps 32 bits of a CPU generator's seed: none may be drawn twice
    assert len({g.initial_seed() % 2**32 for g in generators_of(6000, 39)}) == 6000


@pytest.mark.parametrize("model", [untrained(MLP(2, width=32)), GaussianDenoiser(SCHEDULE), lambda x, t: 0.1 * x])
def test_sample_is_the_sampler_on_its_own_noise_in_batches(model) -> None:
    by_hand = last(ddim(model, SCHEDULE, initial_noise((2,), generators_of(7, seed=3)), steps=10))
    for batch_size in (3, 100):
        samples = sample(model, SCHEDULE, (2,), 7, seed=3, steps=10, batch_size=batch_size)
        np.testing.assert_allclose(samples, by_hand, atol=1e-4)
    other = sample(model, SCHEDULE, (2,), 7, seed=3, steps=10, sampler=dpm_solver, clip=(-1, 1))
    assert other.abs().max() <= 1


def test_sample_computes_where_the_model_is_or_where_it_is_told_to() -> None:
    seen = []

    def look(model, schedule, x, *, steps, clip):  # computes nothing, so that any device can be asked about
        seen.append(x.device.type)
        yield Frame(-1, torch.zeros(x.shape), torch.zeros(x.shape))

    exact = ExactDenoiser(noise(4, 2), SCHEDULE)  # which has buffers only
    for model in (MLP(2, width=8), MLP(2, width=8).to("meta"), exact, copy.deepcopy(exact).to("meta"), last):
        sample(model, SCHEDULE, (2,), 5, seed=0, sampler=look)
        sample(model, SCHEDULE, (2,), 5, seed=0, sampler=look, device="cpu")
    assert seen == ["cpu", "cpu", "meta", "cpu"] * 2 + ["cpu", "cpu"]


class Normed(nn.Module):
    """Batch normalisation and dropout: both act otherwise in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.frozen = nn.BatchNorm1d(2), nn.Dropout(0.5), nn.BatchNorm1d(2).eval()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.frozen(self.drop(self.norm(x)))


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


@every_sampler
def test_samplers_evaluate_in_each_step_and_put_every_submodules_mode_back(sampler) -> None:
    model, x = Normed(), noise(8, 2).float()
    before, statistics = modes(model), copy.deepcopy(model.state_dict())
    expected = last(sampler(copy.deepcopy(model).eval(), x, steps=[999, 500, 3]))
    for frame in sampler(model, x, steps=[999, 500, 3]):
        assert frame.x.shape == x.shape and modes(model) == before, "also between two frames"
        model.norm.train()  # as a caller may
    assert torch.equal(frame.x, expected)
    assert all(torch.equal(a, b) for a, b in zip(statistics.values(), model.state_dict().values(), strict=True))


def test_a_sample_of_a_normed_model_does_not_depend_on_its_batch() -> None:
    model = Normed()
    few, many = (sample(model, SCHEDULE, (2,), 8, seed=0, steps=5, batch_size=size) for size in (4, 8))
    assert torch.equal(few, many)
    assert model.norm.running_mean.abs().max() == 0 and modes(model) == [True, True, True, False]


@every_sampler
def test_at_zero_snr_the_noise_is_kept_if_the_model_knows_x0_and_a_model_of_noise_is_refused(
    sampler, monkeypatch
) -> None:
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


@every_sampler
@pytest.mark.parametrize(
    ("options", "error"),
    [*[({"steps": n}, ValueError) for n in (0, -3, 1001, [999], [500, 500, -1], [10, 500], [1000, 3], [10, -2])],
     *[({"steps": n}, TypeError) for n in (5.0, np.float64(5), [99.5, -1], np.array([99.0, -1.0]))],
     ({"clip": (1, -1)}, ValueError), ({"clip": (1, 1)}, ValueError)],
)  # fmt: skip
def test_refuses_at_the_call_what_would_be_silently_wrong(sampler, options, error) -> None:
    with pytest.raises(error):
        sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), **options)
    for good in (np.int64(5), np.array([99, 70, 50, 30, 10, -1]), torch.tensor([99, 70, 50, 30, 10, -1])):
        assert len(list(sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), steps=good))) == 6


def test_refuses_eta_without_a_generator_for_each_sample() -> None:
    for options in ({"eta": -0.1}, {"eta": 1.1}, {"eta": math.nan}, {"eta": 0.5},
                    {"eta": 0.5, "generators": generators_of(3, seed=0)}):  # fmt: skip
        with pytest.raises(ValueError, match="eta"):
            ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(2, 3), **options)
    with pytest.raises(ValueError, match="x_T"):
        ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(2, 3) / 0)
