"""Training: bit by bit the same, resumed or not; the gradient it should follow; and that it learns."""

from __future__ import annotations

import math
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
    Step,
    TrainConfig,
    UNet,
    from_weights,
    gaussian_interval,
    loss_at,
    sample,
    train,
    uniform,
)
from memlib.devices import has_bfloat16

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


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_same_seed_same_bits() -> None:
    first, second = (list(run()) for _ in range(2))
    assert [s.loss.item() for s in first] == [s.loss.item() for s in second]
    assert bits(first[-1].model) == bits(second[-1].model)
    assert bits(first[-1].ema) == bits(second[-1].ema)


def test_another_seed_other_bits() -> None:
    first, second = (last(run(seed=seed)) for seed in (3, 4))
    assert bits(first.model) != bits(second.model)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_from_its_state_same_bits_as_uninterrupted(stop: int, precision: str) -> None:
    whole = list(run(precision=precision))
    halves = run(precision=precision)
    for _ in range(stop):
        step = next(halves)
    state = step.state()
    next(halves)  # going on may not reach into a state already taken
    fresh = same_weights(
        lambda: MLP(2, width=16, depth=2), seed=77
    )  # other weights, another seed: all must come from the state
    rest = list(run(fresh, seed=99, precision=precision, state=state))
    assert [s.step for s in rest] == list(range(stop + 1, 13))
    assert [s.loss.item() for s in rest] == [s.loss.item() for s in whole[stop:]]
    assert bits(rest[-1].model) == bits(whole[-1].model)
    assert bits(rest[-1].ema) == bits(whole[-1].ema)
    assert torch.equal(rest[-1].generator.get_state(), whole[-1].generator.get_state())


def test_resumed_at_its_end_does_nothing() -> None:
    assert list(run(state=last(run()).state())) == []


def test_the_global_generator_is_left_alone() -> None:
    model, before = small_network(), torch.random.get_rng_state()
    list(run(model))
    assert torch.equal(before, torch.random.get_rng_state())


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


# --- the arithmetic of one step ---------------------------------------------------------------------------------------


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


def test_the_average_is_for_sampling_only() -> None:
    step = next(run())
    assert not any(p.requires_grad for p in step.ema.parameters())
    assert not step.ema.training
    assert step.model.training


def test_warm_up_rises_linearly_to_the_learning_rate() -> None:
    rates = [s.optimizer.param_groups[0]["lr"] for s in run(warmup=4, learning_rate=1e-2, steps=7)]
    np.testing.assert_allclose(rates, [0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01], rtol=1e-12)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),
    [
        (0, 3, [1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        (2, 3, [1 / 3, 2 / 3, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        (3, 7, [1 / 4, 2 / 4, 3 / 4, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),  # they meet: the lower of the two
        (0, 7, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (0, 99, [8 / 100, 7 / 100, 6 / 100, 5 / 100, 4 / 100, 3 / 100, 2 / 100, 1 / 100]),  # longer than the run
    ],
)
def test_cool_down_falls_linearly_towards_zero(warmup: int, cooldown: int, expected: list[float]) -> None:
    steps = run(warmup=warmup, cooldown=cooldown, learning_rate=1e-2, steps=8)
    np.testing.assert_allclose(
        [s.optimizer.param_groups[0]["lr"] for s in steps], 1e-2 * np.array(expected), rtol=1e-12
    )


def test_cool_down_of_a_resumed_run_goes_on_where_it_was() -> None:
    options = {"warmup": 0, "cooldown": 6, "learning_rate": 1e-2}
    whole, halves = last(run(**options)), run(**options)
    for _ in range(9):  # of 12: into the cool-down
        step = next(halves)
    resumed = run(**options, state=step.state())
    np.testing.assert_allclose([s.optimizer.param_groups[0]["lr"] for s in resumed], [0.03 / 7, 0.02 / 7, 0.01 / 7])
    assert bits(last(run(**options, state=step.state())).ema) == bits(whole.ema)


@pytest.mark.parametrize(("clip", "bound"), [(0.01, True), (1e9, False)])
def test_gradient_is_clipped_as_a_whole(clip: float, bound: bool) -> None:
    for step in run(grad_clip=clip):
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in step.model.parameters()))
        assert (norm == pytest.approx(0.01, rel=1e-3)) == bound


def test_steps_are_counted_from_one() -> None:
    assert [s.step for s in run(steps=5)] == [1, 2, 3, 4, 5]


def test_nothing_is_trained_before_the_first_step_is_asked_for() -> None:
    model = small_network()
    before = bits(model)
    run(model)
    assert bits(model) == before


# --- which gradient ---------------------------------------------------------------------------------------------------


class Line(nn.Module):
    """eps' = theta x_t. On data +-1 the loss at t is theta^2 - 2 theta sqrt(1 - alpha_bar_t) + 1."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theta * x


class Narrow(Line):
    """Answers in another shape, which would broadcast without a word."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theta * x[:, :1]


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


def test_uniform_drawing_without_weight_has_the_uniform_gradient() -> None:
    gradient, error = measured_gradient(uniform())
    assert gradient == pytest.approx(2 * (0.4 - NOISE_SHARE.mean().item()), abs=4 * error)


@pytest.mark.parametrize("p", [uniform(), LOW, HIGH], ids=["uniform", "low noise", "high noise"])
def test_what_is_learnt_depends_on_p_since_no_importance_weight_undoes_it(p) -> None:
    """The minimiser is sum_t p(t) sqrt(1 - alpha_bar_t): 0.84 under uniform, 0.47 at low and 0.99 at high noise."""
    expected = (p.pmf * NOISE_SHARE).sum().item()
    options = {"steps": 300, "batch_size": 512, "learning_rate": 0.02, "warmup": 0, "ema_decay": 0.95}
    step = last(run(Line(0.7), SIGNS, p, **options))
    assert step.ema.theta.item() == pytest.approx(expected, abs=0.02)


def test_loss_weight_is_applied_row_by_row() -> None:
    weight = torch.linspace(0, 3, 1000)
    for step in run(loss_weight=weight):
        assert step.loss.item() == pytest.approx((weight[step.t] * step.losses).mean().item(), rel=1e-5)


def test_a_zero_weight_trains_nothing() -> None:
    model = small_network()
    before = bits(model)
    last(run(model, loss_weight=torch.zeros(1000)))
    assert bits(model) == before


# --- readings ---------------------------------------------------------------------------------------------------------


def test_by_band_is_the_mean_of_each_band() -> None:
    step = next(run(batch_size=200))
    for bands in (1, 7, 10):
        for band, value in enumerate(step.by_band(bands)):
            mine = [
                loss.item()
                for t, loss in zip(step.t.tolist(), step.losses, strict=True)
                if band / bands <= t / 1000 < (band + 1) / bands
            ]
            assert value.item() == pytest.approx(np.mean(mine), rel=1e-5)


def test_by_band_is_nan_where_nothing_fell() -> None:
    step = next(run(timesteps=from_weights([0] * 99 + [1, 1] + [0] * 899)))  # 99 and 100, either side of an edge
    assert step.by_band().isnan().tolist() == [False, False] + [True] * 8
    with pytest.raises(ValueError, match="bands = 0"):
        step.by_band(0)


class GaussianDenoiser(nn.Module):
    """The best prediction of the noise on data N(0, v)."""

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = v

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = SCHEDULE.alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        return ((1 - a).sqrt() / (a * self.v + 1 - a) * x).to(x.dtype)


TIMES = [0, 100, 500, 999]


def test_loss_at_of_a_known_denoiser() -> None:
    """Over the data, Var(eps | x_t) = a v / (a v + 1 - a): within five standard errors."""
    v, n = 0.5, 4000
    x0 = math.sqrt(v) * torch.randn(n, 3, generator=seeded(5))
    losses = loss_at(GaussianDenoiser(v), x0, SCHEDULE, TIMES, generator=seeded(6), repeats=2)
    assert losses.shape == (4, n)
    for row, t in zip(losses, TIMES, strict=True):
        a = SCHEDULE.alpha_bar[t].item()
        error = (row.std() / math.sqrt(n)).item()
        assert row.mean().item() == pytest.approx(a * v / (a * v + 1 - a), abs=5 * error)


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


def test_loss_at_leaves_the_network_as_it_was_and_repeats_itself() -> None:
    model = small_network()
    first, second = (loss_at(model, POINTS, SCHEDULE, TIMES, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_loss_at_never_asks_for_a_huge_batch() -> None:
    """5,000 series times their repeats at once would take gigabytes."""

    class Silent(nn.Module):
        largest = 0

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.largest = max(self.largest, len(x))
            return torch.zeros_like(x)

    model = Silent()
    losses = loss_at(model, torch.zeros(3000, 1), SCHEDULE, [5], generator=seeded(0), repeats=4)
    assert losses.shape == (1, 3000)
    assert losses.mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 12_000))
    assert model.largest <= 4096


@pytest.mark.parametrize(
    ("timesteps", "repeats", "says"), [([1000], 1, "1000"), ([-1], 1, "-1"), ([5], 0, "repeats = 0"), ([], 1, "timest")]
)
def test_loss_at_refuses(timesteps, repeats, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        loss_at(small_network(), POINTS, SCHEDULE, timesteps, generator=seeded(), repeats=repeats)


def test_loss_at_takes_numpys_integers_and_reads_no_fraction_as_a_timestep() -> None:
    options = {"repeats": np.int64(2), "batch_size": np.int64(7)}
    losses = loss_at(small_network(), POINTS, SCHEDULE, np.array([5, 9]), generator=seeded(), **options)
    again = loss_at(small_network(), POINTS, SCHEDULE, [5, 9], generator=seeded(), repeats=2, batch_size=7)
    assert torch.equal(losses, again)
    with pytest.raises(TypeError, match=r"timesteps = \[1\.7\]"):
        loss_at(small_network(), POINTS, SCHEDULE, [1.7], generator=seeded())


def test_loss_at_takes_a_function_as_samplers_do() -> None:
    model = small_network()
    of_function, of_module = (
        loss_at(m, POINTS, SCHEDULE, [5], generator=seeded(0)) for m in (lambda x, t: model(x, t), model)
    )
    assert torch.equal(of_function, of_module)


class Normalised(nn.Module):
    """A network of which a part is no parameter: running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = small_network(), nn.BatchNorm1d(2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(self.norm(x), t)


def test_the_averaged_network_has_the_models_running_statistics() -> None:
    step = last(run(Normalised()))
    assert torch.equal(step.ema.norm.running_mean, step.model.norm.running_mean)
    assert step.ema.norm.num_batches_tracked == 12, "and looking at the model's shape is none of the batches"


def test_loss_at_refuses_data_and_models_as_training_does() -> None:
    bad = POINTS.clone()
    bad[3, 1] = math.nan
    with pytest.raises(ValueError, match="x0 holds NaN"):
        loss_at(small_network(), bad, SCHEDULE, [5], generator=seeded())
    with pytest.raises(ValueError, match=r"\(160, 1\)"):
        loss_at(Narrow(0.1), POINTS, SCHEDULE, [5], generator=seeded())
    losses = loss_at(small_network(), POINTS.double(), SCHEDULE, [5], generator=seeded())
    np.testing.assert_allclose(losses, loss_at(small_network(), POINTS, SCHEDULE, [5], generator=seeded()), rtol=1e-5)


# --- bfloat16 ---------------------------------------------------------------------------------------------------------


def test_auto_is_bfloat16_where_the_device_computes_in_it() -> None:
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert not has_bfloat16(other) and TrainConfig().precision_on(other) == "float32"
    assert TrainConfig().precision_on(cpu) == ("bfloat16" if has_bfloat16(cpu) else "float32")
    for precision in ("float32", "bfloat16"):
        assert TrainConfig(precision=precision).precision_on(cpu) == precision
        with TrainConfig(precision=precision).autocast(cpu):
            assert torch.is_autocast_enabled("cpu") == (precision == "bfloat16")


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


# --- learning ---------------------------------------------------------------------------------------------------------


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X-Y| - E|X-X'| - E|Y-Y'|."""
    x, y = x.double(), y.double()
    return (2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()).item()


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


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x0", "error", "says"),
    [
        (torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), ValueError, "NaN"),
        (torch.tensor([[0.0, 1.0], [math.inf, 0.0]]), ValueError, "NaN or infinity"),
        (torch.zeros(1, 2), ValueError, "(1, 2)"),
        (torch.zeros(0, 2), ValueError, "(0, 2)"),
        (torch.zeros(7), ValueError, "(7,)"),
        (torch.zeros(7, 3), ValueError, "3"),
        (torch.zeros(7, 2, 1), ValueError, "2, 1)"),
        (torch.zeros(7, 2, dtype=torch.uint8), TypeError, "uint8"),
        (np.zeros((7, 2)), TypeError, "float64"),
        ([[0.0, 1.0]] * 5, TypeError, "list"),
    ],
)
def test_refuses_data(x0, error, says: str) -> None:
    with pytest.raises(error) as caught:
        run(x0=x0)  # at the call, before any step is asked for
    assert says in str(caught.value)


def test_takes_float64_data_for_a_float32_model() -> None:
    double = [s.loss.item() for s in run(x0=POINTS.double())]
    assert double == pytest.approx([s.loss.item() for s in run()], rel=1e-4)


@pytest.mark.parametrize("network", [MLP(2, 8), UNet(1, 1, width=8, multipliers=(1, 2))])
def test_a_float64_model_is_trained_and_sampled_from_in_float64(network: nn.Module) -> None:
    shape = (2,) if isinstance(network, MLP) else (1, 6)
    config = TrainConfig(steps=2, batch_size=4, precision="float32")
    x0, schedule = torch.randn(5, *shape), Schedule.linear(100)
    *_, step = train(network.double(), x0, schedule, uniform(100), config, generator=torch.Generator().manual_seed(0))
    assert step.loss.isfinite() and {p.dtype for p in step.ema.parameters()} == {torch.float64}
    assert sample(step.ema, schedule, shape, 3, seed=0, steps=2).dtype == torch.float64


def test_refuses_another_number_of_timesteps() -> None:
    with pytest.raises(ValueError, match=r"T = 1000.*T = 500"):
        run(timesteps=uniform(500))


@pytest.mark.parametrize("weight", [torch.ones(999), -torch.ones(1000), torch.full((1000,), math.nan)])
def test_refuses_loss_weights(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="loss_weight"):
        run(loss_weight=weight)


def test_refuses_a_model_that_answers_in_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1\)"):
        run(Narrow(0.1))


def test_refuses_a_model_with_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="parameters"):
        run(ExactDenoiser(POINTS, SCHEDULE))


def test_asking_for_a_gpu_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU: the refusal of one that is missing cannot be seen")
    with pytest.raises(RuntimeError, match=r"device = 'cuda'.*cpu"):
        run(device="cuda")


def test_a_device_without_a_name_is_not_the_models() -> None:
    with pytest.raises(RuntimeError, match="device = ''"):
        run(device="")


@pytest.mark.parametrize("steps", [20, 100, 130])
def test_divergence_raises(steps: int) -> None:
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf).*learning_rate"):
        last(run(steps=steps, learning_rate=1e30, warmup=0))


class Root(nn.Module):
    """eps' = sqrt(theta) x at theta = 0: a finite loss with an infinite gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theta.sqrt() * x


def test_a_gradient_that_is_not_finite_raises_also_at_the_last_step() -> None:
    with pytest.raises(FloatingPointError, match=r"gradient's norm (inf|nan)"):
        last(run(Root(), steps=1, warmup=0))


@pytest.mark.parametrize("state", [{}, {"model": {}}])
def test_refuses_a_state_that_is_none(state) -> None:
    with pytest.raises(ValueError, match="state"):
        next(run(state=state))


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"steps": 0}, ValueError),
        ({"steps": 10.0}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"warmup": -1}, ValueError),
        ({"cooldown": -1}, ValueError),
        ({"cooldown": 2.5}, TypeError),
        ({"learning_rate": 0}, ValueError),
        ({"learning_rate": math.nan}, ValueError),
        ({"grad_clip": -1.0}, ValueError),
        ({"ema_decay": 1.0}, ValueError),
        ({"ema_decay": -0.1}, ValueError),
        ({"precision": "float16"}, ValueError),
    ],
)
def test_config_refuses_by_name(option: dict, error) -> None:
    (name, value), *_ = option.items()
    with pytest.raises(error, match=f"{name} = {value!r}"):
        TrainConfig(**option)


def test_config_refuses_unknown_names() -> None:
    with pytest.raises(TypeError, match="learning_rat"):
        TrainConfig(learning_rat=1e-3)
