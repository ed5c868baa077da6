"""The site: every page is there, offline and complete; in a real browser it reads from files, formulas and all."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browsing import BROWSER, shoot
from bs4 import BeautifulSoup
from nbformat import v4

from memlib.notebooks import find_notebooks

ROOT = Path(__file__).resolve().parents[1]
NAMES = [path.stem for path in find_notebooks()]
DOCS = [path.stem for path in sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, *NAMES, "terms"]
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\begin\{(\w+)\}.+?\\end\{\1\}", re.S)
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)


@functools.cache
def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docs/build.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("my site ü")
    done = build(ROOT / "notebooks", out)
    assert done.returncode == 0 and done.stderr == "", f"Sphinx warns: {done.stderr}"
    return out


def test_the_front_page_says_what_ran_and_leads_to_every_page(site) -> None:
    assert {path.stem for path in site.glob("*.html")} >= {*PAGES, "search"}
    page = read(site / "index.html")
    assert [card["href"] for card in page.select("a.card")] == [f"{name}.html" for name in NAMES]
    for words in ("none failed", "profile quick", "torch 2", "not reproduced"):  # the last of the verdicts
        assert words in page.text
    assert {f"{name}.html" for name in PAGES} - {"index.html"} <= {a["href"] for a in page.select("a[href]")}


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_a_page_fetches_nothing_from_elsewhere_and_its_links_lead_somewhere(site, name) -> None:
    page = read(site / f"{name}.html")
    for element in page.select("script[src], img[src], link[href], iframe[src], source[src]"):
        assert not re.match(r"(https?:)?//", element.get("src") or element.get("href")), element
    assert not re.search(r"unpkg|jsdelivr|require\.js|vnd\.jupyter\.widget|\|—\|", str(page), re.I)
    assert not page.select("img:not([alt])")
    for link in (a["href"] for a in page.select("a[href]")):
        if link and not re.match(r"https?:", link):
            file, _, part = link.partition("#")
            target = site / (file or f"{name}.html")
            assert target.exists(), link
            assert not part or read(target).find(id=part), link


def test_the_references_are_shown_with_their_links(site) -> None:
    bib, page = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), read(site / "references.html")
    shown = {a["href"] for a in page.select("a[href]")}
    assert set(re.findall(r" url = \{(.+?)\}", bib)) <= shown and len(page.select("h2")) == bib.count("\n% ")
    assert len(page.select("li > p:first-child")) == bib.count("\n@"), "each entry is a line"


@pytest.mark.parametrize("name", [*NAMES, "terms"])
def test_every_formula_is_drawn(site, name) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    if path.exists():
        text = "\n\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    page = read(site / f"{name}.html")
    assert len(page.select("math")) == len(FORMULA.findall(CODE.sub("", text)))
    assert not [code for code in page.select("code") if code.text.startswith("\\")], "a formula that was not converted"


def test_controls_links_and_folds_are_shown_as_a_page_can(tmp_path) -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "0" * 32, "version_major": 2, "version_minor": 0}}

    def cell(tag: str = "", **mime: object):
        outputs = [v4.new_output("display_data", mime)] if mime else []
        return v4.new_code_cell("1", outputs=outputs, metadata={"tags": tag.split()})

    bar = cell(**view, **{"text/plain": "training 3 networks:   0%|          | 0/9 [00:00<?, ?step/s]"})
    still = cell(**view, **{"text/plain": "Panel()", "text/html": '<p class="explorer" id="still">Run this cell</p>'})
    folds = [cell(tag, **{"text/plain": tag}) for tag in ("solution", "prediction", "setup", "plot", "plot prediction")]
    text = "# Made <b>bold</b>\n\n[the claims](08_claims.ipynb), [plans](../data/README.md#x), [terms](README.md), "
    text += "[paper](https://arxiv.org), [docs](../docs/findings.md), $\\left($"
    metadata = {"language_info": {"name": "python"}, "memlib": {"seconds": 90.0, "error": "cell 1: <i>\nbad"}}
    nb = v4.new_notebook(cells=[v4.new_markdown_cell(text), bar, still, *folds], metadata=metadata)
    nbformat.write(nb, tmp_path / "00_made.failed.ipynb")
    assert build(tmp_path, tmp_path).returncode == 0
    page = read(tmp_path / "00_made.html")
    assert [p["id"] for p in page.select("p.explorer")] == ["still"]
    assert "Panel()" not in str(page) and "training 3 networks" not in str(page)
    assert [code.text for code in page.select("p code")] == ["\\left("]
    assert {"terms.html", "findings.html", "https://arxiv.org"} <= {a.get("href") for a in page.select("a")}
    assert [len(page.select(f".tag_hide-{kind}")) for kind in ("cell", "output", "input")] == [2, 1, 2]
    assert [page.text.count(x) for x in ("Show what happens", "Show one solution", "the claims, plans, ")] == [2, 1, 1]
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "1 failed" in index and "cell 1: &lt;i&gt; bad" in index and "Made &lt;b&gt;bold" in index

    before = {path: path.read_bytes() for path in tmp_path.glob("*.html")}
    (tmp_path / "empty").mkdir()
    done = build(tmp_path / "empty", tmp_path)
    assert done.returncode == 1 and f"no executed notebook in {tmp_path / 'empty'}" in done.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.html")}, "an earlier site stays"


@pytest.mark.parametrize("width", [pytest.param(width, marks=BROWSER) for width in (1280, 390)])
def test_reads_from_files_in_a_browser(visit, site, width) -> None:
    page = visit((site / "index.html").as_uri(), width)
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.body.scrollWidth") <= width, f"{name}: what is wide scrolls in its own box"
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
        legible = "all => all.every(x => x.width >= Math.min(x.naturalWidth / 2, 500))"
        assert page.locator(".cell_output img").evaluate_all(legible), f"{name}: a figure scrolls in its own box"
        sizes = page.locator("article math").evaluate_all("all => all.map(x => x.getBoundingClientRect().width)")
        assert all(size > 0 for size in sizes) and (sizes or name in DOCS), name
        if sizes:
            assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('1em \"STIX Two Math\"'))")
        shoot(page, f"site-{name}-{width}", full_page=True)
    for name, words in (("01_snr_analysis", "linear, T = 1000"), ("02_timestep_sampling", "[0, 500] holds")):
        page.goto((site / f"{name}.html").as_uri())
        told = page.locator(".told").inner_text()
        assert told.startswith(words)
        page.locator(".playground input[type=range]").last.press("End")
        assert page.locator(".told").inner_text() != told, "an explorer computes in the page"
    assert "heartbeats 0 % [0 %, 8 %] after 7000 steps" in page.locator(".copies").inner_text()
    page.goto((site / "search.html").as_uri() + "?q=memorizer")
    page.locator("#search-results li a", has_text="The exact memorizer").first.wait_for(timeout=20_000)
