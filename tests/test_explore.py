"""The explorers answer their controls: picture and words change, errors are shown, Stop stops."""

import asyncio
import hashlib
import io
import time
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from memlib import Schedule, data, explore
from memlib.plans import describe, key, read_plan

matplotlib.use("agg")


MEASURES = ("closer to train", "smoothed closer to train", "PCA-W to held-out", "energy to held-out", "residual noise")
RECIPES = ("interval 0 to 500", "interval 250 to 750", "interval 500 to 1000", "interval 0 to 1000", "uniform")
Line = dict[str, Any]


def made_up(dataset: str, seed: int, i: int, config: Line) -> Line:
    """A recorded line, its measures a little larger for each data set, seed and control."""
    value = 0.5 + 0.02 * i + 0.1 * seed + 0.05 * (dataset == "emoji")
    measures = {name: [value + ("held-out" in name)] * 3 for name in MEASURES}
    floors = {kind: dict.fromkeys(MEASURES, [level] * 3) for kind, level in (("fresh", 0.45), ("copycat", 1.0))}
    loss = {"t": [5], "train": [0.1], "held_out": [0.2]}
    return {"key": key(config), "config": config, "metrics": measures, "floors": floors, "loss": loss, "seconds": 1.0}


def lines() -> list[Line]:
    configs = {(c["dataset"], c["seed"], describe(c)): c for p in ("width", "position") for c in read_plan(p, "smoke")}
    kept = {name: c for name, c in configs.items() if name[1] < 2 and name[2] in RECIPES}
    return [made_up(*name[:2], RECIPES.index(name[2]), config) for name, config in kept.items()]


def keep_samples(line: Line, folder: Path, samples: np.ndarray) -> Line:
    file = io.BytesIO()
    np.savez_compressed(file, samples=samples)
    (folder / "samples").mkdir(exist_ok=True)
    (folder / "samples" / f"{line['key']}.npz").write_bytes(file.getvalue())
    return line | {"samples_sha256": hashlib.sha256(file.getvalue()).hexdigest()}


def tradeoff_explorer() -> widgets.Widget:
    return explore.tradeoff_explorer(lines())


def control(panel: widgets.Widget, description: str) -> widgets.Widget:
    return next(w for w in panel.children[0].children if w.description == description)


@pytest.mark.parametrize(
    ("explorer", "moves"),
    [
        (explore.snr_explorer, {"schedule": "cosine", "T": 500, "t / (T-1)": 0.6}),
        (explore.interval_explorer, {"width": 200, "centre": 600, "confidence": 0.6, "tails": "uniform"}),
        (explore.live_trainer, {"width": 300, "centre": 800}),
        (tradeoff_explorer, {"width": "uniform", "emphasis": "high noise", "seed": 1, "data set": "emoji"}),
    ],
)
def test_each_control_changes_the_picture(explorer, moves):
    panel = explorer()
    for description, value in moves.items():
        before, words = bytes(panel.picture.value), panel.reading.value
        control(panel, description).value = value
        assert bytes(panel.picture.value[:4]) == b"\x89PNG"
        assert panel.picture.value != before, description
        if explorer is not explore.live_trainer:
            assert panel.reading.value != words, description
        assert panel.errors.outputs == ()
    assert plt.get_fignums() == []  # an open figure would be shown a second time


def test_interval_reading_is_right():
    figure, reading = explore.draw_interval(Schedule.linear(), data.load("spiral", 16).train, width=400, centre=500)
    plt.close(figure)
    assert reading.startswith("[300, 700] holds 95% of the draws")


@pytest.mark.parametrize("shape", [(3, 1, 40), (5, 3, 8, 8), (4, 1, 8, 8)])
def test_interval_explorer_takes_signals_and_images(shape):
    items = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    panel = explore.interval_explorer(items=items)
    assert panel.errors.outputs == ()
    assert bytes(panel.picture.value[:4]) == b"\x89PNG"


def test_an_error_is_shown_and_goes_away():
    panel = explore.interval_explorer()
    tails = control(panel, "tails")
    tails.options = (*tails.options, "mirror")
    tails.value = "mirror"
    (shown,) = panel.errors.outputs
    assert shown["output_type"] == "error"
    assert "'mirror'" in shown["evalue"]
    assert plt.get_fignums() == []
    tails.value = "uniform"
    assert panel.errors.outputs == ()


def test_live_trainer_refuses_images():
    images = torch.zeros(4, 3, 8, 8)
    dataset = data.Dataset("pictures", images, images, images, (-1, 1), "image", "", "", "")
    with pytest.raises(ValueError, match="2-D points"):
        explore.live_trainer(dataset)


def test_training_redraws_and_ends():
    async def press():
        panel = explore.live_trainer(steps=60)
        before = bytes(panel.picture.value)
        control(panel, "Train").click()
        async with asyncio.timeout(60):
            while "step 60" not in panel.reading.value and panel.errors.outputs == ():
                await asyncio.sleep(0.05)
        assert panel.picture.value != before
        assert "memorized" in panel.reading.value
        assert panel.errors.outputs == ()

    asyncio.run(press())


def test_stop_stops_and_the_last_press_wins():
    async def press():
        panel = explore.live_trainer(steps=10**6)
        control(panel, "Train").click()
        await asyncio.sleep(0.2)
        control(panel, "Train").click()  # ends the first
        await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks() - {asyncio.current_task()}) == 1
        pressed = time.monotonic()
        control(panel, "Stop").click()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert time.monotonic() - pressed < 5  # 200 ms on a quiet machine

    asyncio.run(press())


def test_an_error_in_training_is_shown(monkeypatch):
    def broken(*arguments):
        raise FloatingPointError("the loss is nan")

    async def press():
        panel = explore.live_trainer()
        monkeypatch.setattr(explore.live, "train_points", broken)
        control(panel, "Train").click()
        await asyncio.sleep(0.05)
        assert panel.errors.outputs[0]["evalue"] == "the loss is nan"

    asyncio.run(press())


def test_tradeoff_reads_a_run_beside_uniform_and_the_floors():
    figure, reading = explore.draw_tradeoff(lines(), "ecg5000", 1, "interval 0 to 500")
    rings = [ax.lines[-1].get_xydata().tolist() for ax in figure.axes]
    plt.close(figure)
    assert rings == [[[1.6, 0.6]]] * 2, "distance to the right, memorization up"
    assert reading.startswith("interval 0 to 500, seed 1: closer to train 0.6 (uniform 0.68, fresh 0.45, copycat 1);")
    assert reading.endswith("Trained on t = 0 to 683 only (T p(t) > 0.01). Its samples were not kept.")


def test_tradeoff_says_what_is_broken():
    broken = lines()
    for line in broken:
        if describe(line["config"]) == "interval 0 to 500":
            line["metrics"]["residual noise"] = [2.5, 2.5, 2.5]
    figure, reading = explore.draw_tradeoff(broken, "emoji", 0, "interval 0 to 500")
    assert "Broken: it neither memorizes nor generalises." in reading
    assert "hollow: broken" in [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)


def test_tradeoff_slider_offers_the_recorded_widths():
    panel = tradeoff_explorer()
    assert [name for name, _ in control(panel, "width").options] == ["500", "1,000", "uniform"]
    control(panel, "emphasis").value = "low noise"
    assert [name for name, _ in control(panel, "width").options] == ["500", "uniform"]
    assert control(panel, "width").value == "interval 0 to 500"
    control(panel, "width").value = "uniform"
    control(panel, "seed").value = 1
    assert control(panel, "width").value == "uniform", "another seed is no other question"
    control(panel, "emphasis").value = "high noise"
    assert control(panel, "seed").value == 1
    assert panel.errors.outputs == ()


def test_tradeoff_shows_kept_samples_beside_their_nearest_and_a_damaged_file_as_an_error(tmp_path):
    kept = [line for line in lines() if line["config"]["dataset"] == "emoji" and line["config"]["seed"] == 0]
    n_train = kept[0]["config"]["n_train"]
    train = data.load("emoji", n_train, seed=0).train[:9]
    pixels = train.add(1).mul(127.5).round().to(torch.uint8).numpy()
    kept = [keep_samples(line, tmp_path, pixels) for line in kept]
    panel = explore.tradeoff_explorer(kept, tmp_path)
    assert panel.errors.outputs == () and "its first 8 samples" in panel.reading.value

    figure, _ = explore.draw_tradeoff(kept, "emoji", 0, "uniform", folder=tmp_path)
    shown = [image.get_array() for image in figure.axes[-1].images]
    plt.close(figure)
    assert len(shown) == 16
    np.testing.assert_allclose(shown[:8], shown[8:], atol=1e-6)  # each sample is a copy, and above what it copies

    by_control = {describe(line["config"]): line for line in kept}
    (tmp_path / "samples" / f"{by_control['uniform']['key']}.npz").write_bytes(b"cut short")
    control(panel, "width").value = "uniform"
    (error,) = panel.errors.outputs
    assert "damaged" in error["evalue"] and error["output_type"] == "error"
    control(panel, "width").value = "interval 0 to 1000"
    assert panel.errors.outputs == ()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: [line for line in lines() if describe(line["config"]) != "uniform"], "uniform"),
        (lambda: lines() + lines()[:1], "two runs of"),
    ],
)
def test_tradeoff_refuses_lines_it_cannot_compare(given, words):
    with pytest.raises(ValueError, match=words):
        explore.tradeoff_explorer(given())


def test_tradeoff_names_a_run_that_is_not_there():
    with pytest.raises(ValueError, match="no run of 'interval 1 to 2' on 'emoji' with seed 0"):
        explore.draw_tradeoff(lines(), "emoji", 0, "interval 1 to 2")
    assert plt.get_fignums() == []
