"""What test_properties.py calls: each public name of memlib, what its arguments are drawn from, what is left out."""

from __future__ import annotations

import copy
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from torch import Tensor

from memlib import (
    MLP,
    ExactDenoiser,
    Experiment,
    FleetStep,
    Network,
    Schedule,
    TimestepDistribution,
    TrainConfig,
    UNet,
    batch,
    claims,
    data,
    ddim,
    ddpm,
    devices,
    dpm_solver,
    exercises,
    experiment,
    explore,
    files,
    from_log_snr,
    from_weights,
    gaussian_interval,
    inference,
    initial_noise,
    loss_at,
    metrics,
    min_snr_weight,
    models,
    p2_weight,
    plans,
    plots,
    profiles,
    report,
    results,
    run,
    run_fleet,
    runs,
    sample,
    sample_generators,
    train,
    train_fleet,
    training,
    uniform,
)
from memlib.metrics.judge import judge

LONG = os.environ.get("FAULTS") == "long"
TIMES = 10 if LONG else 1
EXAMPLES = 20  # of a call that takes milliseconds, in the short form
T = 40
SCHEDULE = Schedule.linear(T)
NAN, INF = float("nan"), float("inf")
SHAPES = ((2,), (1, 8), (3, 4, 6))  # of an item: a point, a signal, an image
WRONG = (
    None,
    "text",
    b"text",
    1j,
    object(),
    [],
    {},
    [[1.0], [2.0, 3.0]],
    np.array(["a"]),
    True,
    3,
    2.5,
    [1, 2],
    {"a": 1},
)
WIDTH = set(map(plans.key, plans.read_plan("width")))
LINES = [line for line in results.read() if line["key"] in WIDTH]  # one line of each control


# --- what an argument is drawn from: good values, of which all work together, and bad ones ---------------------------


@dataclasses.dataclass(frozen=True)
class Arg:
    """`good` and `bad` get the shape of an item, which is common to all arguments of a call. `bad` values are of the
    right kind, and need not be refused; those of WRONG kinds are added. `named`: other words that name the argument."""

    good: Callable[[tuple[int, ...]], st.SearchStrategy]
    bad: Callable[[tuple[int, ...]], st.SearchStrategy] = lambda shape: st.nothing()
    named: tuple[str, ...] = ()


def const(*values: Any, bad: Sequence[Any] = (), named: tuple[str, ...] = ()) -> Arg:
    return Arg(lambda _: st.sampled_from(values), lambda _: st.sampled_from(bad) if len(bad) else st.nothing(), named)


def fixed(value: Any) -> Arg:
    """What a method belongs to: never bad."""
    return Arg(lambda _: value if isinstance(value, st.SearchStrategy) else st.just(value), None)


def count(low: int = 1, high: int = 4, **rest: Any) -> Arg:
    bad = (low - 1, -1, -(2**70), NAN, INF, 1.5, float(low), np.int32(low), "3", torch.tensor(low))
    return Arg(lambda _: st.integers(low, high), lambda _: st.sampled_from(bad), **rest)


def real(low: float, high: float, **rest: Any) -> Arg:
    bad = (
        NAN,
        INF,
        -INF,
        -1.0,
        0.0,
        -0.0,
        1e308,
        -1e308,
        5e-324,
        2**70,
        "0.5",
        np.float32(0.5),
        torch.tensor([0.1, 0.2]),
    )
    return Arg(lambda _: st.floats(low, high), lambda _: st.sampled_from(bad), **rest)


def share() -> Arg:
    return real(0.01, 0.99)


FLAG = const(True, False)
SEED = Arg(lambda _: st.integers(0, 2**40), lambda _: st.sampled_from((-1, 2**70, 1.5, NAN, "1")))


def word(*choices: str) -> Arg:
    return const(*choices, bad=("", "no such", choices[0].upper(), choices[0] + " "))


def drawn(seed: int, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


SEEDS = st.integers(0, 2**20)
BOTH = (torch.float32, torch.float64)


def items(
    low: int = 3,
    high: int = 7,
    dtypes: Sequence[torch.dtype] = BOTH,
    largest: float = INF,
    odd: bool = True,
    **rest: Any,
) -> Arg:
    """A set (B, *D); `low` = `high` where sets must be of one size; values up to `largest`; `odd`: lists, arrays
    and complex numbers are bad, too."""

    def good(shape: tuple[int, ...]) -> st.SearchStrategy:
        sizes, scales = st.integers(low, high), st.sampled_from((1.0, 1e-3, 30.0))
        kinds = st.sampled_from(dtypes)
        return st.builds(
            lambda seed, n, scale, dtype: drawn(seed, n, *shape, scale=scale, dtype=dtype), SEEDS, sizes, scales, kinds
        )

    def bad(shape: tuple[int, ...]) -> st.SearchStrategy:
        x = drawn(7, low, *shape)
        holed = x.clone()
        holed.view(-1)[-1] = NAN
        bad = (
            holed,
            x / 0,
            x[:0],
            x[0],
            x[:1],
            x[..., :0],
            x[..., 1:],
            x[None],
            x.long(),
            x.bool(),
            x.half(),
            x.bfloat16(),
            x.double() * 1e200,
            x.double() * 1e-200,
            x.double() * 1e308 / 8,
            x * 1e38 / 8,
            x * 1e-44,
            torch.zeros_like(x),
            torch.full_like(x, 1e-3),
            x[:1].repeat(low, *[1] * len(shape)),
            x.clone().requires_grad_(),
            x.transpose(0, -1).contiguous().transpose(0, -1),
            drawn(8, low + 9, *shape),
            x.numpy(),
            x.tolist(),
            x + 1e6,
        )
        fits = (
            x for x in bad if isinstance(x, Tensor) and not x.is_complex() and not (x.double().abs() > largest).any()
        )
        return st.sampled_from([*fits, *((x.numpy(), x.tolist(), x.to(torch.complex64)) if odd else ())])

    return Arg(good, bad, **rest)


def model_for(shape: tuple[int, ...]) -> torch.nn.Module:
    return ExactDenoiser(drawn(1, 5, *shape), SCHEDULE)


class Zero(torch.nn.Module):
    def __init__(self, to: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.to_, self.weight = to, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.to_(x) + 0 * self.weight


MODEL = Arg(
    lambda shape: st.just(model_for(shape)),
    lambda shape: st.sampled_from((Zero(lambda x: x[:, :1]), Zero(lambda x: x[0]), Zero)),
    ("the model",),
)
SCHEDULES = const(
    SCHEDULE,
    Schedule.cosine(T),
    Schedule.sigmoid(T),
    bad=(SCHEDULE.zero_terminal_snr(), Schedule.linear(50), SCHEDULE.alpha_bar, Schedule),
    named=("zero terminal SNR", "T = 50"),
)
TIMESTEPS = const(
    uniform(T),
    gaussian_interval(T, 5, 20),
    bad=(uniform(30), uniform(T).pmf, uniform),
    named=("T = 30", "distribution"),
)
GENERATOR = Arg(
    lambda _: st.builds(lambda s: torch.Generator().manual_seed(s), SEEDS),
    lambda _: st.sampled_from((0, np.random.default_rng(0))),
)
GENERATOR_ONLY = dataclasses.replace(GENERATOR, bad=None)
T_BATCH = (
    st.integers(0, T - 1),
    [
        torch.tensor([0, 1, T]),
        torch.tensor([-1, 0, 1]),
        torch.zeros(3),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(3, 1, dtype=torch.int64),
        3,
        [0, 1, 2],
    ],
)
TIMES_OF = Arg(
    lambda _: st.builds(lambda t: torch.tensor([0, t, T - 1]), T_BATCH[0]),
    lambda _: st.sampled_from(T_BATCH[1]),
    ("timesteps",),
)
STEPS = Arg(
    lambda _: st.one_of(st.integers(1, 6), st.sampled_from(([T - 1, 7, -1], np.array([30, 3]), range(T - 1, 0, -9)))),
    lambda _: st.sampled_from(
        (0, -1, T + 1, 2**70, 2.0, NAN, [5], [3, 5], [T, 2], [5, 5], [7, -2], [7, NAN], [7, "a"], torch.tensor([7, 3]))
    ),
)
CLIP = const(
    None, (-1.0, 1.0), (-0.5, 0.25), bad=((1.0, -1.0), (0.0, 0.0), (NAN, 1.0), (1.0,), ("a", "b"), 1.0, (-INF, INF))
)
NO_DEVICES = ("no such", "", "cuda:99", "xpu:99")
DEVICE = const(None, "cpu", torch.device("cpu"), bad=NO_DEVICES)
ON = const("cpu", torch.device("cpu"), bad=NO_DEVICES)


def vectors(good: Callable[[int], np.ndarray], n: int = T, **rest: Any) -> Arg:
    """A vector over the timesteps, as a list or a tensor, from a function of a seed."""
    with np.errstate(all="ignore"):
        broken = [
            good(0) * NAN,
            good(0)[None],
            good(0)[:0],
            good(0)[:1],
            -good(0),
            good(0) * INF,
            good(0) * 1e-320,
            good(0) * 0,
        ]
        broken += [good(0)[::-1].copy(), good(0) + 1, good(0).astype(str), good(0)[: n // 2], good(0) * 1e308 * 10]
    kinds = (np.ndarray.tolist, torch.from_numpy, np.asarray)
    return Arg(
        lambda _: st.builds(lambda s, kind: kind(good(s)), SEEDS, st.sampled_from(kinds)),
        lambda _: st.sampled_from(broken),
        **rest,
    )


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- the table ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    call: Callable[..., Any]
    arguments: dict[str, Arg]
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    raises: tuple[type[Exception], ...] = ()
    share: float = 1.0  # of EXAMPLES: less for what takes long
    kinds: bool = True  # whether arguments of the wrong kind are drawn too

    @property
    def examples(self) -> int:
        return max(1, round(EXAMPLES * self.share)) * TIMES


CASES: dict[str, Case] = {}


def case(
    name: str, call: Callable[..., Any], /, *, shapes=SHAPES, raises=(), share=1.0, kinds=True, **arguments: Arg
) -> None:
    CASES[name] = Case(call, arguments, shapes, raises, share, kinds)


def falling(seed: int) -> np.ndarray:
    return np.exp(-np.cumsum(random(seed).uniform(0.01, 0.5, T)))


case("schedules.Schedule", Schedule, alpha_bar=vectors(falling))
case(
    "schedules.Schedule.from_betas", Schedule.from_betas,
    betas=vectors(lambda s: random(s).uniform(1e-3, 0.9, T), named=("alpha_bar",)),
)  # fmt: skip
case("schedules.Schedule.linear", Schedule.linear, T=count(21, 200))
case("schedules.Schedule.cosine", Schedule.cosine, T=count(2, 200), s=real(0.001, 0.1))
case(
    "schedules.Schedule.sigmoid", Schedule.sigmoid, T=count(2, 200), start=real(-4, -1), end=real(1, 4),
    tau=real(0.3, 2),
)  # fmt: skip
OWN = fixed(st.sampled_from((SCHEDULE, Schedule.cosine(T), SCHEDULE.zero_terminal_snr())))
case("schedules.Schedule.zero_terminal_snr", Schedule.zero_terminal_snr, self=OWN)
case("schedules.Schedule.noise", Schedule.noise, self=OWN, x0=items(3, 3), t=TIMES_OF, eps=items(3, 3))
case("schedules.Schedule.t_at_snr", Schedule.t_at_snr, self=OWN, snr=real(0.01, 10))
case("schedules.Schedule.t_at_sigma", Schedule.t_at_sigma, self=OWN, sigma=real(0.3, 10))
case("schedules.Schedule.snr_at", Schedule.snr_at, self=OWN, t=real(0, T - 1))
case("schedules.Schedule.sigma_at", Schedule.sigma_at, self=OWN, t=real(0, T - 1))

weights = vectors(lambda s: random(s).uniform(0, 1, T))
case("timesteps.TimestepDistribution", TimestepDistribution, pmf=vectors(lambda s: random(s).dirichlet(np.ones(T))))
OWN = fixed(st.sampled_from((uniform(T), gaussian_interval(T, 3, 9), from_weights([0.0] * (T - 1) + [1.0]))))
case("timesteps.TimestepDistribution.sample", TimestepDistribution.sample, self=OWN, n=count(0, 9), generator=GENERATOR)
case("timesteps.TimestepDistribution.interval", TimestepDistribution.interval, self=OWN, confidence=share())
case("timesteps.TimestepDistribution.effective_weight", TimestepDistribution.effective_weight, self=OWN)
case(
    "timesteps.TimestepDistribution.log_snr_density", TimestepDistribution.log_snr_density, self=OWN,
    schedule=SCHEDULES,
)  # fmt: skip
case("timesteps.uniform", uniform, T=count(2, 200))
case(
    "timesteps.gaussian_interval", gaussian_interval, share=2, T=count(20, 200), low=real(-30, 5), high=real(6, 300),
    confidence=share(), tails=word("proportional", "uniform", "interval", "clip"),
)  # fmt: skip
case("timesteps.from_weights", from_weights, weights=dataclasses.replace(weights, named=("pmf",)))
DENSITIES = (lambda s: (-s.abs()).exp(), lambda s: torch.ones_like(s))
BAD_DENSITIES = (lambda s: s, lambda s: s * NAN, lambda s: None, lambda s: s[:3], lambda s: s * 0, lambda s: 1.0)
case("timesteps.from_log_snr", from_log_snr, schedule=SCHEDULES, density=const(*DENSITIES, bad=BAD_DENSITIES))
case("timesteps.min_snr_weight", min_snr_weight, schedule=SCHEDULES, gamma=real(0.1, 10))
case("timesteps.p2_weight", p2_weight, schedule=SCHEDULES, k=real(0.1, 10), gamma=real(0.1, 2))

POINT, SIGNAL, IMAGE = SHAPES
case("models.MLP", MLP, dim=count(1, 3), width=const(2, 8, bad=(0, 3, -2, 2.0)), depth=count(), frequencies=count(0, 3))
OWN = fixed(st.sampled_from((MLP(2, 8), MLP(2, 4, depth=1, frequencies=0))))
case("models.MLP.forward", MLP.forward, shapes=[POINT], self=OWN, x=items(3, 3, BOTH[:1], 1e9), t=TIMES_OF)
case(
    "models.UNet", UNet, ndim=const(1, 2, bad=(0, 3, 1.0)), channels=count(1, 3),
    width=const(8, 16, bad=(0, 7, 12, 8.0)),
    multipliers=const((1,), (1, 2), bad=((), (0,), (1, 0), (1.5,), ("a",), 2)), blocks=count(1, 2), attention=FLAG,
    unshuffle=count(1, 2),
)  # fmt: skip
OWN = fixed(st.sampled_from((UNet(1, 1, 8, (1, 2)), UNet(1, 1, 8, (1,), attention=True, unshuffle=2))))
case("models.UNet.forward", UNet.forward, shapes=[SIGNAL], self=OWN, x=items(3, 3, BOTH[:1], 1e9), t=TIMES_OF)
case("models.ExactDenoiser", ExactDenoiser, train=items(1, 5), schedule=SCHEDULES, chunk=count())
for method in ("forward", "denoise", "weights"):
    case(
        f"models.ExactDenoiser.{method}",
        lambda self, x, t, method=method: getattr(self, method)(x, t),
        self=Arg(lambda shape: st.just(model_for(shape)), None),
        x=items(3, 3),
        t=TIMES_OF,
    )
case("models.Spliced", models.Spliced, above=MODEL, below=MODEL, at=count(0, 9))
case(
    "models.Spliced.forward", models.Spliced.forward, x=items(3, 3), t=TIMES_OF,
    self=Arg(lambda shape: st.just(models.Spliced(model_for(shape), model_for(shape), 20)), None),
)  # fmt: skip

CONFIG = {
    "steps": count(),
    "batch_size": count(),
    "warmup": count(0, 3),
    "cooldown": count(0, 3),
    "precision": word("auto", "float32", "bfloat16"),
}
NUMBERS = (NAN, -1.0, 0.0, -INF, 5e-324, 1e308)
for name in ("learning_rate", "ema_decay", "grad_clip"):
    CONFIG[name] = const(1e-3, 0.5, bad=NUMBERS)
case("training.TrainConfig", TrainConfig, share=3, kinds=False, **CONFIG)
SHORT = TrainConfig(steps=2, batch_size=3, warmup=1)


@cache
def one_step() -> training.Step:
    generator = torch.Generator().manual_seed(0)
    return next(train(MLP(2, 8), drawn(0, 4, 2), SCHEDULE, uniform(T), SHORT, generator=generator))


def losses_of(bands: int) -> Tensor:
    return one_step().by_band(bands).nan_to_num()  # NaN is what a band without a draw is meant to hold


case("training.Step.by_band", losses_of, bands=count(1, 12))
case("training.Step.state", lambda: one_step().state())
# training and experiment do not name every argument of a wrong kind (kinds=False): of them only values are drawn
NETWORK = Arg(
    lambda _: st.builds(lambda: MLP(2, 8)),
    lambda _: st.sampled_from((MLP(3, 8), Zero(lambda x: x[:, :1]), Zero(lambda x: x[0]))),
    ("MLP", "the model"),
)
STATE = Arg(lambda _: st.none() | st.builds(lambda: one_step().state()), lambda _: st.sampled_from(({}, {"model": {}})))
EXAMPLES_OF = items(2, 5, largest=1e9, odd=False, named=("x",))
CURVE = const(SCHEDULE, Schedule.cosine(T), bad=(Schedule.linear(50),))
OVER = const(uniform(T), gaussian_interval(T, 5, 20), bad=(uniform(30),))
case(
    "training.train", train, kinds=False, shapes=[POINT], raises=(RuntimeError, FloatingPointError), model=NETWORK,
    x0=EXAMPLES_OF, schedule=CURVE, timesteps=OVER, config=const(None, SHORT), generator=GENERATOR_ONLY,
    device=DEVICE, state=STATE, loss_weight=Arg(lambda _: st.none() | weights.good(()), weights.bad),
)  # fmt: skip
case(
    "training.loss_at", loss_at, shapes=[POINT], model=NETWORK, x0=EXAMPLES_OF, schedule=CURVE,
    timesteps=const([3], [0, T - 1], bad=([], [T], [-1])), generator=GENERATOR_ONLY, repeats=count(1, 2),
    batch_size=const(1, 3, bad=(0, -1, 1.5, "3")),
)  # fmt: skip


def two(arg: Arg, *named: str) -> Arg:
    """One for each of two members, of which one is bad, or a third one."""
    good = lambda shape: st.lists(arg.good(shape), min_size=2, max_size=2)  # noqa: E731
    worse = lambda shape: st.tuples(arg.good(shape), arg.bad(shape)) | st.lists(arg.good(shape), min_size=3, max_size=3)  # noqa: E731
    return Arg(good, worse, (*arg.named, *named, "x0s"))


@cache
def fleet_step() -> FleetStep:
    members = range(2)
    models, sets = [MLP(2, 8) for _ in members], [drawn(0, 4, 2) for _ in members]
    return next(train_fleet(models, sets, SCHEDULE, [uniform(T)] * 2, SHORT, generators=[torch.Generator()] * 2))


case("fleet.FleetStep.state", lambda: fleet_step().state())
FLEET_STATE = Arg(
    lambda _: st.none() | st.builds(lambda: fleet_step().state()), lambda _: st.sampled_from(({}, {"weights": 1}))
)
case(
    "fleet.train_fleet", train_fleet, kinds=False, shapes=[POINT], raises=(RuntimeError, FloatingPointError),
    models=two(NETWORK, "its network"), x0s=two(EXAMPLES_OF, "x0"), schedule=CURVE, timesteps=two(OVER),
    config=const(None, SHORT), generators=fixed(st.lists(GENERATOR_ONLY.good(()), min_size=2, max_size=2)),
    device=DEVICE, state=FLEET_STATE,
    loss_weights=two(Arg(lambda _: st.none() | weights.good(()), weights.bad), "loss_weight"),
)  # fmt: skip
case(
    "devices.check_device", devices.check_device, raises=(RuntimeError,),
    device=const("cpu", bad=NO_DEVICES),
)  # fmt: skip

NOISE = items(3, 3, named=("x", "generators"))
THREE = Arg(
    lambda _: st.builds(sample_generators, st.just(3), SEEDS),
    lambda _: st.sampled_from((sample_generators(2, 0), [0, 1, 2], [], (torch.Generator(),) * 2)),
)
case(
    "samplers.ddim", ddim, model=MODEL, schedule=SCHEDULES, x_T=NOISE, steps=STEPS, eta=real(0, 1), generators=THREE,
    clip=CLIP,
)  # fmt: skip
case("samplers.ddpm", ddpm, model=MODEL, schedule=SCHEDULES, x_T=NOISE, generators=THREE, steps=STEPS, clip=CLIP)
case("samplers.dpm_solver", dpm_solver, model=MODEL, schedule=SCHEDULES, x_T=NOISE, steps=STEPS, clip=CLIP)
case(
    "samplers.sample", sample, model=MODEL, schedule=SCHEDULES, raises=(RuntimeError,),
    shape=Arg(lambda shape: st.just(shape), lambda _: st.sampled_from(((), (0,), (-1,), (2.5,), "2", 2, (7, 7)))),
    n=count(), seed=SEED, steps=count(1, 5), sampler=const(ddim, dpm_solver, bad=("ddim", 3)), batch_size=count(),
    device=DEVICE, clip=CLIP, progress=const(False),
)  # fmt: skip
case("samplers.sample_generators", sample_generators, n=count(1, 5), seed=SEED)
case(
    "samplers.initial_noise", initial_noise, generators=THREE,
    shape=const((), (2,), [3, 4], bad=((-1,), (2.5,), "2", 2, (NAN,))),
)  # fmt: skip

# --- metrics

case(
    "metrics.estimates.wilson", metrics.wilson, successes=real(0, 4), n=count(4, 9, named=("successes",)),
    confidence=share(),
)  # fmt: skip
case(
    "metrics.estimates.clopper_pearson", metrics.clopper_pearson, successes=real(0, 4),
    n=count(4, 9, named=("successes",)), confidence=share(),
)  # fmt: skip
SPREAD = (lambda x: float(x.mean()), lambda x: x.double().std())
case(
    "metrics.estimates.bootstrap", metrics.bootstrap, samples=items(3, 6), generator=GENERATOR, resamples=count(2, 5),
    distance=const(*SPREAD, bad=(lambda x: NAN, lambda x: None, lambda x: x, lambda x: "far")), confidence=share(),
)  # fmt: skip
SCALED = [SIGNAL, IMAGE]
for function in (metrics.finest_scale, metrics.without_finest_scale):
    case(f"metrics.finest_scale.{function.__name__}", function, shapes=SCALED, x=items(), cutoff=real(0.1, 0.8))
case(
    "metrics.finest_scale.residual_noise", metrics.residual_noise, shapes=SCALED, samples=items(), real=items(),
    cutoff=real(0.1, 0.8),
)  # fmt: skip
case(
    "metrics.judge.judge", judge, share=0.5, samples=items(4, 8), train=items(5, 5), held_out=items(5, 5),
    generator=GENERATOR, resamples=count(2, 3),
)  # fmt: skip
PAIR = {"samples": items(), "train": items()}
case("metrics.memorization.neighbour_ratio", metrics.neighbour_ratio, **PAIR)
case(
    "metrics.memorization.memorized_fraction", metrics.memorized_fraction, **PAIR, threshold=share(),
    confidence=share(),
)  # fmt: skip
case(
    "metrics.memorization.closer_to_train", metrics.closer_to_train, samples=items(), train=items(4, 4),
    held_out=items(4, 4), confidence=share(),
)  # fmt: skip
case("metrics.memorization.calibrated_l2", metrics.calibrated_l2, **PAIR, alpha=real(0.1, 2), n=count(1, 3))
case("metrics.memorization.authenticity", metrics.authenticity, **PAIR, confidence=share())
case(
    "metrics.memorization.data_copying_test", metrics.data_copying_test, samples=items(8, 12), train=items(4, 8),
    test=items(4, 8), cells=count(1, 1), least=count(1, 2),
)  # fmt: skip
case("metrics.neighbours.nearest_neighbours", metrics.nearest_neighbours, **PAIR, k=count(1, 3))
case("metrics.neighbours.find_duplicates", metrics.find_duplicates, items=items(), threshold=real(0, 1), mirror=FLAG)
REAL = {"samples": items(4, 8), "real": items(4, 8, named=("reference",))}
REFERENCE = Arg(
    lambda shape: (
        st.none()
        | st.builds(lambda s: drawn(s, 6, *shape), SEEDS)
        | st.builds(lambda s: metrics.PCA(drawn(s, 6, *shape)), SEEDS)
    ),
    items(6, 6).bad,
)
FEW = Arg(lambda _: st.none(), lambda _: st.sampled_from((0, 1, 2, 99, -1, 1.5, "1")))
case(
    "metrics.alignment.PCA", metrics.PCA, reference=items(3, 7),
    components=Arg(lambda _: st.none() | st.just(1), FEW.bad),
)  # fmt: skip
case(
    "metrics.alignment.PCA.transform", metrics.PCA.transform, x=items(),
    self=Arg(lambda shape: st.builds(lambda s: metrics.PCA(drawn(s, 5, *shape)), SEEDS), None),
)  # fmt: skip
case("metrics.alignment.pca_wasserstein", metrics.pca_wasserstein, **REAL, reference=REFERENCE, components=FEW)
case(
    "metrics.alignment.pca_jensen_shannon", metrics.pca_jensen_shannon, **REAL, reference=REFERENCE, components=FEW,
    bins=count(2, 9), joint=FLAG,
)  # fmt: skip
case(
    "metrics.alignment.sliced_wasserstein", metrics.sliced_wasserstein, **REAL, generator=GENERATOR,
    projections=count(),
)  # fmt: skip
case("metrics.alignment.energy_distance", metrics.energy_distance, **REAL)
case("metrics.alignment.prdc", metrics.prdc, **REAL, k=count(1, 3), confidence=share())

# --- evidence

DIFFERENCES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)
NO_ROW = ([], [1.0], [NAN, 1.0], ["a", "b"], [[1.0, 2.0]], 3.0, [1e308, -1e308], [5e-324, 0.0], [1e200, 1.0, 2.0])
case(
    "inference.paired_difference", inference.paired_difference,
    values=Arg(lambda _: DIFFERENCES, lambda _: st.sampled_from(NO_ROW)), confidence=share(),
)  # fmt: skip
NO_ROWS_OF_SEEDS = (
    [[1.0, 2.0, 3.0]],
    [[1, 2], [1, 2]],
    [[1, 1, 1], [2, 2, 2]],
    [[NAN] * 3] * 2,
    [[1e308, 0, -1e308]] * 2,
)
case(
    "inference.trend", inference.trend, draws=count(1, 20), generator=const(random(0), bad=(torch.Generator(), 0)),
    rows=Arg(
        lambda _: st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=5), min_size=2, max_size=4),
        lambda _: st.sampled_from((*NO_ROW, *NO_ROWS_OF_SEEDS)),
    ),
)  # fmt: skip
case(
    "inference.holm", inference.holm,
    p=Arg(
        lambda _: st.lists(st.floats(0, 1), max_size=6),
        lambda _: st.sampled_from(([-0.1], [1.1], [NAN], ["a"], 0.5, [[0.5]])),
    ),
)  # fmt: skip
ONE = {"n_train": count(2, 20), "seed": SEED, "image_size": const(32, 64, bad=(0, 16, 32.5, "32"))}
case(
    "data.load", data.load, name=word(*data.CURVES),
    n_held_out=Arg(lambda _: st.none() | st.integers(0, 9), count(0).bad),
    n_fresh=Arg(lambda _: st.none() | st.integers(0, 9), count(0).bad), **ONE,
)  # fmt: skip
case("data.kind_of", data.kind_of, name=const(*data.NAMES))
case("data.check_image_size", data.check_image_size, image_size=ONE["image_size"])
NETWORKS = const(Network(8), Network(16, (1,)), bad=({"width": 8}, Network))
FIELDS = {
    "timesteps": TIMESTEPS,
    "dataset": word("spiral", "emoji"),
    "n_train": count(2, 9),
    "seed": SEED,
    "network": NETWORKS,
    "schedule": word("linear", "cosine"),
    "training": const(SHORT, bad=({"steps": 2}, TrainConfig)),
    "n_samples": count(2, 5),
    "loss_weight": Arg(lambda _: st.none() | weights.good(()), weights.bad),
    "sampler_steps": count(1, 5),
    "image_size": ONE["image_size"],
    "label": const("", "a run"),
}
case("experiment.Experiment", Experiment, kinds=False, share=2, **FIELDS)
SIZES = {
    "width": const(8, 16, bad=(0, -8, 8.5)),
    "multipliers": const((1,), (1, 2), bad=((), (0,), 1, ("a",))),
    "blocks": count(1, 2),
    "attention": FLAG,
    "unshuffle": count(1, 2),
}
case("experiment.Network", lambda **sizes: Network(**sizes).build((1, 8)), **SIZES)
case(
    "experiment.Network.build", Network.build, kinds=False, self=fixed(Network(8, (1,))),
    shape=const((2,), (1, 8), (3, 8, 8)), seed=SEED,
)  # fmt: skip
TINY = Experiment(uniform(T), "spiral", 8, network=Network(8), training=SHORT, n_samples=9, sampler_steps=3)
OTHER = dataclasses.replace(TINY, seed=1, timesteps=gaussian_interval(T, 5, 20))
SIGNALS = dataclasses.replace(TINY, dataset="ecg5000", network=Network(8, (1,)))
PLAIN = TINY.to_dict()
case("experiment.Experiment.to_dict", Experiment.to_dict, self=fixed(TINY))
BAD_PLAIN = ({}, PLAIN | {"unknown": 1}, PLAIN | {"network": {"wide": 1}}, PLAIN | {"training": {"step": 1}})
case(
    "experiment.Experiment.from_dict", Experiment.from_dict, kinds=False,
    plain=const(PLAIN, bad=BAD_PLAIN, named=("key", "keys")),
)  # fmt: skip
case("experiment.Experiment.load_data", Experiment.load_data, self=fixed(TINY))
case("experiment.Experiment.build_schedule", Experiment.build_schedule, self=fixed(TINY))
case("experiment.Experiment.alike", Experiment.alike, self=fixed(TINY))
case(
    "experiment.Experiment.key", Experiment.key, kinds=False, self=fixed(TINY), dataset=const(TINY.load_data()),
    device=ON, raises=(RuntimeError,),
)  # fmt: skip
case("experiment.code_sha256", experiment.code_sha256, folder=const(Path(experiment.__file__).parent))
case("runs.runs_folder", runs.runs_folder)
case(
    "runs.run", run, kinds=False, raises=(RuntimeError,), share=0.5, experiment=const(TINY), device=ON,
    on_step=const(print, bad=(3,)),
)  # fmt: skip
case(
    "runs.run_fleet", run_fleet, raises=(RuntimeError,), share=0.5, device=ON,
    experiments=const([], [TINY], [TINY, TINY], [TINY, OTHER], bad=([TINY, SIGNALS],)), on_step=const(print, bad=(3,)),
)  # fmt: skip


@cache
def finished() -> runs.Result:
    return run(TINY)


@cache
def folder(content: str = "") -> Path:
    made = Path(tempfile.mkdtemp(dir=os.environ["MEMLIB_RUNS"]))
    if content:
        (made / "file").write_text(content)
    return made


FOLDERS = (Path("/none/such"), Path("/dev/null"), Path("/none"))
case(
    "runs.Result.load", runs.Result.load, kinds=False,
    folder=Arg(lambda _: st.builds(lambda: finished().folder), lambda _: st.sampled_from(FOLDERS)),
)  # fmt: skip
OWN = fixed(st.builds(finished))
case(
    "runs.Result.denoiser", runs.Result.denoiser, kinds=False, raises=(RuntimeError,), self=OWN,
    device=const("cpu", torch.device("cpu"), bad=("no such",)),
)  # fmt: skip
case(
    "runs.draw", runs.draw, kinds=False, raises=(RuntimeError,), shapes=[POINT],
    denoiser=Arg(lambda shape: st.just(model_for(shape)), lambda _: st.just(Zero(lambda x: x[:, :1])), ("the model",)),
    experiment=const(TINY), dataset=const(TINY.load_data()), device=DEVICE,
)  # fmt: skip

RECIPES = (
    "uniform",
    {"interval": [5, 30]},
    {"interval": [5, 30], "tails": "clip"},
    {"log_snr": [-2, 2]},
    {"at": [0, 9], "weights": [1, 2]},
)
NO_RECIPES = (
    "other",
    {},
    {"interval": [5]},
    {"interval": 5},
    {"interval": [30, 5]},
    {"log_snr": [1]},
    {"log_snr": ["a", "b"]},
)
NO_RECIPES += (
    {"at": [0], "weights": [1, 2]},
    {"at": [], "weights": []},
    {"at": [9, 0], "weights": [1, 2]},
    {"log_snr": [9999, -9999]},
    {"interval": ["a", "b"]},
)
RECIPE = ("interval", "log_snr", "at", "low", "snr")
case(
    "plans.distribution", plans.distribution, recipe=const(*RECIPES, bad=NO_RECIPES, named=("timesteps", *RECIPE)),
    schedule=SCHEDULES,
)  # fmt: skip
PLAN = next(line["config"] for line in LINES if "above" not in line["config"])
NO_CONFIGS = (
    {},
    {"dataset": "spiral"},
    PLAN | {"timesteps": "other"},
    PLAN | {"dataset": "other"},
    {"timesteps": "uniform"},
)
CONFIGS = const(*(line["config"] for line in LINES[:3]), bad=NO_CONFIGS, named=("timesteps", "dataset"))
case("plans.experiment", plans.experiment, config=CONFIGS)
case("plans.key", plans.key, config=CONFIGS)
case("plans.describe", plans.describe, config=CONFIGS)
case("plans.is_splice", plans.is_splice, config=CONFIGS)
case("plans.networks", plans.networks, config=dataclasses.replace(CONFIGS, bad=lambda _: st.just({"above": PLAN})))
case("plans.setting", plans.setting, config=const(*(line["config"] for line in LINES[:3]), bad=("uniform", None)))
BUDGETS = const("recorded", "quick", bad=("", "none"), named=("profile",))
case(
    "plans.read_plan", plans.read_plan, share=0.5, plan=const("width", bad=("", "none", Path("."), "/dev/null")),
    budgets=BUDGETS,
)  # fmt: skip
case(
    "profiles.profile", profiles.profile,
    name=const("smoke", "quick", "recorded", "paper", bad=("", "none"), named=("profile",)),
)  # fmt: skip

NO_LINES = ([{}], [{"key": "a"}], [3], [None], [dict(LINES[0], metrics={})], [dict(LINES[0], config={})])
SOME = const(LINES[:4], LINES[-5:], [], bad=NO_LINES, named=("line",))
case("results.read", results.read, share=0.25, folder=const(results.RESULTS, Path("/none/such"), bad=FOLDERS[1:]))
case(
    "results.read_samples", results.read_samples, folder=const(results.RESULTS, bad=FOLDERS),
    line=const(LINES[0], LINES[-1], bad=[line[0] for line in NO_LINES]), raises=(OSError,),
)  # fmt: skip
UNIFORM = const(None, LINES[0], bad=[line[0] for line in NO_LINES])
case("results.is_broken", results.is_broken, line=const(LINES[0], bad=[line[0] for line in NO_LINES]), uniform=UNIFORM)
case("results.table", results.table, lines=SOME)
case(
    "results.summary", results.summary,
    lines=const(LINES[:4], LINES[-5:], bad=(*NO_LINES, []), named=("recorded", "line")),
)  # fmt: skip
case(
    "claims.judge_claims", claims.judge_claims, share=0.5, lines=SOME, budgets=BUDGETS, alpha=share(),
    least=real(0.1, 10), corrected=FLAG,
)  # fmt: skip
VERDICTS = claims.judge_claims(LINES[:40])
case("claims.verdict_table", claims.verdict_table, verdicts=const(VERDICTS, [], bad=([3], [None], VERDICTS[0])))
MARKED = partial(folder, f"{claims.MARKS[0]}\n{claims.MARKS[1]}")
PAGE = Arg(
    lambda _: st.builds(lambda: MARKED() / "file"),
    lambda _: st.builds(lambda: folder("none") / "file") | st.sampled_from(FOLDERS),
)
case(
    "claims.write_verdicts", claims.write_verdicts, verdicts=const(VERDICTS, bad=([3],)), raises=(OSError,),
    path=PAGE,
)  # fmt: skip

# --- files, notebooks, reports

case(
    "files.write_atomically", files.write_atomically, raises=(OSError,), content=const("text", b"bytes"),
    path=Arg(lambda _: st.builds(lambda: folder("x") / "file"), lambda _: st.sampled_from(FOLDERS[:2])),
)  # fmt: skip
case(
    "files.write_between", files.write_between, raises=(OSError,), marks=const(claims.MARKS), text=const("text"),
    path=PAGE,
)  # fmt: skip
case(
    "files.sync", files.sync, raises=(OSError,),
    path=Arg(lambda _: st.builds(lambda: folder("x")), lambda _: st.sampled_from(FOLDERS[:1])),
)  # fmt: skip
case(
    "exercises.write_exercises", exercises.write_exercises, share=0.25, raises=(OSError,), force=FLAG,
    folder=Arg(
        lambda _: st.builds(lambda: folder("exercises") / "new"),
        lambda _: st.sampled_from((batch.NOTEBOOKS, Path("/dev/null"))),
    ),
)  # fmt: skip
NOTEBOOK = batch.NOTEBOOKS / "01_snr_analysis.ipynb"
case(
    "batch.find_notebooks", batch.find_notebooks,
    names=const((), ["01_snr_analysis"], bad=(["none"], [""], [3]), named=("notebook",)),
)  # fmt: skip
case("batch.known_parameters", batch.known_parameters, raises=(OSError,), share=0.5, path=const(NOTEBOOK, bad=FOLDERS))
case(
    "batch.parse_settings", batch.parse_settings, raises=(OSError,),
    notebooks=const([NOTEBOOK], bad=([FOLDERS[0]], []), named=("/none", "parameter")), share=0.5,
    texts=const(
        [], ["seed=3"], bad=(["seed"], ["seed=x"], ["none=1"], ["="], [""], [3], ["profile=quick"]),
        named=("parameter", "profile", "key"),
    ),
)  # fmt: skip
READ = nbformat.read(NOTEBOOK, as_version=4)
NB = Arg(
    lambda _: st.builds(lambda: copy.deepcopy(READ)),
    lambda _: st.sampled_from((nbformat.v4.new_notebook(), {"cells": []})),
)
for function in (batch.errors_in, batch.sources_sha256):
    case(f"batch.{function.__name__}", function, nb=NB)
for function in (report.figures, report.without_kernel):
    case(f"report.{function.__name__}", function, nb=NB)
case(
    "report.mathml", report.mathml, formula=const("x^2", r"\frac", bad=("", "\\", "}{", "$")),
    display=const("inline", "block"),
)  # fmt: skip
case("report.minutes", report.minutes, seconds=real(0, 1e5))


@cache
def executed() -> Path:
    made = Path(tempfile.mkdtemp(dir=os.environ["MEMLIB_RUNS"]))
    (made / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    return made


EXECUTED = Arg(lambda _: st.builds(executed), lambda _: st.sampled_from(FOLDERS))
case("report.write_report", report.write_report, raises=(OSError,), share=0.25, folder=EXECUTED)

# --- figures


def labels(good: Arg, *more: Any) -> Arg:
    """{label: value}, empty, or with one bad value in it."""

    def bad(shape):
        return st.builds(lambda x: {"train": x}, good.bad(shape)) | st.sampled_from(({}, {3: 1}, {"a": None}, *more))

    return Arg(
        lambda shape: st.dictionaries(st.sampled_from(("train", "uniform", "other")), good.good(shape), min_size=1),
        bad,
        good.named,
    )


def array(*shape: int, low: float = 0.0, high: float = 1.0, **rest: Any) -> Arg:
    """Of one shape, from `low` to `high`."""
    good = lambda seed: random(seed).uniform(low, high, shape)  # noqa: E731
    bad = [
        good(0) * NAN,
        good(0) / 0.0 if low > 0 else good(0) + INF,
        good(0)[:0],
        good(0)[0],
        good(0)[None],
        -good(0) - 1,
    ]
    bad += [
        good(0).astype(str),
        good(0) * 0,
        good(0).tolist(),
        np.where(good(0) > 0.5, NAN, good(0)),
        good(0) * 1e300,
        good(0) * 1e-300,
    ]
    bad += [random(0).uniform(low, high, tuple(n + 1 for n in shape))]
    return Arg(lambda _: st.builds(good, SEEDS), lambda _: st.sampled_from(bad), **rest)


AX = Arg(lambda _: st.none(), lambda _: st.just(plt))
case("plots.curves.snr_curves", plots.snr_curves, share=0.25, schedules=labels(SCHEDULES))
case(
    "plots.curves.distributions", plots.distributions, share=0.5, distributions=labels(TIMESTEPS), weight_axis=FLAG,
    schedule=Arg(lambda _: st.none() | st.just(SCHEDULE), SCHEDULES.bad, SCHEDULES.named),
    negligible=real(0, 0.9),
)  # fmt: skip
case(
    "plots.curves.loss_per_band", plots.loss_per_band, share=0.5, losses=labels(array(5)), T=count(), ax=AX,
    gap=const(None, bad=(("a", "b"), ("a",), "ab", 3)), ylabel=const("y"),
)  # fmt: skip
case(
    "plots.curves.band_contributions", plots.band_contributions, share=0.5, ax=AX, contributions=labels(array(4)),
    edges=const([0, 1, 2, 3, 4], bad=([0, 1], [0, 2, 1, 3, 4], [0, 1, 2, 3, NAN], [0] * 5, "a")),
)  # fmt: skip
ROWS = ({"a": {"m": 1.0}}, {"fresh": {"m": metrics.Estimate(1, 0, 2)}, "b": {"m": 3.0}})
NO_ROWS = (
    {},
    {"a": {}},
    {"a": 3},
    {"a": {"m": NAN}},
    {"a": {"m": metrics.Estimate(3, 0, 2)}},
    {"a": {"m": "x"}},
    {3: {"m": 1}},
)
case(
    "plots.curves.compare", plots.compare, share=0.5, rows=const(*ROWS, bad=NO_ROWS, named=("rows", "metrics")),
    metrics=const(["m"], bad=([], "m", ["none"], [3])), null=const(None, bad=("none", 3)),
)  # fmt: skip
FRAMES = Arg(
    lambda shape: st.builds(lambda: list(ddim(model_for(shape), SCHEDULE, drawn(0, 3, *shape), steps=3))),
    lambda _: st.sampled_from(([], [3], [None])),
    ("x",),
)
case(
    "plots.items.denoising_strip", plots.denoising_strip, share=0.5, frames=FRAMES, columns=count(2, 3),
    schedule=const(None, SCHEDULE), samples=const((0,), [1, 2], bad=((), (9,), (-1,), (0.5,), 0, ("a",))),
    train=const(None, bad=(drawn(0, 4, 3), drawn(0, 0, 2))),
)  # fmt: skip
case("plots.items.grid", plots.grid, share=0.5, items=items(2, 5), label=const("samples", "a"), columns=count(), ax=AX)
DISTANCES = const(
    np.array([[0.1, 0.2]] * 3),
    np.zeros((3, 2)),
    bad=(np.ones(3), np.ones((3, 1)), [[2, 1]] * 3, [[-1, 1]] * 3, [[NAN, 1]] * 3),
)
INDICES = const(
    np.array([[0, 1]] * 3),
    bad=(np.array([[0, 9]] * 3), np.array([[0, -1]] * 3), [[0.5, 1]] * 3, [[NAN, 1]] * 3, [0, 1]),
)
case(
    "plots.items.neighbour_panels", plots.neighbour_panels, share=0.5, shapes=SCALED,
    samples=items(3, 3, named=("distances", "train")), train=items(4, 6),
    distances=DISTANCES, indices=INDICES, count=count(1, 3), threshold=share(),
)  # fmt: skip
case(
    "plots.items.beside_nearest", plots.beside_nearest, share=0.5, shapes=SCALED,
    samples=items(3, 3, named=("nearest",)), nearest=items(3, 3), ax=AX,
    second=Arg(lambda shape: st.none() | items(3, 3).good(shape), items(3, 3).bad),
    notes=const(["a", "b", "c"], bad=([], ["a"], "ab")), framed=const((), [True, False, True], bad=([True], "a")),
)  # fmt: skip
case("plots.planes.pca_scatter", plots.pca_scatter, share=0.5, projected=labels(array(5, 3)), bins=count(1, 9))
case(
    "plots.planes.points", plots.points, share=0.5, train=array(4, 2), name=const("samples", "fresh points"),
    samples=Arg(lambda _: array(3, 2).good(()), array(3, 2).bad), ax=AX,
    nearest=const(None, [0, 1, 3], bad=([0, 1], [0, 1, 4], [0, 1, -1], [0, 1, 0.5], "abc")),
    field=const(
        None, (np.zeros((2, 2)), np.ones((2, 2))), bad=(np.zeros((2, 2)), (1,), (np.zeros((2, 2)), np.ones((3, 2)))),
    ),
)  # fmt: skip
case("plots.style.looks", plots.looks, labels=const([], ["train", "train 2"], ["a", "b"], bad=([3], [None])))
DRAWN = Arg(lambda _: st.builds(plt.figure), lambda _: st.nothing())
case("plots.style.caption", plots.caption, drawn=DRAWN, text=const("smoke, seed 0", "x" * 500, bad=("", "  ")))
case("plots.style.use_style", plots.use_style)
RUNS = results.table(LINES[:6])
MEASURES = ["closer to train", "PCA-W to held-out"]
CURVES = const(
    {"a": {1: RUNS[:3], 2: RUNS[3:]}},
    {"a": {1: RUNS}},
    bad=({}, {"a": {}}, {"a": {1: RUNS[["seed"]]}}, {"a": RUNS}, {"a": 3}, {3: {1: RUNS}}),
)
case(
    "plots.sweeps.tradeoff", plots.tradeoff, share=0.25, curves=CURVES,
    uniform=const(None, RUNS[:2], bad=(RUNS[["seed"]],), named=("curves",)),
    pairs=const([tuple(MEASURES)], bad=([], [("a", "b")], [("a",)], "ab", [3]), named=("curves",)),
    grows=const("wider"), axes=const(None, bad=([], 3)),
)  # fmt: skip
case(
    "plots.sweeps.along", plots.along, share=0.25, curves=CURVES, xlabel=const("x"),
    measures=const(MEASURES, MEASURES[:1], bad=([], ["none"], "a", [3]), named=("curves",)),
)  # fmt: skip
TABLE = pd.DataFrame([[1.0, -2.0]], index=["uniform"])
case(
    "plots.sweeps.where_learned", plots.where_learned, share=0.25,
    distributions=const(
        {"uniform": uniform(T)}, bad=({}, {"a": uniform(T)}, {"uniform": uniform(9)}, {"uniform": 3}),
        named=("changes", "T = 9"),
    ),
    schedule=SCHEDULES, changes=const({"t": TABLE}, bad=({}, {"t": TABLE.T}, {"t": 3}, {3: TABLE})),
    broken=const(TABLE < 0, bad=(TABLE.T, TABLE.iloc[:, :1])),
)  # fmt: skip
FINDINGS = [f for verdict in VERDICTS for f in verdict.findings]
case(
    "plots.verdicts.forest", plots.forest, share=0.25, findings=const(FINDINGS[:3], FINDINGS[-2:], bad=([], [3])),
    scales=const(None, {}, {FINDINGS[0].measure: plots.Scale("share", 0.1)}, bad=({"a": 3},)),
    names=const(None, {}, {"C1": "one"}),
)  # fmt: skip
case(
    "plots.verdicts.verdict_grid", plots.verdict_grid, share=0.25,
    verdicts=const(VERDICTS, VERDICTS[:1], bad=([], [3])),
)  # fmt: skip
case(
    "plots.verdicts.seed_lines", plots.seed_lines, share=0.5, curves=labels(array(3, 4)), ax=AX, log=const(False),
    x=const([1, 2, 3, 4], ["a", "b", "c", "d"], bad=([], [1, 2], [NAN] * 4, "abcd", [1, "a", 2, 3]), named=("curves",)),
    hollow=const(None, {"train": [True, False, True, False]}, bad=({"train": [True]}, {"train": "x"}, 3)),
)  # fmt: skip
case(
    "plots.verdicts.seed_dots", plots.seed_dots, share=0.5, panels=labels(labels(array(3, named=("broken",)))),
    broken=const(None, {"train": {"train": [True] * 3}}, bad=({"train": {"train": [True] * 2}}, 3, {"train": 3})),
    null=const(None, {"train": 0.5}, bad=({"train": NAN}, {"train": "a"}, 3)), log=const((), ["none"]),
)  # fmt: skip
case(
    "explore.noise.draw_snr", explore.draw_snr, share=0.25, schedule=word(*explore.SCHEDULES),
    T=const(50, 100, bad=(0, 1, 20, -1, 50.0)), position=share(),
)  # fmt: skip
case(
    "explore.noise.draw_interval", explore.draw_interval, share=0.25, schedule=SCHEDULES, items=items(3, 5),
    width=real(5, 90, named=("low",)), centre=real(0, T, named=("low", "interval")), confidence=share(),
    tails=word("proportional", "uniform", "clip"),
)  # fmt: skip
POINTS = data.load("spiral", 8)
HEARTS = dataclasses.replace(
    POINTS, kind="signal", train=drawn(0, 8, 1, 8), held_out=drawn(1, 8, 1, 8), fresh=drawn(2, 9, 1, 8)
)
case(
    "explore.live.draw_live", explore.draw_live, share=0.25, dataset=const(POINTS, bad=(HEARTS,)), schedule=SCHEDULES,
    step=count(0), seed=SEED,
    sides=const([uniform(T)], [uniform(T), uniform(T)], bad=([], [3], [uniform(9)]), named=("T = 9",)),
    networks=const((), bad=([3], (MLP(2, 8),) * 5)),
)  # fmt: skip
case(
    "explore.live.train_points", explore.train_points, share=0.5, dataset=const(POINTS, bad=(HEARTS,)),
    schedule=SCHEDULES, steps=count(1, 3), seed=SEED,
    sides=const([uniform(T)], [uniform(T), uniform(T)], bad=([], [3], [uniform(9)]), named=("T = 9", "timesteps")),
)  # fmt: skip
FOUND = explore.find_neighbours(drawn(3, 9, 1, 8), HEARTS)
case(
    "explore.neighbours.find_neighbours", explore.find_neighbours, shapes=[SIGNAL], samples=items(8, 9),
    dataset=const(HEARTS, bad=(POINTS,), named=("samples",)),
)  # fmt: skip
case(
    "explore.neighbours.draw_neighbours", explore.draw_neighbours, share=0.25, found=const(FOUND),
    order=word(*FOUND.orders), first=count(0, 1), threshold=share(),
)  # fmt: skip
case("explore.process.follow", explore.follow, share=0.5, result=Arg(lambda _: st.builds(finished)), count=count(1, 4))
case(
    "explore.process.draw_denoising", explore.draw_denoising, share=0.25,
    process=Arg(lambda _: st.builds(lambda: explore.follow(finished()))), dataset=const(POINTS), sample=count(0, 5),
    step=Arg(lambda _: st.none() | st.integers(0, 3), count(0).bad),
)  # fmt: skip
case(
    "explore.tradeoff.draw_tradeoff", explore.draw_tradeoff, share=0.25, lines=const(LINES, bad=([], [3], LINES * 2)),
    dataset=const("ecg5000", bad=("none",), named=("run of",)), seed=const(0, 1, bad=(-1, 99, "0", 0.5)),
    control=const("uniform", bad=("none", ""), named=("run of",)),
    emphasis=const("", *explore.FAMILIES, bad=("none",)), folder=const(results.RESULTS, bad=FOLDERS[:1]),
)  # fmt: skip

LEFT_OUT = {
    name: reason
    for reason, names in {
        "a record: it holds what it is given": """
            batch.Outcome claims.Finding claims.Verdict data.Dataset runs.Result
            explore.neighbours.Neighbours explore.process.Process fleet.FleetStep metrics.estimates.Estimate
            metrics.neighbours.Duplicate plots.style.Look plots.verdicts.Scale profiles.Profile report.Figure
            samplers.Frame training.Step
        """,
        "inside the package: those who call it are called here": """
            explore.panel.Panel explore.panel.Panel.fail explore.panel.Panel.show explore.panel.Panel.still
            checkpoint.read checkpoint.write devices.captured devices.has_bfloat16 devices.send
            files.naming kinds.check_batch kinds.check_count kinds.check_kinds
            kinds.is_kind kinds.naming_keys
            metrics.checks.check_between metrics.checks.check_flag
            metrics.checks.check_generator metrics.checks.check_number metrics.checks.check_points
            metrics.checks.checked metrics.estimates.normal_mean metrics.memorization.check_equally_many
            metrics.alignment.jensen_shannon metrics.alignment.mean_distance metrics.estimates.bootstrap_rows
            metrics.memorization.ratio_of metrics.memorization.share_below
            metrics.memorization.share_closer metrics.neighbours.measure
            metrics.neighbours.scan models.ResidualBlock models.ResidualBlock.forward models.SelfAttention
            models.SelfAttention.forward models.Upsample models.Upsample.forward models.fold
            models.time_features models.unfold
            plots.style.all_or_none plots.style.as_array plots.style.as_indices plots.style.as_items
            plots.style.labelled plots.style.logarithmic plots.style.meaning plots.style.new_axes plots.style.number
            plots.style.picture plots.style.side_legend plots.style.top_legend provenance.provenance samplers.alpha_bar
            samplers.predict samplers.timestep_list schedules.check_shape
            schedules.mix schedules.vector timesteps.check_confidence timesteps.finite_log_snr timesteps.log_snr_step
            timesteps.z_value training.TrainConfig.autocast training.TrainConfig.ema_decay_at
            training.TrainConfig.is_checked training.TrainConfig.learning_rate_at training.TrainConfig.precision_on
            training.checked training.draw
        """,
        "a widget, whose controls have bounds: test_explore; what it draws is called here": """
            explore.live.live_trainer explore.neighbours.neighbour_explorer explore.noise.interval_explorer
            explore.noise.snr_explorer explore.process.denoising_explorer explore.tradeoff.tradeoff_explorer
        """,
        "fetches from a network: test_download, test_faults": """
            download.fetch download.fetch_json download.pip_wheel sources.build_ecg5000 sources.build_flowers102
            sources.build_pokemon
        """,
        "executes notebooks: test_batch": "batch.refresh batch.reproduce batch.run_notebook",
        "test_download, test_faults": "download.digest_of download.obtain download.read_members download.verify",
        "an error": "download.DownloadError sweep.SweepError",
        "starts processes: test_sweep": "sweep.sweep",
        "runs and records: test_results, test_faults": "results.record",
    }.items()
    for name in names.split()
}
