"""The dial: on recorded courses of seeds that it has not seen, and its refusals."""

from itertools import pairwise

import numpy as np
import pytest

from memlib.__main__ import main
from memlib.lab import courses
from memlib.lab.dial import dial, pilot
from memlib.lab.experiment import Experiment, Network
from memlib.lab.yardstick import Yardstick
from memlib.timesteps import uniform
from memlib.training import TrainConfig

CONTROLS = ("uniform", "0 to 2000", "-1000 to 1000", "250 to 750")
LINES = [x for x in courses.read() if x["plan"] == "mixture_dose" and x["control"] in CONTROLS]


def recorded(seeds: range) -> list[courses.Line]:
    return [x for x in LINES if x["seed"] in seeds]


def at(line: courses.Line, measure: str, step: int) -> float:
    steps = [np.log(reading["step"]) for reading in line["course"]]
    return float(np.interp(np.log(step), steps, [reading["measures"][measure] for reading in line["course"]]))


def test_new_seeds_lie_in_the_interval_that_four_pilot_seeds_gave() -> None:
    """Six pilots, four levels: in nine cases out of ten, two of three new seeds have near-copies in the interval."""
    inside = []
    for first in range(204, 228, 4):
        for asked in (0.01, 0.02, 0.03, 0.06):
            best, even = dial(recorded(range(first, first + 4)), asked)
            assert best.near_copies.value <= asked + 1e-9 and best.fidelity.value < 1.2
            assert even is None or even.fidelity.value >= best.fidelity.value
            new = [x for x in recorded(range(204, 228)) if x["control"] == best.control]
            new = [x for x in new if x["seed"] not in range(first, first + 4)]
            held = [best.near_copies.low <= at(x, "near-copies", best.step) <= best.near_copies.high for x in new]
            assert len(held) == 20
            inside += [sum(held[k : k + 3]) >= 2 for k in range(0, 18, 3)]
    assert sum(inside) >= 0.9 * len(inside)


def test_more_copies_are_allowed_by_more_steps() -> None:
    uniform_only = [x for x in recorded(range(204, 208)) if x["control"] == "uniform"]
    settings = [dial(uniform_only, asked)[0] for asked in (0.005, 0.02, 0.05)]
    assert all(a.step < b.step and a.fidelity.value >= b.fidelity.value for a, b in pairwise(settings))


def test_what_cannot_be_reached_names_the_nearest_and_its_price() -> None:
    with pytest.raises(ValueError, match=r"the nearest is .* steps: near-copies .* fidelity"):
        dial(recorded(range(204, 208)), 0.001, 1.0001)
    late = [{**x, "course": x["course"][-2:]} for x in recorded(range(204, 208)) if x["control"] == "-1000 to 1000"]
    with pytest.raises(ValueError, match=r"near_copies = 0\.01 is not reached"):
        dial(late, 0.01)  # its first reading copies more
    found = {"bold": {"near-copies": 0.4, "fidelity": 1.1}, "meek": {"near-copies": 0.01, "fidelity": 1.5}}
    found["noisy"] = {"near-copies": 0.01, "fidelity": 1.1, "residual noise": 2.1}  # which hides copies
    steps = {name: [{"step": step, "measures": own} for step in (10, 20)] for name, own in found.items()}
    with pytest.raises(ValueError, match="the nearest is meek"):  # at a price; the other copies too much
        dial([{"control": name, "seed": seed, "course": steps[name]} for seed in range(3) for name in steps], 0.02)
    once = recorded(range(204, 207))
    with pytest.raises(ValueError, match="each seed once"):
        dial([*once, *once], 0.02)
    with pytest.raises(ValueError, match="differ in the steps"):
        dial([*once, {**once[0], "seed": 1, "course": once[0]["course"][1:]}], 0.02)
    for seeds, asked, named in ((range(204, 206), 0.02, "3 of each control"), (range(204, 208), 2, "near_copies")):
        with pytest.raises(ValueError, match=named):
            dial(recorded(seeds), asked)
    assert main(["dial", "--data", "mixture16", "--near-copies", "2"]) == 2  # at once


def test_a_pilot_is_a_fleet_of_courses(own_runs, capsys) -> None:
    own = Experiment(
        uniform(500), "mixture4", 16, network=Network(width=16), training=TrainConfig(steps=50, batch_size=16),
        n_samples=16, sampler="ddpm", sampler_steps=5,
    )  # fmt: skip
    made = list(pilot(own, seeds=(0, 1, 2), workers=1))
    assert "9 pilot runs, about 0 minutes" in capsys.readouterr().err
    assert len(made) == 9 and {len(x["course"]) for x in made} == {10}
    assert not any("gradient" in reading for x in made for reading in x["course"]), "which the dial does not use"
    assert Yardstick.of(own).times == [2, 7, *range(25, 500, 50)]
    with pytest.raises(ValueError, match="nearest"):
        dial(made, 0.01, 1.01)
