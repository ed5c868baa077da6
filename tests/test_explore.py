"""The explorers answer their controls: picture and words change, errors are shown, Stop stops."""

import asyncio
import time

import ipywidgets as widgets
import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from memlib import Schedule, data, explore

matplotlib.use("agg")


def control(panel: widgets.Widget, description: str) -> widgets.Widget:
    return next(w for w in panel.children[0].children if w.description == description)


@pytest.mark.parametrize(
    ("explorer", "moves"),
    [
        (explore.snr_explorer, {"schedule": "cosine", "T": 500, "t / (T-1)": 0.6}),
        (explore.interval_explorer, {"width": 200, "centre": 600, "confidence": 0.6, "tails": "uniform"}),
        (explore.live_trainer, {"width": 300, "centre": 800}),
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
        monkeypatch.setattr(explore, "train_points", broken)
        control(panel, "Train").click()
        await asyncio.sleep(0.05)
        assert panel.errors.outputs[0]["evalue"] == "the loss is nan"

    asyncio.run(press())
