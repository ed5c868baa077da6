"""Rounding at the extremes: T = 2 and 10,000, SNR 1e-10 and 1e10, 1 to 100,000 points, 1 to 12,288 dimensions.

Each bound follows from the operations done: u32 and u64 are unit roundoffs, one operation errs by at most one of them,
n of them in a row by gamma(n) (Higham, Accuracy and Stability of Numerical Algorithms, sec. 3.1). The reference is a
longer arithmetic (NumPy's longdouble, Decimal) or float64 for what is done in float32. No bound was fitted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memlib import ExactDenoiser, Schedule, ddim, dpm_solver, from_weights, gaussian_interval, metrics, uniform
from memlib.samplers import CLEAN, timestep_list

LONG = os.environ.get("FAULTS") == "long"
u32, u64 = 2.0**-24, 2.0**-53
LONGER = np.longdouble
needs_long_double = pytest.mark.skipif(np.finfo(LONGER).eps >= u64, reason="longdouble is float64 on this machine")
long_only = pytest.mark.skipif(not LONG, reason="takes half a GB: in the long form only (make test-faults)")
SIZES = [(1, 1), (1, 12_288), (5, 12_288), (7, 1), (1000, 64), (100_000, 2)]  # points, dimensions


def gamma(n: float, u: float = u64) -> float:
    """The relative error of n operations in a row, each within u."""
    assert n * u < 1
    return n * u / (1 - n * u)


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def extreme(T: int) -> Schedule:
    """From SNR 1e10 down to 1e-10, geometrically."""
    snr = torch.logspace(10, -10, T, dtype=torch.float64)
    return Schedule(snr / (1 + snr))


# --- schedules and distributions --------------------------------------------------------------------------------------


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


def test_an_snr_of_1e10_keeps_six_digits() -> None:
    """No more: alpha_bar, 1 - 1e-10, is rounded by up to u64, which is 1e-6 of the 1e-10 that it leaves to noise."""
    schedule = Schedule.from_betas(torch.tensor([1e-10, 0.999], dtype=torch.float64))
    assert abs(schedule.snr[0].item() * 1e-10 - 1) <= 1e-10 + gamma(2) / 1e-10


@pytest.mark.parametrize("schedule", [extreme(2), extreme(10_000), Schedule.linear(10_000), Schedule.cosine(2)])
def test_a_timestep_of_an_snr_has_that_snr(schedule: Schedule) -> None:
    log_snr, T = schedule.log_snr, schedule.T
    # two interpolations of 4 operations each: their values are of the size of log-SNR, and t, of the size of T, is
    # taken at the slope of log-SNR; then exp and log
    slope, size = log_snr.diff().abs().max().item(), log_snr.abs().max().item()
    flattest = log_snr.diff().abs().min().item()
    for share in (0.0, 0.123, 0.5, 0.999, 1.0):
        wanted = log_snr[0].item() * (1 - share) + log_snr[-1].item() * share
        got = math.log(schedule.snr_at(schedule.t_at_snr(math.exp(wanted))))
        assert abs(got - wanted) <= gamma(12) * (size * (1 + slope / flattest) + T * slope)


@pytest.mark.parametrize("T", [2, 10_000])
def test_zero_terminal_snr_is_zero_and_keeps_the_first(T: int) -> None:
    before, after = extreme(T).alpha_bar, extreme(T).zero_terminal_snr().alpha_bar
    assert after[-1] == 0
    # a root, two differences, a product, a quotient, squared; the differences lose at most u64 of a root below 1
    assert abs(after[0] - before[0]).item() <= gamma(12) * before[0].item()


@pytest.mark.parametrize("T", [2, 10_000])
@pytest.mark.parametrize("shape", [(2, 1), (2, 12_288)])
def test_noising_in_float32_errs_by_three_roundings(T: int, shape: tuple[int, int]) -> None:
    schedule, t = extreme(T), torch.tensor([0, T - 1])
    x0, eps = drawn(0, *shape), drawn(1, *shape)
    exact = schedule.noise(x0.double(), t, eps.double())
    alpha_bar = schedule.alpha_bar[:, None][t]
    size = alpha_bar.sqrt() * x0.abs() + (1 - alpha_bar).sqrt() * eps.abs()
    # each term: its coefficient is rounded, then the product; then the sum of both
    assert ((schedule.noise(x0, t, eps) - exact).abs() <= (gamma(3, u32) + gamma(4)) * size).all()


@pytest.mark.parametrize("T", [2, 10_000])
@pytest.mark.parametrize("tails", ["proportional", "uniform", "interval", "clip"])
def test_a_distribution_sums_to_one(T: int, tails: str) -> None:
    weights = torch.rand(T, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e300
    for d in (uniform(T), gaussian_interval(T, -T, 2 * T, tails=tails), from_weights(weights)):
        # T quotients by one sum: that sum errs by gamma(T - 1), each quotient by one more
        assert abs(math.fsum(d.pmf.tolist()) - 1) <= gamma(T)


def test_the_mass_of_a_bin_is_as_good_on_both_sides_of_the_switch_to_the_midpoint_rule() -> None:
    T, z = 10_000, -2 * torch.special.ndtri(torch.tensor(0.025, dtype=torch.float64)).item()
    narrower, wider = (gaussian_interval(T, 0, 1e4 * z * (1 + sign * 1e-12)).pmf for sign in (-1, 1))
    # the midpoint rule omits p''/24: at most 2 deviations from the mean, |p''| <= 3 p / std^2. A difference of two
    # distribution functions, each within 4 u64 of at most 1, is taken of a mass of at least exp(-2) / (std sqrt(2 pi)).
    # The two deviations differ by 2e-12, which changes p by at most (1 + 2^2) times that. Then the sums.
    rule, cancelled = 3 / 24 / 1e8, 8 * u64 * 1e4 * math.sqrt(2 * math.pi) * math.exp(2)
    assert ((wider / narrower - 1).abs() <= 2 * (rule + cancelled + 5 * 2e-12) + 4 * gamma(T)).all()


# --- the exact denoiser -----------------------------------------------------------------------------------------------


def posterior_mean(train: Tensor, x: Tensor, alpha_bar: float) -> np.ndarray:
    """(B, D) in longdouble, by differences."""
    points, x, a = train.numpy().astype(LONGER), x.numpy().astype(LONGER), LONGER(alpha_bar)
    means = []
    for row in x:
        logits = -((row - np.sqrt(a) * points) ** 2).sum(1) / (2 * (1 - a))
        weights = np.exp(logits - logits.max())
        means.append((weights[:, None] * points).sum(0) / weights.sum())
    return np.stack(means)


@needs_long_double
@pytest.mark.parametrize("t", [0, 1, 2])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_exact_denoiser_is_within_the_error_of_its_logits(n: int, D: int, t: int) -> None:
    schedule, points = extreme(3), drawn(0, n, D, dtype=torch.float64)
    alpha_bar, times = schedule.alpha_bar[t].item(), torch.tensor([t, t])
    x = schedule.noise(points[[0, -1]], times, drawn(1, 2, D, dtype=torch.float64))
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
    points = gap * (torch.arange(n, dtype=torch.float64)[:, None] - n // 2) + drawn(0, 1, D, dtype=torch.float64)
    schedule, times, chosen = extreme(2), torch.zeros(2, dtype=torch.int64), points[[0, -1]]
    x = schedule.noise(chosen, times, drawn(1, 2, D, dtype=torch.float64))
    left, norms = 1 - schedule.alpha_bar[0].item(), points.norm(dim=1).max().item() + 1
    apart = D * gap * (gap - 2 * 6 * math.sqrt(left)) / (2 * left)  # of logits, with noise of 6 deviations against it
    assert apart > 2 * gamma(D + 5) * 2 * norms**2 / left + 800, "and exp(-800) is 0"
    assert torch.equal(ExactDenoiser(points, schedule).denoise(x, times), chosen)


@pytest.mark.parametrize("t", [0, 1, 2])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_exact_denoiser_takes_float32_as_it_is(n: int, D: int, t: int) -> None:
    schedule, points, times = extreme(3), drawn(0, n, D), torch.tensor([t, t])
    x = schedule.noise(points[[0, -1]], times, drawn(1, 2, D))
    exact = ExactDenoiser(points.double(), schedule)(x.double(), times)
    assert exact.isfinite().all()
    # all of it is done in float64, whatever it is given: one rounding, of the result, below which is nothing but 0
    found = ExactDenoiser(points, schedule)(x, times)
    assert ((found - exact).abs() <= u32 * exact.abs() + torch.finfo(torch.float32).smallest_normal).all()


@pytest.mark.parametrize("t", [0, 1, 2])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_weights_of_the_exact_denoiser_sum_to_one(n: int, D: int, t: int) -> None:
    points = drawn(0, n, D)
    weights = ExactDenoiser(points, extreme(3), chunk=4096).weights(drawn(1, 3, D), torch.full((3,), t))
    assert (weights >= 0).all()
    # n quotients by a sum of n
    assert ((weights.sum(1) - 1).abs() <= gamma(2 * n + 2)).all()


# --- samplers ---------------------------------------------------------------------------------------------------------


class Gaussian(nn.Module):
    """The exact denoiser of N(0, 1) data, eps = gain x: each x_t is N(0, 1), and so the gain is sqrt(1 - alpha_bar)."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.gain = (1 - schedule.alpha_bar).sqrt()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.gain.to(x)[t][:, None] * x


def bounds(sampler: Callable, schedule: Schedule, x_T: Tensor, steps: int) -> tuple[Tensor, float]:
    """The sample in float64, and how far one in float32 may be from it.

    A step is linear here, x' = p x + q x_before; so what it rounds, in terms of what is added up in it, is carried on
    by the product of the steps that follow, and the bound is the sum over all steps.
    """
    model, times = Gaussian(schedule), timestep_list(steps, schedule)
    frames = list(sampler(model, schedule, x_T.double(), steps=steps))
    p, q, rounds = [], [], []
    previous = None  # of the step before: h, size of x0, what x0 rounds, x0 / x
    for frame, s in zip(frames, times[1:], strict=False):
        x, x0 = float(frame.x.abs().max()), float(frame.x0.abs().max())
        a, b = schedule.alpha_bar[frame.t].item(), 1.0 if s == CLEAN else schedule.alpha_bar[s].item()
        gain = math.sqrt(1 - a)  # eps = gain x, and x0 = (x - gain eps) / sqrt(a) = sqrt(a) x
        # the model rounds its gain and its product; then a product, a difference, a quotient, and 2 coefficients
        x0_rounds = gamma(7, u32) * (x + gain * gain * x) / math.sqrt(a)
        if s == CLEAN:
            p.append(math.sqrt(a)), q.append(0.0), rounds.append(x0_rounds)
        elif sampler is ddim:
            noise = math.sqrt(1 - b)
            p.append(math.sqrt(a * b) + noise * gain), q.append(0.0)
            rounds.append(math.sqrt(b) * x0_rounds + gamma(5, u32) * (math.sqrt(b) * x0 + noise * gain * x))
        else:
            h = (math.log(b / (1 - b)) - math.log(a / (1 - a))) / 2
            keep, take = math.sqrt((1 - b) / (1 - a)), -math.sqrt(b) * math.expm1(-h)
            ratio = 0.0 if previous is None else h / (2 * previous[0])
            _, old_x0, old_rounds, old_slope = previous or (h, 0.0, 0.0, 0.0)
            p.append(keep + take * (1 + ratio) * math.sqrt(a)), q.append(-take * ratio * old_slope)
            added = keep * x + take * ((1 + ratio) * x0 + ratio * old_x0)
            rounds.append(take * ((1 + ratio) * x0_rounds + ratio * old_rounds) + gamma(9, u32) * added)
            previous = h, x0, x0_rounds, math.sqrt(a)
    bound, carried, later = 0.0, 1.0, 0.0  # d x_end / d x after this step, and after the next
    for k in reversed(range(len(p))):
        bound += abs(carried) * rounds[k]
        carried, later = p[k] * carried + (q[k + 1] * later if k + 1 < len(q) else 0.0), carried
    return frames[-1].x, bound * (1 + u64 / u32)  # what float64 rounds


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
@pytest.mark.parametrize(("T", "steps"), [(2, 2), (2, 1), (10_000, 2), (10_000, 50), (10_000, 10_000)])
@pytest.mark.parametrize("D", [1, 12_288])
def test_a_sampler_in_float32_stays_within_the_sum_of_its_roundings(sampler, T: int, steps: int, D: int) -> None:
    if steps == 10_000 and D > 1 and not LONG:
        pytest.skip("10,000 steps of 12,288 dimensions take ten seconds: in the long form only (make test-faults)")
    schedule, x_T = extreme(T), drawn(0, 2, D)
    exact, bound = bounds(sampler, schedule, x_T, steps)
    *_, last = sampler(Gaussian(schedule), schedule, x_T, steps=steps)
    assert (last.x - exact).abs().max().item() <= bound
    if steps >= 50:  # in two steps it may exceed the sample: x0 is a difference that loses 5 digits at an SNR of 1e-10
        assert bound <= 0.01 * exact.abs().max().item()


@pytest.mark.parametrize("T", [2, 10_000])
def test_ddim_on_gaussian_data_is_its_closed_form(T: int) -> None:
    """x0 = sqrt(a) x and eps = sqrt(1 - a) x, so that a step multiplies by sqrt(a b) + sqrt((1 - a)(1 - b))."""
    schedule, x_T, product = extreme(T), drawn(0, 2, 3, dtype=torch.float64), 1.0
    a = schedule.alpha_bar.tolist()
    for t in range(T - 1, -1, -1):
        b = 1.0 if t == 0 else a[t - 1]
        product *= math.sqrt(a[t] * b) + math.sqrt((1 - a[t]) * (1 - b))
    *_, last = ddim(Gaussian(schedule), schedule, x_T, steps=T)
    # x - sqrt(1 - a) eps is a x: what cancels there is divided by sqrt(a), 1e-5 at the least, and multiplied by sqrt(b)
    growth = max(math.sqrt(b / c) for b, c in zip([1.0, *a], a, strict=False))
    assert ((last.x - product * x_T).abs() <= gamma(20 * T) * growth * x_T.abs().max()).all()


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_perfect_memorizer_returns_what_it_takes_x_for_in_float32(sampler, n: int, D: int) -> None:
    schedule, denoiser = extreme(100), ExactDenoiser(drawn(0, n, D), extreme(100))
    *_, before, last = sampler(denoiser, schedule, drawn(1, 2, D), steps=10)
    mean = denoiser.denoise(before.x, torch.zeros(2, dtype=torch.int64))
    # the last step gives x0 = (x - sqrt(1 - a) eps) / sqrt(a), where sqrt(1 - a) eps = x - sqrt(a) mean: eps and mean
    # are rounded, then 2 coefficients, a product, a difference, a quotient
    assert ((last.x - mean).abs() <= gamma(7, u32) * (before.x.abs() + (before.x - mean).abs() + mean.abs())).all()


# --- metrics ----------------------------------------------------------------------------------------------------------


@needs_long_double
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_distances_are_measured_to_the_last_digits_even_of_near_copies(n: int, D: int, scale: float) -> None:
    train = scale * (1000 + drawn(0, n, D))  # a common offset, which the quick formula would square
    samples = train[[0, n // 2, -1]] * (1 + 2 * u32)  # two ulps away
    distances, indices = metrics.nearest_neighbours(samples, train, 1)
    a, b = (x.numpy().astype(LONGER) for x in (samples, train))
    for row, index, distance in zip(a, indices[:, 0], distances[:, 0].tolist(), strict=True):
        exact = np.sqrt(((row - b[index]) ** 2).sum())
        # differences of float32 numbers are rounded once in float64, then squared; a sum of D, a root
        assert abs(distance - exact) <= gamma(D + 3) * exact
        nearest = np.sqrt(min(((row - part) ** 2).sum(1).min() for part in np.array_split(b, max(1, n * D // 10**6))))
        assert exact <= nearest * (1 + gamma(2 * D + 6))


@pytest.mark.parametrize(("n", "D"), [(2, 1), (6, 12_288), (1000, 64), (100_000, 2)])
def test_neighbours_of_float32_sets_are_those_of_the_same_numbers_in_float64(n: int, D: int) -> None:
    train, samples = drawn(0, n, D), torch.cat([drawn(1, 20, D), drawn(0, n, D)[:2]])
    for k in (1, 2):
        for single, double in zip(
            metrics.nearest_neighbours(samples, train, k),
            metrics.nearest_neighbours(samples.double(), train.double(), k),
            strict=True,
        ):
            assert torch.equal(single, double), "measured in float64 either way, of the same numbers"
    assert torch.equal(
        metrics.neighbour_ratio(samples, train), metrics.neighbour_ratio(samples.double(), train.double())
    )


@long_only
def test_neighbours_of_100_000_points_in_256_dimensions() -> None:
    test_neighbours_of_float32_sets_are_those_of_the_same_numbers_in_float64(100_000, 256)


@pytest.mark.parametrize("n", [1, 7, 100_000])
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_wasserstein_distance_on_a_line_is_that_of_sorted_values(n: int, scale: float) -> None:
    a, b = (scale * drawn(seed, n, 1) for seed in (0, 1))
    exact = math.fsum((a.double().sort(0).values - b.double().sort(0).values).abs().flatten().tolist()) / n
    found = metrics.sliced_wasserstein(a, b, generator=torch.Generator().manual_seed(0), projections=3)
    # 2 n terms, each a difference of shares (exact to 3 u64) times one of values (to u64 of the largest); a mean of 3
    peak = max(a.abs().max().item(), b.abs().max().item())
    assert abs(found - exact) <= gamma(2 * n + 8) * exact + 2 * n * gamma(6) * 2 * peak


@pytest.mark.parametrize(("n", "D"), [(1, 1), (30, 12_288), (1000, 64), (1500, 2)])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_energy_distance_of_near_copies_errs_by_the_root_of_a_rounding(n: int, D: int, offset: float) -> None:
    x = offset + drawn(0, n, D, dtype=torch.float64)
    y = x * (1 + 1e-12) + (torch.arange(n) % 2)[:, None]  # every other one is a near copy

    def mean(a: Tensor, b: Tensor) -> float:  # by differences: to gamma(D + n^2) of itself
        return float(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").mean())

    means = mean(x, y), mean(x, x), mean(y, y)
    radius = max((each - y.mean(0)).norm(dim=1).max().item() for each in (x, y)) + gamma(n + 2) * offset * math.sqrt(D)
    # distances come from |a|^2 + |b|^2 - 2 a.b, which errs by gamma(D + 4) of at most (2 R)^2: near 0 by the root of
    # that. Twice one mean and two others; and what centring at an offset rounds, 2 of each coordinate
    quick = 4 * math.sqrt(gamma(D + 4)) * 2 * radius + 4 * 2 * u64 * (offset + radius) * math.sqrt(D)
    sums = gamma(D + n * n + 4) * (2 * means[0] + means[1] + means[2])
    assert abs(metrics.energy_distance(x, y) - (2 * means[0] - means[1] - means[2])) <= quick + 2 * sums


@pytest.mark.parametrize(("n", "D"), [(2, 1), (6, 12_288), (1000, 64), (100_000, 2)])
def test_principal_components_hold_the_variance_and_are_orthonormal(n: int, D: int) -> None:
    x = drawn(0, n, D)
    pca = metrics.PCA(x, min(n - 1, D))
    total = x.double().var(0).sum().item()
    # a Gram matrix of sums of max(n, D) terms; eigh is backward stable: each eigenvalue within a modest multiple, here
    # 8 min(n, D), of u64 times the largest (LAPACK Users' Guide, sec. 4.7), and there are min(n, D) of them
    small, large = min(n, D), max(n, D)
    rounds = gamma(large + n + 8) + small * 8 * small * u64
    assert abs((pca.std**2).sum().item() - total) <= rounds * total * small
    # of wide sets the components are x' v / sqrt(lambda): the error of lambda counts relative to the smallest one kept
    error = (large + n + 8 + 8 * small) * u64 * (pca.std[0] / pca.std[-1]).item() ** 2 * small
    assert (pca.components @ pca.components.T - torch.eye(len(pca.std))).abs().max().item() <= error


@pytest.mark.parametrize("shape", [(1, 2), (1, 12_288), (3, 64, 64), (3, 3, 3)])
def test_residual_noise_in_float32_errs_by_its_last_rounding(shape: tuple[int, ...]) -> None:
    samples, real = drawn(0, 3, *shape), drawn(1, 4, *shape)
    exact = metrics.residual_noise(samples.double(), real.double())
    # the band is taken in float64 and rounded once, then squared: 2 u32 above the line and below it
    assert abs(metrics.residual_noise(samples, real) / exact - 1) <= gamma(4, u32) + gamma(2 * math.prod(shape) * 4)


@pytest.mark.parametrize("n", [1, 2, 1000, 100_000])
@pytest.mark.parametrize("confidence", [1e-9, 0.5, 0.95, 1 - 1e-9])
def test_intervals_hold_their_share_and_mirror_it(n: int, confidence: float) -> None:
    for successes in {0, 1, n // 2, n - 1, n}:
        found, mirrored = (metrics.wilson(k, n, confidence) for k in (successes, n - successes))
        slack = gamma(12)  # of numbers up to 1: what a share may lie outside of an interval of no width
        assert -slack <= found.low <= found.value + slack and found.value - slack <= found.high <= 1 + slack
        # 12 operations, the largest of them on numbers up to 2
        assert abs(found.low - (1 - mirrored.high)) <= 2 * gamma(12)
