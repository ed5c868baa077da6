"""What an unchanged experiment gives stays as it was. If a test here fails, raise `experiment.VERSION` and record anew.

`golden/numbers.json` was made by release 0.2. Bits are compared where processor and torch are those that made it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memlib import ExactDenoiser, Schedule, gaussian_interval
from memlib.lab import run, run_fleet
from memlib.lab.experiment import VERSION, Experiment
from memlib.lab.profiles import profile
from memlib.lab.provenance import provenance
from memlib.training import TrainConfig, draw

GOLDEN = json.loads((Path(__file__).parent / "golden" / "numbers.json").read_text())
KINDS = ("points", "signals", "images")
pytestmark = pytest.mark.usefixtures("own_runs")


def smoke(kind: str) -> Experiment:
    base = getattr(profile("smoke"), kind)
    return replace(base, training=replace(base.training, precision="float32"))


def check_bits(values: torch.Tensor, digest: str) -> None:
    """Equal bits on the machine that made them; after training, other machines differ in more than the last digits."""
    here = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    here["hardware"] = provenance()["hardware"]
    if different := {key: value for key, value in here.items() if GOLDEN["platform"][key] != value}:
        pytest.skip(f"bits are compared on the machine that made them only; here {different}")
    assert hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest() == digest


@pytest.mark.parametrize("kind", KINDS)
def test_a_smoke_run_gives_the_samples_that_it_gave(kind: str) -> None:
    result = run(replace(smoke(kind), timesteps=gaussian_interval(1000, 0, 500)))
    check_bits(result.samples, GOLDEN[kind]["samples_sha256"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_and_the_exact_denoiser_give_what_they_gave(kind: str) -> None:
    dataset = smoke(kind).load_data()
    assert dataset.sha256 == GOLDEN[kind]["content_sha256"]
    noise = torch.randn(dataset.train.shape, generator=torch.Generator().manual_seed(5))
    t = torch.linspace(0, 999, len(noise)).long()
    eps, known = ExactDenoiser(dataset.train, Schedule.linear())(noise, t), GOLDEN[kind]["exact"]
    numbers = [eps.double().mean().item(), eps.double().std().item(), *eps.flatten()[:4].tolist()]
    np.testing.assert_allclose(numbers, [known["mean"], known["std"], *known["first"]], rtol=1e-4)
    check_bits(eps, GOLDEN[kind]["exact_sha256"])


def test_a_batch_is_drawn_in_the_order_in_which_it_was_drawn() -> None:
    generator, config = torch.Generator().manual_seed(3), TrainConfig(batch_size=16)
    index, t, noise = draw(torch.zeros(32, 1, 8), gaussian_interval(1000, 0, 500), config, generator)
    assert [index.tolist(), t.tolist()] == [GOLDEN["draw"]["index"], GOLDEN["draw"]["t"]]
    np.testing.assert_allclose(noise.flatten()[:4], GOLDEN["draw"]["noise_first"], rtol=1e-5)


def test_a_fleet_gives_the_samples_that_it_gave() -> None:
    results = run_fleet([replace(smoke("points"), seed=seed) for seed in range(3)])
    for result, expected in zip(results, GOLDEN["fleet"], strict=True):
        check_bits(result.samples, expected)


def test_the_keys_of_runs_stay_unless_version_is_raised() -> None:
    assert GOLDEN["version"] == VERSION
    assert {kind: smoke(kind).key("content") for kind in KINDS} == GOLDEN["keys"]
