"""Timestep distributions against the normal law of `scipy`, against hand counts, and at their extremes."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from memlib import (
    Schedule,
    TimestepDistribution,
    from_log_snr,
    from_recipe,
    from_weights,
    gaussian_interval,
    interpolated,
    log_snr_interval,
    min_snr_weight,
    p2_weight,
    uniform,
)

TAILS = ("proportional", "uniform", "interval", "clip")


def straight(T: int = 400, slope: float = 0.05) -> Schedule:
    """A schedule whose log-SNR falls in a straight line, 10 - slope t, so that densities over it are plain."""
    return Schedule(torch.sigmoid(10 - slope * torch.arange(T, dtype=torch.float64)))


@pytest.mark.parametrize("tails", TAILS)
@pytest.mark.parametrize(("low", "high"), [(0, 999), (-300, 40), (990.5, 1500), (499.9, 500.1), (0, 500), (-5e3, 5e3)])
def test_sums_to_one(tails: str, low: float, high: float) -> None:
    pmf = gaussian_interval(1000, low, high, tails=tails).pmf
    assert pmf.dtype == torch.float64
    assert pmf.shape == (1000,)
    assert pmf.min() >= 0
    assert pmf.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("low", "high"), [(480, 540), (470.3, 520.9), (499.8, 500.6)])
def test_mass_between_any_steps_is_the_normal_law_at_their_edges(low, high, confidence) -> None:
    """So narrow, nothing is cut: below 0 lie under 1e-15 of the mass."""
    d = gaussian_interval(1000, low, high, confidence)
    normal = stats.norm((low + high) / 2, (high - low) / 2 / stats.norm.ppf((1 + confidence) / 2))
    assert normal.cdf(-0.5) + normal.sf(999.5) < 1e-15
    for a, b in [(math.ceil(low), math.floor(high)), (430, 480), (500, 500), (0, 999), (510, 530)]:
        assert d.pmf[a : b + 1].sum().item() == pytest.approx(normal.cdf(b + 0.5) - normal.cdf(a - 0.5), abs=1e-13)


def test_the_interval_holds_its_confidence() -> None:
    """Edges half a step outside whole steps leave no doubt about which bins belong."""
    d = gaussian_interval(1000, 299.5, 699.5, 0.9)
    assert d.pmf[300:700].sum().item() == pytest.approx(0.9, abs=1e-4)  # 1e-4: the share cut off beyond 0..999
    wide = gaussian_interval(1000, 449.5, 549.5, 0.95)
    assert wide.pmf[450:550].sum().item() == pytest.approx(0.95, abs=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 5.0), (3.0, 14.5), (2.0, 7.0), (-20.0, 30.0)])
@pytest.mark.parametrize("tails", TAILS)
def test_each_tail_option_by_hand_on_ten_steps(tails: str, low: float, high: float) -> None:
    std = (high - low) / (2 * 1.959963984540054)
    normal = stats.norm((low + high) / 2, std)
    mass = [normal.cdf(t + 0.5) - normal.cdf(t - 0.5) for t in range(10)]
    below, above = normal.cdf(-0.5), normal.sf(9.5)
    if tails == "proportional":
        expected = [m / sum(mass) for m in mass]
    elif tails == "uniform":
        expected = [m + (below + above) / 10 for m in mass]
    elif tails == "clip":
        expected = [mass[0] + below, *mass[1:9], mass[9] + above]
    else:
        inside = [t for t in range(10) if low <= t <= high]
        outside = 1 - sum(mass[t] for t in inside)
        expected = [mass[t] + outside / len(inside) if t in inside else 0 for t in range(10)]
    np.testing.assert_allclose(gaussian_interval(10, low, high, tails=tails).pmf, expected, atol=1e-13)


def test_tails_in_written_out_numbers() -> None:
    """Mean 0 and standard deviation 1 on T = 3: bins end at -0.5, 0.5, 1.5, 2.5, where Phi is .308538, .691462, .933193
    and .993790."""
    z = 1.959964
    by_tails = {
        "proportional": [0.382924 / 0.685252, 0.241731 / 0.685252, 0.060597 / 0.685252],
        "uniform": [0.382924 + 0.104916, 0.241731 + 0.104916, 0.060597 + 0.104916],
        "interval": [0.382924 + 0.187672, 0.241731 + 0.187672, 0.0],
        "clip": [0.691462, 0.241731, 0.060597 + 0.006210],
    }
    for tails, expected in by_tails.items():
        np.testing.assert_allclose(gaussian_interval(3, -z, z, tails=tails).pmf, expected, atol=3e-6)


def test_confidence_sets_the_width() -> None:
    """The same Gaussian, asked for by its one-, two- and three-sigma intervals."""
    bands = [gaussian_interval(1000, 500 - 50 * k, 500 + 50 * k, math.erf(k / math.sqrt(2))).pmf for k in (1, 2, 3)]
    np.testing.assert_allclose(bands[0], bands[1], atol=1e-13)
    np.testing.assert_allclose(bands[0], bands[2], atol=1e-13)


@pytest.mark.parametrize("width", [1e5, 1e6, 1e8, 1e12, 1e20])
def test_uniform_is_the_wide_limit(width: float) -> None:
    """The Gaussian departs from flat by at most (T/2 std)^2 / 2 in relative terms, and no rounding may add to it."""
    std = width / (2 * 1.959964)
    departure = 1000 * gaussian_interval(1000, 499.5 - width / 2, 499.5 + width / 2).pmf - 1
    assert departure.abs().max().item() <= (500 / std) ** 2 / 2 + 1e-9


def test_uniform_is_flat() -> None:
    assert uniform(8).pmf.tolist() == [0.125] * 8
    assert uniform().T == 1000


def test_interval_given_in_sigma_or_snr() -> None:
    schedule = Schedule.linear()
    by_sigma = gaussian_interval(1000, schedule.t_at_sigma(0.5), schedule.t_at_sigma(3.0))
    by_snr = gaussian_interval(1000, schedule.t_at_snr(4.0), schedule.t_at_snr(1 / 9))
    np.testing.assert_allclose(by_sigma.pmf, by_snr.pmf, atol=1e-12)
    inside = (schedule.sigma >= 0.5) & (schedule.sigma <= 3.0)
    assert by_sigma.pmf[inside].sum().item() == pytest.approx(0.95, abs=0.005)  # 0.005: half a step at either end


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    low=st.floats(-1e4, 999),
    width=st.floats(-9, 12).map(lambda e: 10**e),
    confidence=st.floats(1e-12, 1 - 1e-15),
    tails=st.sampled_from(TAILS),
)
@example(low=0.0, width=1e-300, confidence=0.95, tails="proportional")
@example(low=-1e20, width=2e20, confidence=0.95, tails="proportional")
@example(low=-1e20, width=1e20, confidence=0.95, tails="uniform")
@example(low=100.0, width=800.0, confidence=1e-17, tails="proportional")
@example(low=100.0, width=800.0, confidence=1 - 1e-16, tails="interval")
def test_narrow_wide_and_extreme_intervals_stay_probabilities(low, width, confidence, tails) -> None:
    high = low + width
    assume(low < high and high >= 0)
    assume(tails != "interval" or math.floor(min(high, 999)) >= max(low, 0))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        d = gaussian_interval(1000, low, high, confidence, tails)
        draws = d.sample(64, torch.Generator().manual_seed(0))
        ends = d.interval()
    assert torch.isfinite(d.pmf).all()
    assert d.pmf.sum().item() == pytest.approx(1, abs=1e-12)
    assert 0 <= ends[0] <= ends[1] <= 999
    assert (d.pmf[draws] > 0).all()


def test_an_all_but_certain_interval_keeps_its_width() -> None:
    """At 1 - 1e-16 the two-sided quantile is 8.29; rounded to infinity it would put all mass on one step."""
    pmf = gaussian_interval(1000, 100, 900, 1 - 1e-16).pmf
    assert pmf.max().item() == pytest.approx(1 / (math.sqrt(2 * math.pi) * 400 / 8.29), rel=0.01)


CASES = {
    "uniform": uniform(100),
    "gaussian": gaussian_interval(100, 20, 60),
    "clip": gaussian_interval(100, -40, 30, tails="clip"),
    "with holes": from_weights([0, 0, 1, 0, 3, 6, 0]),
}


@pytest.mark.parametrize("d", CASES.values(), ids=CASES)
def test_draws_follow_the_distribution(d: TimestepDistribution) -> None:
    n = 200_000
    draws = d.sample(n, torch.Generator().manual_seed(3))
    assert draws.dtype == torch.int64
    assert draws.shape == (n,)
    counts = np.bincount(draws.numpy(), minlength=d.T)
    expected = n * d.pmf.numpy()
    assert counts[expected == 0].sum() == 0
    common = expected >= 5
    rare_seen, rare_expected = counts[~common].sum(), expected[~common].sum()
    seen = [*counts[common], *([rare_seen] if rare_expected > 5 else [])]
    wanted = np.array([*expected[common], *([rare_expected] if rare_expected > 5 else [])])
    assert stats.chisquare(seen, wanted * sum(seen) / wanted.sum()).pvalue > 0.001


def test_draws_are_independent_of_each_other() -> None:
    draws = uniform(1000).sample(100_000, torch.Generator().manual_seed(4)).double()
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 5 / math.sqrt(100_000)


def test_draws_use_the_generator_alike_whatever_the_distribution() -> None:
    """So that runs with one seed differ in the timesteps only, not in data order or noise."""
    after = []
    for d in CASES.values():
        generator = torch.Generator().manual_seed(5)
        d.sample(10, generator)
        after.append(torch.rand(1, generator=generator).item())
    assert len(set(after)) == 1


def test_same_seed_same_draws_and_none_drawn() -> None:
    first, second = (uniform().sample(50, torch.Generator().manual_seed(6)) for _ in range(2))
    assert torch.equal(first, second)
    assert uniform().sample(0, torch.Generator()).shape == (0,)


def test_one_certain_step_is_always_drawn() -> None:
    for step in (0, 4, 9):
        weights = torch.zeros(10)
        weights[step] = 2
        assert from_weights(weights).sample(1000, torch.Generator().manual_seed(7)).unique().tolist() == [step]


@pytest.mark.parametrize(("u", "step"), [(0.0, 2), (1 - 2**-53, 5)])
def test_the_ends_of_the_unit_interval_draw_no_step_of_probability_zero(monkeypatch, u: float, step: int) -> None:
    for weights in ([0, 0, 1, 0, 3, 6, 0], [0, 0, 0.1, 0.1, 0.1, 0.7, 0]):
        monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), u, dtype=torch.float64))
        assert from_weights(weights).sample(1, torch.Generator()).tolist() == [step]


def test_effective_weight_is_the_loss_weight_under_uniform_drawing() -> None:
    """E_{t~p}[L_t] = E_{t~U}[T p(t) L_t], with numbers."""
    np.testing.assert_allclose(from_weights([1, 2, 3, 4]).effective_weight(), [0.4, 0.8, 1.2, 1.6], rtol=1e-14)
    losses = np.random.default_rng(0).exponential(size=100)
    for d in CASES.values():
        under_p = sum(p * loss for p, loss in zip(d.pmf.tolist(), losses[: d.T], strict=True))
        under_uniform = sum(w * loss for w, loss in zip(d.effective_weight().tolist(), losses[: d.T], strict=True))
        assert under_uniform / d.T == pytest.approx(under_p, rel=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(weights=st.lists(st.integers(0, 9), min_size=2, max_size=30), confidence=st.floats(0.05, 0.99))
def test_interval_covers_its_confidence_and_no_step_too_many(weights, confidence) -> None:
    assume(sum(weights) > 0)
    low, high = from_weights(weights).interval(confidence)
    total, tail = sum(weights), (1 - confidence) / 2
    assert sum(weights[low : high + 1]) / total >= confidence - 1e-12
    assert sum(weights[:low]) / total <= tail + 1e-12
    assert sum(weights[high + 1 :]) / total <= tail + 1e-12
    assert sum(weights[: low + 1]) / total >= tail - 1e-12  # one step narrower would cut too much
    assert sum(weights[high:]) / total >= tail - 1e-12


def test_interval_returns_what_made_it() -> None:
    assert gaussian_interval(1000, 300, 600).interval() == (300, 600)
    assert gaussian_interval(1000, 300, 600, 0.8).interval(0.8) == (300, 600)


def test_log_snr_density_on_a_straight_schedule_is_the_pmf_over_the_slope() -> None:
    d = gaussian_interval(400, 100, 300)
    log_snr, density = d.log_snr_density(straight())
    np.testing.assert_allclose(log_snr, 10 - 0.05 * np.arange(400), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(density, d.pmf / 0.05, rtol=1e-7)


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.cosine()], ids=["linear", "cosine"])
def test_log_snr_density_integrates_to_one(schedule: Schedule) -> None:
    log_snr, density = gaussian_interval(1000, 200, 800).log_snr_density(schedule)
    assert integrate.trapezoid(density.flip(0), log_snr.flip(0)) == pytest.approx(1, abs=2e-3)


def test_log_snr_density_transforms_as_a_density_must() -> None:
    """The mass between two log-SNRs is that between their timesteps; uniform in t is not flat in log-SNR."""
    schedule = Schedule.linear()
    log_snr, density = (v.flip(0).numpy() for v in uniform().log_snr_density(schedule))
    for a, b in [(100, 400), (600, 900)]:
        inside = (log_snr <= schedule.log_snr[a].item()) & (log_snr >= schedule.log_snr[b].item())
        assert integrate.trapezoid(density[inside], log_snr[inside]) == pytest.approx((b - a) / 1000, rel=1e-3)
    slope = (schedule.log_snr[249] - schedule.log_snr[251]).item() / 2
    assert density[999 - 250] == pytest.approx(0.001 / slope, rel=1e-9)


def test_from_log_snr_carries_a_density_there_and_back() -> None:
    def laplace(s: torch.Tensor) -> torch.Tensor:
        return (-s.abs() / 0.5).exp()

    on_straight = from_log_snr(straight(), laplace).pmf
    expected = np.exp(-np.abs(10 - 0.05 * np.arange(400)) / 0.5)
    np.testing.assert_allclose(on_straight, expected / expected.sum(), rtol=1e-6, atol=1e-12)

    log_snr, density = from_log_snr(Schedule.linear(), laplace).log_snr_density(Schedule.linear())
    centre = log_snr.abs() < 2
    np.testing.assert_allclose(density[centre], stats.laplace(scale=0.5).pdf(log_snr[centre]), rtol=5e-3)


def test_loss_weights() -> None:
    schedule = Schedule.linear()
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    snr = a / (1 - a)
    np.testing.assert_allclose(min_snr_weight(schedule), np.minimum(snr, 5) / snr, rtol=1e-9)
    np.testing.assert_allclose(min_snr_weight(schedule, 0.5), np.minimum(snr, 0.5) / snr, rtol=1e-9)
    np.testing.assert_allclose(p2_weight(schedule), 1 / (1 + snr), rtol=1e-9)
    np.testing.assert_allclose(p2_weight(schedule, k=2, gamma=0.5), (2 + snr) ** -0.5, rtol=1e-9)
    assert min_snr_weight(schedule.zero_terminal_snr())[-1] == 1


def test_loss_weights_refuse() -> None:
    with pytest.raises(ValueError, match="gamma = 0"):
        min_snr_weight(Schedule.linear(), 0)
    with pytest.raises(ValueError, match="k = 0"):
        p2_weight(Schedule.linear(), k=0)
    with pytest.raises(ValueError, match="gamma = -1"):
        p2_weight(Schedule.linear(), gamma=-1)


def test_from_weights_normalises() -> None:
    np.testing.assert_allclose(from_weights(np.array([1, 0, 3])).pmf, [0.25, 0, 0.75], rtol=1e-15)


@pytest.mark.parametrize(
    ("pmf", "error", "says"),
    [
        ([0.5, 0.6], ValueError, "1.1"),
        ([0.5, 0.4999], ValueError, "0.9999"),
        ([1.5, -0.5], ValueError, "-0.5"),
        ([math.nan, 1.0], ValueError, "NaN"),
        ([1.0], ValueError, "T >= 2"),
        ([], ValueError, "(0,)"),
        ([[0.5, 0.5]], ValueError, "(1, 2)"),
        ("ab", TypeError, "str"),
    ],
)
def test_refuses_what_is_no_distribution(pmf, error, says: str) -> None:
    with pytest.raises(error, match="pmf") as caught:
        TimestepDistribution(pmf)
    assert says in str(caught.value)


@pytest.mark.parametrize("weights", [[1, -1, 3], [0, 0, 0], [1, math.inf], [1, math.nan]])
def test_from_weights_refuses(weights) -> None:
    with pytest.raises(ValueError, match="weights"):
        from_weights(weights)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1000, 500, 500), ValueError, "low = 500"),
        ((1000, 600, 500), ValueError, "low = 600"),
        ((1000, math.nan, 500), ValueError, "low = nan"),
        ((1000, 0, math.inf), ValueError, "high = inf"),
        ((1000, -50, -1), ValueError, "[-50, -1]"),
        ((1000, 1000, 1200), ValueError, "[1000, 1200]"),
        ((1000, 100, 500, 0), ValueError, "confidence = 0"),
        ((1000, 100, 500, 1), ValueError, "confidence = 1"),
        ((1000, 100, 500, -0.5), ValueError, "confidence = -0.5"),
        ((1000, 100, 500, 95), ValueError, "confidence = 95"),
        ((1000, 100, 500, math.nan), ValueError, "confidence = nan"),
        ((1000, 100, 500, 0.95, "cut"), ValueError, "'cut'"),
        ((1000, 100.2, 100.8, 0.95, "interval"), ValueError, "[100.2, 100.8]"),
        ((1, 0, 1), ValueError, "T = 1"),
        ((0, 0, 1), ValueError, "T = 0"),
        ((10.0, 0, 1), TypeError, "T = 10.0"),
    ],
)
def test_gaussian_interval_refuses(arguments, error, says: str) -> None:
    with pytest.raises(error) as caught:
        gaussian_interval(*arguments)
    assert says in str(caught.value)


def test_other_refusals() -> None:
    d = uniform(100)
    with pytest.raises(ValueError, match="T = 1;"):
        uniform(1)
    with pytest.raises(ValueError, match="n = -1"):
        d.sample(-1, torch.Generator())
    with pytest.raises(ValueError, match="confidence = 2"):
        d.interval(2)
    with pytest.raises(ValueError, match=r"T = 50.*T = 100"):
        d.log_snr_density(Schedule.linear(50))
    with pytest.raises(ValueError, match="zero terminal SNR"):
        d.log_snr_density(Schedule.linear(100).zero_terminal_snr())
    with pytest.raises(ValueError, match="zero terminal SNR"):
        from_log_snr(Schedule.linear(100).zero_terminal_snr(), torch.ones_like)


def test_takes_numpy_integers() -> None:
    assert uniform(np.int64(10)).T == 10


MADE = {
    "uniform(1000)": uniform(),
    "gaussian_interval(1000, low=0, high=500)": gaussian_interval(1000, 0, 500),
    "gaussian_interval(1000, low=-500, high=20.5, tails='clip')": gaussian_interval(1000, -500, 20.5, tails="clip"),
    "gaussian_interval(1000, low=1, high=9, confidence=0.9)": gaussian_interval(1000, 1, 9, confidence=0.9),
    "log_snr_interval(schedule, low=-3.67, high=2.77)": log_snr_interval(Schedule.linear(), -3.67, 2.77),
    "interpolated(1000, at=[0.0, 900.0], weights=[1.0, 3.0])": interpolated(1000, [0, 900], [1, 3]),
}


@pytest.mark.parametrize("shown", MADE)
def test_a_recipe_survives_json_and_makes_the_same_vector(shown: str) -> None:
    made = MADE[shown]
    again = from_recipe(json.loads(json.dumps(made.recipe)), Schedule.linear())
    assert again == made
    assert hash(again) == hash(made)
    assert again.recipe == made.recipe
    assert repr(made) == shown


def test_a_vector_without_recipe_is_rebuilt_from_its_numbers() -> None:
    made = from_weights(range(1, 101))
    assert made.recipe is None
    assert from_recipe(made.pmf.tolist(), Schedule.linear(100)) == made
    assert "\n" not in repr(made)


def test_a_log_snr_interval_lies_between_the_timesteps_of_its_ends() -> None:
    schedule = Schedule.linear()
    low, high = schedule.t_at_snr(math.exp(2.77)), schedule.t_at_snr(math.exp(-3.67))
    assert log_snr_interval(schedule, -3.67, 2.77) == gaussian_interval(1000, low, high)


def test_interpolated_is_linear_between_its_timesteps_and_level_beyond() -> None:
    weights = np.array([1, 1, 2, 3, 3])
    np.testing.assert_allclose(interpolated(5, [1, 3], [1, 3]).pmf, weights / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"low": 0, "high": 5}, "uniform, gaussian_interval"),
        ({"name": "from_weights"}, "uniform, gaussian_interval"),
        ({"name": "gaussian_interval", "low": 0, "hihg": 5}, "hihg"),
        ({"name": "gaussian_interval", "low": 0}, "high"),
        ({"name": "interpolated", "at": [5, 1], "weights": [1, 2]}, "at = "),
    ],
)
def test_a_recipe_that_makes_no_distribution_is_refused(recipe, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_recipe(recipe, Schedule.linear())
