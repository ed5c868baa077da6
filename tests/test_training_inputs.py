"""Training with what a caller hands over: data, networks, other libraries' models, and what is refused or warned of."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from draws import normal, seeded
from test_training import POINTS, SCHEDULE, TIMES, Line, bits, last, run, same_weights
from torch import Tensor, nn

import memlib
from memlib import MLP, Spliced, loss_at, sample, uniform

LIKE_POINTS = {
    "read-only": np.broadcast_to(POINTS.numpy(), POINTS.shape),
    "big-endian, reversed": POINTS.numpy().astype(">f4")[::-1].copy()[::-1],
    "strided view": torch.stack([POINTS, -POINTS], 2)[..., 0],
    "double, with history": POINTS.double().requires_grad_() * 1,
    "with gradient": POINTS.clone().requires_grad_(),
    "list": POINTS.tolist(),
}
SCALES = [(73, 127, True), (1, -100, True), (1e-3, 0, True), (1, 0, False), (0.3, 0.5, False), (0, 0, False)]


@pytest.mark.parametrize("x0", LIKE_POINTS.values(), ids=LIKE_POINTS)
def test_data_of_any_form_are_the_same_data_and_get_no_gradient(x0) -> None:
    step, same = last(run(x0=x0, steps=3)), last(run(steps=3))
    assert bits(step) == bits(same)
    losses = [loss_at(step.ema, x, SCHEDULE, TIMES, generator=seeded()) for x in (x0, POINTS)]
    assert torch.equal(*losses) and not losses[0].requires_grad
    assert getattr(x0, "is_leaf", True) is False or getattr(x0, "grad", None) is None


class Normed(nn.Module):
    """Batch normalisation and a network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.BatchNorm1d(2), MLP(2, width=16, depth=2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(self.norm(x), t)


def test_training_does_not_see_what_is_done_with_its_data_and_networks_meanwhile() -> None:
    """Other data, other modes, or a look at how it does."""
    x0, own = POINTS.clone(), run(same_weights(Normed))
    for step in run(same_weights(Normed), x0=x0):
        assert step.model.training and not any(part.training for part in step.ema.modules())
        x0.fill_(9.0)
        loss_at(step.model, POINTS, SCHEDULE, [5], generator=seeded())
        sample(step.model, SCHEDULE, (2,), 3, seed=0, steps=2)
        step.model.eval()
        step.ema.train()
    assert bits(step) == bits(last(own))
    assert torch.equal(step.ema.norm.running_mean, step.model.norm.running_mean)
    assert step.ema.norm.num_batches_tracked == 12, "and looking at the model's shape is none of the batches"
    assert not any(p.requires_grad for p in step.ema.parameters())


def test_a_loss_is_that_of_the_evaluated_network_whose_modes_stay() -> None:
    model = same_weights(Normed)
    model.inner.eval()
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    losses = [loss_at(m, POINTS, SCHEDULE, TIMES, generator=seeded()) for m in (model, copy.deepcopy(model).eval())]
    assert torch.equal(*losses) and [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_diffusers_model_is_trained_sampled_and_measured() -> None:
    from tests.benchmarks.steps import peer  # here, as it takes a second; test_recipes has the one for pictures

    x0 = normal(4, 1, 64)
    network = peer(x0.shape, x0, (8, 32, 32)).network.model
    assert type(network).__name__ == "UNet1DModel"
    step = last(run(network, x0=x0, steps=2, batch_size=2))
    assert sample(step.ema, SCHEDULE, (1, 64), 2, seed=0, steps=2).shape == (2, 1, 64)
    spliced = Spliced(step.ema, step.model, 500)
    for model in (step.ema, spliced):
        assert loss_at(model, x0, SCHEDULE, [5], generator=seeded()).isfinite().all()
    assert spliced(x0, torch.tensor([0, 400, 600, 999])).shape == x0.shape


@pytest.mark.parametrize(
    ("form", "error", "says"),
    [(lambda x: (x,), TypeError, "Line.*tuple.*wrap"), (lambda x: None, TypeError, "Line.*NoneType.*wrap"),
     (lambda x: {"sample": x}, TypeError, "Line.*dict.*wrap"), (lambda x: x[:, :1], ValueError, "Line.*, 1\\)")],
)  # fmt: skip
def test_a_model_that_answers_in_another_form_is_named(form, error, says: str) -> None:
    model = Line(0.1)
    model.forward = lambda x, t: form(model.theta * x)
    for call in (
        lambda: run(model),  # at the call, before any step is asked for
        lambda: loss_at(model, POINTS, SCHEDULE, [5], generator=seeded()),
        lambda: sample(model, SCHEDULE, (2,), 3, seed=0),
        lambda: next(memlib.ddim(model, SCHEDULE, POINTS)),
    ):
        with pytest.raises(error, match=says):
            call()


@pytest.mark.parametrize(("scale", "offset", "warned"), SCALES)
def test_warns_once_if_data_are_far_from_unit_scale_with_a_cure_that_works(scale, offset, warned, recwarn) -> None:
    x0 = scale * POINTS + offset
    list(run(x0=x0, steps=2))
    assert len(recwarn) == warned
    for warning in recwarn:
        text = str(warning.message)
        assert warning.filename == run.__code__.co_filename and f"[{x0.min():g}, {x0.max():g}]" in text
        shift, by = map(float, re.search(r"\(x0 - (\S+)\) / (\S+)", text).groups())
        assert ((x0 - shift) / by).std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("network", [MLP(2, 8), memlib.UNet(1, 1, width=8, multipliers=(1, 2))])
def test_a_float64_model_is_trained_and_sampled_from_in_float64(network: nn.Module) -> None:
    shape = (2,) if isinstance(network, MLP) else (1, 6)
    step = last(run(network.double(), normal(5, *shape), steps=2, batch_size=4))
    assert step.loss.isfinite() and {p.dtype for p in step.ema.parameters()} == {torch.float64}
    assert sample(step.ema, SCHEDULE, shape, 3, seed=0, steps=2).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [*[({"x0": x0}, ValueError, "x0") for x0 in (POINTS / 0, POINTS[:0], POINTS[:, 0])],
     ({"x0": POINTS.byte()}, TypeError, "x0"), ({"timesteps": uniform(500)}, ValueError, r"T = 1000.*T = 500"),
     *[({"loss_weight": w}, ValueError, "loss_weight") for w in (999 * [1.0], 1000 * [-1.0], 1000 * [0.0], [math.nan])],
     *[({"model": model}, TypeError, "model is a") for model in (len, memlib.ExactDenoiser(POINTS, SCHEDULE))],
     ({"device": "no such"}, RuntimeError, "device = 'no such'"), ({"steps": 0}, ValueError, "steps"),
     ({"steps": 10.0}, TypeError, "steps"), ({"batch_size": 0}, ValueError, "batch_size"),
     ({"warmup": -1}, ValueError, "warmup"), ({"learning_rate": math.nan}, ValueError, "learning_rate"),
     ({"grad_clip": -1.0}, ValueError, "grad_clip"), ({"ema_decay": 1.0}, ValueError, "ema_decay"),
     *[(wrong, ValueError, str(*wrong)) for wrong in ({"precision": "float16"}, {"stratified": "no"})],
     ({"model": MLP(2, 8, 1).bfloat16()}, ValueError, "holds")],
)  # fmt: skip
def test_refuses_by_name_at_the_call_before_any_step(options: dict, error, named: str) -> None:
    with pytest.raises(error, match=named):
        run(**options)


@pytest.mark.parametrize(("timestep", "error"), [(1000, ValueError), (-1, ValueError), (1.7, TypeError)])
def test_loss_at_refuses_what_is_no_timestep(timestep, error) -> None:
    with pytest.raises(error, match="t "):
        loss_at(Line(0.1), POINTS, SCHEDULE, [timestep], generator=seeded())
    with pytest.raises(ValueError, match="repeats"):
        loss_at(Line(0.1), POINTS, SCHEDULE, [5], generator=seeded(), repeats=0)
