"""Sphinx's configuration of the site: nothing is executed, and no page asks another host for anything."""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

project = html_title = "memlib"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
source_suffix = {".ipynb": "myst-nb", ".md": "myst-nb"}
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of outputs: CommonMark, the default, has no tables
myst_enable_extensions = ["amsmath", "dollarmath"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = html_use_index = False
html_show_search_summary = False  # it is fetched from the page found, and browsers allow no fetch of a file


def _mathml(formula: str, display: str) -> str:
    """The LaTeX formula as MathML, which browsers draw by themselves; as code where it cannot be converted."""
    try:
        return convert(formula, display=display)
    except Exception:  # the converter's errors share no base, and an odd formula must not cost the reader the page
        return f"<code>{html.escape(formula)}</code>"


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _as_rst(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings write code as Markdown does, between single backticks, and formulas as they are."""
    text = re.sub(r"`([^`]+)`|([*|_])", lambda m: f"``{m[1]}``" if m[1] else f"\\{m[2]}", "\n".join(lines))
    lines[:] = text.split("\n")


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("autodoc-process-docstring", _as_rst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
