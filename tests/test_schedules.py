"""Schedules against closed forms, against `diffusers`, and what would be silently wrong."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from memlib import Schedule

MAKERS = {"linear": Schedule.linear, "cosine": Schedule.cosine, "sigmoid": Schedule.sigmoid}


@pytest.mark.parametrize("T", [21, 200, 1000, 10_000])
def test_linear_is_the_running_product_of_its_betas(T: int) -> None:
    expected, product = [], 1.0
    for t in range(T):
        product *= 1 - 1000 / T * (1e-4 + (0.02 - 1e-4) * t / (T - 1))
        expected.append(product)
    np.testing.assert_allclose(Schedule.linear(T).alpha_bar, expected, rtol=1e-10)


SHAPES = {  # f, of which the running product telescopes to f((t + 1) / T) / f(0)
    Schedule.cosine: lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2,
    Schedule.sigmoid: lambda u: 1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(3 - 6 * u)),
}


@pytest.mark.parametrize("T", [2, 50, 1000])
@pytest.mark.parametrize(("maker", "f"), SHAPES.items(), ids=["cosine", "sigmoid"])
def test_cosine_and_sigmoid_in_closed_form(maker, f, T: int) -> None:
    """At the last step f is 0, and beta is held at .999."""
    expected = [f((t + 1) / T) / f(0) for t in range(T - 1)]
    np.testing.assert_allclose(maker(T).alpha_bar, [*expected, expected[-1] * 0.001], rtol=1e-9)


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_equal_to_diffusers(ours: str, theirs: str) -> None:
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).alphas_cumprod.double()
    np.testing.assert_allclose(MAKERS[ours](1000).alpha_bar, reference, rtol=0, atol=1e-6)


def test_noise_levels_named_in_the_literature_fall_where_they_should() -> None:
    times = [round(Schedule.linear().t_at_sigma(s)) for s in (0.06, 0.14, 1.09, 5.3, 8.4)]
    assert times == pytest.approx([14, 39, 274, 575, 648], abs=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_the_formula_row_by_row(dtype: torch.dtype) -> None:
    schedule, g = Schedule.linear(), torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(5, 3, 4, generator=g, dtype=dtype) for _ in range(2))
    t = torch.tensor([0, 1, 500, 998, 999])
    got = schedule.noise(x0, t, eps)
    assert got.dtype == dtype
    for row, step in enumerate(t.tolist()):
        a = schedule.alpha_bar[step].item()
        expected = math.sqrt(a) * x0[row] + math.sqrt(1 - a) * eps[row]
        np.testing.assert_allclose(got[row], expected, rtol=1e-14 if dtype == torch.float64 else 1e-5, atol=1e-7)
    assert torch.equal(schedule.noise(x0.numpy(), t.numpy(), eps.numpy()), got)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_zero_terminal_snr(maker) -> None:
    schedule = maker(1000)
    zero = schedule.zero_terminal_snr()
    assert [x[-1].item() for x in (zero.alpha_bar, zero.snr, zero.log_snr, zero.sigma)] == [0, 0, -math.inf, math.inf]
    assert zero.alpha_bar[0].item() == pytest.approx(schedule.alpha_bar[0].item(), rel=1e-14)
    # an affine map of sqrt(alpha_bar): ratios of differences stay
    before, after = schedule.alpha_bar.sqrt().diff(), zero.alpha_bar.sqrt().diff()
    np.testing.assert_allclose(after / after[0], before / before[0], rtol=1e-9)
    np.testing.assert_allclose(zero.zero_terminal_snr().alpha_bar, zero.alpha_bar, rtol=1e-14)


@pytest.mark.parametrize(("last", "warned"), [(0.0026, True), (0.0024, False)])  # sqrt: 0.051, 0.049
def test_warns_if_the_last_step_carries_signal(last: float, warned: bool, recwarn) -> None:
    Schedule(torch.tensor([0.9, last]))
    for maker in MAKERS.values():
        assert maker(1000).zero_terminal_snr().T == 1000
    assert [f"{math.sqrt(last):.3f}" in str(w.message) for w in recwarn] == [True] * warned


def test_a_schedule_is_its_numbers() -> None:
    one, same, other = Schedule.linear(100), Schedule.linear(100), Schedule.cosine(100)
    assert one == same == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) and len({one, same, other}) == 2
    values = torch.linspace(0.9, 0.001, 9, dtype=torch.float64)
    for same in (values.numpy()[::-1].copy()[::-1], values.numpy().astype(">f8"), values.clone().requires_grad_()):
        assert Schedule(same) == Schedule(values) and not Schedule(same).alpha_bar.requires_grad
    assert one != other and one != Schedule.linear(101) and one != "linear"
    assert "\n" not in repr(one) and "T=100" in repr(one) and len(repr(one)) < 80


@pytest.mark.parametrize(
    "alpha_bar",
    [[0.9, 0.5, 0.6, 0.001], [0.9, 0.5, 0.5], [0.9, 0.1, 0.0, 0.0], [1.0, 0.5], [1.2, 0.5], [0.9, 0.5, -0.1],
     [0.9, math.nan, 0.001], [0.001], [], [[0.9, 0.001]]],
)  # fmt: skip
def test_refuses_what_is_no_schedule(alpha_bar) -> None:
    with pytest.raises(ValueError, match="alpha_bar"):
        Schedule(alpha_bar)


@pytest.mark.parametrize("betas", [[0.1, 0.0, 0.9], [0.1, 1.0, 0.9], [0.1, -0.2], [0.1, 1.1], [math.inf, 0.5]])
def test_from_betas_is_the_running_product_and_refuses_others(betas) -> None:
    expected = [0.5, 0.05, 0.0005, 0.0]
    np.testing.assert_allclose(Schedule.from_betas([0.5, 0.9, 0.99, 1.0]).alpha_bar, expected, rtol=1e-13, atol=1e-18)
    with pytest.raises(ValueError, match=r"betas|alpha_bar"):
        Schedule.from_betas(betas)


X, T = torch.zeros(2, 3), torch.tensor([0, 99])


@pytest.mark.parametrize(
    ("x0", "t", "eps", "error", "says"),
    [(X, T, X[:, :1], ValueError, "eps"), (X, T[:1], X, ValueError, "t has shape"), (X.byte(), T, X, TypeError, "uint"),
     (X, T - 1, X, ValueError, "t spans"), (X, T + 1, X, ValueError, "t spans"),
     *[(X, T.to(dtype), X, TypeError, "t has dtype") for dtype in (torch.float32, torch.uint8, torch.bool)]],
)  # fmt: skip
def test_noise_refuses_what_torch_would_broadcast_wrap_or_mask(x0, t, eps, error, says: str) -> None:
    with pytest.raises(error, match=says):
        Schedule.linear(100).noise(x0, t, eps)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e9, 1e-9])
def test_conversions_refuse_what_the_schedule_does_not_reach(value: float) -> None:
    for convert in (Schedule.linear().t_at_snr, Schedule.linear().t_at_sigma):
        with pytest.raises(ValueError, match=r"snr = .*sigma"):
            convert(value)
