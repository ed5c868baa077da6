"""Schedules against closed forms, against `diffusers`, and against what they must refuse."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from memlib import Schedule

MAKERS = {"linear": Schedule.linear, "cosine": Schedule.cosine, "sigmoid": Schedule.sigmoid}


@pytest.mark.parametrize("T", [21, 200, 1000, 10_000])
def test_linear_is_the_running_product_of_its_betas(T: int) -> None:
    expected, product = [], 1.0
    for t in range(T):
        product *= 1 - 1000 / T * (1e-4 + (0.02 - 1e-4) * t / (T - 1))
        expected.append(product)
    np.testing.assert_allclose(Schedule.linear(T).alpha_bar, expected, rtol=1e-10)


@pytest.mark.parametrize("T", [2, 50, 1000])
def test_cosine_in_closed_form(T: int) -> None:
    """The product telescopes to f(t+1)/f(0), except at the last step, where f is 0 and beta is held at .999."""

    def f(u: float) -> float:
        return math.cos((u / T + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f(t + 1) / f(0) for t in range(T - 1)]
    expected.append(expected[-1] * 0.001)
    np.testing.assert_allclose(Schedule.cosine(T).alpha_bar, expected, rtol=1e-9)


@pytest.mark.parametrize("T", [10, 1000])
def test_sigmoid_in_closed_form(T: int) -> None:
    def g(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    expected = [(g(3) - g(-3 + 6 * (t + 1) / T)) / (g(3) - g(-3)) for t in range(T - 1)]
    expected.append(expected[-1] * 0.001)
    np.testing.assert_allclose(Schedule.sigmoid(T).alpha_bar, expected, rtol=1e-9)


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_equal_to_diffusers(ours: str, theirs: str) -> None:
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).alphas_cumprod.double()
    np.testing.assert_allclose(MAKERS[ours](1000).alpha_bar, reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_snr_log_snr_and_sigma(maker) -> None:
    schedule = maker(500)
    alpha_bar = schedule.alpha_bar.numpy()
    assert schedule.T == 500
    assert {schedule.alpha_bar.dtype, schedule.snr.dtype, schedule.log_snr.dtype, schedule.sigma.dtype} == {
        torch.float64
    }
    np.testing.assert_allclose(schedule.snr, alpha_bar / (1 - alpha_bar), rtol=1e-12)
    np.testing.assert_allclose(schedule.log_snr, np.log(alpha_bar) - np.log1p(-alpha_bar), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(schedule.sigma, np.sqrt((1 - alpha_bar) / alpha_bar), rtol=1e-12)


def test_noise_levels_named_in_the_literature_fall_where_they_should() -> None:
    schedule = Schedule.linear()
    sigmas = (0.06, 0.14, 1.09, 5.3, 8.4)
    assert [round(schedule.t_at_sigma(s)) for s in sigmas] == pytest.approx([14, 39, 274, 575, 648], abs=1)


def test_noise_is_the_formula_row_by_row() -> None:
    schedule = Schedule.linear()
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(5, 3, 4, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 1, 500, 998, 999])
    got = schedule.noise(x0, t, eps)
    for row, step in enumerate(t.tolist()):
        a = schedule.alpha_bar[step].item()
        np.testing.assert_allclose(got[row], math.sqrt(a) * x0[row] + math.sqrt(1 - a) * eps[row], rtol=1e-14)


def test_noise_keeps_the_precision_of_its_data() -> None:
    schedule = Schedule.linear(50)
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(2, 3, dtype=dtype)
        assert schedule.noise(x, torch.tensor([0, 49]), x).dtype == dtype


@pytest.mark.parametrize("t", [0, 300, 999])
def test_forward_moments(t: int) -> None:
    """x_t given x0 has mean sqrt(alpha_bar) x0 and variance 1 - alpha_bar, within five standard errors."""
    schedule, n = Schedule.linear(), 40_000
    a = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[: t + 1])
    eps = torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = schedule.noise(torch.full((n, 1), 1.7, dtype=torch.float64), torch.full((n,), t), eps)
    assert x.mean().item() == pytest.approx(math.sqrt(a) * 1.7, abs=5 * math.sqrt((1 - a) / n))
    assert x.var().item() == pytest.approx(1 - a, rel=5 * math.sqrt(2 / n))


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_zero_terminal_snr(maker) -> None:
    schedule = maker(1000)
    zero = schedule.zero_terminal_snr()
    assert zero.alpha_bar[-1] == 0
    assert zero.snr[-1] == 0
    assert zero.log_snr[-1] == -math.inf
    assert zero.sigma[-1] == math.inf
    assert zero.alpha_bar[0].item() == pytest.approx(schedule.alpha_bar[0].item(), rel=1e-14)
    # an affine map of sqrt(alpha_bar): ratios of differences stay
    before, after = schedule.alpha_bar.sqrt().diff(), zero.alpha_bar.sqrt().diff()
    np.testing.assert_allclose(after / after[0], before / before[0], rtol=1e-9)


def test_zero_terminal_snr_leaves_a_schedule_that_has_it() -> None:
    once = Schedule.linear(100).zero_terminal_snr()
    np.testing.assert_allclose(once.zero_terminal_snr().alpha_bar, once.alpha_bar, rtol=1e-14)


def test_zero_terminal_snr_equals_diffusers() -> None:
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", rescale_betas_zero_snr=True)
    ours = Schedule.linear().zero_terminal_snr().alpha_bar[:-1]  # diffusers itself moves the last off zero
    np.testing.assert_allclose(ours, reference.alphas_cumprod[:-1].double(), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(t=st.floats(0, 199), name=st.sampled_from(sorted(MAKERS)))
def test_conversions_round_trip(t: float, name: str) -> None:
    schedule = MAKERS[name](200)
    snr, sigma = schedule.snr_at(t), schedule.sigma_at(t)
    assert schedule.t_at_snr(snr) == pytest.approx(t, abs=1e-8)
    assert schedule.t_at_sigma(sigma) == pytest.approx(t, abs=1e-8)
    assert sigma == pytest.approx(1 / math.sqrt(snr), rel=1e-12)


def test_conversions_agree_with_the_table_at_whole_timesteps() -> None:
    schedule = Schedule.linear()
    for t in (0, 1, 500, 999):
        assert schedule.snr_at(t) == pytest.approx(schedule.snr[t].item(), rel=1e-12)
        assert schedule.sigma_at(t) == pytest.approx(schedule.sigma[t].item(), rel=1e-12)
    halfway = schedule.snr_at(500.5)  # linear in log-SNR between: the geometric mean
    assert halfway == pytest.approx(math.sqrt(schedule.snr[500] * schedule.snr[501]), rel=1e-12)


def test_conversions_at_zero_terminal_snr() -> None:
    schedule = Schedule.linear().zero_terminal_snr()
    assert schedule.snr_at(999) == 0
    assert schedule.sigma_at(999) == math.inf
    assert schedule.t_at_snr(schedule.snr[998].item()) == pytest.approx(998, abs=1e-8)
    assert schedule.sigma_at(998) == pytest.approx(schedule.sigma[998].item(), rel=1e-12)


@pytest.mark.parametrize(("last", "warned"), [(0.0026, True), (0.0024, False)])  # sqrt: 0.051, 0.049
def test_warns_where_the_last_step_carries_signal(last: float, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Schedule(torch.tensor([0.9, last]))
    assert [f"{math.sqrt(last):.3f}" in str(w.message) for w in caught] == [True] * warned


def test_the_usual_schedules_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for maker in MAKERS.values():
            assert maker(1000).zero_terminal_snr().T == 1000


def test_from_betas_is_the_running_product() -> None:
    betas = [0.5, 0.9, 0.99, 1.0]
    expected = [0.5, 0.05, 0.0005, 0.0]
    np.testing.assert_allclose(Schedule.from_betas(betas).alpha_bar, expected, rtol=1e-13, atol=1e-18)


def test_a_schedule_does_not_share_memory_with_what_it_was_made_of() -> None:
    given = torch.tensor([0.9, 0.001], dtype=torch.float64)
    schedule = Schedule(given)
    given[0] = 7
    assert schedule.alpha_bar[0] == 0.9


@pytest.mark.parametrize(
    ("alpha_bar", "error", "says"),
    [
        ([0.9, 0.5, 0.6, 0.001], ValueError, "t = 1"),
        ([0.9, 0.5, 0.5, 0.001], ValueError, "t = 1"),
        ([0.9, 0.1, 0.0, 0.0], ValueError, "t = 2"),
        ([1.0, 0.5, 0.001], ValueError, "1]"),
        ([1.2, 0.5, 0.001], ValueError, "1.2"),
        ([0.9, 0.5, -0.1], ValueError, "-0.1"),
        ([0.9, math.nan, 0.001], ValueError, "NaN"),
        ([0.001], ValueError, "T >= 2"),
        ([], ValueError, "(0,)"),
        ([[0.9, 0.001]], ValueError, "(1, 2)"),
        ("steep", TypeError, "str"),
        (None, TypeError, "NoneType"),
    ],
)
def test_refuses_what_is_no_schedule(alpha_bar, error, says: str) -> None:
    with pytest.raises(error, match="alpha_bar") as caught:
        Schedule(alpha_bar)
    assert says in str(caught.value)


@pytest.mark.parametrize("betas", [[0.1, 0.0, 0.9], [0.1, 1.0, 0.9], [0.1, -0.2], [0.1, 1.1], [math.inf, 0.5]])
def test_refuses_betas(betas) -> None:
    with pytest.raises(ValueError, match="betas"):
        Schedule.from_betas(betas)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("T", "error"), [(1, ValueError), (0, ValueError), (-5, ValueError), (10.5, TypeError)])
def test_refuses_too_few_timesteps(maker, T, error) -> None:
    with pytest.raises(error, match=f"T = {T}"):
        maker(T)


def test_takes_numpy_integers() -> None:
    assert Schedule.linear(np.int64(100)).T == 100


def test_linear_refuses_a_beta_that_reaches_one() -> None:
    with pytest.raises(ValueError, match=r"T = 20 .*T > 20"):
        Schedule.linear(20)


def test_noise_refuses_bad_arguments() -> None:
    schedule, x, t = Schedule.linear(100), torch.zeros(2, 3), torch.tensor([0, 99])
    with pytest.raises(ValueError, match="eps"):
        schedule.noise(x, t, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"t \(1,\)"):
        schedule.noise(x, t[:1], x)
    with pytest.raises(ValueError, match=r"100.*0\.\.99"):
        schedule.noise(x, t + 1, x)
    with pytest.raises(ValueError, match="-1"):
        schedule.noise(x, t - 1, x)
    for dtype in (torch.float32, torch.uint8, torch.bool, torch.int16):  # torch takes bytes and bools for a mask
        with pytest.raises(TypeError, match="t has dtype"):
            schedule.noise(x, t.to(dtype), x)


def test_noise_refuses_integer_pictures() -> None:
    """Cast to their dtype, every factor below 1 would be 0 and the result a black picture."""
    x = torch.full((2, 3), 200, dtype=torch.uint8)
    with pytest.raises(TypeError, match="uint8"):
        Schedule.linear(100).noise(x, torch.tensor([0, 1]), x)


@pytest.mark.parametrize("snr", [0.0, -1.0, math.nan, math.inf, 1e9, 1e-9])
def test_t_at_snr_refuses(snr: float) -> None:
    with pytest.raises(ValueError, match="snr = "):
        Schedule.linear().t_at_snr(snr)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 1e3, 1e-3, 1e-200, 1e200])
def test_t_at_sigma_refuses_in_its_own_words(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma = "):
        Schedule.linear().t_at_sigma(sigma)


@pytest.mark.parametrize("t", [-0.001, 999.001, math.nan])
def test_snr_at_refuses(t: float) -> None:
    with pytest.raises(ValueError, match="t = "):
        Schedule.linear().snr_at(t)
    with pytest.raises(ValueError, match="t = "):
        Schedule.linear().sigma_at(t)
