"""Training: bit by bit the same, resumed or not; the gradient it should follow; and that it learns."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memlib import (
    MLP,
    ExactDenoiser,
    Schedule,
    Spliced,
    Step,
    TrainConfig,
    UNet,
    ddim,
    from_weights,
    gaussian_interval,
    loss_at,
    sample,
    train,
    uniform,
)
from memlib.metrics import energy_distance

SCHEDULE = Schedule.linear()
FLOAT32 = {"precision": "float32"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_weights(make: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    """Layers initialise from the global generator: it is given back as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def small_network() -> nn.Module:
    return same_weights(lambda: MLP(2, width=16, depth=2))


POINTS = torch.randn(40, 2, generator=seeded(2))


def run(model: nn.Module | None = None, x0: Tensor = POINTS, timesteps=None, seed: int = 3, **options):
    keys = TrainConfig.__dataclass_fields__.keys() & options.keys()
    config = TrainConfig(**{"steps": 12, "batch_size": 16} | FLOAT32 | {k: options.pop(k) for k in keys})
    model = model or small_network()
    return train(model, x0, SCHEDULE, timesteps or uniform(), config, generator=seeded(seed), **options)


def last(steps: Iterator[Step]) -> Step:
    return deque(steps, maxlen=1)[0]


def bits(module: nn.Module) -> list[bytes]:
    return [v.numpy().tobytes() for v in module.state_dict().values()]


def test_same_seed_same_bits() -> None:
    first, second = (list(run()) for _ in range(2))
    assert [s.loss.item() for s in first] == [s.loss.item() for s in second]
    assert bits(first[-1].model) == bits(second[-1].model)
    assert bits(first[-1].ema) == bits(second[-1].ema)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_from_its_state_same_bits_as_uninterrupted(stop: int, precision: str) -> None:
    whole = list(run(precision=precision))
    halves = run(precision=precision)
    for _ in range(stop):
        step = next(halves)
    state = step.state()
    next(halves)  # going on may not reach into a state already taken
    fresh = same_weights(lambda: MLP(2, width=16, depth=2), seed=77)  # all must come from the state
    rest = list(run(fresh, seed=99, precision=precision, state=state))
    assert [s.step for s in rest] == list(range(stop + 1, 13))
    assert [s.loss.item() for s in rest] == [s.loss.item() for s in whole[stop:]]
    assert bits(rest[-1].model) == bits(whole[-1].model)
    assert bits(rest[-1].ema) == bits(whole[-1].ema)
    assert torch.equal(rest[-1].generator.get_state(), whole[-1].generator.get_state())


def test_one_seed_gives_the_same_data_and_noise_whatever_the_timesteps() -> None:
    class Ears(nn.Module):
        """Hears x_t and says nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.heard = nn.Parameter(torch.zeros(1)), []

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.heard.append((x.clone(), t.clone()))
            return 0 * self.weight * x

    losses, x_t = [], []
    for timesteps in (from_weights(torch.eye(1000)[0]), from_weights(torch.eye(1000)[999])):
        steps = [s.losses for s in run(Ears(), timesteps=timesteps)]
        losses.append(torch.stack(steps))  # of a silent model, |eps|^2 / D
    assert torch.equal(*losses)
    for timesteps in (from_weights(torch.eye(1000)[0]), gaussian_interval(1000, 0, 1)):
        ears = Ears()
        last(run(ears, timesteps=timesteps, steps=3))
        x_t.append(torch.stack([x for x, _ in ears.heard[-3:]]))
    assert (x_t[0] - x_t[1]).abs().max() < 0.1  # the same examples and noise, at neighbouring noise levels


def test_a_step_is_adam_on_the_mean_square_of_predicted_noise() -> None:
    """The whole of three steps again, from the same generator, with `torch.optim.Adam` in its plain form."""
    steps = list(run(steps=3, warmup=0, learning_rate=1e-2, grad_clip=1e9))
    model, g = small_network(), seeded(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, foreach=False)
    for step in steps:
        x = POINTS[torch.randint(40, (16,), generator=g)]
        t = uniform().sample(16, g)
        eps = torch.randn(16, 2, generator=g)
        a = SCHEDULE.alpha_bar[t][:, None].float()
        losses = ((model(a.sqrt() * x + (1 - a).sqrt() * eps, t) - eps) ** 2).mean(1)
        assert torch.equal(step.t, t)
        np.testing.assert_allclose(step.losses, losses.detach(), rtol=1e-3, atol=1e-5)
        assert step.loss.item() == pytest.approx(losses.mean().item(), rel=1e-4)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    for ours, theirs in zip(steps[-1].model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-4)


def test_ema_follows_its_formula() -> None:
    """decay_n = min(ema_decay, (1 + n)/(10 + n)): here it meets .4 after n = 5."""
    averages = [p.detach().double() for p in small_network().parameters()]
    for n, step in enumerate(run(ema_decay=0.4, learning_rate=0.05, warmup=0)):
        decay = min(0.4, (1 + n) / (10 + n))
        averages = [
            decay * a + (1 - decay) * p.detach().double()
            for a, p in zip(averages, step.model.parameters(), strict=True)
        ]
        for ours, theirs in zip(step.ema.parameters(), averages, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    moved = max((a - b).abs().max() for a, b in zip(step.ema.parameters(), step.model.parameters(), strict=True))
    assert moved > 1e-3  # the average lags: it is not the weights themselves


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),
    [
        (4, 0, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1, 1, 1]),
        (0, 3, [1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        (2, 3, [1 / 3, 2 / 3, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        (3, 7, [1 / 4, 2 / 4, 3 / 4, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),  # they meet: the lower of the two
        (0, 99, [8 / 100, 7 / 100, 6 / 100, 5 / 100, 4 / 100, 3 / 100, 2 / 100, 1 / 100]),  # longer than the run
    ],
)
def test_the_learning_rate_rises_and_falls_linearly(warmup: int, cooldown: int, expected: list[float]) -> None:
    steps = run(warmup=warmup, cooldown=cooldown, learning_rate=1e-2, steps=8)
    np.testing.assert_allclose(
        [s.optimizer.param_groups[0]["lr"] for s in steps], 1e-2 * np.array(expected), rtol=1e-12
    )


@pytest.mark.parametrize(("clip", "bound"), [(0.01, True), (1e9, False)])
def test_gradient_is_clipped_as_a_whole(clip: float, bound: bool) -> None:
    for step in run(grad_clip=clip):
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in step.model.parameters()))
        assert (norm == pytest.approx(0.01, rel=1e-3)) == bound


class Line(nn.Module):
    """eps' = theta x_t. On data +-1 the loss at t is theta^2 - 2 theta sqrt(1 - alpha_bar_t) + 1."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theta * x


SIGNS = torch.tensor([[1.0], [-1.0]])
NOISE_SHARE = (1 - SCHEDULE.alpha_bar).sqrt()
LOW, HIGH = gaussian_interval(1000, 0, 300), gaussian_interval(1000, 500, 900)


def measured_gradient(timesteps, loss_weight=None, theta: float = 0.4) -> tuple[float, float]:
    """Mean of 30 gradients of 2,048 draws, and its standard error; the rate is too small to move theta."""
    config = {"steps": 30, "batch_size": 2048, "learning_rate": 1e-12, "grad_clip": 1e9}
    gradients = [
        s.model.theta.grad.item() for s in run(Line(theta), SIGNS, timesteps, loss_weight=loss_weight, **config)
    ]
    return float(np.mean(gradients)), float(np.std(gradients, ddof=1) / math.sqrt(30))


@pytest.mark.parametrize("p", [LOW, HIGH], ids=["low noise", "high noise"])
def test_drawing_from_p_is_uniform_drawing_with_the_weight_t_p(p) -> None:
    """Both gradients are that of sum_t p(t) L_t, known exactly; with 1/(T p) both would be the uniform one."""
    exact = 2 * (0.4 - (p.pmf * NOISE_SHARE).sum().item())
    flat = 2 * (0.4 - NOISE_SHARE.mean().item())
    for gradient, error in (measured_gradient(p), measured_gradient(uniform(), p.effective_weight())):
        assert error < 0.02
        assert gradient == pytest.approx(exact, abs=4 * error)
        assert abs(gradient - flat) > 8 * error


def test_by_band_is_the_mean_of_each_band() -> None:
    step = next(run(batch_size=200))
    for bands in (1, 7, 10):
        for band, value in enumerate(step.by_band(bands)):
            inside = (step.t / 1000 >= band / bands) & (step.t / 1000 < (band + 1) / bands)
            assert value.item() == pytest.approx(step.losses[inside].mean().item(), rel=1e-5)
    step = next(run(timesteps=from_weights([0] * 99 + [1, 1] + [0] * 899)))  # 99 and 100, either side of an edge
    assert step.by_band().isnan().tolist() == [False, False] + [True] * 8


class GaussianDenoiser(nn.Module):
    """The best prediction of the noise on data N(0, v)."""

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = v

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = SCHEDULE.alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        return ((1 - a).sqrt() / (a * self.v + 1 - a) * x).to(x.dtype)


TIMES = [0, 100, 500, 999]


def test_loss_at_keeps_examples_apart() -> None:
    """Of one example x0: (1 - k sqrt(1-a))^2 + k^2 a x0^2, k the denoiser's slope."""
    x0 = torch.tensor([[0.0], [2.0], [-5.0]])
    losses = loss_at(GaussianDenoiser(1.0), x0, SCHEDULE, TIMES, generator=seeded(7), repeats=20_000)
    for row, t in zip(losses, TIMES, strict=True):
        a = SCHEDULE.alpha_bar[t].item()
        k = math.sqrt(1 - a)
        expected = (1 - k * math.sqrt(1 - a)) ** 2 + k**2 * a * x0[:, 0].double() ** 2
        np.testing.assert_allclose(row, expected, rtol=0.08, atol=1e-4)


def test_loss_at_shows_what_the_exact_denoiser_memorized() -> None:
    points = torch.randn(40, 8, generator=seeded(8))
    seen, unseen = points[:20], points[20:]
    model = ExactDenoiser(seen, SCHEDULE)
    losses = [loss_at(model, x, SCHEDULE, [5, 200], generator=seeded(9)).mean(1) for x in (seen, unseen)]
    assert losses[0][0] < 1e-6  # at low noise a training example is recognised, and its noise known
    assert losses[1][0] > 10
    assert losses[1][1] > 2 * losses[0][1]


LIKE_POINTS = {
    "array": POINTS.numpy(),
    "read-only": np.broadcast_to(POINTS.numpy(), POINTS.shape),
    "big-endian": POINTS.numpy().astype(">f4"),
    "reversed view": POINTS.numpy()[::-1].copy()[::-1],
    "strided view": torch.stack([POINTS, -POINTS], 2)[..., 0],
    "transposed": POINTS.T.contiguous().T,
    "double": POINTS.double(),
    "with gradient": POINTS.clone().requires_grad_(),
    "with history": POINTS.clone().requires_grad_() * 1,
    "list": POINTS.tolist(),
}


@pytest.mark.parametrize("x0", LIKE_POINTS.values(), ids=LIKE_POINTS)
def test_data_of_any_form_are_the_same_data_and_get_no_gradient(x0) -> None:
    step, same = last(run(x0=x0, steps=3)), last(run(steps=3))
    assert bits(step.model) == bits(same.model)
    losses = [loss_at(step.ema, x, SCHEDULE, TIMES, generator=seeded()) for x in (x0, POINTS)]
    assert torch.equal(*losses) and not losses[0].requires_grad
    assert getattr(x0, "is_leaf", True) is False or getattr(x0, "grad", None) is None


def test_training_does_not_see_what_the_caller_does_to_the_data_or_to_the_mode_meanwhile() -> None:
    x0 = POINTS.clone()
    for step in run(same_weights(Normed), x0=x0):
        x0.fill_(9.0)
        step.model.eval()
        step.ema.train()
    expected = last(run(same_weights(Normed)))
    assert bits(step.model) == bits(expected.model) and bits(step.ema) == bits(expected.ema)


class Normed(nn.Module):
    """Batch normalisation and a network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.BatchNorm1d(2), MLP(2, width=16, depth=2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(self.norm(x), t)


def test_the_average_has_the_running_statistics_and_is_for_sampling_only() -> None:
    step = last(run(same_weights(Normed)))
    assert torch.equal(step.ema.norm.running_mean, step.model.norm.running_mean)
    assert step.ema.norm.num_batches_tracked == 12, "and looking at the model's shape is none of the batches"
    assert step.model.training and not any(part.training for part in step.ema.modules())
    assert not any(p.requires_grad for p in step.ema.parameters())


def test_measuring_evaluates_and_changes_neither_modes_nor_statistics_nor_training() -> None:
    model = same_weights(Normed)
    model.inner.eval()
    before, modes = bits(model), [part.training for part in model.modules()]
    losses = [loss_at(m, POINTS, SCHEDULE, TIMES, generator=seeded()) for m in (model, copy.deepcopy(model).eval())]
    assert torch.equal(*losses)
    assert bits(model) == before and [part.training for part in model.modules()] == modes
    for step in run(same_weights(Normed)):
        loss_at(step.model, POINTS, SCHEDULE, [5], generator=seeded())
        sample(step.model, SCHEDULE, (2,), 3, seed=0, steps=2)
    assert bits(step.model) == bits(last(run(same_weights(Normed))).model)


def diffusers_network(ndim: int) -> nn.Module:
    from diffusers import UNet1DModel, UNet2DModel  # here, as they take a second

    common = {"in_channels": 1, "out_channels": 1, "layers_per_block": 1}
    if ndim == 2:
        blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 4}
        return UNet2DModel(sample_size=8, block_out_channels=(8, 8), add_attention=False, **blocks, **common)
    times = {"time_embedding_type": "fourier", "use_timestep_embedding": False, "extra_in_channels": 64}
    blocks = {"down_block_types": ("DownBlock1DNoSkip", "DownBlock1D", "DownBlock1D"), "block_out_channels": (32,) * 3,
              "up_block_types": ("UpBlock1D", "UpBlock1D", "UpBlock1DNoSkip")}  # fmt: skip
    return UNet1DModel(sample_size=64, mid_block_type="UNetMidBlock1D", **times, **blocks, **common)


@pytest.mark.parametrize(("ndim", "shape"), [(1, (1, 64)), (2, (1, 8, 8))])
def test_a_diffusers_model_is_trained_sampled_and_measured(ndim: int, shape) -> None:
    x0 = torch.randn(4, *shape, generator=seeded())
    step = last(run(same_weights(lambda: diffusers_network(ndim)), x0=x0, steps=2, batch_size=2))
    assert sample(step.ema, SCHEDULE, shape, 2, seed=0, steps=2).shape == (2, *shape)
    spliced = Spliced(step.ema, step.model, 500)
    for model in (step.ema, spliced):
        assert loss_at(model, x0, SCHEDULE, [5], generator=seeded()).isfinite().all()
    assert spliced(x0, torch.tensor([0, 400, 600, 999])).shape == x0.shape


class Answers(nn.Module):
    """A network that answers in another form."""

    def __init__(self, form: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.theta, self.form = nn.Parameter(torch.tensor(0.1)), form

    def forward(self, x: Tensor, t: Tensor) -> object:
        return self.form(self.theta * x)


@pytest.mark.parametrize(
    ("form", "error", "says"),
    [(lambda x: (x,), TypeError, "Answers.*tuple.*wrap"), (lambda x: None, TypeError, "Answers.*NoneType.*wrap"),
     (lambda x: {"sample": x}, TypeError, "Answers.*dict.*wrap"), (lambda x: x[:, :1], ValueError, "Answers.*, 1\\)")],
)  # fmt: skip
def test_a_model_that_answers_in_another_form_is_named(form, error, says: str) -> None:
    model = Answers(form)
    for call in (
        lambda: run(model),  # at the call, before any step is asked for
        lambda: loss_at(model, POINTS, SCHEDULE, [5], generator=seeded()),
        lambda: sample(model, SCHEDULE, (2,), 3, seed=0),
        lambda: next(ddim(model, SCHEDULE, POINTS)),
    ):
        with pytest.raises(error, match=says):
            call()


@pytest.mark.parametrize(
    ("scale", "offset", "warned"),
    [(73, 127, True), (1, 100, True), (1, -100, True), (1e-3, 0, True), (1, 0, False), (0.3, 0.5, False), (0, 0, 0)],
)  # fmt: skip
def test_warns_once_if_data_are_far_from_unit_scale_with_a_cure_that_works(scale, offset, warned: bool) -> None:
    x0 = scale * POINTS + offset
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(run(x0=x0, steps=2))
    assert len(caught) == warned
    for warning in caught:
        text = str(warning.message)
        assert warning.filename == __file__ and f"[{x0.min():g}, {x0.max():g}]" in text
        shift, by = map(float, re.search(r"\(x0 - (\S+)\) / (\S+)", text).groups())
        assert ((x0 - shift) / by).std().item() == pytest.approx(1, abs=0.01)


def test_bfloat16_runs_and_is_close_to_float32() -> None:
    x0 = torch.randn(8, 1, 40, generator=seeded(1)).cumsum(2) / 5
    runs = [
        list(run(same_weights(lambda: UNet(1, 1, width=8)), x0, steps=30, batch_size=16, warmup=0, precision=precision))
        for precision in ("float32", "bfloat16")
    ]
    exact, rounded = (torch.stack([s.loss for s in steps]) for steps in runs)
    assert rounded.dtype == torch.float32
    assert {p.dtype for p in runs[1][-1].model.parameters()} == {torch.float32}
    assert not torch.equal(exact, rounded)  # it did compute in bfloat16
    assert exact[-5:].mean() < 0.9 * exact[0]
    np.testing.assert_allclose(rounded, exact, rtol=0.05)


def mixture(n: int, seed: int) -> Tensor:
    """Three Gaussians of different size and weight, about unit scale."""
    g = seeded(seed)
    centres = torch.tensor([[-1.0, -0.6], [1.1, -0.4], [0.0, 1.2]])
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=g)
    spread = torch.tensor([0.25, 0.15, 0.35])[which, None]
    return centres[which] + spread * torch.randn(n, 2, generator=g)


def test_two_dimensional_points_are_learnt() -> None:
    """Energy distance of samples to fresh data within twice that of other fresh data; sets of 2,000, means of them."""
    config = TrainConfig(steps=1200, batch_size=512, learning_rate=4e-3, ema_decay=0.995, precision="float32")
    network = same_weights(lambda: MLP(2, width=64, depth=3))
    trained = last(train(network, mixture(20_000, 0), SCHEDULE, uniform(), config, generator=seeded())).ema
    samples = [sample(trained, SCHEDULE, (2,), 2000, seed=seed, steps=100) for seed in (1, 2)]
    fresh = [mixture(2000, seed) for seed in range(1, 9)]
    floor = np.mean([energy_distance(a, b) for a, b in pairwise(fresh)])
    reached = np.mean([energy_distance(s, f) for s in samples for f in fresh[:4]])
    assert reached <= 2 * floor


@pytest.mark.parametrize("network", [MLP(2, 8), UNet(1, 1, width=8, multipliers=(1, 2))])
def test_a_float64_model_is_trained_and_sampled_from_in_float64(network: nn.Module) -> None:
    shape = (2,) if isinstance(network, MLP) else (1, 6)
    step = last(run(network.double(), torch.randn(5, *shape, generator=seeded()), steps=2, batch_size=4))
    assert step.loss.isfinite() and {p.dtype for p in step.ema.parameters()} == {torch.float64}
    assert sample(step.ema, SCHEDULE, shape, 3, seed=0, steps=2).dtype == torch.float64


@pytest.mark.parametrize("steps", [20, 100, 130])
def test_divergence_raises(steps: int) -> None:
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf).*learning_rate"):
        last(run(steps=steps, learning_rate=1e30, warmup=0))


def test_a_gradient_that_is_not_finite_raises_also_at_the_last_step() -> None:
    """eps' = sqrt(theta) x at theta = 0 has a finite loss with an infinite gradient."""
    model = Line(0.0)
    model.forward = lambda x, t: model.theta.sqrt() * x
    with pytest.raises(FloatingPointError, match=r"gradient's norm (inf|nan)"):
        last(run(model, x0=SIGNS, steps=1, warmup=0))


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [*[({"x0": x0}, ValueError, "x0") for x0 in (POINTS / 0, POINTS[:0], POINTS[:, 0])],
     ({"x0": POINTS.byte()}, TypeError, "x0"), ({"timesteps": uniform(500)}, ValueError, r"T = 1000.*T = 500"),
     *[({"loss_weight": w}, ValueError, "loss_weight") for w in (torch.ones(999), -torch.ones(1000), [math.nan])],
     *[({"model": model}, TypeError, "model is a") for model in (len, ExactDenoiser(POINTS, SCHEDULE))],
     ({"device": "no such"}, RuntimeError, "device = 'no such'"), ({"steps": 0}, ValueError, "steps"),
     ({"steps": 10.0}, TypeError, "steps"), ({"batch_size": 0}, ValueError, "batch_size"),
     ({"warmup": -1}, ValueError, "warmup"), ({"learning_rate": math.nan}, ValueError, "learning_rate"),
     ({"grad_clip": -1.0}, ValueError, "grad_clip"), ({"ema_decay": 1.0}, ValueError, "ema_decay"),
     ({"precision": "float16"}, ValueError, "precision")],
)  # fmt: skip
def test_refuses_by_name_at_the_call_before_any_step(options: dict, error, named: str) -> None:
    with pytest.raises(error, match=named):
        run(**options)


@pytest.mark.parametrize(("timestep", "error"), [(1000, ValueError), (-1, ValueError), (1.7, TypeError)])
def test_loss_at_refuses_what_is_no_timestep(timestep, error) -> None:
    with pytest.raises(error, match="t "):
        loss_at(small_network(), POINTS, SCHEDULE, [timestep], generator=seeded())
