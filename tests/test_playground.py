"""The playground, as a reader uses it: training, dragging, drawing, links, keys, and what it costs the machine."""

from __future__ import annotations

import json
import re
import time

import pytest
from browsing import BROWSER, drag, processor

from memlib import Schedule
from memlib.__main__ import main as command

pytestmark = BROWSER
SCHEDULE = Schedule.linear()


class Reader:
    """The playground in a page, when it has trained so many steps."""

    def __init__(self, page, step: int) -> None:
        self.page = page
        self.until(step)

    def step(self) -> int:
        return int(self.page.locator(".count").inner_text().split()[1])

    def until(self, step: int) -> None:
        shown = "document.querySelector('.count').innerText.split(' ')[1]"
        self.page.wait_for_function(f"{shown} >= {step}", timeout=120_000)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def copies(self) -> list[int]:
        texts = self.page.locator(".points output").all_inner_texts()
        return [int(text.split("near-copies ")[1].split(" %")[0]) for text in texts]

    def edges(self, lane: str) -> list[float]:
        grips = self.page.locator(f"[data-lane={lane}] .grip")
        return [float(grips.nth(i).get_attribute("aria-valuenow")) for i in range(3)]

    def value(self, name: str) -> str:
        return self.page.locator(f"[data-set={name}]").input_value()

    def link(self) -> str:
        self.press("Link to this")
        return "#" + self.page.locator(".text").input_value().partition("#")[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("my page ü") / "page.html"
    assert command(["page", "--out", str(out)]) == 0
    return out.as_uri()


@pytest.fixture
def read(visit, address):
    return lambda link="", step=1, width=1366, **context: Reader(visit(address + link, width, **context), step)


def test_training_begins_by_itself_in_lockstep_and_b_copies_first(read) -> None:
    reader = read(step=250)
    a, b = reader.copies()
    assert b > a + 20, "B is trained where copying is decided"
    shown, end = reader.page.locator(".count, [data-chart=copies] text:last-of-type").all_text_contents()
    assert shown == f"step {end}", "also while it trains, the step shown is that of what is seen"
    reader.press("Pause")
    reader.page.wait_for_timeout(1500)
    held = reader.step()
    reader.page.wait_for_timeout(800)
    assert reader.step() == held
    reader.press("Step")
    reader.until(held + 1)
    assert reader.step() == held + 1
    lines = reader.page.locator("[data-chart=copies] path[class^=of]")
    ends = [re.findall(r"[\d.]+ [\d.]+", lines.nth(k).get_attribute("d")) for k in (0, 1)]
    assert "\u2265" in reader.page.locator("[data-chart=off]").text_content(), "what is above the axis is said"
    assert len(ends[0]) > 3 and [p.split()[0] for p in ends[0]] == [p.split()[0] for p in ends[1]], "the same steps"
    link, seen = reader.link(), reader.copies()
    assert f"steps={held + 1}" in link
    other = read(link, held + 1)
    other.page.wait_for_timeout(1000)
    assert other.step() == held + 1 and other.copies() == seen, "the link brings back the same networks"


def test_the_curve_is_dragged_by_mouse_keys_and_touch(read) -> None:
    reader = read("#speed=10", 5)
    page = reader.page
    box = page.locator("[data-lane=b] .curve").bounding_box()
    assert reader.edges("b") == [7.1, 2.4, -2.3]
    grips, unit = page.locator("[data-lane=b] .grip"), (box["width"] - 40) / 19.5  # pixels of one unit of log-SNR
    drag(page, grips.nth(1), 4 * unit)
    assert reader.edges("b") == pytest.approx([3.1, -1.6, -6.3], abs=0.3), "the body moves the whole"
    assert reader.value("b") == "own"
    drag(page, grips.nth(2), -2 * unit)
    assert reader.edges("b") == pytest.approx([3.1, -0.6, -4.3], abs=0.4), "an edge moves alone"
    reader.page.wait_for_function("+document.querySelector('.count').innerText.split(' ')[1] < 5")
    kept = reader.edges("b")
    for key in ("PageUp", "ArrowLeft"):
        grips.nth(1).press(key)
    assert reader.edges("b") == pytest.approx([x + 1.2 for x in kept], abs=0.11)
    grips.nth(1).press("End")
    assert str(reader.edges("b")[1]) == grips.nth(1).get_attribute("aria-valuemax") == "8.0"
    low = reader.edges("b")[2]
    drag(page, grips.nth(0), 8 * unit)
    assert reader.edges("b") == pytest.approx([low + 3, low + 1.5, low]), "the other edge stays at the limit"
    assert "between log-SNR" in page.locator(".word").inner_text(), "it says why, also when the hand has let go"
    page.locator("[data-set=b]").select_option(label="high noise")
    assert reader.edges("b") == [0, -2.4, -4.8]
    phone = read("#speed=10", width=360, has_touch=True, is_mobile=True, forced_colors="active", color_scheme="dark")
    assert phone.page.evaluate("getComputedStyle(document.querySelector('.head i')).backgroundColor != 'rgb(0, 0, 0)'")
    phone.page.locator("[data-lane=b] .curve").scroll_into_view_if_needed()
    spot = phone.page.locator("[data-lane=b] .grip.body circle").nth(1).bounding_box()
    touch = phone.page.context.new_cdp_session(phone.page)
    at = {"x": spot["x"] + 8, "y": spot["y"] + 8, "id": 0}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    for _ in range(8):
        at["x"] += 8
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [dict(at)]})
    second = {"x": at["x"] + 60, "y": at["y"], "id": 1}
    for kind, points in (("touchStart", [at, second]), ("touchEnd", [second]), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert phone.edges("b")[1] < 0, "a finger moves it, the first of two"
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    phone.until(5)
    before = phone.step()
    phone.page.locator("[data-plane=b] canvas").tap()
    phone.page.wait_for_timeout(500)
    assert phone.step() >= before, "a tap on a plane trains nothing anew"


def test_points_are_drawn_and_too_few_are_refused(read, address) -> None:
    reader = read("#speed=10")
    page = reader.page
    page.locator("[data-set=data]").select_option("drawn")
    page.get_by_text("0 points; need 4 to 200", exact=False).wait_for()
    reader.press("The same in Python")
    assert not page.locator(".text").is_visible() and "drawn" not in page.url, "no code and no link that fail"
    assert page.locator(".chart path[d], .zone[d^=M], .points output:not(:empty)").count() == 0, "none of other points"
    box = page.locator("[data-plane=a] canvas").bounding_box()
    x, y = box["x"] + 60, box["y"] + box["height"] / 2
    page.mouse.click(x, y - 60)
    page.reload()
    page.get_by_text("1 point; need 4 to 200", exact=False).wait_for()  # nor is it lost
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 250, y + 30, steps=40)
    page.mouse.move(x + 250, y - 400, steps=60)
    page.mouse.up()
    page.mouse.click(x, y + 90, button="right")
    reader.until(3)
    assert page.locator(".word").inner_text() == "", "what was too few is enough now"
    link = reader.link()
    strokes = link.split("drawn=")[1].split("&")[0].split("|")
    assert len(strokes) == 2 and 6 < len({*strokes[1].split(";")}) == len(strokes[1].split(";")) < 30
    other = read(link)
    assert other.value("data") == "drawn" and strokes[1] in other.link()
    other.page.goto(f"{address}#data=moons&a=paper")  # pasted into the address of a page that is open
    other.page.wait_for_function("document.querySelector('[data-set=data]').value === 'moons'")
    assert other.value("a") == "paper"


def test_points_are_placed_and_taken_by_keys(read) -> None:
    reader = read("#data=drawn&drawn=1,1;1,-1;-1,-1;-1,1&speed=10")
    page, plane, word = reader.page, reader.page.locator("[data-plane=a] canvas"), reader.page.locator(".word")
    assert plane.get_attribute("role") == "application" and "Enter adds a point" in plane.get_attribute("aria-label")
    for typed, kept in (("1.5", "0"), ("99999", "0"), ("12", "12")):
        page.locator("[data-set=seed]").press("Control+a")
        page.keyboard.type(f"{typed}\n")
        assert reader.value("seed") == kept and ("whole number" in word.inner_text()) == (kept == "0")
    before = plane.screenshot()
    while page.evaluate("document.activeElement.tagName") != "CANVAS":
        page.keyboard.press("Tab")
    assert plane.screenshot() != before, "the focus and the cursor are seen"
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert word.inner_text() == "Cursor at 0.20, 0.40; 4 points." and word.get_attribute("role") == "status"
    plane.press("Enter")
    reader.until(1)
    assert "drawn=1,1;1,-1;-1,-1;-1,1|0.20,0.40&" in reader.link()
    for key in ("Shift+ArrowRight", "Shift+ArrowUp", "Delete"):  # to the corner
        plane.press(key)
    page.get_by_text("Cursor at 0.70, 0.90; 4 points.").wait_for()
    page.evaluate("navigator.clipboard.writeText = () => new Promise((done) => setTimeout(done, 300))")  # a busy one
    assert "drawn=1,-1;-1,-1;-1,1|0.20,0.40&" in reader.link()
    plane.press("Backspace")
    assert not page.locator(".text").is_visible(), "no link to what was before"
    page.locator("footer .copied", has_text="Copied.").wait_for()
    page.get_by_text("3 points; need 4 to 200", exact=False).wait_for()


WRONG = "a=middle b=3..2 b=-50..50 b=-9....9 seed=-1 data=cat data=drawn speed=9 steps=0 drawn=1,9;2 drawn=,;,;,;, A=b"


@pytest.mark.parametrize("wrong", WRONG.split())
def test_a_wrong_value_in_a_link_is_left_out_and_said(read, wrong) -> None:
    reader = read(f"#{wrong}")
    assert f"left out: {wrong.replace('=', ' = ')}" in reader.page.locator(".word").inner_text()
    assert reader.value("a") == "uniform" and reader.value("data") == "spiral"


def test_the_reverse_process_of_network_and_exact_denoiser_and_the_two_nearest_points(read, address) -> None:
    page = (reader := read("#steps=60&frame=41&exact=2", 60)).page
    word, told, time = (page.locator(at) for at in (".word", ".told", ".time output"))
    assert "left out: frame = 41, exact = 2. Training paused by itself. Play goes on." in word.inner_text()
    page.locator("[data-set=exact]").select_option("1")
    assert page.locator(".points output").all_inner_texts() == ["the exact denoiser"] * 2
    page.locator("[data-plane=a] canvas").press("ArrowRight")
    a, b = re.findall(r"nearest is point (\d+) at ([\d.]+), then point (\d+) at ([\d.]+)", told.inner_text())
    assert a == b and float(a[1]) < 0.1 < float(a[3]), "the exact denoiser makes copies, in both planes the same"
    reader.press("From noise")
    page.locator("[data-set=frame]").fill("0")
    page.wait_for_timeout(300)
    assert time.inner_text() == "t = 999", "samples that fall stop where the reader puts them"
    assert int(re.search(r"first with (\d+) %", told.inner_text())[1]) < 40, "pure noise could be any point"
    page.goto(address + reader.link())
    reader.until(60)
    assert (time.inner_text(), reader.value("exact")) == ("t = 999", "1"), "a link holds what is seen, too"
    reader.press("From noise")
    page.get_by_text("finished").wait_for(timeout=20_000)


def test_the_lines_of_python_run_and_say_the_same(read, capsys) -> None:
    reader = read("#a=paper&b=-2.4..2.4&steps=4&seed=007", 4)
    reader.press("The same in Python")
    code = reader.page.locator(".text").input_value()
    assert len(code.splitlines()) == 6 and "gaussian_interval(1000, 0, 500)" in code
    exec(code, found := {})
    assert len(capsys.readouterr().out.splitlines()) == 2
    ends = [SCHEDULE.log_snr[t].item() for t in found["timesteps"].interval()]
    assert ends == pytest.approx([2.4, -2.4], abs=0.05) and found["last"].step == 4


def test_without_web_workers_the_page_says_so_and_the_curves_still_move(browser, address) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.Worker")
    page.goto(address)
    page.get_by_text("can start no web worker", exact=False).wait_for()
    grip = page.locator("[data-lane=a] .grip").nth(1)
    before = grip.get_attribute("aria-valuenow")
    grip.press("ArrowLeft")
    assert grip.get_attribute("aria-valuenow") != before and page.get_by_text("no web worker").is_visible()
    assert page.get_by_role("button").all_inner_texts() == ["Link to this", "The same in Python"]
    page.get_by_role("button", name="The same in Python").click()
    assert "x0 = Schedule" in page.locator(".text").input_value()
    page.close()


def test_two_minutes_of_training_leak_no_memory_and_never_block_the_page(browser, read) -> None:
    reader = read()
    page = reader.page
    tools, workers, answers = page.context.new_cdp_session(page), [], []
    tools.on("Target.attachedToTarget", lambda event: workers.append(event["sessionId"]))
    tools.on("Target.receivedMessageFromTarget", lambda event: answers.append(json.loads(event["message"])))
    tools.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False})

    def ask(method: str) -> float:
        answers.clear()
        for worker in workers:
            message = json.dumps({"id": 1, "method": method})
            tools.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
        used = tools.send(method)
        while len(answers) < len(workers):
            page.wait_for_timeout(50)
        return sum(answer.get("usedSize", 0) for answer in (used, *(answer["result"] for answer in answers)))

    def heap() -> float:
        """What page and workers hold when training rests and garbage is collected."""
        reader.press("Step")  # and rests
        page.wait_for_timeout(3000)
        found = [ask(method) for method in ("HeapProfiler.collectGarbage", "Runtime.getHeapUsage") * 3]
        reader.press("Play")
        return min(found[1::2])

    reader.until(300)
    assert len(workers) == 2
    first, begun = heap(), time.monotonic()
    while time.monotonic() - begun < 120:
        page.wait_for_timeout(1000)
        if (play := page.locator("[data-do=play]")).inner_text() == "Play":  # it pauses by itself now and then
            page.get_by_text("Training paused by itself. Play goes on.").wait_for(timeout=500)
            play.click()
            assert not page.locator(".paused").is_visible()
    last = heap()
    print(f"{first / 1e6:.2f} MB, after two minutes {last / 1e6:.2f} MB")
    assert last < 1.2 * first
    body = page.locator("[data-lane=b] .grip.body")
    assert processor(browser, page, lambda: drag(page, body, 110))["CrRendererMain"] < 33, "30 pictures a second"
