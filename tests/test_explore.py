"""The explorers answer their controls: picture and words change, errors are shown, Stop stops."""

import asyncio
import hashlib
import io
import time
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from memlib import ExactDenoiser, Schedule, gaussian_interval, sample, uniform
from memlib.lab import Experiment, data, run
from memlib.lab.experiment import Network
from memlib.lab.plans import describe, key, read_plan
from memlib.lab.runs import Result
from memlib.metrics import closer_to_train, memorized_fraction, neighbour_ratio
from memlib.training import TrainConfig
from memlib.viz import explore

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


@lru_cache
def tiny(dataset: str) -> Result:
    """A run of five steps: enough to be walked through, not to have learnt anything."""
    network = Network(width=8) if dataset == "spiral" else Network(width=8, multipliers=(1,), unshuffle=2)
    training = TrainConfig(steps=5, batch_size=8, ema_decay=0.5, warmup=1)
    return run(Experiment(uniform(), dataset, 8, network=network, training=training, n_samples=12, sampler_steps=6))


def denoising_explorer() -> widgets.Widget:
    return explore.denoising_explorer(tiny("emoji"))


def neighbour_explorer() -> widgets.Widget:
    dataset = data.load("emoji", 12)
    return explore.neighbour_explorer(torch.cat([dataset.train[:6], dataset.fresh[:10]]), dataset)


EXPLORERS = (
    explore.snr_explorer,
    explore.interval_explorer,
    explore.live_trainer,
    denoising_explorer,
    neighbour_explorer,
    tradeoff_explorer,
)


def control(panel: widgets.Widget, description: str) -> widgets.Widget:
    row = panel.children[0].children
    buttons = [w for box in row if isinstance(box, widgets.HBox) for w in box.children]
    return next(w for w in (*row, *buttons) if getattr(w, "description", None) == description)


@pytest.mark.parametrize(
    ("explorer", "moves"),
    [
        (explore.snr_explorer, {"schedule": "cosine", "T": 500, "t / (T-1)": 0.6}),
        (explore.interval_explorer, {"width": 200, "centre": 600, "confidence": 0.6, "tails": "uniform"}),
        (explore.live_trainer, {"A: width": 300, "A: centre": 800, "B: width": 700, "B: centre": 100}),
        (denoising_explorer, {"t": 5, "sample": 3}),
        (neighbour_explorer, {"smallest": "L2 to nearest", "from rank": 4, "threshold": 0.99}),
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
        assert panel.reading.value != words, description
        assert panel.errors.outputs == ()
    assert plt.get_fignums() == []  # an open figure would be shown a second time


def test_interval_reading_is_right():
    schedule = Schedule.linear()
    figure, reading = explore.draw_interval(schedule, data.load("spiral", 16).train, width=400, centre=500)
    plt.close(figure)
    assert reading.startswith("[300, 700] holds 95% of the draws")
    noisy = schedule.alpha_bar < 0.5
    ours, even = (p.pmf[noisy].sum() for p in (gaussian_interval(1000, 300, 700), uniform()))
    assert f"Draws with more noise than signal: {ours:.0%}, under uniform {even:.0%}." in reading


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
            while "Step 60" not in panel.reading.value and panel.errors.outputs == ():
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


def test_live_trains_at_each_move_and_only_then():
    async def move():
        panel = explore.live_trainer(steps=10**6)
        control(panel, "B: width").value = 300
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        control(panel, "live: train at each move").value = True
        for width in (200, 400):
            control(panel, "B: width").value = width
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks() - {asyncio.current_task()}) == 1, "the last move wins"
        control(panel, "Stop").click()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(move())


def test_both_sides_start_alike_and_learn_what_their_interval_says():
    points, same = data.load("spiral", 16), [uniform(), uniform()]
    *_, (step, (a, b)) = explore.train_points(points, Schedule.linear(), same, 20, seed=0)
    assert step == 20
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    *_, (_, (c, d)) = explore.train_points(
        points, Schedule.linear(), [uniform(), gaussian_interval(1000, 0, 500)], 20, 0
    )
    assert torch.equal(next(a.parameters()), next(c.parameters()))
    assert not torch.equal(next(c.parameters()), next(d.parameters()))


def test_live_reading_of_a_memorizer_is_that_of_its_samples():
    points, schedule = data.load("spiral", 16), Schedule.linear()
    exact = ExactDenoiser(points.train, schedule)
    figure, reading = explore.draw_live(points, schedule, [uniform()], [exact], 1)
    plt.close(figure)
    samples = sample(exact, schedule, (2,), 128, seed=0, steps=25)
    copied, closer = memorized_fraction(samples, points.train), closer_to_train(samples, points.train, points.held_out)
    assert closer.low > 0.8
    assert f"A: memorized {copied.value:.0%}, closer to train {closer.value:.0%}, energy" in reading


def test_live_pictures_take_any_number_of_fresh_points_and_refuse_a_ninth_side():
    points, schedule = data.load("spiral", 16, n_fresh=40), Schedule.linear()
    exact = ExactDenoiser(points.train, schedule)
    figure, reading = explore.draw_live(points, schedule, [uniform()], [exact], 1)
    plt.close(figure)
    assert "Fresh real points" in reading
    with pytest.raises(ValueError, match="sides holds 9"):
        explore.draw_live(points, schedule, [uniform()] * 9)


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


class Parts(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("explorer", EXPLORERS, ids=lambda explorer: explorer.__name__)
def test_without_a_kernel_one_slider_moves_through_frames(explorer):
    panel = explorer(steps=20) if explorer is explore.live_trainer else explorer()
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle, "with a kernel, the widget itself"
    page = Parts(bundle["text/html"])
    (slider,) = page.of("input")
    figures, pictures = page.of("figure"), page.of("img")
    assert 2 <= len(figures) == len(pictures) == int(slider["max"]) + 1 <= 9
    assert len({picture["src"] for picture in pictures}) == len(pictures), "each place shows another picture"
    assert all(picture["alt"] and picture["src"].startswith("data:image/webp;base64,") for picture in pictures)
    shown = [figure["data-value"] for figure in figures if "hidden" not in figure]
    assert shown == [figures[int(slider["value"])]["data-value"]], "it stands where the widget's slider stands"
    for one in panel.children[0].children:
        if not isinstance(one, widgets.HBox):
            assert one.description in page.text
    assert len(bundle["text/html"]) < 400_000
    assert plt.get_fignums() == []


def test_a_slider_between_two_of_its_steps_is_shown_where_it_stands():
    panel = explore.snr_explorer()
    control(panel, "t / (T-1)").value = 0.255
    (slider,) = (page := Parts(panel.still())).of("input")
    assert page.of("figure")[int(slider["value"])]["data-value"] == "0.255"


def test_words_from_elsewhere_cannot_run_in_the_page():
    def draw(k: int) -> tuple[plt.Figure, str]:
        return plt.subplots()[0], "<script>alert(1)</script>"

    slider = widgets.IntSlider(0, 0, 1, description="<script>")
    assert Parts(explore.panel.Panel({"k": slider}, draw, "k").still()).of("script") == []


def test_axes_keep_their_place_while_a_slider_moves():
    panel = explore.interval_explorer()
    (places,) = panel._places.values()
    control(panel, "width").value = 20  # a high peak: its ticks are wider
    assert list(panel._places.values()) == [places]
    panel._lay_out(figure := explore.draw_interval(Schedule.linear(), data.load("spiral", 16).train, width=20)[0])
    seen = [ax.get_position(original=True).bounds for ax in figure.axes]
    plt.close(figure)
    assert seen == [place.bounds for place in places]


def test_no_number_is_cut_off_and_nothing_is_left_of_an_earlier_interval():
    panel = explore.interval_explorer()
    first = bytes(panel.picture.value), panel.reading.value
    for width, centre in ((10, 500), (2000, 999)):  # weights of three digits, densities of three decimals
        control(panel, "width").value, control(panel, "centre").value = width, centre
        figure, _ = panel._draw(**panel._values())
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes), (width, boxes)
    control(panel, "width").value, control(panel, "centre").value = 500, 250
    assert (bytes(panel.picture.value), panel.reading.value) == first


@pytest.mark.parametrize("dataset", ["spiral", "emoji"])
def test_denoising_ends_in_the_runs_samples_and_commits_once(dataset):
    result = tiny(dataset)
    process = explore.follow(result)
    assert len(process.frames) == 7 and process.sigma[-1] == 0 == min(process.sigma)
    torch.testing.assert_close(process.frames[-1].x, result.samples[:8], atol=1e-5, rtol=0)
    for i, frame in enumerate(process.committed):
        after, before = process.nearest[frame:, i], process.nearest[:frame, i]
        assert (after == after[-1]).all() and (not len(before) or before[-1] != after[-1])
    figure, reading = explore.draw_denoising(process, result.experiment.load_data(), 1)
    plt.close(figure)
    assert f"commits to item {int(process.nearest[-1, 1])}" in reading


@pytest.mark.parametrize(("sample", "step", "words"), [(9, 0, "sample = 9"), (0, 7, "step = 7"), (0, -1, "step = -1")])
def test_denoising_names_what_is_not_there(sample, step, words):
    process = explore.follow(tiny("emoji"))
    with pytest.raises(ValueError, match=words):
        explore.draw_denoising(process, tiny("emoji").experiment.load_data(), sample, step)
    with pytest.raises(ValueError, match="count = 0"):
        explore.follow(tiny("emoji"), 0)


def test_neighbours_are_counted_sorted_and_set_beside_fresh_items():
    dataset = data.load("emoji", 12)
    copies = torch.cat([dataset.fresh[:6], dataset.train[:6]])
    found = explore.find_neighbours(copies, dataset)
    assert found.nearest[6:, 0].tolist() == list(range(6)) and (found.ratio[6:] == 0).all()
    figure, reading = explore.draw_neighbours(found, threshold=0.2)
    plt.close(figure)
    assert reading.startswith("threshold 0.20: memorized 50%")
    np.testing.assert_array_equal(found.fresh_ratio, neighbour_ratio(dataset.fresh, dataset.train))
    fresh = (found.fresh_ratio < 0.2).mean()
    assert f"fresh real items, which copy nothing, {fresh:.0%}" in reading
    for order in found.orders.values():
        assert order.shape == (12,)
    assert set(np.argsort(found.orders["L2 to nearest"], kind="stable")[:6]) == set(range(6, 12))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"order": "beauty"}, "order = 'beauty'"),
        ({"first": 9}, "first = 9"),
        ({"threshold": 0.0}, r"threshold = 0\.0"),
    ],
)
def test_neighbours_name_what_is_wrong(given, words):
    dataset = data.load("emoji", 12)
    found = explore.find_neighbours(dataset.fresh[:12], dataset)
    with pytest.raises(ValueError, match=words):
        explore.draw_neighbours(found, **given)
    with pytest.raises(ValueError, match="at least 8"):
        explore.find_neighbours(dataset.fresh[:7], dataset)
    spiral = data.load("spiral", 16)
    with pytest.raises(ValueError, match="'points'"):
        explore.find_neighbours(spiral.train, spiral)
