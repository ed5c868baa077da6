"""The explorers answer their controls: picture and words change, errors are shown, Stop stops."""

import asyncio
import dataclasses
import re
import time
from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from memlib import ExactDenoiser, Schedule, gaussian_interval, sample, uniform
from memlib.__main__ import main as command
from memlib.lab import Experiment, Result, data, run
from memlib.lab.experiment import Network
from memlib.metrics import closer_to_train, memorized_fraction, neighbour_ratio
from memlib.training import TrainConfig
from memlib.viz import explore

pytestmark = pytest.mark.usefixtures("fresh_style")  # which closes what is drawn


@lru_cache
def tiny(dataset: str) -> Result:
    """A run of five steps: enough to walk through it, too few to learn anything."""
    network = Network(width=8) if dataset == "spiral" else Network(width=8, multipliers=(1,), unshuffle=2)
    given = {"training": TrainConfig(steps=5, batch_size=8, ema_decay=0.5, warmup=1), "n_samples": 12}
    given |= {"sampler": "ddim" if dataset == "spiral" else "ddpm", "sampler_steps": 6}
    return run(Experiment(uniform(), dataset, 8, network=network, **given))


def neighbour_explorer() -> widgets.Widget:
    dataset = data.load("emoji", 12)
    return explore.neighbour_explorer(torch.cat([dataset.train[:6], dataset.fresh[:10]]), dataset)


def control(panel: widgets.Widget, description: str) -> widgets.Widget:
    return next(w for w in panel.children[0].children if getattr(w, "description", None) == description)


def in_a_loop(test: Callable[..., Coroutine]) -> Callable[..., None]:
    return wraps(test)(lambda **fixtures: asyncio.run(test(**fixtures)))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[plt.Figure]:
    """The figures that panels show."""
    figures, show = [], explore.noise.Panel.show
    monkeypatch.setattr(explore.noise.Panel, "show", lambda *given: (figures.append(given[1]), show(*given)))
    return figures


@pytest.mark.parametrize(
    ("explorer", "moves"),
    [(explore.live_trainer, {"A: width": 300, "A: centre": 800, "B: width": 700, "B: centre": 100}),
     (lambda: explore.denoising_explorer(tiny("emoji")), {"t": 1, "sample": 3}),
     (neighbour_explorer, {"smallest": "L2 to nearest", "from rank": 4, "threshold": 0.99})],
)  # fmt: skip
def test_each_control_changes_the_picture(explorer, moves, drawn):
    panel = explorer()
    assert len(drawn) == 1, "no more is drawn before it shows"
    for description, value in moves.items():
        before, words = bytes(panel.picture.value), panel.reading.value
        control(panel, description).value = value
        assert bytes(panel.picture.value[:4]) == b"\x89PNG"
        assert panel.picture.value != before, description
        assert panel.reading.value != words, description
    assert plt.get_fignums() == []  # an open figure would be shown a second time


@pytest.mark.parametrize("T", [24, 100, 1000])
def test_the_interval_explorers_timesteps_are_those_shown(T):
    panel = explore.interval_explorer(Schedule.linear(T))
    assert (panel.width, panel.centre) == (T // 2, T // 4)
    panel.width, panel.tails = T // 4, "interval"
    assert panel.timesteps == gaussian_interval(T, T / 8, 3 * T / 8, tails="interval")


def test_interval_reading_is_right():
    schedule = Schedule.linear()
    _, reading = explore.draw_interval(schedule, data.load("spiral", 16).train, width=400, centre=500)
    assert reading.startswith("[300, 700] holds 95% of the draws")
    ours, even = (p.pmf[(schedule.alpha_bar < 0.5)].sum() for p in (gaussian_interval(1000, 300, 700), uniform()))
    assert f"Draws with more noise than signal: {ours:.0%}, under uniform {even:.0%}." in reading


@pytest.mark.parametrize("shape", [(30, 2), (3, 1, 40), (5, 3, 8, 8), (4, 1, 8, 8)])
@pytest.mark.parametrize("make", [torch.tensor, np.asarray, lambda x: torch.tensor(x, requires_grad=True)])
def test_explorer_and_static_picture_take_the_same_items(shape, make):
    items = make(np.random.default_rng(0).uniform(-1, 1, shape))
    panel = explore.interval_explorer(items=items)
    _, reading = explore.draw_interval(Schedule.linear(), items, 500, 250)
    assert reading.startswith("[0, 500] holds")
    assert panel.about["shape"] == list(shape if len(shape) == 2 else (min(shape[0], 4), *shape[1:]))
    sent = np.frombuffer(panel.items, np.float32).reshape(panel.about["shape"])
    np.testing.assert_array_equal(sent, torch.as_tensor(items).detach()[: len(sent)].float())


def test_an_error_is_shown_and_goes_away_and_words_from_elsewhere_cannot_run_in_the_page():
    panel = neighbour_explorer()
    named = control(panel, "smallest")
    named.options = (*named.options, "mirror")
    named.value = "mirror"
    assert "KeyError" in panel.reading.value and "mirror" in panel.reading.value and not panel.picture._dom_classes
    named.value = "d1/d2"
    assert "KeyError" not in panel.reading.value
    panel = explore.noise.Panel({}, lambda: (plt.subplots()[0], "<script>alert(1)</script>"))
    assert "<script>" not in panel.reading.value
    panel.fail(ValueError("<script>"))
    assert "<script>" not in panel.reading.value and plt.get_fignums() == []


SPIRAL, SHORT, IMAGES = data.load("spiral", 16), Schedule.linear(100), torch.zeros(4, 3, 8, 8)
PICTURES = data.Dataset("pictures", *[IMAGES] * 4, (-1, 1), "image", "", "", "")
STRANGE = [torch.zeros(shape) for shape in ((5, 4, 8, 8), (3, 40), (7,), (2, 1, 2, 2, 2))]


@pytest.mark.parametrize(
    ("call", "named"),
    [*[(lambda x=x: explore.interval_explorer(items=x), "items") for x in STRANGE],
     *[(lambda x=x: explore.draw_interval(Schedule.linear(), x, 5, 9), "items") for x in STRANGE],
     (lambda: explore.interval_explorer(Schedule.linear().zero_terminal_snr()), "zero terminal SNR"),
     (lambda: explore.live_trainer(data.load("spiral", 16, n_fresh=1)), "n_fresh"),
     (lambda: explore.live_trainer(data.load("spiral", 16, n_held_out=8)), "n_held_out"),
     (lambda: explore.live_trainer(PICTURES), "2-D points"),
     *[(lambda sides=sides: explore.draw_live(SPIRAL, SHORT, sides), "sides") for sides in ([], [uniform(50)])],
     (lambda: explore.find_neighbours(data.load("emoji", 12).fresh[:7], data.load("emoji", 12)), "samples"),
     (lambda: explore.find_neighbours(SPIRAL.train, SPIRAL), "samples"),
     (lambda: explore.draw_snr("square"), "'square'.*linear")],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("T", [24, 1000])
def test_pictures_hold_the_data_at_any_T_and_place(T):
    schedule = Schedule.linear(T)
    far = dataclasses.replace(SPIRAL, **{part: getattr(SPIRAL, part) + 100 for part in ("train", "held_out", "fresh")})
    figure, reading = explore.draw_live(far, schedule, [uniform(T)] * 2, [ExactDenoiser(far.train, schedule)] * 2, 1)
    assert "Fresh real points" in reading
    for picture in (figure, explore.draw_interval(schedule, far.train, T // 2, T // 4)[0]):
        for ax in picture.axes[2:]:
            (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
            x, y = np.asarray(ax.collections[0].get_offsets()).T
            assert ((left < x) & (x < right) & (low < y) & (y < high)).mean() > 0.9
            assert x.std() > (right - left) / 20


async def train(panel: widgets.Widget, end: str) -> set[int]:
    """Press Train and wait for the words; the values that the progress bar took on the way."""
    bar, seen = next(w for w in panel.children[0].children if isinstance(w, widgets.IntProgress)), set()
    control(panel, "Train").click()
    async with asyncio.timeout(60):
        while end not in panel.reading.value:
            seen.add(bar.value)
            await asyncio.sleep(0.005)
    return seen | {bar.value}


@in_a_loop
async def test_training_shows_its_progress_and_a_move_keeps_what_was_learnt(drawn):
    panel = explore.live_trainer(steps=60)
    before = bytes(panel.picture.value)
    seen = await train(panel, "Step 60")
    assert len(seen) > 2 and max(seen) == 60, "a sign of life before the picture"
    assert panel.picture.value != before and "near-copies" in panel.reading.value
    learnt = [ax.collections[-1].get_offsets().tolist() for ax in drawn[-1].axes[2:]]
    weights = [ax.lines[1].get_ydata().max() for ax in drawn[-1].axes[:2]]
    control(panel, "A: width").value = 300
    assert [ax.collections[-1].get_offsets().tolist() for ax in drawn[-1].axes[2:]] == learnt
    moved = [ax.lines[1].get_ydata().max() for ax in drawn[-1].axes[:2]]
    assert moved[0] > weights[0] and moved[1] == weights[1]


@in_a_loop
async def test_stop_stops_the_last_press_wins_and_live_trains_at_each_move():
    panel, here = explore.live_trainer(steps=10**6), {asyncio.current_task()}
    for on in (False, True):  # two presses of Train, then two moves with "live" on
        control(panel, "live: train at each move").value = on
        for width in (200, 400):
            control(panel, "B: width").value = width
            if not on:
                control(panel, "Train").click()
            await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks() - here) == 1
        pressed = time.monotonic()
        control(panel, "Stop").click()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == here and time.monotonic() - pressed < 5  # 200 ms on a quiet machine
        control(panel, "live: train at each move").value = False
        control(panel, "B: width").value = 700
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == here, "without live, a move trains nothing"


@in_a_loop
async def test_an_error_in_training_is_shown(monkeypatch):
    monkeypatch.setattr(explore.live, "train_points", lambda *_: 1 / 0)
    await train(explore.live_trainer(), "division by zero")


def test_both_sides_start_alike_and_learn_what_their_interval_says():
    points, narrow = SPIRAL, gaussian_interval(1000, 0, 500)
    *_, (step, (a, b)) = explore.train_points(points, Schedule.linear(), [uniform(), uniform()], 20, seed=0)
    assert step == 20
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    *_, (_, (c, d)) = explore.train_points(points, Schedule.linear(), [uniform(), narrow], 20, seed=0)
    assert torch.equal(next(a.parameters()), next(c.parameters()))
    assert not torch.equal(next(c.parameters()), next(d.parameters()))


def test_live_reading_of_a_memorizer_is_that_of_its_samples():
    points, schedule = SPIRAL, Schedule.linear()
    exact = ExactDenoiser(points.train, schedule)
    _, reading = explore.draw_live(points, schedule, [uniform()], [exact], 1)
    samples = sample(exact, schedule, (2,), 128, seed=0, steps=25)
    copied, closer = memorized_fraction(samples, points.train), closer_to_train(samples, points.train, points.held_out)
    assert closer.low > 0.8
    assert f"A: near-copies {copied.value:.0%}, closer to train {closer.value:.0%}, energy" in reading


@pytest.mark.parametrize("dataset", ["spiral", "emoji"])
def test_denoising_ends_in_the_runs_samples_and_commits_once(dataset):
    result = tiny(dataset)
    process = explore.follow(result)
    assert len(process.frames) == 7 and process.sigma[-1] == 0 == min(process.sigma)
    torch.testing.assert_close(process.frames[-1].x, result.samples[:8], atol=1e-5, rtol=0)
    for i, frame in enumerate(process.committed):
        after, before = process.nearest[frame:, i], process.nearest[:frame, i]
        assert (after == after[-1]).all() and (not len(before) or before[-1] != after[-1])
    _, reading = explore.draw_denoising(process, result.experiment.load_data(), 1)
    assert f"commits to item {int(process.nearest[-1, 1])}" in reading


def test_neighbours_are_counted_sorted_and_compared_with_fresh_items():
    dataset = data.load("emoji", 12)
    copies = torch.cat([dataset.fresh[:6], dataset.train[:6]])
    found = explore.find_neighbours(copies, dataset)
    assert found.nearest[6:, 0].tolist() == list(range(6)) and (found.ratio[6:] == 0).all()
    _, reading = explore.draw_neighbours(found, threshold=0.2)
    assert reading.startswith("threshold 0.20: near-copies 50%")
    np.testing.assert_array_equal(found.fresh_ratio, neighbour_ratio(dataset.fresh, dataset.train))
    assert f"fresh real items, which copy nothing, {(found.fresh_ratio < 0.2).mean():.0%}" in reading
    assert all(order.shape == (12,) for order in found.orders.values())
    assert set(np.argsort(found.orders["L2 to nearest"], kind="stable")[:6]) == set(range(6, 12))
    np.testing.assert_array_equal(explore.find_neighbours(copies.numpy(), dataset).ratio, found.ratio)


def test_the_playground_takes_a_link_and_asks_nothing_of_another_host(tmp_path):
    assert explore.playground("https://example.org/page.html#a=notch&seed=3").link == "a=notch&seed=3"
    assert command(["page", "--out", str(tmp_path / "new" / "page.html")]) == 0
    html = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 300_000 and html.count("</script>") == 1 and "<noscript>" in html
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(", html)
