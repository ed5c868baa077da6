"""What a GPU does differently must give the same: recorded launches, numbers sent ahead, fleets of one.

Without a GPU the tests that need one are skipped, and say so."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from test_fleet import CONFIG, SCHEDULE, T, alone, examples, fleet, members
from test_golden import smoke
from torch import Tensor

from memlib.checks import check_device
from memlib.lab import train_fleet
from memlib.lab.graphs import WARM, captured, send
from memlib.lab.runs import run

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}  # of numbers of about 1, after 200 steps; two orders of summation


@pytest.fixture(autouse=True)
def as_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLIB_RUNS", str(tmp_path))  # here, as `memlib gpu` runs this file without conftest.py
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else a GPU's convolutions keep 10 bits of float32


@pytest.mark.parametrize("device", ["", "no such", "cuda:99", "xpu:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(RuntimeError, match=rf"device = '{device}' cannot be used.*device='cpu'"):
        check_device(device)


@needs_gpu
def test_a_replay_does_what_the_function_does_with_new_arguments() -> None:
    total = torch.zeros(3, device="cuda")

    def add(x: Tensor, factor: Tensor) -> tuple[Tensor, ...]:
        total.add_(x * factor)
        return (total + 0, total.sum())

    fast, expected, kept = captured(add, torch.device("cuda")), torch.zeros(3), []
    for call in range(3 * WARM):
        x = torch.arange(3.0) + call
        expected += x * (call + 0.5)
        kept.append((fast(x, call + 0.5), expected.clone()))
    for (vector, scalar), wanted in kept:  # at the end: a later replay must not have changed them
        assert torch.equal(vector.cpu(), wanted) and scalar.item() == wanted.sum().item()


@needs_gpu
def test_what_is_sent_is_not_changed_by_what_its_sender_does_next() -> None:
    x = torch.zeros(10**7).pin_memory()  # of which no copy need be made before it leaves
    arrived = send(x, torch.device("cuda"))
    x += 1
    assert not arrived.any()


@needs_gpu
@pytest.mark.parametrize("kind", ["points", "signals", "images"])
def test_recorded_steps_are_those_of_plain_training(kind: str) -> None:
    own, again = members(kind), members(kind)
    last = fleet(own, device="cuda")
    x, t = examples(kind, 9, 20).cuda(), torch.arange(0, T, 5, device="cuda")
    for k in range(3):
        step = alone(again, k, device="cuda")
        assert torch.equal(last.t[k], step.t)
        torch.testing.assert_close(last.losses[k], step.losses, **TOLERANCE)
        torch.testing.assert_close(last.emas[k](x, t), step.ema(x, t), **TOLERANCE)
        assert step.ema(x, t).abs().mean() > 0.1, "it was hardly trained"


@needs_gpu
@pytest.mark.parametrize("count", [1, 3])
def test_in_bfloat16_a_fleet_learns(count: int) -> None:
    config = replace(CONFIG, precision="auto")
    steps = list(train_fleet(schedule=SCHEDULE, config=config, device="cuda", **members("images", count)))
    first, last = (torch.stack([s.loss for s in part]).mean(0) for part in (steps[:20], steps[-20:]))
    assert (last < 0.9 * first).all()


@needs_gpu
def test_a_resumed_fleet_goes_on_where_it_was() -> None:
    whole = fleet(members("signals"), device="cuda")
    steps = train_fleet(schedule=SCHEDULE, config=CONFIG, device="cuda", **members("signals"))
    state = next(islice(steps, 49, None)).state()
    resumed = fleet(members("signals"), device="cuda", state=state)
    assert resumed.step == CONFIG.steps
    torch.testing.assert_close(resumed.losses, whole.losses, **TOLERANCE)


@needs_gpu
@pytest.mark.parametrize("kind", ["points", "images"])
def test_a_run_is_the_run_of_the_cpu_up_to_rounding(kind: str) -> None:
    on_gpu, on_cpu = run(smoke(kind), device="cuda"), run(replace(smoke(kind), label="cpu", n_samples=63))
    assert on_gpu.history["device"] == "cuda" and on_gpu.samples.device.type == "cpu"
    loss, other = (torch.tensor([[x or 0 for x in row] for row in r.history["loss"]]) for r in (on_gpu, on_cpu))
    torch.testing.assert_close(loss, other, rtol=0.02, atol=0.02)
