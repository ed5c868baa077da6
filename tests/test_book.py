"""The book: every page is there and offline; in a real browser its formulas, search and navigation work from files."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat import v4
from test_browser import CHROMIUM, FLAGS, SHOTS

from memlib.notebooks import find_notebooks
from memlib.report import WIDGET_VIEW

if TYPE_CHECKING:
    from playwright.sync_api import Locator

ROOT = Path(__file__).resolve().parents[1]
NAMES = [path.stem for path in find_notebooks()]
SOURCES = {path.stem: "\n".join(cell.source for cell in nbformat.read(path, 4).cells) for path in find_notebooks()}
EXPLORERS = {name: len(re.findall(r"explore\.(?:\w+_explorer|live_trainer)\(", text)) for name, text in SOURCES.items()}
PAGES = ["index", *NAMES, "README"]  # in reading order
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\begin\{(\w+)\}.+?\\end\{\1\}", re.S)
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
INLINE = ("math", "code", "pre", "script", "style")


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text outside of code and formulas."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", 0
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside += tag in INLINE

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag in INLINE

    def handle_data(self, data: str) -> None:
        self.text += "" if self._inside else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


@functools.cache
def read(path: Path) -> Page:
    return Page(path)


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docs/book.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "book"
    done = build(ROOT / "notebooks", out)
    assert done.returncode == 0, done.stderr
    return out


def write(folder: Path, *cells: nbformat.NotebookNode) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nb = v4.new_notebook(cells=[v4.new_markdown_cell("# Made for a test"), *cells], metadata=metadata)
    nbformat.write(nb, folder / "00_made.ipynb")
    return folder


def cell(**mime: object) -> nbformat.NotebookNode:
    return v4.new_code_cell("1", outputs=[v4.new_output("display_data", mime)])


def test_notebooks_stand_in_order(book) -> None:
    assert {path.stem for path in book.glob("*.html")} == {*PAGES, "search"}
    links = [a["href"] for a in read(book / "index.html").all("a") if a.get("class") == "reference internal"]
    assert list(dict.fromkeys(link for link in links if "#" not in link))[-len(PAGES) + 1 :] == [
        f"{name}.html" for name in PAGES[1:]
    ]
    for name, following in itertools.pairwise(PAGES):
        found = {link["rel"]: link["href"] for link in read(book / f"{name}.html").all("link")}
        assert found["next"] == f"{following}.html"


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_page_fetches_nothing_from_elsewhere_and_describes_its_pictures(book, name) -> None:
    page = read(book / f"{name}.html")
    for tag, attribute in FETCHED.items():
        for element in page.all(tag):
            assert not re.match(r"(https?:)?//", element.get(attribute) or ""), element
    assert not re.search(r"unpkg|jsdelivr|require\.js|vnd\.jupyter\.widget", page.html, re.I)
    assert all((image.get("alt") or "").strip() for image in page.all("img"))


@pytest.mark.parametrize("name", PAGES[1:])
def test_every_formula_is_drawn(book, name) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    cells = (
        nbformat.read(path, 4).cells if path.exists() else [v4.new_markdown_cell(path.with_suffix(".md").read_text())]
    )
    texts = [CODE.sub("", cell.source) for cell in cells if cell.cell_type == "markdown"]
    page = read(book / f"{name}.html")
    assert len(page.all("math")) == sum(len(FORMULA.findall(text)) for text in texts)
    assert "<code>\\" not in page.html and "$" not in page.text


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_parts_that_exist(book, name) -> None:
    for link in (a["href"] for a in read(book / f"{name}.html").all("a") if a.get("href")):
        if not re.match(r"https?:", link):
            file, _, part = link.partition("#")
            page = read(book / (file or f"{name}.html"))
            assert not part or any(attributes.get("id") == part for _, attributes in page.elements), link


def test_controls_and_links_are_shown_as_a_page_can(tmp_path) -> None:
    view = {WIDGET_VIEW: {"model_id": "0" * 32, "version_major": 2, "version_minor": 0}}
    alone = cell(**view, **{"text/plain": "IntSlider(value=1)"})
    bar = cell(**view, **{"text/plain": "training 3 networks:   0%|          | 0/9 [00:00<?, ?step/s]"})
    still = cell(**view, **{"text/plain": "IntSlider(value=2)", "text/html": '<input type="range" id="still">'})
    text = "[the claims](08_claims.ipynb), [plans](../data/README.md#x), [terms](README.md), [paper](https://arxiv.org)"
    folder, out = write(tmp_path / "made", alone, bar, still, v4.new_markdown_cell(text)), tmp_path / "book"
    done = build(folder, out)
    assert done.returncode == 0, done.stderr
    page = Page(out / "00_made.html")
    assert page.html.count("A control that needs a running kernel") == 1
    assert [element["id"] for element in page.all("input") if element.get("type") == "range"] == ["still"]
    assert "IntSlider" not in page.html and "training 3 networks" not in page.html and WIDGET_VIEW not in page.html
    links = {a["href"] for a in page.all("a") if a.get("href")}
    assert "the claims, plans, terms, paper" in page.text, "what is not in the book is text"
    assert {"README.html", "https://arxiv.org"} <= links and not any("claims" in x or "data" in x for x in links)

    done = build(write(folder, v4.new_markdown_cell("[wrong](no_such_file.md)")), out)
    assert done.returncode == 1 and "no_such_file.md" in done.stderr
    assert Page(out / "00_made.html").html == page.html, "the earlier book stays"


def test_what_cannot_be_built_is_named(tmp_path) -> None:
    done = build(tmp_path, tmp_path / "book")
    assert done.returncode == 1 and f"no executed notebook in {tmp_path}" in done.stderr
    (tmp_path / "mine.txt").write_text("kept")
    done = build(ROOT / "notebooks", tmp_path)
    assert done.returncode == 1 and "holds no book" in done.stderr and (tmp_path / "mine.txt").exists()


def move(explorer: Locator) -> None:
    """Each key press shows another picture and other words; its far end, another one than where it stood."""
    slider, shown = explorer.get_by_role("slider"), explorer.locator("figure:visible")
    seen = [(shown.locator("img").get_attribute("src"), shown.inner_text())]
    for key in ("Home", "ArrowRight", "End"):
        slider.press(key)
        assert shown.count() == 1
        assert explorer.locator("output").inner_text() == shown.get_attribute("data-value")
        seen.append((shown.locator("img").get_attribute("src"), shown.inner_text()))
    assert len(set(seen)) >= 3, "the slider moves the picture"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set CHROMIUM, or install it)")
@pytest.mark.parametrize("width", [1280, 390])
def test_reads_from_files_in_a_browser(book, width) -> None:
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        for name in PAGES:
            page.goto((book / f"{name}.html").as_uri())
            # nothing reaches out of the page but what a box of its own scrolls
            assert page.evaluate("document.body.scrollWidth") <= width, name
            assert page.evaluate("(window.scrollTo(500, 0), window.scrollX)") == 0, name
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
            sizes = page.locator("article math").evaluate_all("all => all.map(x => x.getBoundingClientRect().width)")
            assert all(size > 0 for size in sizes) and (sizes or name == "index"), name
            assert page.locator(".explorer").count() == EXPLORERS.get(name, 0), name
            for explorer in page.locator(".explorer").all():
                move(explorer)
            page.screenshot(path=SHOTS / f"book-{name}-{width}.png", full_page=True)

        page.goto((book / "index.html").as_uri())
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('href')") == f"{NAMES[0]}.html":
                break
        page.wait_for_function("document.activeElement.getBoundingClientRect().left >= 0")  # the drawer slides in
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{NAMES[0]}.html")

        page.goto((book / "search.html").as_uri() + "?q=copycat")
        page.locator("#search-results li a", has_text="The exact memorizer").first.wait_for(timeout=20_000)
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert wrong == []
