"""Every public function and class, called with arguments drawn at random, of which at most one is bad.

Good ones work. A bad one works too, or is refused by a documented error whose message names it; in neither case does
the call hang, warn, or make NaN of finite numbers. What is called and with what: property_cases.py. `make test` runs
the short form, `make test-faults` (FAULTS=long) ten times as many.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from itertools import islice
from types import GeneratorType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property_cases import CASES, LEFT_OUT, LONG, WRONG, Case
from torch import Tensor

import memlib
from memlib import (
    MLP,
    ExactDenoiser,
    Schedule,
    UNet,
    batch,
    data,
    ddim,
    from_log_snr,
    gaussian_interval,
    inference,
    initial_noise,
    metrics,
    plans,
    plots,
    results,
)
from memlib.metrics.judge import judge

LEAST = 5000 if LONG else 500  # examples in all
SECONDS = 30  # after which a call counts as hanging


def public() -> set[str]:
    """Each function, class and method that a module of memlib defines, whose name has no underscore before it."""
    found = set()
    for module in pkgutil.walk_packages(memlib.__path__, "memlib."):
        if module.name.endswith("__main__"):  # the command line: test_batch
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or not callable(value) or getattr(value, "__module__", "") != module.name:
                continue
            path = f"{module.name.removeprefix('memlib.')}.{name}"
            found.add(path)
            if inspect.isclass(value):
                methods = (n for n, f in vars(value).items() if inspect.isfunction(f) or isinstance(f, classmethod))
                found |= {f"{path}.{n}" for n in methods if not n.startswith("_")}
    return found


@st.composite
def calls(draw: st.DrawFn, case: Case) -> tuple[dict[str, Any], str | None]:
    """Arguments, and the name of the bad one, if any is."""
    shape = draw(st.sampled_from(case.shapes))
    wrong = st.sampled_from(WRONG) if case.kinds else st.nothing()
    worse = {name: arg.bad(shape) | wrong for name, arg in case.arguments.items() if arg.bad}
    bad = draw(st.sampled_from([None, *(name for name, values in worse.items() if not values.is_empty)]))
    return {name: draw(worse[name] if name == bad else arg.good(shape)) for name, arg in case.arguments.items()}, bad


@contextmanager
def limited() -> Iterator[None]:
    def hang(*_: Any) -> None:
        raise TimeoutError(f"it runs for more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def holds(value: Any, what: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether `what` is true of a number in it."""
    if isinstance(value, Tensor):
        value = value.detach().double().numpy() if value.is_floating_point() else ()
    if isinstance(value, float | np.floating | np.ndarray):
        return np.asarray(value).dtype.kind == "f" and bool(what(np.asarray(value)).any())
    if isinstance(value, Mapping):
        return any(holds(each, what) for each in value.values())
    if isinstance(value, list | tuple):
        return any(holds(each, what) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(holds(getattr(value, field.name), what) for field in dataclasses.fields(value))
    return False


def kept(case: Case, arguments: dict[str, Any], bad: str | None) -> None:
    """The promise, for one call; on its way `arguments` are spent."""
    finite, drawn = not holds(list(arguments.values()), lambda x: ~np.isfinite(x)), set(plt.get_fignums())
    with limited(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the last timestep still carries signal")
        try:
            result = case.call(**arguments)
            if isinstance(result, GeneratorType):
                result = list(islice(result, 4))
        except (ValueError, TypeError, FileNotFoundError, *case.raises) as error:
            if bad is None:
                raise
            names = (bad, *case.arguments[bad].named)
            named = any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", str(error)) for name in names)
            is_path = "/" in str(arguments[bad]) and str(arguments[bad]) in str(error)  # which names itself
            assert named or is_path, f"{bad} = {arguments[bad]!r:.80} is not named by {error!r}"
            assert set(plt.get_fignums()) <= drawn, "a figure stays open, half drawn"
            return
        finally:
            plt.close("all")
    assert not finite or not holds(result, np.isnan), f"NaN in {result!r:.200}"


def resolve(name: str) -> Any:
    """What memlib has under this name."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(["memlib", *parts[:cut]]))
        except ImportError:
            continue
        return reduce(getattr, parts[cut:], found)
    raise LookupError(name)


RAN: Counter[str] = Counter()


@pytest.mark.parametrize("name", CASES)
def test_a_call_works_or_names_what_is_wrong(name: str) -> None:
    case = CASES[name]

    @settings(
        max_examples=case.examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(case))
    def promise(drawn: tuple[dict[str, Any], str | None]) -> None:
        RAN[name] += 1
        kept(case, *drawn)

    promise()


def test_the_examples_are_many() -> None:
    if set(RAN) != set(CASES):
        pytest.skip(f"counts the examples of all {len(CASES)} calls, of which {len(RAN)} were tested")
    assert sum(RAN.values()) >= LEAST


def test_every_public_name_is_called_or_left_out_with_a_reason() -> None:
    assert set(CASES) | set(LEFT_OUT) == public()
    assert not set(CASES) & set(LEFT_OUT)
    exported = {f"{value.__module__}.{name}" for name in memlib.__all__ if (value := getattr(memlib, name))}
    assert {name.removeprefix("memlib.") for name in exported} <= public()


@pytest.mark.parametrize("name", CASES)
def test_every_argument_is_drawn(name: str) -> None:
    case, missing = CASES[name], set()
    if case.call == resolve(name):
        missing = set(inspect.signature(case.call).parameters) - set(case.arguments)
    assert not missing


# what the properties found: each ended in another error, in NaN, or in a message about something else
MENDED = {
    "s = nan": lambda: Schedule.cosine(50, s=float("nan")),
    "tau = inf": lambda: Schedule.sigmoid(50, tau=float("inf")),
    "density returns 3 values": lambda: from_log_snr(SCHEDULE, lambda s: s[:3].abs()),
    "low = -5e+307, high = 5e+307": lambda: gaussian_interval(50, -5e307, 5e307, confidence=0.01),
    "t has shape": lambda: MLP(2, 8)(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)),
    "x has dtype torch.float64": lambda: MLP(2, 8)(torch.zeros(3, 2).double(), torch.zeros(3, dtype=torch.int64)),
    "x has shape (3, 1, 0)": lambda: UNet(1, 1, 8)(torch.zeros(3, 1, 0), torch.zeros(3, dtype=torch.int64)),
    "t has dtype torch.float32": lambda: ExactDenoiser(POINTS, SCHEDULE)(POINTS, torch.zeros(len(POINTS))),
    "x_T has dtype torch.int64": lambda: ddim(MLP(2, 8), SCHEDULE, torch.zeros(3, 2, dtype=torch.int64), steps=2),
    "clip = (1.0,)": lambda: ddim(MLP(2, 8), SCHEDULE, POINTS, steps=2, clip=(1.0,)),
    "generators is empty": lambda: initial_noise((2,), []),
    "each size of shape = -1": lambda: initial_noise((-1,), [torch.Generator()]),
    "seed = 1180591620717411303424": lambda: data.load("spiral", seed=2**70),
    "samples holds 1e+200": lambda: metrics.neighbour_ratio(POINTS.double() * 1e200, POINTS.double()),
    "values holds 1e+200": lambda: inference.paired_difference([1e200, 1.0]),
    "held_out holds 1 value(s) that are NaN": lambda: judge(POINTS, POINTS, HOLED, generator=torch.Generator()),
    "n = 0; need at least 1": lambda: metrics.calibrated_l2(POINTS, POINTS, n=0),
    "what distance returns must be a number": lambda: metrics.bootstrap(str, POINTS, generator=torch.Generator()),
    "timesteps = {'log_snr': [1]}": lambda: plans.distribution({"log_snr": [1]}, SCHEDULE),
    "config lacks the key 'timesteps'": lambda: plans.describe({}),
    "a recorded line lacks the key 'metrics'": lambda: results.is_broken({}, None),
    "broken['a']['b']: expected": lambda: plots.seed_dots({"a": {"b": [1, 2, 3]}}, broken={"a": {"b": [True] * 2}}),
    "path = 3": lambda: batch.known_parameters(3),  # which was read from, and closed, as a file that was open
}
SCHEDULE, POINTS = Schedule.linear(50), torch.ones(3, 2)
HOLED = torch.tensor([[0.0, 1.0], [1.0, 0.0], [float("nan"), 0.0]])


@pytest.mark.parametrize("says", MENDED)
def test_what_was_mended_stays_so(says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        MENDED[says]()
