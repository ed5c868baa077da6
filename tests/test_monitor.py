"""The monitor: its step is where near-copies begin, it does not cry, it costs little and disturbs nothing."""

import json
import re
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from memlib import MLP, ExactDenoiser, Schedule, TrainConfig, train, uniform
from memlib.lab import data
from memlib.lab.experiment import Network
from memlib.metrics import membership, memorized_fraction, wilson
from memlib.metrics.copying import excess
from memlib.metrics.estimates import Estimate
from memlib.monitor import Monitor
from memlib.viz import monitor_curves, watch

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "golden" / "monitor.json"
PAGE = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SCHEDULE = Schedule.linear()


def spiral(n: int, seed: int = 0) -> data.Dataset:
    return data.load("spiral", n, n_held_out=512, seed=seed)


def replayed(row: dict) -> list[Estimate | None]:
    """What the monitor says at each reading of a recorded run, from the near-copies that it counted there."""
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    monitor, said = Monitor(points[:8], points[8:], SCHEDULE, samples=row["samples"]), []
    monitor.null = Estimate(**row["null"])
    for near, step in zip(row["near"], row["steps"], strict=True):
        monitor.near.append(near)
        said.append(monitor.begin(row["steps"][: len(monitor.near)]))
        assert said[-1] is None or said[-1].high <= step, "it speaks of what it has seen"
    return said


@pytest.mark.parametrize(
    ("dataset", "n_train", "found"),  # found: runs said to copy, steps within 20 %, within 30 %, intervals that hold it
    [("mixture16", 32, (20, 14, 20, 20)), ("spiral", 16, (20, 19, 20, 18))],
)
def test_copying_is_seen_as_often_as_the_page_says_and_never_where_nothing_is_copied(dataset, n_train, found) -> None:
    """Twenty seeds each, recorded by tests/record_monitor.py. The aim was eight of ten within 20 %: reached on the
    spiral and by both together, not on the mixture alone."""
    rows = sorted(json.loads(RECORDED.read_text()), key=lambda row: row["seed"])
    copying, never = ([x for x in rows if (x["dataset"], x["n_train"]) == (dataset, n)] for n in (n_train, 1024))
    assert len(copying) == len(never) == 20 and not any(said for row in never for said in replayed(row))
    last = [replayed(row)[-1] for row in copying]
    errors = [abs(said.value / row["copying"] - 1) for said, row in zip(last, copying, strict=True) if said]
    held = [said.low <= row["copying"] <= said.high for said, row in zip(last, copying, strict=True) if said]
    assert (len(errors), sum(e <= 0.2 for e in errors), sum(e <= 0.3 for e in errors), sum(held)) == found
    first, unseen = (sum(e <= 0.2 for e in part) for part in (errors[:10], errors[10:]))
    said = f"within 20 % in {found[1]} (first ten {first}, unseen ten {unseen}), within 30 % in {found[2]}; "
    assert f"{said}its interval held the truth in {found[3]}" in " ".join(PAGE.split())


def test_a_run_that_copies_is_seen_live_and_training_is_not_disturbed(tmp_path) -> None:
    x, config = spiral(16), TrainConfig(steps=700, batch_size=256, learning_rate=0.002, ema_decay=0.99)

    def run(monitor: Monitor | None) -> Tensor:
        network, last = Network(width=128).build((2,), 0), None
        generator = torch.Generator().manual_seed(0)
        for last in train(network, x.train, SCHEDULE, uniform(), config, generator=generator):
            if monitor is not None:
                monitor.update(last.t, last.losses)
                if monitor.due():
                    monitor.read(last.ema)
        return torch.cat([p.flatten() for p in last.ema.parameters()])

    monitor = Monitor(x.train, x.held_out, SCHEDULE)
    assert torch.equal(run(monitor), run(None))
    reading = monitor.readings[-1]
    assert reading.begin is not None and 100 < reading.begin.value < 600
    assert reading.begin.low <= reading.begin.value <= reading.begin.high <= reading.step
    assert reading.auc[0].low > 0.5 and reading.gap[0].value > 0, "the lowest noise is learnt by heart"
    assert f"copying begins about step {reading.begin.value:.0f}" in str(reading)
    assert reading.scalars()["copying begins"] == reading.begin.value
    torch.testing.assert_close(reading.dose.sum(), torch.tensor(reading.step * 256 / 16.0))
    assert watch(monitor.readings, handle := Mock()) is handle and len(monitor_curves(monitor.readings).axes) == 3
    torch.save(monitor, tmp_path / "monitor.pt")
    assert torch.load(tmp_path / "monitor.pt", weights_only=True).readings[-1].begin == reading.begin


def test_readings_cost_less_than_three_percent_of_training() -> None:
    """In processor time, just after a reading; the best of two, after one for imports."""
    x, shares = spiral(16), []
    for _ in range(3):
        monitor, spent, start = Monitor(x.train, x.held_out, SCHEDULE), 0.0, time.process_time()
        config = TrainConfig(steps=285, batch_size=256)
        for step in train(MLP(2), x.train, SCHEDULE, uniform(), config, generator=torch.Generator().manual_seed(0)):
            before = time.process_time()
            monitor.update(step.t, step.losses)
            if monitor.due():
                monitor.read(step.ema)
            spent += time.process_time() - before
        shares.append(spent / (time.process_time() - start - spent))
        assert len(monitor.readings) == 1
    assert min(shares[1:]) < 0.03, shares


def test_a_reading_is_made_of_the_public_measures() -> None:
    x = spiral(16)
    model = ExactDenoiser(x.train, SCHEDULE)  # it has learnt the training set by heart
    monitor = Monitor(x.train, x.held_out, SCHEDULE, bands=5, items=16)
    t, losses = torch.tensor([0, 199, 200, 999]), torch.tensor([1.0, 3.0, 5.0, 7.0])
    monitor.update(t, losses, torch.tensor([3, 3, 4, 15]))
    monitor.update(t, losses, torch.tensor([3, 5, 4, 15]))
    reading = monitor.read(model)
    assert reading.running.isnan().tolist() == [False, False, True, True, False]
    assert reading.running[[0, 1, 4]].tolist() == [2, 5, 7]
    assert monitor.seen[[3, 5, 4, 15]].tolist() == [[3, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 0, 2]]
    assert reading.copies.low > 0.6 and reading.null == memorized_fraction(x.held_out, x.train)
    noise = torch.randn(5, 1, 16, 2, generator=torch.Generator().manual_seed(0))  # one for both sets, in each band
    for part in (0, 1):
        for band, t in enumerate((100, 300, 500, 700, 900)):
            times = torch.full((16,), t)
            noisy = SCHEDULE.noise(monitor._items[part], times, noise[band, 0])
            own = (model(noisy, times) - noise[band, 0]).square().mean(1)
            torch.testing.assert_close(reading.losses[part, band].float(), own)
    assert reading.auc[0] == membership(*reading.losses[:, 0])
    again = monitor.read(model)
    assert torch.equal(again.losses, reading.losses) and again.quality == "level", "under the same noise"


def test_quality_follows_the_held_out_loss() -> None:
    x, words = spiral(64), []
    exact, monitor = ExactDenoiser(x.held_out, SCHEDULE), Monitor(x.train, x.held_out, SCHEDULE, steps=4)
    for share in (0.0, 0.5, 0.9, 0.9, 0.2):
        monitor.steps += 10
        words.append(monitor.read(lambda noisy, t, share=share: share * exact(noisy, t)).quality)
    assert words == ["level", "improves", "improves", "level", "worsens"] and monitor.readings[-1].best == 30


def test_a_reading_says_what_hides_copies_and_one_sample_again_and_again_is_one() -> None:
    x = spiral(16)
    model, monitor = ExactDenoiser(x.train, SCHEDULE), Monitor(x.train, x.held_out, SCHEDULE)
    monitor.read(lambda noisy, t: torch.zeros_like(noisy))  # before training, at step 0
    monitor.steps = 100
    assert (reading := monitor.read(model)).begin is not None and 1 <= reading.begin.value <= 100
    assert Monitor(x.train, x.held_out, SCHEDULE).read(ExactDenoiser(x.train[:1], SCHEDULE)).copies.low < 0.3
    twins = torch.cat([x.train, x.train + 1e-4])
    for *sets, said in ((twins, x.held_out, "nearly equal"), (8 * x.train, 8 * x.held_out, "one scale")):
        assert said in str(Monitor(*sets, SCHEDULE).read(model))


def test_updates_are_copied_and_may_be_empty_and_a_reading_that_is_interrupted_leaves_no_trace(monkeypatch) -> None:
    x, t, losses = spiral(16), torch.zeros(1, dtype=torch.uint8), torch.zeros(1)
    monitor = Monitor(x.train.double(), x.held_out.double(), Schedule.linear(100))
    for k in range(10):  # the same two tensors again and again
        monitor.update(t.fill_(10 * k), losses.fill_(k))
    monitor.update(t[:0], losses[:0])
    monkeypatch.setattr(monitor, "_losses", lambda model: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        monitor.read(MLP(2))
    monkeypatch.undo()
    x.train.zero_()  # the reader's own tensor, used for something else
    network = MLP(2)
    reading = monitor.read(lambda noisy, t: network(noisy, t))
    assert monitor.train.std() > 0.5 and reading.losses.isfinite().all()
    assert len(monitor.near) == len(monitor.distinct) == 1 and reading.running.tolist() == [*range(10)]
    assert reading.dose.tolist() == pytest.approx([1 / 16] * 10) and reading.scalars()["running loss band 10"] == 9


def test_excess_is_newcombes_interval_over_what_is_left() -> None:
    found = excess(wilson(56, 70), wilson(48, 80))  # Newcombe (1998), table II: 0.2000 [0.0524, 0.3339]
    assert (0.4 * found.value, 0.4 * found.low, 0.4 * found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    with pytest.raises(ValueError, match="null"):
        excess(wilson(1, 2), wilson(2, 2))


def test_bad_input_is_named() -> None:
    x = spiral(16)
    for given, named in (
        ((x.train, x.train), "held_out"), ((x.train, x.held_out[:, :1]), "shape"), ((x.train[:1], x.held_out), "has 1"),
        ((x.train, x.held_out[:1]), "each set = 1"), ((x.train, 127.5 * x.held_out + 127.5), "held_out lie in"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            Monitor(*given, SCHEDULE)
    for given, named in (
        (([1, 2], torch.tensor(0.5)), "losses"), (([1, 1000], [1, 1]), "t spans"), (([0.2, 0.9], [1, 1]), "t_at_sigma"),
        *((([1, 2], [1, 1], items), says) for items, says in (([0], r"\(1,\)"), ([0, 16], "0..15"), ([0, -1], "-1"))),
    ):  # fmt: skip
        monitor = Monitor(x.train, x.held_out, SCHEDULE)
        with pytest.raises(ValueError, match=named):
            monitor.update(*given)
            monitor.read(MLP(2))
    for name, value in (("samples", 0), ("cost", 3), ("cost", 0)):
        with pytest.raises(ValueError, match=f"{name} = {value}"):
            Monitor(x.train, x.held_out, SCHEDULE, **{name: value})
    with pytest.warns(UserWarning, match="3 held-out items equal training items"):
        Monitor(x.train, torch.cat([x.held_out, x.train[:3]]), SCHEDULE)
    with pytest.raises(TypeError, match="returns a tuple"):
        Monitor(x.train, x.held_out, SCHEDULE).read(lambda x, t: (x, t))


def test_the_recipes_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, network = spiral(16), MLP(2, 16)
    loop, levels, *others = (code for code in RECIPES if "lightning" not in code)
    batches = [(torch.arange(16), torch.arange(0, 800, 50), torch.randn(16, 2)) for _ in range(3)]
    names = {"train": x.train, "held_out": x.held_out, "schedule": SCHEDULE, "model": network, "batches": batches}
    names |= {"optimizer": torch.optim.SGD(network.parameters(), 0.1), "sigma": torch.logspace(-4, 4, 16)}
    exec(loop + levels, names)
    names |= {"reading": names["monitor"].read(network), "torch": torch, "samples": x.fresh}
    names |= (tools := {name: Mock() for name in ("writer", "wandb", "mlflow")})
    for code in others:
        exec(code, names)
    assert all(tool.method_calls for tool in tools.values())
    assert names["monitor"].steps == 4 and len(names["monitor"].readings) == 1, "as it was kept"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_lightning_callback_reads_as_the_network_trains() -> None:
    lightning, x, network = pytest.importorskip("pytorch_lightning"), spiral(16), MLP(2, 16)
    names: dict = {}
    exec(next(code for code in RECIPES if "lightning" in code), names)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch, batch_idx):
            t, eps = torch.randint(1000, (len(batch[0]),)), torch.randn_like(batch[0])
            losses = (self.network(SCHEDULE.noise(batch[0], t, eps), t) - eps).square().mean(1)
            return {"loss": losses.mean(), "t": t, "losses": losses}

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-3)

    monitor = Monitor(x.train, x.held_out, SCHEDULE, cost=1.0)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.train.repeat(40, 1)), 64)
    named = ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary")
    quiet = dict.fromkeys(named, False)
    trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", callbacks=[names["Watch"](monitor)], **quiet)
    trainer.fit(Module(), loader)
    assert monitor.steps == 40 and len(monitor.readings) >= 1
    assert "near-copies" in trainer.logged_metrics
