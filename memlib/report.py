"""The HTML report over a folder of executed notebooks: index.html and a page per notebook, all readable offline."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image

from memlib.lab.files import write_atomically

FAILED = ".failed"  # NAME.failed.ipynb is as far as a notebook came
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
VERDICTS = "08_claims"  # the notebook whose cell tagged `verdicts` shows the table of claims

# nbconvert's own page without what it would fetch from elsewhere (MathJax, require.js, the widgets' manager)
_PAGE = """{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block data_png scoped %}{{ super() | replace("<img ", '<img alt="' ~ (output.metadata.alt | escape) ~ '" ', 1) }}
{% endblock %}
{% block html_head_css %}
<style>main {max-width: 60rem; margin: auto; padding: 0 1rem 4rem} .jp-InputPrompt, .jp-OutputPrompt {display: none}
math {font-size: 1.1em} math[display="block"] {margin: 1em 0} .jp-OutputArea-output, .highlight pre {overflow-x: auto}
@media (max-width: 46em) {.jp-OutputArea-output img {max-width: 40rem !important} main {padding: 0 .25rem 3rem}}</style>
{% endblock %}"""


class _OfflineMarkdown(IPythonRenderer):
    """Formulas as MathML, which browsers draw by themselves; links between notebooks lead to their pages."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, url if "://" in url else re.sub(r"\.ipynb(?=$|#)", ".html", url), title)


class _Cells(HTMLParser):
    """The text of a table, row by row. What a page then shows is escaped anew, so nothing in a cell can run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@dataclass(frozen=True)
class Figure:
    """A picture of an executed notebook: the cell and the output that hold it, and the heading it stands under."""

    cell: NotebookNode
    output: NotebookNode
    heading: str

    @property
    def png(self) -> bytes:
        return base64.b64decode(self.output.data["image/png"])


def figures(nb: NotebookNode) -> list[Figure]:
    """Every PNG among the outputs of an executed notebook, in order."""
    found, heading = [], "figure"
    for cell in nb.cells:
        heading = (_headings(cell) or [heading])[-1]
        outputs = cell.get("outputs", [])
        found += [Figure(cell, output, heading) for output in outputs if "image/png" in output.get("data", {})]
    return found


def mathml(formula: str, display: str) -> str:
    """The LaTeX formula as MathML, `display` being "inline" or "block"; as code where it cannot be converted."""
    try:
        return convert(formula, display=display)
    except Exception:  # the converter's errors share no base, and an odd formula must not cost the reader the page
        return f"<code>{html.escape(formula)}</code>"


def without_kernel(nb: NotebookNode) -> None:
    """Change an executed notebook so that a page can show it: figures get `metadata.alt`, no output needs a kernel."""
    for figure in figures(nb):
        figure.output.metadata["alt"] = figure.heading
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if data.pop(WIDGET_VIEW, None) is None or "text/html" in data:
            continue
        bar = "%|" in data.get("text/plain", "")  # of progress, as tqdm writes it
        data.clear()
        data["text/markdown"] = "" if bar else "*A control that needs a running kernel; a figure shows its default.*"


def write_report(folder: Path) -> Path:
    """Write NAME.html for each executed notebook of `folder` and an index.html over them all; return its path.

    A notebook that failed (NAME.failed.ipynb) stands in the index with its error, also if an earlier NAME.ipynb is
    still there. Raises FileNotFoundError if the folder holds no executed notebook, OSError where it cannot be written.
    """
    paths = {p.stem.removesuffix(FAILED): p for p in sorted(folder.glob("*.ipynb")) if not p.stem.endswith(".part")}
    paths |= {p.stem.removesuffix(FAILED): p for p in sorted(folder.glob(f"*{FAILED}.ipynb"))}
    if not paths:
        raise FileNotFoundError(f"no executed notebook in {folder}")
    cards = [_card(name, path) for name, path in sorted(paths.items())]
    done = folder / f"{VERDICTS}.ipynb"
    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    index = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = index.render(
        cards=cards,
        failed=sum(bool(card["error"]) for card in cards),
        total=minutes(sum(card["seconds"] for card in cards)),
        made_with=list(dict.fromkeys(card["made_with"] for card in cards)),
        verdicts=_verdicts(nbformat.read(done, as_version=4)) if done.is_file() else [],
    )
    write_atomically(folder / "index.html", text)
    return folder / "index.html"


def minutes(seconds: float) -> str:
    """The time as one reads it: `8.3 s`, `75 s` or `12 min`."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _card(name: str, path: Path) -> dict[str, Any]:
    """What the index says of one notebook; writes its page on the way."""
    nb = nbformat.read(path, as_version=4)
    found = figures(nb)
    page = path.with_suffix(".html")
    write_atomically(page, _page(nb, name, path.parent))
    record = nb.metadata.get("memlib", {})
    chosen = [figure for figure in found if "thumbnail" in figure.cell.metadata.get("tags", [])] or found
    title = next(
        (m[1] for c in nb.cells if c.cell_type == "markdown" and (m := re.search(r"^# +(.+)", c.source))), name
    )
    link = quote(page.name)
    return {
        "name": name,
        "title": title,
        "error": record.get("error", ""),
        "seconds": record.get("seconds", 0.0),
        "time": minutes(record.get("seconds", 0.0)),
        "parameters": ", ".join(f"{key} {value}" for key, value in record.get("parameters", {}).items() if value != ""),
        "made_with": " · ".join(str(record[k]) for k in ("commit", "versions", "hardware") if k in record),
        "page": link,
        "notebook": quote(path.name),
        "picture": _thumbnail(chosen[0].png, 720) if chosen else "",
        "figures": [(f"{link}#cell-id={f.cell.get('id')}", f.heading, _thumbnail(f.png, 220)) for f in found],
    }


def _headings(cell: NotebookNode) -> list[str]:
    """The headings in a cell of prose, without their markup."""
    lines = re.findall(r"^#+ +(.+)", cell.source, re.M) if cell.cell_type == "markdown" else []
    return [re.sub(r"[*`$\\]", "", line).strip() for line in lines]


def _page(nb: NotebookNode, name: str, folder: Path) -> str:
    markdown = _OfflineMarkdown(escape=False, exclude_anchor_links=True, embed_images=True, path=str(folder))
    exporter = HTMLExporter(
        template_file="page.html.j2",
        extra_loaders=[jinja2.DictLoader({"page.html.j2": _PAGE})],
        filters={"markdown2html": MarkdownWithMath(renderer=markdown).render},
    )
    without_kernel(nb)
    return exporter.from_notebook_node(nb, {"metadata": {"name": name}})[0]


def _thumbnail(png: bytes, width: int) -> str:
    """A data URI of the picture, scaled down to `width` pixels at most."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((width, width), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _verdicts(nb: NotebookNode) -> list[list[str]]:
    """The rows of the table that the cell tagged `verdicts` shows; the first is its header."""
    cells = _Cells()
    for cell in nb.cells:
        if "verdicts" in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                cells.feed(output.get("data", {}).get("text/html", ""))
    return [[text.strip() for text in row] for row in cells.rows if row]
