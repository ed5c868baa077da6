"""Sphinx's configuration of the book: nothing is executed, and no page asks another host for anything."""

from __future__ import annotations

from typing import Any

from docutils import nodes

from memlib.report import mathml

project = "memlib"
extensions = ["myst_nb"]
source_suffix = {".ipynb": "myst-nb", ".md": "myst-nb"}
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show one solution"
nb_code_prompt_hide = "Hide the solution"
myst_enable_extensions = ["amsmath", "dollarmath"]

html_theme = "furo"
html_title = "memlib"
html_math_renderer = "mathml"
html_static_path = html_css_files = ["book.css"]
html_copy_source = html_show_copyright = html_use_index = False
html_show_search_summary = False  # it is fetched from the page found, and browsers allow no fetch of a file


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Draw formulas as MathML, which browsers show by themselves."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
