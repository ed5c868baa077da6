"""The interval explorer in a real browser: it computes what memlib computes, and answers the hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from browsing import BROWSER, drag, processor, shoot

from memlib import Schedule, gaussian_interval
from memlib.lab import courses, data
from memlib.lab.spectrum import recorded_spectra
from memlib.viz import explore
from memlib.viz.explore.playground import inlined
from memlib.viz.style import NEVER

pytestmark = BROWSER
SPECTRA = recorded_spectra(courses.read(), "mixture", "heartbeats", "nothing")
SAVE_AND_SHOW = """views => {
    const { model, render } = document.querySelector("[id$=explorer]");
    const names = ["width", "centre", "tails", "schedule", "T", "position"];
    model.save_changes = () => (window.saved = Object.fromEntries(names.map((name) => [name, model.get(name)])));
    window.model = model;
    for (let view = 1; view < views; view++) window.end = render({ model, el: document.body });
}"""


@pytest.fixture
def opened(visit, tmp_path):
    """Opens a page with an explorer, without a kernel."""

    def page_with(panel, views: int = 1, width: int = 900):
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        (tmp_path / "alone.html").write_text(f"<!doctype html>{head}{inlined(panel)}", encoding="utf-8")
        page = visit((tmp_path / "alone.html").as_uri(), width)
        page.evaluate(SAVE_AND_SHOW, views)
        return page

    return page_with


def numbers(page) -> list[float]:
    """low, high, width, centre"""
    width, centre = page.evaluate("['width', 'centre'].map((name) => model.get(name))")
    return [centre - width / 2, centre + width / 2, width, centre]


def told(page) -> str:
    return page.locator(".told").first.inner_text()


def test_predicted_near_copies_are_those_of_the_spectrum_and_move_with_the_hand(compute, opened) -> None:
    assert set(SPECTRA) == {"mixture", "heartbeats"}
    panel = explore.interval_explorer(spectra=SPECTRA)
    for name, own in SPECTRA.items():
        for ends in [(-1000, 2000), (0, 500), (500, 999), (60, 160), (900, 999)]:  # with and without values cut at 0
            p = gaussian_interval(1000, *ends)
            ours = compute("return predictCopies(f[0], gaussianInterval(s, f[1], f[2]))", [panel.spectra[name], *ends])
            theirs = own.predict(p, own.steps[-1])
            np.testing.assert_allclose(ours, [theirs.value, theirs.low, theirs.high], rtol=0, atol=1e-5)
    page = opened(panel)
    copies = page.locator(".copies")
    for words in ("predicted near-copies", "mixture 23 % [18 %, 27 %] after 3000 steps"):
        assert words in copies.inner_text()
    page.locator("[data-set=centre]").press("End")
    assert "mixture 0 % [0 %, " in copies.inner_text()
    unit = (page.locator(".curve").first.bounding_box()["width"] - 40) / 999
    left, right = (float(x) for x in re.findall(r"[MH]([\d.]+)", page.locator(".zone").first.get_attribute("d"))[:2])
    assert [(left - 30) / unit, (right - 30) / unit] == pytest.approx([75, 274], abs=1)
    page.evaluate("model.set('spectra', {})")
    assert not copies.is_visible() and not page.locator(".zone-text").first.is_visible()
    with pytest.raises(ValueError, match="spectra are of T = 1000, the schedule has T = 500"):
        explore.interval_explorer(Schedule.linear(500), spectra=SPECTRA)


def test_edges_body_sliders_and_keys_move_it_and_the_words_are_right(opened) -> None:
    page = opened(explore.interval_explorer())
    unit = (page.locator(".curve").first.bounding_box()["width"] - 40) / 999  # pixels of one timestep
    grips = page.locator(".grip")
    assert numbers(page) == [0, 500, 500, 250]
    drag(page, grips.nth(1), 200 * unit)
    assert numbers(page) == pytest.approx([200, 700, 500, 450], abs=3), "the body moves the whole"
    drag(page, grips.nth(2), -300 * unit)
    assert numbers(page) == pytest.approx([200, 400, 200, 300], abs=5), "an edge moves alone"
    assert page.evaluate("saved.width") == numbers(page)[2], "the kernel is told when the hand lets go"
    low, high, _, _ = numbers(page)
    p = gaussian_interval(1000, low, high)
    bare, noisy = (p.effective_weight() <= NEVER).double().mean(), p.pmf[Schedule.linear().snr < 1].sum()
    assert told(page).startswith(f"[{low:g}, {high:g}] holds 9")
    assert f"thick on the axis): {bare:.0%}".replace("%", " %") in told(page)
    assert f"Highest weight {p.effective_weight().max():.3g}." in told(page)
    assert f"more noise than signal: {noisy:.0%}, under uniform 74%".replace("%", " %") in told(page)
    page.get_by_label("width").press("End")
    assert numbers(page)[2] == 2000 and told(page).count(": 0 % of the steps") == 1
    drag(page, grips.nth(0), 100 * unit)
    assert numbers(page)[0] == pytest.approx(100, abs=5), "an edge beyond the axis is taken where it is seen"
    page.locator("[data-set=centre]").press("Home")
    assert numbers(page)[3] == 0
    before = told(page)
    page.get_by_label("tails").select_option("interval")
    assert told(page) != before and page.evaluate("saved.tails") == "interval"
    grip = page.get_by_role("slider", name="centre", exact=True)
    assert [grip.get_attribute(f"aria-value{name}") for name in ("min", "now", "max")] == ["0.0", "0.0", "1000.0"]
    grip.press("PageUp")
    page.get_by_role("slider", name="noisier edge").press("Home")
    assert numbers(page) == pytest.approx([-550, 550, 1100, 0], abs=5), "as far as it may, and the other end stays"
    for given, kept in ((9000, 2000), ("NaN", 100), ("'nan'", 100)):  # the last is NaN from a kernel
        page.evaluate(f"model.set('width', {given})")
        assert numbers(page)[2] == kept, "a linked slider cannot leave the limits"
        highest = told(page).split("Highest weight ")[1].split(". ")[0]
        assert page.locator(".cut").first.text_content() == (f"cut off, rises to {highest}" if kept == 100 else "")


def test_views_of_one_explorer_move_together_and_one_that_is_gone_is_silent(opened) -> None:
    panel = explore.interval_explorer()
    panel.centre = float("nan")  # before it is shown: it becomes 0
    page = opened(panel, views=2)
    page.get_by_label("width").first.press("ArrowRight")
    first, second = page.locator(".told").all_inner_texts()
    assert first == second and "[-255, 255]" in first
    page.evaluate("end()")
    page.keyboard.press("ArrowRight")
    now, kept = page.locator(".told").all_inner_texts()
    assert "[-260, 260]" in now and kept == second


def test_the_snr_explorer_follows_the_hand_and_says_what_memlib_says(opened) -> None:
    page = opened(explore.snr_explorer())
    _, reading = explore.draw_snr()
    assert told(page) == reading.replace("sigma", "\u03c3").replace("74%", "74 %")
    page.locator("[data-set=schedule]").select_option("cosine")
    page.locator("[data-set=T]").select_option("100")
    page.locator("[data-set=position]").press("End")
    assert told(page).startswith("cosine, T = 100, t = 99: signal share 2.43e-7, ")
    for part, expected in ((0, 0.5), (1, 0.77)):  # log-SNR -2 of a cosine
        box = page.locator(".curve").nth(part).bounding_box()
        unit = (box["width"] - 40) / (30.3 if part else 1)
        page.mouse.click(box["x"] + 30 + (9.3 + 2 if part else 0.5) * unit, box["y"] + 60)
        assert page.evaluate("saved.position") == pytest.approx(expected, abs=0.012), "the dot comes to the hand"
    page.get_by_role("slider", name="log-SNR").press("PageDown")
    assert page.evaluate("model.get('position')") > 0.78
    page.evaluate("model.set('position', 7); model.set('T', 400)")
    limits = page.evaluate("[model.get('position'), model.get('T'), saved.position, saved.T]")
    assert limits == [1, 500] * 2, "a linked slider cannot leave the limits, and the kernel is told"


PICTURES = {
    "points": None,
    "far": data.load("spiral", 64).train + torch.tensor([100.0, -40.0]),
    "signals": torch.randn(5, 2, 40, generator=torch.Generator().manual_seed(0)),
    "images": data.load("emoji", 8).train,
    "one grey image": torch.zeros(1, 1, 8, 8),
}


@pytest.mark.parametrize("items", PICTURES.values(), ids=PICTURES)
def test_items_are_drawn_and_noise_changes_them(opened, items) -> None:
    page = opened(explore.interval_explorer(items=items))
    ink = """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [...data].reduce((sum, value) => (sum * 31 + value) % 1000003, 0); }"""
    blank = page.evaluate(f"({ink})(Object.assign(document.createElement('canvas'), {{ width: 360, height: 360 }}))")
    drawn = [page.locator("canvas").nth(k).evaluate(ink) for k in range(3)]
    assert len({*drawn, blank}) == 4


@pytest.mark.parametrize("width", [360, 768, 1366])
@pytest.mark.parametrize("make", [explore.interval_explorer, explore.snr_explorer])
def test_it_fits_its_place_and_answers_30_times_a_second(browser, opened, make, width) -> None:
    given = {"spectra": SPECTRA} if make is explore.interval_explorer else {}
    page = opened(make(items=data.load("emoji", 8).train, **given), width=width)
    before = told(page)
    page.wait_for_timeout(300)
    shoot(page, f"{make.__name__}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    def move() -> None:
        drag(page, page.locator(".grip.body").first, 110)

    move()  # so that it is compiled
    assert processor(browser, page, move)["CrRendererMain"] < 33
    assert told(page) != before
