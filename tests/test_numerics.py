"""Rounding at the extremes: T = 2 and 10,000, SNR 1e-10 and 1e10, 1 to 100,000 points, 1 to 12,288 dimensions.

Each bound follows from the operations done: u32 and u64 are unit roundoffs, one operation errs by at most one of them,
n of them in a row by gamma(n) (Higham, Accuracy and Stability of Numerical Algorithms, sec. 3.1). The reference is a
longer arithmetic (NumPy's longdouble, Decimal) or float64 for what is done in float32. No bound was fitted."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from draws import normal
from torch import Tensor

from memlib import ExactDenoiser, Schedule

u32, u64 = 2.0**-24, 2.0**-53
LONGER = np.longdouble
SIZES = [(1, 1), (1, 12_288), (5, 12_288), (7, 1), (1000, 64), (100_000, 2)]  # points, dimensions


def gamma(n: float, u: float = u64) -> float:
    """The relative error of n operations in a row, each within u."""
    assert n * u < 1
    return n * u / (1 - n * u)


def extreme(T: int) -> Schedule:
    """From SNR 1e10 down to 1e-10, geometrically."""
    snr = torch.logspace(10, -10, T, dtype=torch.float64)
    return Schedule(snr / (1 + snr))


@pytest.mark.parametrize("T", [2, 50, 10_000])
@pytest.mark.parametrize("low", [1e-10, 1e-4])
def test_alpha_bar_is_the_product_of_its_betas(T: int, low: float) -> None:
    betas = torch.linspace(low, min(0.5, 20 / T), T, dtype=torch.float64)
    betas[-1] = 1 - 1e-6
    alpha_bar, product = Schedule.from_betas(betas).alpha_bar.tolist(), Decimal(1)
    with localcontext(prec=60):
        for t, beta in enumerate(betas.tolist()):
            product *= 1 - Decimal(beta)
            # t + 1 differences and t + 1 products, each within u64
            assert abs(Decimal(alpha_bar[t]) - product) <= Decimal(gamma(2 * (t + 1))) * product, t


@pytest.mark.parametrize("schedule", [extreme(2), extreme(10_000), Schedule.cosine(2), Schedule.linear(10_000)])
def test_snr_and_sigma_are_those_of_the_alpha_bar_that_is_kept(schedule: Schedule) -> None:
    with localcontext(prec=60):
        exact = [Decimal(a) / (1 - Decimal(a)) for a in schedule.alpha_bar.tolist()]
        for snr, log_snr, sigma, true in zip(schedule.snr, schedule.log_snr, schedule.sigma, exact, strict=True):
            # a difference and a quotient
            assert abs(Decimal(snr.item()) - true) <= Decimal(gamma(2)) * true
            # gamma(2) in the SNR is gamma(2) in its logarithm, absolute; the logarithm itself is within an ulp, 2 u64
            assert abs(Decimal(log_snr.item()) - true.ln()) <= Decimal(gamma(2)) + Decimal(2 * u64) * abs(true.ln())
            # half of gamma(2), for the root; 4 u64 for a reciprocal root of two operations, each within one ulp
            assert abs(Decimal(sigma.item()) - 1 / true.sqrt()) <= Decimal(gamma(5)) / true.sqrt()


@pytest.mark.parametrize("T", [2, 10_000])
@pytest.mark.parametrize("shape", [(2, 1), (2, 12_288)])
def test_noising_in_float32_errs_by_three_roundings(T: int, shape: tuple[int, int]) -> None:
    schedule, t = extreme(T), torch.tensor([0, T - 1])
    x0, eps = normal(*shape), normal(*shape, seed=1)
    exact = schedule.noise(x0.double(), t, eps.double())
    alpha_bar = schedule.alpha_bar[:, None][t]
    size = alpha_bar.sqrt() * x0.abs() + (1 - alpha_bar).sqrt() * eps.abs()
    # each term: its coefficient is rounded, then the product; then the sum of both
    assert ((schedule.noise(x0, t, eps) - exact).abs() <= (gamma(3, u32) + gamma(4)) * size).all()


def posterior_mean(train: Tensor, x: Tensor, alpha_bar: float) -> np.ndarray:
    """(B, D) in longdouble, by differences."""
    points, x, a = train.numpy().astype(LONGER), x.numpy().astype(LONGER), LONGER(alpha_bar)
    means = []
    for row in x:
        logits = -((row - np.sqrt(a) * points) ** 2).sum(1) / (2 * (1 - a))
        weights = np.exp(logits - logits.max())
        means.append((weights[:, None] * points).sum(0) / weights.sum())
    return np.stack(means)


@pytest.mark.skipif(np.finfo(LONGER).eps >= u64, reason="longdouble is float64 on this machine")
@pytest.mark.parametrize("t", [0, 1, 2])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_exact_denoiser_is_within_the_error_of_its_logits(n: int, D: int, t: int) -> None:
    schedule, points = extreme(3), normal(n, D, dtype=torch.float64)
    alpha_bar, times = schedule.alpha_bar[t].item(), torch.tensor([t, t])
    x = schedule.noise(points[[0, -1]], times, normal(2, D, dtype=torch.float64, seed=1))
    exact, found = posterior_mean(points, x, alpha_bar), ExactDenoiser(points, schedule).denoise(x, times)
    # a logit is a product of D terms, times a root, less a sum of D squares, over 1 - alpha_bar: D + 5 roundings of
    # what is added up. An SNR of 1e10 divides that by 1e-10: where it says nothing, the next test does.
    norms = points.norm(dim=1).max().item(), x.norm(dim=1).max().item()
    size = norms[0] * norms[1] * math.sqrt(alpha_bar) + norms[0] ** 2 * alpha_bar / 2
    logit = gamma(D + 5) * size / (1 - alpha_bar)
    # weights err by exp(2 logit) - 1, which moves the mean, but not out of the set; exp is within an ulp; two sums of n
    diameter = 2 * (points - points.mean(0)).norm(dim=1).max().item()
    weights = min(1.0, math.expm1(min(2 * logit, 1.0)))
    error = np.linalg.norm((found.numpy() - exact).astype(float), axis=1)
    assert (error <= weights * diameter + gamma(2 * n + 8) * norms[0]).all()


@pytest.mark.parametrize(("n", "D"), SIZES)
def test_at_high_snr_a_training_point_comes_back_bit_for_bit(n: int, D: int) -> None:
    """Of points on a line that lie 1/64 or more apart, at an SNR of 1e10 no error of a logit lets another one in."""
    gap = 1 / 64 if D <= 64 else 3.0
    points = gap * (torch.arange(n, dtype=torch.float64)[:, None] - n // 2) + normal(1, D, dtype=torch.float64)
    schedule, times, chosen = extreme(2), torch.zeros(2, dtype=torch.int64), points[[0, -1]]
    x = schedule.noise(chosen, times, normal(2, D, dtype=torch.float64, seed=1))
    left, norms = 1 - schedule.alpha_bar[0].item(), points.norm(dim=1).max().item() + 1
    apart = D * gap * (gap - 2 * 6 * math.sqrt(left)) / (2 * left)  # of logits, with noise of 6 deviations against it
    assert apart > 2 * gamma(D + 5) * 2 * norms**2 / left + 800, "and exp(-800) is 0"
    assert torch.equal(ExactDenoiser(points, schedule).denoise(x, times), chosen)


@pytest.mark.parametrize("t", [0, 1, 2])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_exact_denoiser_takes_float32_as_it_is(n: int, D: int, t: int) -> None:
    schedule, points, times = extreme(3), normal(n, D), torch.tensor([t, t])
    x = schedule.noise(points[[0, -1]], times, normal(2, D, seed=1))
    exact = ExactDenoiser(points.double(), schedule)(x.double(), times)
    assert exact.isfinite().all()
    # all of it is done in float64, whatever it is given: one rounding, of the result, below which is nothing but 0
    found = ExactDenoiser(points, schedule)(x, times)
    assert ((found - exact).abs() <= u32 * exact.abs() + torch.finfo(torch.float32).smallest_normal).all()
