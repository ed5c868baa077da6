"""The method in other people's loops: their schedulers' noise, levels drawn by p in their units, their predictions."""

import io
import math
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from draws import follow, normal
from draws import seeded as g
from scipy import stats
from test_timesteps import CASES
from torch import Tensor, distributed

import memlib
from memlib import Denoiser, ExactDenoiser, Levels, Schedule, from_weights, gaussian_interval, train, uniform
from memlib.metrics import find_duplicates

X, EPS = (normal(6, 2, 3, 3, seed=seed) for seed in (1, 2))
SHORT = Schedule.linear(200)
ZERO = SHORT.zero_terminal_snr()
OF_SIGMA = Denoiser(torch.nn.Linear(2, 2), ZERO, takes="sigma")
MEASURES, OF_ZERO = (memlib.loss_at, memlib.training.gradient_norm_at), Denoiser(torch.nn.Linear(2, 2), ZERO, "v")


@pytest.mark.parametrize(
    ("name", "options"),
    [("DDPM", {}), ("DDPM", {"beta_schedule": "squaredcos_cap_v2"}), ("DDPM", {"rescale_betas_zero_snr": True}),
     ("DDIM", {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.2}),
     *((name, {"rescale_betas_zero_snr": True}) for name in ("EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"))],
)  # fmt: skip
def test_a_scheduler_of_the_ddpm_kind_noises_as_its_schedule_does(name: str, options: dict) -> None:
    scheduler = getattr(diffusers, f"{name}Scheduler")(**options)
    if name.startswith("DD"):  # others use what NumPy is giving up
        scheduler.set_timesteps(10)
    schedule = Schedule.from_diffusers(scheduler)
    t = torch.tensor([0, 1, 20, 50, schedule.T - 2, schedule.T - 1])
    fresh = diffusers.DDPMScheduler.from_config(scheduler.config)
    np.testing.assert_allclose(schedule.noise(X, t, EPS), fresh.add_noise(X, EPS, t), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("EDMEuler", {}), ("EDMEuler", {"sigma_schedule": "exponential"}), ("EDMDPMSolverMultistep", {}),
     ("FlowMatchEulerDiscrete", {}), ("FlowMatchEulerDiscrete", {"shift": 3.0})],
)  # fmt: skip
def test_a_scheduler_of_edm_or_flow_noises_as_its_schedule_does_up_to_scale(name: str, options: dict) -> None:
    scheduler = getattr(diffusers, f"{name}Scheduler")(**options)
    places = [len(scheduler.timesteps) - 1 - i for i in (0, 1, 300, 900, len(scheduler.timesteps) - 1)]
    schedule, t = Schedule.from_diffusers(scheduler), torch.tensor([0, 1, 300, 900, len(scheduler.timesteps) - 1])
    assert len(scheduler.timesteps) == schedule.T
    noise = scheduler.scale_noise if "Flow" in name else lambda x, t, eps: scheduler.add_noise(x, eps, t)
    theirs = noise(X[:5], scheduler.timesteps[places], EPS[:5])
    scale = (1 if "Flow" in name else 0) * (1 - schedule.alpha_bar[t]).sqrt() + schedule.alpha_bar[t].sqrt()
    ours = schedule.noise(X[:5], t, EPS[:5]) / scale.float()[:, None, None, None]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    if "EDMEuler" in name:
        scheduler.set_timesteps(7)
        assert Schedule.from_diffusers(scheduler) == schedule, "whatever number of sampling steps it is set to"


@pytest.mark.parametrize(
    "scheduler",
    [diffusers.SCMScheduler(), diffusers.IPNDMScheduler(), object(),
     diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")],
)  # fmt: skip
def test_a_scheduler_of_unknown_kind_is_named(scheduler) -> None:
    with pytest.raises(TypeError, match=f"scheduler is a {type(scheduler).__name__}; .* Schedule.from_sigmas"):
        Schedule.from_diffusers(scheduler)


def test_sigmas_may_rise_or_fall_and_are_noise_to_signal_ratios() -> None:
    sigmas = torch.logspace(-2, 2, 50, dtype=torch.float64)
    schedule = Schedule.from_sigmas(sigmas)
    np.testing.assert_allclose(schedule.sigma, sigmas, rtol=1e-9)
    assert Schedule.from_sigmas(sigmas.flip(0)) == schedule
    for wrong in (torch.tensor([80.0, 1.0, 0.0]), torch.tensor([1.0, 3.0, 2.0, 90.0])):
        with pytest.raises(ValueError, match=r"sigmas go down to 0|alpha_bar"):
            Schedule.from_sigmas(wrong)


@pytest.mark.parametrize("schedule", [SHORT, Schedule.cosine(200), Schedule.sigmoid(200), ZERO])
def test_log_snr_is_linear_between_timesteps_and_back_for_tensors_and_numbers(schedule: Schedule) -> None:
    t = torch.cat([torch.rand(50, generator=g()).double() * 199, torch.tensor([0.0, 198.0, 198.4, 199.0])])
    snr, sigma = schedule.snr_at(t), schedule.sigma_at(t)
    below = t <= 198  # at 199 there may be no signal
    np.testing.assert_allclose(snr.log()[below], np.interp(t[below], range(200), schedule.log_snr), atol=1e-9)
    np.testing.assert_array_equal(snr, [schedule.snr_at(each) for each in t.tolist()])
    np.testing.assert_allclose(sigma, [schedule.sigma_at(each) for each in t.tolist()], rtol=1e-15)
    np.testing.assert_allclose(schedule.snr_at(torch.arange(200)), schedule.snr, rtol=1e-12)
    for back in (schedule.t_at_snr(snr), schedule.t_at_sigma(sigma)):
        np.testing.assert_allclose(back, t, atol=1e-8)
    assert [schedule.t_at_sigma(x).shape for x in (sigma[:50].view(5, 10), sigma[3])] == [(5, 10), ()]
    np.testing.assert_array_equal(schedule.t_at_sigma(sigma.tolist()), schedule.t_at_sigma(sigma.numpy()))
    last = int(schedule.sigma.isfinite().sum()) - 1  # a sigma that float32, or a flow time in float32, has rounded
    near = schedule.sigma[last].float() * torch.tensor([1.004, 0.996])
    assert schedule.t_at_sigma(near).sub(last).abs().max() < 0.1
    with pytest.raises(ValueError, match="snr = "):
        schedule.t_at_sigma(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"0\.\.199"):
        schedule.snr_at(torch.tensor([3.0, 199.1]))


@pytest.mark.parametrize("p", CASES.values(), ids=CASES)
def test_a_stratified_draw_has_one_timestep_in_each_nth_of_the_probability(p: memlib.TimestepDistribution) -> None:
    n = 64
    draws = torch.stack([p.sample(n, g(seed), stratified=True) for seed in range(2000)])
    assert ((torch.stack([(draws <= k).sum(1) for k in range(p.T)], 1) - n * p.pmf.cumsum(0)).abs() < 1 + 1e-9).all()
    assert follow(draws[:, 0], p.pmf), "each place of the batch has the whole distribution"
    assert draws[0].unique_consecutive().numel() > 2, "shuffled"


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("schedule", [Schedule.linear(64), ZERO], ids=["linear", "zero terminal SNR"])
def test_continuous_levels_lie_about_the_timesteps_that_p_draws(schedule: Schedule, stratified: bool) -> None:
    p = from_weights(torch.linspace(2, 0, schedule.T))
    sigma = Levels(p, schedule, g(7), stratified).sigma((100, 200))
    assert sigma.shape == (100, 200) and sigma.dtype == torch.float32
    t = schedule.t_at_sigma(sigma).flatten()
    counts = np.bincount(t.round().long(), minlength=p.T)[:-1]  # the last has probability zero
    assert stats.chisquare(counts, 20_000 * p.pmf[:-1].numpy()).pvalue > 1e-3
    assert stats.kstest((t[(t > 0.5) & (t < 1.5)] % 1)[:400], "uniform").pvalue > 1e-3
    np.testing.assert_allclose(Levels(p, schedule, g(7), stratified).u((100, 200)), sigma / (1 + sigma), rtol=1e-5)


def test_levels_go_on_from_their_state_alone_or_as_a_part_of_a_model() -> None:
    levels = Levels(uniform(), Schedule.linear(), g(3))
    model = torch.nn.ModuleDict({"levels": levels, "net": torch.nn.Linear(2, 2)})
    levels.t(5), levels.sigma(3)
    torch.save(model.state_dict(), file := io.BytesIO())
    expected = levels.t(8), levels.u(4)
    file.seek(0)
    again = torch.nn.ModuleDict({"levels": Levels(uniform(), Schedule.linear()), "net": torch.nn.Linear(2, 2)})
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again["levels"].t(8), expected[0]) and torch.equal(again["levels"].u(4), expected[1])


def test_without_a_generator_levels_follow_torchs_seed() -> None:
    with torch.random.fork_rng():
        drawn = [(torch.manual_seed(seed), Levels(uniform(), Schedule.linear()).t(9))[1] for seed in (4, 4, 5)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_ranks_share_one_draw(monkeypatch) -> None:
    whole = Levels(uniform(), Schedule.linear(), g(), stratified=True).sigma(12)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        parts.append(Levels(uniform(), Schedule.linear(), g(), stratified=True).sigma(4))
    assert torch.equal(torch.cat(parts), whole)


def foreign(exact: ExactDenoiser, schedule: Schedule, predicts: str, takes: str):
    """The exact denoiser, written by hand in another convention: the oracle of `Denoiser`."""

    def net(x: Tensor, level: Tensor) -> object:
        if takes == "t":
            t = level
        else:
            t = schedule.t_at_sigma(level if takes == "sigma" else level / (1 - level)).round().long()
        at = schedule.alpha_bar[t].reshape(-1, 1).to(x)
        signal = {"t": 1 + 0 * at, "sigma": at.sqrt(), "u": at.sqrt() + (1 - at).sqrt()}[takes]
        x_t = x * signal
        eps, x0 = exact(x_t, t), exact.denoise(x_t, t)
        v = at.sqrt() * eps - (1 - at).sqrt() * x0
        out = {"eps": eps, "x0": x0, "v": v, "flow": eps - x0}[predicts]
        return SimpleNamespace(sample=out) if takes == "t" else out

    return net


@pytest.mark.parametrize("takes", ["t", "sigma", "u"])
@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow"])
def test_a_network_of_any_convention_gives_the_noise_and_the_samples(predicts: str, takes: str) -> None:
    schedule = Schedule.cosine(100)
    exact = ExactDenoiser(torch.randn(7, 4, generator=g(), dtype=torch.float64), schedule)
    ours = Denoiser(foreign(exact, schedule, predicts, takes), schedule, predicts, takes)
    t, x_T = torch.tensor([0, 1, 50, 98, 99]), memlib.initial_noise((4,), memlib.sample_generators(5, 0)).double()
    np.testing.assert_allclose(ours(x_T, t), exact(x_T, t), atol=1e-9)
    np.testing.assert_allclose(ours.denoise(x_T, t), exact.denoise(x_T, t), atol=1e-9)
    samples = [[*memlib.ddim(model, schedule, x_T, steps=20)][-1].x for model in (ours, exact)]
    np.testing.assert_allclose(*samples, atol=1e-7)
    one = ExactDenoiser(x_T[:1], schedule)  # the only item: it is known, and with it the noise
    ours.net, clean = foreign(one, schedule, predicts, takes), x_T[:1].expand(5, 4)
    off = lambda x0: ours.error(schedule.noise(x0, t, x_T), t, x0, x_T).abs()  # noqa: E731
    assert off(clean).max() < 1e-9 < 0.1 < off(clean + 1).mean()


@pytest.mark.parametrize(("predicts", "sign"), [("v", -1), ("x0", 1), ("flow", -1)])
def test_with_its_own_objective_a_network_learns_the_mean_where_the_snr_is_zero(predicts: str, sign: int) -> None:
    net, x0 = torch.nn.Linear(2, 2), torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    model = Denoiser(lambda x, t: net(0 * x) + (x if predicts == "flow" else 0), ZERO, predicts)
    model.part, before, last = net, net.bias.clone(), from_weights([0] * 199 + [1])
    [*train(model, x0, ZERO, last, memlib.TrainConfig(9), generator=g())]
    assert torch.equal(net.bias, before), "the error of the noise is zero there"
    config = memlib.TrainConfig(200, 256, learning_rate=0.1, cooldown=200)
    [*train(model, x0, ZERO, last, config, generator=g(), objective=predicts)]
    np.testing.assert_allclose(net.bias.detach(), sign * x0.mean(0), atol=0.05)
    for other, schedule, objective in ((model, ZERO, "score"), (net, ZERO, predicts), (model, SHORT, predicts)):
        with pytest.raises(ValueError, match=f"objective = '{objective}'"):
            train(other, x0, schedule, last, generator=g(), objective=objective)


@pytest.mark.parametrize("objective", ["eps", "x0", "v", "flow"])
def test_the_effective_weight_is_the_ratio_of_the_losses_at_one_x_t(objective: str) -> None:
    """A wrong eps implies an x0 through x_t; the losses of all that follows are compared with that of eps."""
    schedule, p, t = Schedule.cosine(200), gaussian_interval(200, 20, 90), torch.tensor([0, 3, 70, 150, 198, 199])
    a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
    x0, eps, wrong = X.double(), EPS.double(), EPS.double() + 0.1 * X.double()
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
    losses = []
    for guess in ((x_t - (1 - a).sqrt() * wrong) / a.sqrt(), wrong), (x0, eps):
        x, e = guess
        losses.append({"eps": e, "x0": x, "v": a.sqrt() * e - (1 - a).sqrt() * x, "flow": e - x}[objective])
    loss = (losses[0] - losses[1]).square().flatten(1).mean(1)
    weight = p.effective_weight(objective, None if objective == "eps" else schedule)
    np.testing.assert_allclose(weight[t], 200 * p.pmf[t] * loss / (eps - wrong).square().flatten(1).mean(1), rtol=1e-6)


def test_published_weightings_amount_to_what_their_papers_say() -> None:
    schedule, even = Schedule.linear(), uniform()
    snr, sigma = schedule.snr, schedule.sigma
    np.testing.assert_allclose(even.effective_weight("v", schedule, snr / (snr + 1)), np.ones(1000), rtol=1e-9)
    for objective, weight in (("x0", snr.clamp(max=5)), ("v", snr.clamp(max=5) / (snr + 1))):  # Min-SNR
        np.testing.assert_allclose(even.effective_weight(objective, schedule, weight), memlib.min_snr_weight(schedule))
    edm = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    np.testing.assert_allclose(even.effective_weight("x0", schedule, edm), (sigma**2 + 0.25) / 0.25, rtol=1e-9)
    np.testing.assert_array_equal(even.effective_weight(weight=edm), edm)
    np.testing.assert_array_equal(even.effective_weight("eps", schedule), np.ones(1000))
    never = from_weights([1.0] * 199 + [0.0])  # at the last step, where an error of v says nothing of eps
    assert never.effective_weight("v", ZERO)[-1] == 0 and uniform(200).effective_weight("v", ZERO)[-1] == math.inf


@pytest.mark.parametrize(
    ("call", "named"),
    [(lambda: uniform().effective_weight("v"), "need a schedule"),
     (lambda: Levels(uniform(), ZERO), "p has T = 1000, the schedule T = 200"),
     (lambda: Levels(ZERO, uniform(200)), "p = Schedule"), (lambda: Levels(uniform(200), ZERO, 0), "generator = 0"),
     (lambda: gaussian_interval(1000, 0.2, 0.5), "no shares"), (lambda: Schedule.linear(20), "T = 20"),
     (lambda: uniform().effective_weight("score", ZERO), "score"), (lambda: Denoiser(None, ZERO, "score"), "score"),
     (lambda: Denoiser(None, ZERO, takes="log sigma"), "log sigma"),
     (lambda: uniform().effective_weight("v", ZERO), "200 values"),
     *[(lambda value=value: memlib.min_snr_weight(ZERO, value), f"gamma = {value:g}") for value in (0.0, math.nan)],
     *[(lambda of=of: memlib.sample(of, SHORT, (2,), 3, seed=0), "the model is of")
       for of in (OF_ZERO, memlib.Spliced(OF_ZERO, OF_ZERO, 9), ExactDenoiser(torch.zeros(3, 2), ZERO))],
     (lambda: train(OF_SIGMA, torch.zeros(4, 2), ZERO, uniform(200), generator=g()), "infinite"),
     (lambda: find_duplicates(torch.zeros(4, 8, 8, 3), 0.1), r"items has shape \(4, 8, 8, 3\); need channels first"),
     (lambda: train(OF_ZERO, torch.zeros(4, 2), SHORT, uniform(200), generator=g()), "the model is of"),
     *[(lambda at=at: at(OF_ZERO, torch.zeros(4, 2), SHORT, [3], generator=g()), "the model is of") for at in MEASURES],
     (lambda: Schedule.from_betas(SHORT.alpha_bar), "alphas_cumprod"),
     (lambda: memlib.p2_weight(ZERO, k=0), "k = 0"), (lambda: memlib.p2_weight(ZERO, gamma=-1), "gamma = -1"),
     (lambda: train(torch.nn.Linear(2, 2), torch.zeros(1, 2), ZERO, uniform(200), generator=g()), "x0 holds one")],
)  # fmt: skip
def test_what_would_be_silently_wrong_is_refused(call, named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        call()


def test_schedules_and_distributions_are_read_without_pickles() -> None:
    kept = {"schedule": Schedule.cosine(50), "p": gaussian_interval(50, 3, 20), "own": from_weights([1, 2, 3])}
    torch.save(kept, file := io.BytesIO())
    file.seek(0)
    again = torch.load(file, weights_only=True)
    assert again == kept and again["p"].recipe == kept["p"].recipe
    assert not any("\n" in repr(each) for each in again.values())
