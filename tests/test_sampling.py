"""What goes into a sampler and what comes out: noise by seed and place, batches, devices, modes, refusals."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from test_models import randomised
from test_samplers import SCHEDULE, GaussianDenoiser, every_sampler, generators_of, last, noise
from test_training_inputs import Normed

from memlib import MLP, ExactDenoiser, Frame, UNet, ddim, ddpm, dpm_solver, initial_noise, sample


@every_sampler
def test_same_noise_same_samples_without_a_gradient_whatever_the_form_of_the_noise(sampler) -> None:
    model, x = randomised(MLP(2, width=16, depth=1)), noise(4, 2).float()
    first = list(sampler(model, x, steps=3))
    assert not any(f.x.requires_grad or f.x0.requires_grad for f in first)
    for same in (x, x.double(), x.numpy(), x.clone().requires_grad_(), x.T.contiguous().T):
        frames = list(sampler(model, same, steps=3))
        assert torch.equal(frames[-1].x, first[-1].x) and not any(f.x.requires_grad for f in frames)


def test_generators_depend_on_seed_and_place_only() -> None:
    few, many = (initial_noise((3,), generators_of(n, seed=11)) for n in (3, 10))
    assert torch.equal(few, many[:3])
    assert not torch.isclose(many, initial_noise((3,), generators_of(10, seed=12))).any()
    assert len(many.unique()) == 30
    # torch keeps 32 bits of a CPU generator's seed: none may be drawn twice
    assert len({g.initial_seed() % 2**32 for g in generators_of(6000, 39)}) == 6000


@pytest.mark.parametrize("sampler", [ddim, ddpm, dpm_solver, partial(ddim, eta=0.5)])
@pytest.mark.parametrize("model", [randomised(UNet(1, 1, width=8)), GaussianDenoiser(SCHEDULE), lambda x, t: 0.1 * x])
def test_sample_is_the_sampler_on_its_own_noise_whatever_its_batch(model, sampler) -> None:
    generators, options = generators_of(7, seed=3), {"steps": 10, "clip": (-3, 3)}
    x = initial_noise((1, 20), generators)
    given = {} if sampler in (ddim, dpm_solver) else {"generators": generators}
    by_hand = last(sampler(model, SCHEDULE, x, **options, **given))
    for batch_size in (3, 100):
        samples = sample(model, SCHEDULE, (1, 20), 7, seed=3, sampler=sampler, batch_size=batch_size, **options)
        np.testing.assert_allclose(samples, by_hand, atol=2e-4)


def test_sample_computes_where_the_model_is_or_where_it_is_told_to() -> None:
    seen = []

    def look(model, schedule, x, *, steps, clip):  # computes nothing, so that any device can be asked about
        seen.append(x.device.type)
        yield Frame(-1, torch.zeros(x.shape), torch.zeros(x.shape))

    for own in (MLP(2, width=8), ExactDenoiser(noise(4, 2), SCHEDULE)):  # the latter has buffers only
        for model in (own, copy.deepcopy(own).to("meta")):
            sample(model, SCHEDULE, (2,), 5, seed=0, sampler=look)
            sample(model, SCHEDULE, (2,), 5, seed=0, sampler=look, device="cpu")
    assert seen == ["cpu", "cpu", "meta", "cpu"] * 2


@every_sampler
def test_samplers_evaluate_in_each_step_and_put_every_submodules_mode_back(sampler) -> None:
    model, x = Normed(), noise(8, 2).float()
    model.inner.eval()
    before, statistics = [part.training for part in model.modules()], copy.deepcopy(model.state_dict())
    expected = last(sampler(copy.deepcopy(model).eval(), x, steps=[999, 500, 3]))
    for frame in sampler(model, x, steps=[999, 500, 3]):
        samples = frame.x
        assert [part.training for part in model.modules()] == before, "also between two frames"
        model.norm.train()  # as a caller may
    assert torch.equal(samples, expected)
    assert all(torch.equal(a, b) for a, b in zip(statistics.values(), model.state_dict().values(), strict=True))


@every_sampler
def test_refuses_at_the_call_what_would_be_silently_wrong(sampler) -> None:
    wrong = [(ValueError, x) for x in (0, -3, 1001, [999], [500, 500, -1], [10, 500], [1000, 3], [10, -2])]
    wrong += [(TypeError, x) for x in (5.0, np.float64(5), [99.5, -1], np.array([99.0, -1.0]))]
    for error, steps in wrong:
        with pytest.raises(error, match=r"steps|as an integer"):
            sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), steps=steps)
    for clip in ((1, -1), (1, 1)):
        with pytest.raises(ValueError, match="clip"):
            sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), clip=clip)
    for good in (np.int64(5), np.array([99, 70, 50, 30, 10, -1]), torch.tensor([99, 70, 50, 30, 10, -1])):
        assert len(list(sampler(GaussianDenoiser(SCHEDULE), noise(2, 3), steps=good))) == 6


def test_refuses_eta_without_a_generator_for_each_sample_and_no_samples_seed_or_batch() -> None:
    for options in ({"eta": -0.1}, {"eta": 1.1}, {"eta": math.nan}, {"eta": 0.5},
                    {"eta": 0.5, "generators": generators_of(3, seed=0)}):  # fmt: skip
        with pytest.raises(ValueError, match="eta"):
            ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(2, 3), **options)
    with pytest.raises(ValueError, match="x_T"):
        ddim(GaussianDenoiser(SCHEDULE), SCHEDULE, noise(2, 3) / 0)
    for named, value in (("n", 0), ("seed", None), ("seed", -1), ("batch_size", 0)):
        with pytest.raises((ValueError, TypeError), match=f"^{named} "):
            sample(GaussianDenoiser(SCHEDULE), SCHEDULE, (2,), **{"n": 1, "seed": 0} | {named: value})
