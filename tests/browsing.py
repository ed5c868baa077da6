"""What the tests in a real browser share. Its fixtures reach them through conftest.py."""

import json
import os
import shutil
from pathlib import Path

import pytest

CANDIDATES = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in CANDIDATES if name and (found := shutil.which(name))), None)
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set CHROMIUM, or install it)"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
SHOTS = Path(__file__).resolve().parents[1] / "build" / "browser"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open an address in a page of its own. At the end no script may have failed, and no other host been asked."""
    contexts, wrong, asked = [], [], []

    def opened(address: str, width: int = 900, **context):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **context))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == [] and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def compute(browser):
    """Run JavaScript over the page's mathematics: the value of `body`, given `f` and the linear schedule `s`."""
    from memlib.viz.explore.playground import script

    page, source = browser.new_page(), script("maths", "network") + "\nconst s = scheduleNamed('linear', 1000);"
    return lambda body, f=None: page.evaluate(f"(f) => {{ {source}\n{body} }}", f)


def shoot(page, name: str, **options) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", **options)


def drag(page, grip, by: float) -> None:
    """Move the middle of an element by so many pixels, in steps."""
    box = grip.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=20)
    page.mouse.up()


def processor(browser, page, work) -> dict[str, float]:
    """Milliseconds of the processor in the longest task of each thread during `work()`, which other work on the
    machine does not stretch."""
    browser.start_tracing(page=page, categories=["toplevel"])
    work()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    longest: dict[str, float] = {}
    for e in events:
        if "RunTask" in e["name"] and "tdur" in e:
            name = threads.get((e["pid"], e["tid"]), "")
            longest[name] = max(longest.get(name, 0), e["tdur"] / 1e3)
    return longest
