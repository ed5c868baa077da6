"""The playground: two small networks that train in the reader's browser. One script serves notebook, site and file."""

from __future__ import annotations

import json
from pathlib import Path

import anywidget
import traitlets

from memlib.viz.explore.noise import display_widget

FILES = Path(__file__).resolve().parents[1] / "page"
SHIM = """const values = { standalone: true, link: location.hash.includes("=") ? location.hash : "" };
const model = { get: (name) => values[name], set: (name, value) => (values[name] = value), on: () => {} };
model.save_changes = () => history.replaceState(null, "", `#${values.link}`);
started.render({ model, el: document.getElementById("playground") });"""


def read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


SETTINGS = json.loads(read("settings.json"))


def script(*names: str) -> str:
    """The files of these names as one text in one scope, after the settings."""
    return "\n".join([f"const SETTINGS = {json.dumps(SETTINGS)};", *(read(f"{name}.js") for name in names)])


def module(name: str, *parts: str, **texts: str) -> str:
    """The ES module of a widget: the elements it begins with, other texts, and the script that ties them together."""
    texts = {"TEMPLATE": read(f"{name}.html").replace("CURVE", read("curve.svg"))} | texts
    constants = [f"const {key} = {json.dumps(text)};\n".replace("</", "<\\/") for key, text in texts.items()]
    return "".join(constants) + script("maths", "curve", *parts, name)


MODULE = module("playground", "plane", WORKER=script("maths", "network", "worker"))


def inlined() -> str:
    """The playground as elements of a page, HTML or Markdown: style, a place, and a module that starts by itself."""
    own = MODULE.replace("export default", "const started =")
    return (
        f'<style>{read("page.css")}</style>\n<div id="playground"></div>\n\n'
        f'<script type="module">\n{own}\n{SHIM}\n</script>'
    )


def page() -> str:
    """The playground alone, as one HTML file that needs no other."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += "<title>Watch a network memorize: memlib</title>"
    body = f'<body style="margin: 0; padding: 8px 16px">{inlined()}</body>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


class Playground(anywidget.AnyWidget):
    _esm = MODULE
    _css = read("page.css")
    link = traitlets.Unicode().tag(sync=True)

    def _ipython_display_(self) -> None:
        display_widget(self)


def playground(link: str = "") -> Playground:
    """16 points, two networks A and B, and the noise levels that each trains on, as curves that are dragged. It needs
    no kernel. `link`: what *Link to this* gives, with the state of the page."""
    return Playground(link=link.rpartition("#")[2])
