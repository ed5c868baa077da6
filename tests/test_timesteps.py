"""Timestep distributions against the normal law of `scipy`, against hand counts, and at their extremes."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from draws import follow, seeded
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import memlib
from memlib import Schedule, TimestepDistribution, from_recipe, from_weights, gaussian_interval, uniform
from memlib.rivals import published

TAILS = ("proportional", "uniform", "interval", "clip")
INTERVALS = [(-2, 5, 0.95), (3, 14.5, 0.95), (2, 7, 0.5), (-20, 30, 0.95), (3.9, 5.2, 0.95), (1, 7, 0.999)]


@pytest.mark.parametrize(("low", "high", "confidence"), INTERVALS)
@pytest.mark.parametrize("tails", TAILS)
def test_steps_have_the_mass_of_the_normal_law_between_their_edges(tails: str, low, high, confidence) -> None:
    """By hand on ten steps, with each way to treat what lies beyond them."""
    normal = stats.norm((low + high) / 2, (high - low) / 2 / stats.norm.ppf((1 + confidence) / 2))
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
    np.testing.assert_allclose(gaussian_interval(10, low, high, confidence, tails).pmf, expected, atol=1e-13)


@pytest.mark.parametrize("width", [3.9e4, 4e4, 1e5, 1e6, 1e8, 1e12, 1e20])  # from 4e4 on by the midpoint rule
def test_wide_intervals_follow_the_density_up_to_the_uniform_limit(width: float) -> None:
    density = stats.norm(scale=width / (2 * 1.959964)).pdf(np.arange(1000) - 499.5)
    pmf = gaussian_interval(1000, 499.5 - width / 2, 499.5 + width / 2).pmf
    np.testing.assert_allclose(pmf, density / density.sum(), rtol=1e-9)


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
    assume(low < high and high >= 0 and (low < 0 or high > 1))  # those are refused as shares of T
    assume(tails != "interval" or math.floor(min(high, 999)) >= max(low, 0))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        d = gaussian_interval(1000, low, high, confidence, tails)
        draws = d.sample(64, torch.Generator().manual_seed(0))
        ends = d.interval()
    assert torch.isfinite(d.pmf).all() and d.pmf.sum().item() == pytest.approx(1, abs=1e-12)
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
def test_draws_follow_the_distribution_and_use_the_generator_alike_whatever_it_is(d: TimestepDistribution) -> None:
    draws = d.sample(200_000, generator := seeded(3))
    assert draws.dtype == torch.int64 and draws.shape == (200_000,)
    assert follow(draws, d.pmf)
    uniform(7).sample(200_000, other := seeded(3))
    assert torch.equal(generator.get_state(), other.get_state()), "runs with one seed differ in the timesteps only"


@pytest.mark.parametrize(("u", "step"), [(0.0, 2), (1 - 2**-53, 5)])
def test_the_ends_of_the_unit_interval_draw_no_step_of_probability_zero(monkeypatch, u: float, step: int) -> None:
    for weights in ([0, 0, 1, 0, 3, 6, 0], [0, 0, 0.1, 0.1, 0.1, 0.7, 0]):
        monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), u, dtype=torch.float64))
        assert from_weights(weights).sample(1, torch.Generator()).tolist() == [step]
        draws = from_weights(weights).sample(1000, torch.Generator(), stratified=True)
        assert draws.min() == 2 and draws.max() == 5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(weights=st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_interval_covers_95_percent_and_no_step_too_many(weights) -> None:
    assume(sum(weights) > 0)
    low, high = from_weights(weights).interval()
    total = sum(weights)
    assert sum(weights[:low]) / total <= 0.025 + 1e-12 and sum(weights[high + 1 :]) / total <= 0.025 + 1e-12
    assert sum(weights[: low + 1]) / total >= 0.025 - 1e-12 and sum(weights[high:]) / total >= 0.025 - 1e-12
    assert gaussian_interval(1000, 300, 600).interval() == (300, 600)


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

    straight = Schedule(torch.sigmoid(10 - 0.05 * torch.arange(400, dtype=torch.float64)))  # log-SNR 10 - t / 20
    on_straight = memlib.from_log_snr(straight, laplace).pmf
    expected = np.exp(-np.abs(10 - 0.05 * np.arange(400)) / 0.5)
    np.testing.assert_allclose(on_straight, expected / expected.sum(), rtol=1e-6, atol=1e-12)

    log_snr, density = memlib.from_log_snr(Schedule.linear(), laplace).log_snr_density(Schedule.linear())
    centre = log_snr.abs() < 2
    np.testing.assert_allclose(density[centre], stats.laplace(scale=0.5).pdf(log_snr[centre]), rtol=5e-3)


def test_loss_weights() -> None:
    schedule = Schedule.linear()
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    snr = a / (1 - a)
    np.testing.assert_allclose(memlib.min_snr_weight(schedule), np.minimum(snr, 5) / snr, rtol=1e-9)
    np.testing.assert_allclose(memlib.min_snr_weight(schedule, 0.5), np.minimum(snr, 0.5) / snr, rtol=1e-9)
    np.testing.assert_allclose(memlib.p2_weight(schedule), 1 / (1 + snr), rtol=1e-9)
    np.testing.assert_allclose(memlib.p2_weight(schedule, k=2, gamma=0.5), (2 + snr) ** -0.5, rtol=1e-9)
    assert memlib.min_snr_weight(schedule.zero_terminal_snr())[-1] == 1


SHARE_BELOW = {  # of the draws, by sigma
    "EDM": lambda sigma: stats.norm.cdf((np.log(sigma) + 1.2) / 1.2),
    "logit-normal": lambda sigma: stats.norm.cdf(np.log(sigma)),  # the logit of the flow time sigma / (1 + sigma)
    "Laplace": lambda sigma: stats.laplace.cdf(np.log(sigma) / 0.25),  # log-SNR is -2 ln sigma
    "U-shape": lambda sigma: 0.5 + np.sinh(4 * (sigma - 1) / (sigma + 1)) / (2 * np.sinh(4)),
    "B-TTDM": lambda sigma: (np.arange(1, 1001) / 1000) ** 0.8,
}


@pytest.mark.parametrize("rival", SHARE_BELOW)
def test_published_densities_are_the_laws_of_their_papers(rival: str) -> None:
    """Between the ends of the schedule, which cut them off."""
    schedule = Schedule.linear()
    both = published(schedule, rival).pmf.numpy().cumsum(), SHARE_BELOW[rival](schedule.sigma.numpy())
    ours, theirs = ((share - share[0]) / (share[-1] - share[0]) for share in both)
    np.testing.assert_allclose(ours, theirs, atol=0.01)


MADE = {
    "uniform(1000)": uniform(),
    "gaussian_interval(1000, low=0, high=500)": gaussian_interval(1000, 0, 500),
    "gaussian_interval(1000, low=-500, high=20.5, tails='clip')": gaussian_interval(1000, -500, 20.5, tails="clip"),
    "gaussian_interval(1000, low=1, high=9, confidence=0.9)": gaussian_interval(1000, 1, 9, confidence=0.9),
    "log_snr_interval(schedule, low=-3.67, high=2.77)": memlib.log_snr_interval(Schedule.linear(), -3.67, 2.77),
    "interpolated(1000, at=[0.0, 900.0], weights=[1.0, 3.0])": memlib.interpolated(1000, [0, 900], [1, 3]),
}


@pytest.mark.parametrize("shown", MADE)
def test_a_recipe_survives_json_and_makes_the_same_vector(shown: str) -> None:
    made = MADE[shown]
    again = from_recipe(json.loads(json.dumps(made.recipe)), Schedule.linear())
    assert again == made and hash(again) == hash(made)
    assert again.recipe == made.recipe
    assert repr(made) == shown


def test_a_vector_without_recipe_is_rebuilt_from_its_numbers() -> None:
    twice = memlib.with_floor(memlib.with_floor(uniform(100), 0.1), 0.2)  # a recipe names one floor only
    for made in (from_weights(range(1, 101)), twice):
        assert made.recipe is None and from_recipe(made.pmf.tolist(), Schedule.linear(100)) == made
        assert "\n" not in repr(made)


def test_a_log_snr_interval_lies_between_the_timesteps_of_its_ends() -> None:
    schedule = Schedule.linear()
    low, high = schedule.t_at_snr(math.exp(2.77)), schedule.t_at_snr(math.exp(-3.67))
    assert memlib.log_snr_interval(schedule, -3.67, 2.77) == gaussian_interval(1000, low, high)


def test_interpolated_is_linear_between_its_timesteps_and_level_beyond() -> None:
    weights = np.array([1, 1, 2, 3, 3])
    np.testing.assert_allclose(memlib.interpolated(5, [1, 3], [1, 3]).pmf, weights / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "named"),
    [*[(lambda p=p: TimestepDistribution(p), "pmf") for p in ([0.5, 0.6], [1.5, -0.5], [math.nan, 1], [1.0], [])],
     *[(lambda w=w: from_weights(w), "weights") for w in ([1, -1, 3], [0, 0, 0], [1, math.inf])],
     *[(lambda ends=ends: gaussian_interval(1000, *ends), f"low = {ends[0]}, high = {ends[1]}")
       for ends in ((500, 500), (600, 500), (math.nan, 500), (0, math.inf), (-50, -1), (1000, 1200))],
     *[(lambda c=c: gaussian_interval(1000, 1, 5, c), f"confidence = {c}") for c in (0, 1, 95, math.nan)],
     (lambda: gaussian_interval(1000, 1, 5, tails="cut"), "tails = 'cut'"),
     (lambda: memlib.banded(1000, [200, 100], [0.3, 0.3, 0.4]), "edges = .*100.*rising"),
     (lambda: memlib.with_floor(uniform(10), 2.0), "floor = 2"),
     (lambda: uniform(9).effective_weight(weight=torch.ones(5)), "weight 5; need T = 9"),
     (lambda: published(Schedule.linear(100), "P3"), "rival = 'P3'"),
     (lambda: gaussian_interval(1000, 100.2, 100.8, tails="interval"), "low = 100.2"),
     (lambda: memlib.log_snr_interval(Schedule.linear(), 1, -1), "low = 1, high = -1"), (lambda: uniform(0), "pmf"),
     (lambda: memlib.log_snr_interval(Schedule.linear(), 0, 1000), "snr = .*spans"),
     (lambda: uniform().log_snr_density(Schedule.linear().zero_terminal_snr()), "zero terminal SNR"),
     *[(lambda r=r: from_recipe(r, Schedule.linear()), named) for named, r in (
         ("uniform, gaussian_interval", {"low": 0, "high": 5}), ("uniform, gaussian", {"name": "from_weights"}),
         ("hihg", {"name": "gaussian_interval", "low": 0, "hihg": 5}), ("high", {"name": "uniform", "high": 0}),
         ("at = ", {"name": "interpolated", "at": [5, 1], "weights": [1, 2]}))]],
)  # fmt: skip
def test_what_makes_no_distribution_is_refused_by_name(make, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
