"""Training: bit by bit the same, resumed or not, and the gradient it should follow."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from draws import normal, seeded
from torch import Tensor, nn

import memlib
from memlib import MLP, Schedule, Step, TrainConfig, from_weights, gaussian_interval, gradient_norm_at, loss_at, uniform

SCHEDULE = Schedule.linear()


def same_weights(make: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    """Layers initialise from the global generator: it is given back as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


small_network = partial(MLP, 2, width=16, depth=2)
POINTS = normal(40, 2, seed=2)


def run(model: nn.Module | None = None, x0: Tensor = POINTS, timesteps=None, seed: int = 3, **options):
    keys = TrainConfig.__dataclass_fields__.keys() & options.keys()
    config = TrainConfig(**{"steps": 12, "batch_size": 16, "precision": "float32"} | {k: options.pop(k) for k in keys})
    model = model or same_weights(small_network)
    return memlib.train(model, x0, SCHEDULE, timesteps or uniform(), config, generator=seeded(seed), **options)


def last(steps: Iterator[Step]) -> Step:
    return deque(steps, maxlen=1)[0]


def bits(step: Step) -> list[bytes]:
    return [v.numpy().tobytes() for net in (step.model, step.ema) for v in net.state_dict().values()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_from_its_state_same_bits_as_uninterrupted(stop: int, precision: str) -> None:
    whole = list(run(precision=precision))
    halves = run(precision=precision)
    for _ in range(stop):
        step = next(halves)
    state = step.state()
    next(halves)  # going on may not reach into a state already taken
    fresh = same_weights(small_network, seed=77)  # all must come from the state
    rest = list(run(fresh, seed=99, precision=precision, state=state))
    assert [s.step for s in rest] == list(range(stop + 1, 13))
    assert [s.loss.item() for s in rest] == [s.loss.item() for s in whole[stop:]]
    assert bits(rest[-1]) == bits(whole[-1])
    assert torch.equal(rest[-1].generator.get_state(), whole[-1].generator.get_state())


def test_one_seed_gives_the_same_data_and_noise_whatever_the_timesteps() -> None:
    heard = []
    for timesteps in (from_weights(torch.eye(1000)[0]), gaussian_interval(1000, 0, 2)):
        model, own = Line(0.0), []
        model.forward = lambda x, t, own=own, model=model: (own.append(x.clone()), 0 * model.theta * x)[1]
        losses = [s.losses for s in run(model, timesteps=timesteps, steps=3)]  # of a silent model, |eps|^2 / D
        heard.append((torch.stack(losses), torch.stack(own[-3:])))
    assert torch.equal(heard[0][0], heard[1][0])
    assert (heard[0][1] - heard[1][1]).abs().max() < 0.1  # the same examples, too, at neighbouring noise levels


@pytest.mark.parametrize("stratified", [False, True])
def test_a_step_is_adam_on_the_mean_square_of_predicted_noise(stratified: bool) -> None:
    """The whole of three steps again, from the same generator, with `torch.optim.Adam` in its plain form."""
    steps = list(run(steps=3, warmup=0, learning_rate=1e-2, grad_clip=1e9, stratified=stratified))
    model, g = same_weights(small_network), seeded(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, foreach=False)
    for step in steps:
        x = POINTS[torch.randint(40, (16,), generator=g)]
        t = uniform().sample(16, g, stratified)
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
    averages = [p.detach().double() for p in same_weights(small_network).parameters()]
    for n, step in enumerate(run(ema_decay=0.4, learning_rate=0.05, warmup=0)):
        decay = min(0.4, (1 + n) / (10 + n))
        weights = [p.detach().double() for p in step.model.parameters()]
        averages = [decay * a + (1 - decay) * p for a, p in zip(averages, weights, strict=True)]
        for ours, theirs in zip(step.ema.parameters(), averages, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    moved = max((a - b).abs().max() for a, b in zip(step.ema.parameters(), step.model.parameters(), strict=True))
    assert moved > 1e-3  # the average lags: it is not the weights themselves


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),
    [(2, 3, [1 / 3, 2 / 3, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
     (3, 7, [1 / 4, 2 / 4, 3 / 4, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),  # they meet: the lower of the two
     (0, 99, [8 / 100, 7 / 100, 6 / 100, 5 / 100, 4 / 100, 3 / 100, 2 / 100, 1 / 100])],  # longer than the run
)  # fmt: skip
def test_the_learning_rate_rises_and_falls_linearly(warmup: int, cooldown: int, expected: list[float]) -> None:
    steps = run(warmup=warmup, cooldown=cooldown, learning_rate=1e-2, steps=8)
    rates = [step.optimizer.param_groups[0]["lr"] for step in steps]
    np.testing.assert_allclose(rates, 1e-2 * np.array(expected), rtol=1e-12)


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
    steps = run(Line(theta), SIGNS, timesteps, loss_weight=loss_weight, **config)
    gradients = [step.model.theta.grad.item() for step in steps]
    return float(np.mean(gradients)), float(np.std(gradients, ddof=1) / math.sqrt(30))


@pytest.mark.parametrize("p", [LOW, HIGH], ids=["low noise", "high noise"])
def test_drawing_from_p_is_uniform_drawing_with_the_weight_t_p(p) -> None:
    """Both gradients are that of sum_t p(t) L_t, known exactly; with 1/(T p) both would be the uniform one."""
    exact = 2 * (0.4 - (p.pmf * NOISE_SHARE).sum().item())
    flat = 2 * (0.4 - NOISE_SHARE.mean().item())
    for gradient, error in (measured_gradient(p), measured_gradient(uniform(), p.effective_weight())):
        assert error < 0.02 and gradient == pytest.approx(exact, abs=4 * error)
        assert abs(gradient - flat) > 8 * error


TIMES = [0, 100, 500, 999]


def test_loss_at_keeps_examples_apart() -> None:
    """With the best predictor for data N(0, 1), k x_t with k^2 = 1 - a, it is (1 - k^2)^2 + k^2 a x0^2 for one x0."""
    k = (1 - SCHEDULE.alpha_bar).sqrt()
    x0 = torch.tensor([[0.0], [2.0], [-5.0]])
    model = lambda x, t: (k[t][:, None] * x).to(x.dtype)  # noqa: E731
    losses = loss_at(model, x0, SCHEDULE, TIMES, generator=seeded(7), repeats=20_000)
    for row, t in zip(losses, TIMES, strict=True):
        expected = (1 - k[t] ** 2) ** 2 + k[t] ** 2 * SCHEDULE.alpha_bar[t] * x0[:, 0].double() ** 2
        np.testing.assert_allclose(row, expected, rtol=0.08, atol=1e-4)


def test_gradient_norm_of_a_line() -> None:
    """Of theta x_t, the gradient of the mean of (theta x_t - eps)^2 is 2 E x_t (theta x_t - eps)."""
    x0, theta = torch.tensor([[1.0], [-2.0]]), 0.3
    model = Line(theta).requires_grad_(False)  # as averaged weights are
    norms = gradient_norm_at(model, x0, SCHEDULE, TIMES, generator=seeded(7), repeats=5_000)
    assert norms.shape == (len(TIMES), 5_000) and model.theta.grad is None and not model.theta.requires_grad
    with pytest.raises(TypeError, match="Identity"):
        gradient_norm_at(nn.Identity(), x0, SCHEDULE, [5], generator=seeded())
    for row, t in zip(norms, TIMES, strict=True):
        eps = torch.randn(5_000, 2, 1, generator=seeded(t))
        x_t = SCHEDULE.alpha_bar[t].sqrt() * x0 + (1 - SCHEDULE.alpha_bar[t]).sqrt() * eps
        assert row.mean() == pytest.approx(float(((2 * x_t * (theta * x_t - eps)).mean((1, 2)).abs()).mean()), rel=0.05)


def test_bfloat16_runs_and_is_close_to_float32() -> None:
    x0 = normal(8, 1, 40, seed=1).cumsum(2) / 5
    network, options = partial(memlib.UNet, 1, 1, 8), {"steps": 30, "warmup": 0}
    runs = [list(run(same_weights(network), x0, precision=kind, **options)) for kind in ("float32", "bfloat16")]
    exact, rounded = (torch.stack([s.loss for s in steps]) for steps in runs)
    assert rounded.dtype == torch.float32
    assert {p.dtype for p in runs[1][-1].model.parameters()} == {torch.float32}
    assert not torch.equal(exact, rounded)  # it did compute in bfloat16
    assert exact[-5:].mean() < 0.9 * exact[0]
    np.testing.assert_allclose(rounded, exact, rtol=0.05)


def test_divergence_raises_also_at_the_last_step() -> None:
    """eps' = sqrt(theta) x at theta = 0 has a finite loss with an infinite gradient."""
    for steps in (20, 130):
        with pytest.raises(FloatingPointError, match=r"loss is (nan|inf).*learning_rate"):
            last(run(steps=steps, learning_rate=1e30, warmup=0))
    model = Line(0.0)
    model.forward = lambda x, t: model.theta.sqrt() * x
    with pytest.raises(FloatingPointError, match=r"gradient's norm (inf|nan)"):
        last(run(model, x0=SIGNS, steps=1, warmup=0))
