"""A member of a fleet is trained as it would be alone, and a fleet goes on as if it had never stopped."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from draws import normal
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector

from memlib import MLP, Schedule, TrainConfig, gaussian_interval, train, uniform
from memlib.lab import Network, train_fleet
from memlib.lab.fleet import FleetStep, _Products, kept_noise
from memlib.schedules import mix
from memlib.training import Step, draw

T = 100
SCHEDULE = Schedule.linear(T)
CONFIG = TrainConfig(steps=200, batch_size=8, warmup=10, cooldown=20, precision="float32")
SHARED = "first.weight is shared.*`train`"
TOLERANCE = {"rtol": 4e-5, "atol": 4e-5}  # of numbers of about 1, after 80 steps


class Odd(MLP):
    """Does in its forward pass what `odd` says."""

    def __init__(self, odd: str, dim: int = 2) -> None:
        super().__init__(dim, 16)
        self.odd = odd
        self.register_buffer("count", torch.zeros(()))
        self.norm = nn.BatchNorm1d(dim) if odd == "norm" else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.odd == "item":
            x = x + x.mean().item()
        if self.odd == "branch" and x.mean() > 0:
            x = x + 1
        if self.odd == "counts":
            self.count += 1
        return nn.functional.dropout(self.norm(super().forward(x, t)), 0.5 * (self.odd == "dropout"), self.training)


SHAPES = {"points": (2,), "signals": (1, 12), "images": (3, 6, 6)}


def network(kind: str, seed: int) -> nn.Module:
    unet = Network(8, (1, 2), attention=True, unshuffle=2 if kind == "images" else 1)
    return (Network(16) if kind == "points" else unet).build(SHAPES[kind], seed)


def examples(kind: str, seed: int, n: int) -> Tensor:
    return normal(n, *SHAPES[kind], seed=100 + seed)


def members(kind: str, count: int = 3) -> dict:
    """The arguments of `train_fleet`: sets of different sizes, distributions of their own, one weighted."""
    seeds = range(count)
    return {
        "models": [network(kind, k) for k in seeds],
        "x0s": [examples(kind, k, 5 + k) for k in seeds],
        "timesteps": [uniform(T), gaussian_interval(T, 0, 50), gaussian_interval(T, 40, 60)][:count],
        "generators": [torch.Generator().manual_seed(k) for k in seeds],
        "loss_weights": [None, None, gaussian_interval(T, 0, 50).effective_weight()][:count],
    }


def fleet(own: dict, config: TrainConfig = CONFIG, **more) -> FleetStep:
    *_, last = train_fleet(schedule=SCHEDULE, config=config, **own, **more)
    return last


def alone(own: dict, k: int, config: TrainConfig = CONFIG, **more) -> Step:
    one = {"generator": own["generators"][k], "loss_weight": own["loss_weights"][k]}
    *_, last = train(own["models"][k], own["x0s"][k], SCHEDULE, own["timesteps"][k], config, **one, **more)
    return last


@pytest.mark.parametrize(("kind", "count"), [("points", 3), ("signals", 3), ("images", 3), ("signals", 1)])
def test_each_member_is_what_it_would_be_alone(kind: str, count: int) -> None:
    own, again, config = members(kind, count), members(kind, count), replace(CONFIG, steps=80)
    last = fleet(own, config)
    x, t = examples(kind, 9, 20), torch.arange(0, T, 5)
    for k in range(count):
        step = alone(again, k, config)
        assert torch.equal(last.t[k], step.t)
        assert torch.equal(own["generators"][k].get_state(), again["generators"][k].get_state())
        torch.testing.assert_close(last.losses[k], step.losses, **TOLERANCE)
        for ours, theirs in ((last.models[k], step.model), (last.emas[k], step.ema)):
            assert not torch.allclose(theirs(x, t), network(kind, k)(x, t), rtol=0.1), "it was hardly trained"
            torch.testing.assert_close(ours(x, t), theirs(x, t), **TOLERANCE)
            if kind == "points":  # a bias before a normalisation does nothing, its gradient is what rounding leaves
                torch.testing.assert_close(*(parameters_to_vector(network.parameters()) for network in (ours, theirs)))


def test_each_is_clipped_by_its_own_norm() -> None:
    config = TrainConfig(steps=1, batch_size=8, grad_clip=0.01, precision="float32")
    own, again = members("signals"), members("signals")
    last = fleet(own, config)
    for k in range(3):
        step = alone(again, k, config)
        gradient = torch.cat([p.grad.flatten() for p in step.model.parameters()])
        torch.testing.assert_close(last.weights.grad[k], gradient, rtol=1e-4, atol=1e-8)
        assert gradient.norm() == pytest.approx(0.01, rel=1e-4)


def test_images_on_a_cpu_are_rounded_as_they_are_alone() -> None:
    config = TrainConfig(steps=1, batch_size=8, precision="bfloat16")
    own, again = members("images"), members("images")
    for weights in (p for model in (*own["models"], *again["models"]) for p in model.last.parameters()):
        nn.init.ones_(weights)  # zeros at first, and nothing to round
    last = fleet(own, config)
    for k in range(3):
        torch.testing.assert_close(last.losses[k], alone(again, k, config).losses, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("layer", "shape", "products"),
    [(nn.Conv1d(6, 8, 3, stride=2, padding=1), (6, 11), 1),
     (nn.Conv1d(6, 8, 1, bias=False), (6, 11), 1),
     (nn.Conv1d(6, 6, 3, groups=2), (6, 11), 0),
     (nn.Conv2d(6, 8, (3, 5), stride=(1, 2), padding=(1, 2)), (6, 7, 10), 0)],
)  # fmt: skip
def test_products_are_the_convolutions(layer: nn.Module, shape: tuple[int, ...], products: int, monkeypatch) -> None:
    """As a GPU computes them in a fleet, and their gradients."""
    x = torch.randn(3, 4, *shape, generator=torch.Generator().manual_seed(0))
    rows = {name: torch.stack([p.detach() * k for k in (1, 2, 3)]) for name, p in layer.named_parameters()}

    def loss(rows: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, rows, (x,)).square().sum()

    plain = vmap(grad(loss))(rows, x)
    einsum, made = torch.einsum, []
    monkeypatch.setattr(torch, "einsum", lambda *arguments: (made.append(arguments), einsum(*arguments))[1])
    with _Products():
        ours = vmap(grad(loss))(rows, x)
    assert len(made) == products
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-3)


def test_above_its_timestep_training_sees_one_noisy_version_of_each_example() -> None:
    """And the best prediction of the noise that is new is that of all the noise, scaled: here for Gaussian data."""
    generator, a, above, t = torch.Generator().manual_seed(1), SCHEDULE.alpha_bar, 40, torch.tensor([60])
    x0, eps = torch.randn(2, 40_000, 2, generator=generator, dtype=torch.float64)
    kept, share = kept_noise([x0[:100], x0[100:]], SCHEDULE, above)
    assert torch.equal(kept[:50], kept[100:150]) and not share[: above + 1].any()
    x_t = mix(x0, a[t], mix(kept, share[t], eps))
    torch.testing.assert_close(x_t, mix(mix(x0, a[above, None], kept), a[t] / a[above], eps))
    left = eps - (1 - share[t]).sqrt() * (1 - a[t]).sqrt() * x_t  # E[all noise | x_t] = sqrt(1 - alpha_bar) x_t
    assert abs(float((x_t * left).mean())) < 3 / 80_000**0.5 < abs(float((x_t * eps).mean()))
    own = members("points", 1)
    model, (data,) = copy.deepcopy(own["models"][0]), own["x0s"]
    index, t, eps = draw(data, own["timesteps"][0], CONFIG, torch.Generator().manual_seed(0))
    kept, share = kept_noise([data], SCHEDULE, above)
    predicted = model(SCHEDULE.noise(data[index], t, mix(kept[index], share[t], eps)), t)
    step = next(train_fleet(schedule=SCHEDULE, config=CONFIG, ambient=above, **own))
    torch.testing.assert_close(step.losses[0], (mix(0 * eps, share[t], predicted) - eps).square().mean(1))


def test_who_diverges_is_named() -> None:
    own = members("points")
    own["loss_weights"][1] = torch.full((T,), 1e38)
    with pytest.raises(FloatingPointError, match="member 1: the loss is"):
        fleet(own)


@pytest.mark.parametrize(("odd", "count"), [("item", 3), ("branch", 3), ("counts", 3), ("norm", 3), ("norm", 1)])
def test_what_only_train_can_train_is_refused_by_name(odd: str, count: int) -> None:
    own = members("points", count) | {"models": [Odd(odd) for _ in range(count)]}
    with pytest.raises(ValueError, match=r"member 0: .*Odd.*`train`"):
        train_fleet(schedule=SCHEDULE, config=CONFIG, **own)


class Wrapped(MLP):  # a network of another library, whose prediction is the `.sample` of what it returns
    def forward(self, x: Tensor, t: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=super().forward(x, t))


@pytest.mark.parametrize("count", [1, 2])
def test_a_foreign_network_is_trained_as_its_own_prediction(count: int) -> None:
    own, plain = members("points", count), members("points", count)
    own["models"] = [Wrapped(2, 16) for _ in range(count)]
    for foreign, network in zip(own["models"], plain["models"], strict=True):
        foreign.load_state_dict(network.state_dict())
    assert torch.equal(fleet(own).losses, fleet(plain).losses)


def test_dropout_is_trained_with_other_masks_for_each_member() -> None:
    before, first = torch.random.get_rng_state(), Odd("dropout")
    own = members("points", 2) | {"models": [first, copy.deepcopy(first)], "loss_weights": None}
    for name in ("x0s", "timesteps", "generators"):
        own[name] = [members("points", 1)[name][0] for _ in range(2)]
    torch.random.set_rng_state(before)
    steps = train_fleet(schedule=SCHEDULE, config=CONFIG, **own)
    assert torch.equal(torch.random.get_rng_state(), before), "the check leaves torch's generator alone"
    for step in steps:
        assert not torch.equal(*step.losses), "both have the same masks"
        for model in step.models:
            model.eval()  # by a caller who samples from it
    assert all(model.training is False for model in step.models) and step.step == CONFIG.steps
    assert (step.loss < 1.5).all()


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [(lambda own: own["models"].__setitem__(1, MLP(2, 8)), ValueError, "member 1: its network"),
     (lambda own: own["x0s"].__setitem__(1, own["x0s"][1].long()), TypeError, "member 1: x0 is"),
     (lambda own: own["timesteps"].__setitem__(2, uniform(50)), ValueError, "member 2: the schedule has T"),
     (lambda own: own["models"][1].first.requires_grad_(False), ValueError, "member 1: first.* is frozen"),
     (lambda own: setattr(own["models"][1], "scale", 2.0), ValueError, "member 1: its network"),
     (lambda own: setattr(own["models"][1], "activation", torch.relu), ValueError, "member 1: its network"),
     (lambda own: own["models"].__setitem__(2, own["models"][0]), ValueError, "member 2: .* is shared.*`train`"),
     (lambda o: o["models"][2].add_module("first", o["models"][0].first), ValueError, f"member 2: {SHARED}"),
     (lambda o: o["generators"].__setitem__(2, o["generators"][0]), ValueError, "member 2: generator is shared")],
)  # fmt: skip
def test_refuses_by_name(spoil: Callable[[dict], None], error: type[Exception], says: str) -> None:
    own = members("points")
    spoil(own)
    with pytest.raises(error, match=says):
        train_fleet(schedule=SCHEDULE, config=CONFIG, **own)
