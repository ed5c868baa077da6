"""A reader's way: JupyterLab in a real headless Chromium, all cells run, sliders moved, pictures seen to change."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from smoke_notebooks import NOTEBOOKS, smoke_copies

CANDIDATES = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in CANDIDATES if name and (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set CHROMIUM, or install it)"),
]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
SETTINGS = {
    # every cell in the page at once, and no dialog about kernels
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    # no pop-up, and nothing asked of another host
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
ERROR = "[data-mime-type='application/vnd.jupyter.error']"
TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^\w*Error\b", re.M)
QUIET = 1.5  # s; between a slider's messages a kernel is idle for moments, so idle alone says little
SHOTS = Path(__file__).resolve().parents[1] / "build" / "browser"

# the kernel's state, and what each output area shows
STATE = """panel => {
  const root = document.querySelector(panel);
  const sources = area => [...area.querySelectorAll('img')].map(image => image.src).join();
  return [root.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status,
    ...[...root.querySelectorAll('.jp-Cell-outputArea')].map(area => area.innerText + sources(area))];
}"""
# the pixels of an output area's pictures: a redrawn picture has a new address, even if it shows the same
PIXELS = """area => [...area.querySelectorAll('img')].map(image => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext('2d').drawImage(image, 0, 0);
  return canvas.toDataURL();
}).join()"""


class Lab:
    """A private JupyterLab on the loopback address, and a page in it. Nothing of the user's is read or written."""

    def __init__(self, process: subprocess.Popen, url: str, token: str, page) -> None:
        self.process, self.url, self.token, self.page = process, url, token, page
        self.outside: list[str] = []
        page.on("request", self._note)

    def _note(self, request) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(request.url)

    def open(self, name: str) -> None:
        self.page.goto(f"{self.url}/lab/tree/{name}?reset&token={self.token}")
        self.page.wait_for_selector(f"{PANEL} .jp-Cell", timeout=120_000)
        # JupyterLab may start a kernel and at once replace it: what was run in the first is lost
        last, since, end = None, time.monotonic(), time.monotonic() + 120
        while last is None or time.monotonic() - since < 2 * QUIET:
            assert time.monotonic() < end, "the kernel did not come to rest"
            self.page.wait_for_timeout(300)
            sessions = self.page.request.get(f"{self.url}/api/sessions?token={self.token}").json()
            now = [session["kernel"]["id"] for session in sessions]
            if now != last or self.page.evaluate(STATE, PANEL)[0] != "idle":
                last, since = now or None, time.monotonic()

    def run_all(self, timeout: float = 240) -> None:
        prompts, since, end = [], 0.0, time.monotonic() + timeout
        while not prompts or not all(prompt.strip("[]: \xa0").isdigit() for prompt in prompts):
            assert time.monotonic() < end, f"not all cells ran: {prompts}"
            assert not (errors := self.errors()), errors
            # JupyterLab drops the command if it is still changing its mind about the kernel: say it again
            if time.monotonic() - since > 5 and self.page.evaluate(STATE, PANEL)[0] == "idle":
                for item in ("Run", "Run All Cells"):
                    self.page.get_by_role("menuitem", name=item, exact=True).click()
                since = time.monotonic()
            self.page.wait_for_timeout(300)
            now = self.page.locator(f"{PANEL} .jp-CodeCell .jp-InputArea-prompt").all_text_contents()
            prompts, since = now, since if now == prompts else time.monotonic()
        self.settle()

    def settle(self, timeout: float = 120) -> None:
        """Wait until the kernel is idle and no output has changed for a while."""
        last, since, end = None, time.monotonic(), time.monotonic() + timeout
        while time.monotonic() - since < QUIET:
            assert time.monotonic() < end, "the outputs did not come to rest"
            self.page.wait_for_timeout(200)
            now = self.page.evaluate(STATE, PANEL)
            if now != last or now[0] != "idle":
                last, since = now, time.monotonic()

    def errors(self) -> list[str]:
        """The errors in the outputs, those that widgets show of their callbacks included."""
        outputs = self.page.locator(f"{PANEL} .jp-Cell-outputArea")
        marked = outputs.filter(has=self.page.locator(ERROR)).or_(outputs.filter(has_text=TRACEBACK))
        return [text[-500:] for text in marked.all_inner_texts()]

    def move_sliders(self) -> int:
        """Move each slider of each output and see that picture and words follow; the number of sliders moved."""
        moved = 0
        self.page.locator(PANEL).get_by_role("slider").first.wait_for(timeout=60_000)
        self.settle()
        for area in self.page.locator(f"{PANEL} .jp-Cell-outputArea").filter(has=self.page.get_by_role("slider")).all():
            for slider in area.get_by_role("slider").all():
                if not slider.is_visible() or slider.get_attribute("aria-disabled") == "true":
                    continue
                slider.scroll_into_view_if_needed()
                before, words = area.evaluate(PIXELS), self._reading(area)
                slider.focus()
                at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
                for _ in range(3):
                    slider.press("ArrowLeft" if at_end else "ArrowRight")
                self.settle()
                assert not (errors := self.errors()), errors
                assert area.evaluate(PIXELS) != before, f"the picture did not follow slider {moved + 1}"
                assert words is None or self._reading(area) != words, f"the words did not follow slider {moved + 1}"
                moved += 1
        return moved

    @staticmethod
    def _reading(area) -> str | None:
        """What an explorer says below its picture; None for a slider that is none of ours."""
        reading = area.locator(".widget-html-content p")
        return reading.inner_text() if reading.count() else None


def start_jupyterlab(root: Path, home: Path) -> tuple[subprocess.Popen, str, str]:
    """JupyterLab over `root` on a free port of the loopback address: the process, its address, its token."""
    for name, settings in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    private = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("RUNTIME", "CONFIG", "DATA")}
    private |= {f"JUPYTERLAB_{name}_DIR": str(home / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--LabApp.news_url="]
    command += ["--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"]
    command += ["--LabApp.extension_manager=readonly"]
    with (home / "lab.log").open("w") as log:
        environment = os.environ | private | {"IPYTHONDIR": str(home / "ipython")}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    info = home / "runtime" / f"jpserver-{process.pid}.json"  # where the server writes the port it was given
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if info.exists() and (text := info.read_text()).endswith("}"):
            return process, json.loads(text)["url"].rstrip("/"), token
        time.sleep(0.25)
    process.kill()
    raise RuntimeError("JupyterLab did not start: " + (home / "lab.log").read_text()[-2000:])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def lab(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    from playwright.sync_api import sync_playwright

    process, url, token = start_jupyterlab(root, tmp_path)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 1600})
            yield Lab(process, url, token, page)
            SHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SHOTS / f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())}.png")
            browser.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write(folder: Path, name: str, callback: str) -> str:
    source = f"import ipywidgets\nimport matplotlib.pyplot as plt\n\ndef draw(k):\n    {callback}\n    plt.show()\n"
    source += "\n_ = ipywidgets.interact(draw, k=ipywidgets.IntSlider(2, 0, 9))"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [v4.new_markdown_cell("# Made for a test"), v4.new_code_cell(source)]
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / name)
    return name


def test_a_slider_moves_its_picture(lab: Lab, root: Path) -> None:
    lab.open(write(root, "good.ipynb", "plt.plot([0, k])"))
    lab.run_all()
    assert lab.move_sliders() == 1
    assert lab.outside == []


@pytest.mark.parametrize(
    ("callback", "words"),
    [("plt.plot([0, 1 / (k < 3)])", "ZeroDivisionError"), ("plt.plot([0, 1])", "did not follow")],
)
def test_a_broken_explorer_is_noticed(lab: Lab, root: Path, callback: str, words: str) -> None:
    lab.open(write(root, "bad.ipynb", callback))
    lab.run_all()
    with pytest.raises(AssertionError, match=words):
        lab.move_sliders()


def with_explorers() -> list[Path]:
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [p for p in paths if any("explore." in c.source for c in nbformat.read(p, 4).cells if c.cell_type == "code")]


@pytest.mark.parametrize("path", with_explorers(), ids=lambda path: path.stem)
def test_explorers_of_a_notebook_follow_their_sliders(lab: Lab, root: Path, path: Path) -> None:
    (copy,) = smoke_copies([path], root / path.stem, outputs=False)
    lab.open(f"{path.stem}/{copy.name}")
    lab.run_all()
    assert lab.move_sliders() > 0
    assert lab.outside == []
