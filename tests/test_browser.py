"""A reader's way: JupyterLab in a real headless Chromium, cells run, sliders moved, pictures seen to change."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import nbformat
import pytest
from browsing import BROWSER, shoot
from nbclient import NotebookClient
from nbformat import v4

from memlib.viz.explore.noise import STILL

pytestmark = BROWSER
SETTINGS = {
    # every cell in the page at once, no dialog about kernels, no pop-up, and nothing asked of another host
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
AREAS = f"{PANEL} .jp-Cell-outputArea"
TROUBLE = re.compile(r"Traceback \(most recent call last\)|\b\w*Error\b|model not found")
LINKED = """panel, known = explore.interval_explorer(), ipywidgets.Label()
slider = ipywidgets.FloatSlider(500, min=100, max=2000, description="linked")
ipywidgets.jslink((panel, "width"), (slider, "value"))
panel.observe(lambda _: setattr(known, "value", str(panel.timesteps)), ["width", "centre"])
explore.noise.display_widget(ipywidgets.VBox([panel, slider, known]))"""
BEGINNING = "import ipywidgets\nfrom memlib.viz import explore, use_style\nuse_style()"
SOURCES = (BEGINNING, LINKED, "explore.live_trainer(steps=40)")


class Lab:
    """A private JupyterLab on the loopback address, and a page in it. Nothing of the user's is read or written."""

    def __init__(self, process: subprocess.Popen, url: str, token: str, page) -> None:
        self.process, self.url, self.token, self.page = process, url, token, page
        self.outside: list[str] = []
        page.on("request", self._note)

    def _note(self, request) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(request.url)

    def sessions(self) -> list[dict]:
        return self.page.request.get(f"{self.url}/api/sessions?token={self.token}").json()

    def idle(self) -> bool:
        return self.page.locator(f"{PANEL} .jp-Notebook-ExecutionIndicator").get_attribute("data-status") == "idle"

    def open(self, name: str) -> None:
        """Open a notebook with a new kernel, and wait until it has come to rest: JupyterLab may replace it."""
        for session in self.sessions():
            self.page.request.delete(f"{self.url}/api/sessions/{session['id']}?token={self.token}")
        self.page.goto(f"{self.url}/lab/tree/{name}?reset&token={self.token}")
        self.page.wait_for_selector(f"{PANEL} .jp-Cell", timeout=120_000)
        seen, since, end = None, time.monotonic(), time.monotonic() + 120
        while not seen or time.monotonic() - since < 3:
            assert time.monotonic() < end, "the kernel did not come to rest"
            self.page.wait_for_timeout(300)
            now = [session["kernel"]["id"] for session in self.sessions()]
            if now != seen or not self.idle():
                seen, since = now, time.monotonic()

    def run_all(self) -> None:
        end, pressed = time.monotonic() + 240, 0.0
        while self.page.locator(".jupyter-widgets.widget-slider").count() < 5:  # the linked one, and four to train with
            assert time.monotonic() < end, "not all cells ran"
            if time.monotonic() - pressed > 60 and self.idle():  # JupyterLab may drop the command
                for item in ("Run", "Run All Cells"):
                    self.page.get_by_role("menuitem", name=item, exact=True).click()
                pressed = time.monotonic()
            self.page.wait_for_timeout(300)

    def trouble(self) -> list[str]:
        """The errors that a reader sees in the outputs."""
        return [text for text in self.page.locator(AREAS).all_inner_texts() if TROUBLE.search(text)]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab over a folder with one executed notebook that is not trusted, as a reader gets it."""
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=[v4.new_code_cell(s) for s in SOURCES], metadata={"kernelspec": kernel})
    NotebookClient(notebook, store_widget_state=False, timeout=240).execute()
    nbformat.write(notebook, root / "sliders.ipynb")
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
    environment = os.environ | private | {"IPYTHONDIR": str(home / "ipython")}
    with (home / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        info = home / "runtime" / f"jpserver-{process.pid}.json"  # where its port is written
        end = time.monotonic() + 120
        while not (info.exists() and info.read_text().endswith("}")):
            assert process.poll() is None and time.monotonic() < end, (home / "lab.log").read_text()[-2000:]
            time.sleep(0.25)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        yield Lab(process, json.loads(info.read_text())["url"].rstrip("/"), token, page)
        page.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def still_as_text(lab: Lab) -> None:
    """Each explorer is one line of text: no slider that does nothing, no error."""
    lab.page.wait_for_timeout(3000)
    assert lab.trouble() == []
    assert lab.page.locator(AREAS).get_by_role("slider").count() == 0
    for area in lab.page.locator(AREAS).all()[-2:]:
        assert area.bounding_box()["height"] < 100


def test_a_notebook_that_is_not_trusted_shows_a_line_for_each_explorer(lab: Lab) -> None:
    lab.open("sliders.ipynb")
    still_as_text(lab)
    assert lab.page.locator(AREAS).get_by_text(STILL).count() == 2
    shoot(lab.page, "untrusted")


def test_pictures_follow_the_slider_and_the_training(lab: Lab) -> None:
    from playwright.sync_api import expect

    lab.run_all()
    page, area = lab.page, lab.page.locator(AREAS)
    interval, live = (area.filter(has=page.locator(has)).first for has in (".interval", "text=live: train"))
    told, linked, known = (interval.locator(at) for at in (".told", ".widget-readout", ".widget-label >> nth=-1"))
    expect(told).to_contain_text("[0, 500] holds", timeout=30_000)
    grip = interval.locator(".grip.body")
    for _ in range(5):
        grip.press("PageUp")
    expect(told).to_contain_text("[250, 750] holds")
    expect(known).to_have_text("gaussian_interval(1000, low=250, high=750)")  # so the kernel was told
    interval.locator("[data-set=width]").press("Home")
    expect(linked).to_have_text("100.00")
    interval.locator(".noUi-handle").press("End")
    expect(told).to_contain_text("[-500, 1500] holds")
    expect(known).to_have_text("gaussian_interval(1000, low=-500, high=1500)")
    grip.press("Control+s")
    expect(page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)

    picture, words = live.locator("img").first, live.locator(".widget-html-content p").first
    before, said = picture.get_attribute("src"), words.inner_text()
    live.get_by_role("slider").first.press("Home")
    expect(picture).not_to_have_attribute("src", before, timeout=30_000)
    expect(words).not_to_have_text(said)
    live.get_by_role("button", name="Train").click()
    live.get_by_text("Step 40", exact=False).first.wait_for(timeout=120_000)
    assert lab.trouble() == [] and lab.outside == []
    page.keyboard.press("Control+b")  # on a phone the list of files takes all the width
    for name, explorer in (("interval", interval), ("live", live)):
        for width in (360, 1366, 1920):
            page.set_viewport_size({"width": width, "height": 768})
            page.wait_for_timeout(500)
            explorer.scroll_into_view_if_needed()
            shoot(lab.page, f"{name}-{width}")


def test_a_saved_notebook_opened_again_shows_no_error(lab: Lab) -> None:
    lab.page.locator(PANEL).press("Control+s")
    lab.page.wait_for_timeout(2000)
    lab.open("sliders.ipynb")
    still_as_text(lab)
    shoot(lab.page, "reopened")
