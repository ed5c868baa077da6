"""Widgets that compute in the reader's browser, with a kernel or without; the playground is one of them."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from memlib.viz.explore.noise import display_widget

FILES = Path(__file__).resolve().parents[1] / "page"


def read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


SETTINGS = json.loads(read("settings.json"))
COLOURS = " ".join(f"--{name.replace(' ', '-')}: {colour};" for name, colour in SETTINGS["colours"].items())


def script(*names: str) -> str:
    """The files of these names as one text in one scope, after the settings."""
    return "\n".join([f"const SETTINGS = {json.dumps(SETTINGS)};", *(read(f"{name}.js") for name in names)])


def module(name: str, *parts: str, **texts: Any) -> str:
    """The ES module of a widget: the elements it begins with, other texts, and the script that ties them together."""
    template = read(f"{name}.html").replace("CURVE", read("curve.svg")).replace("CHART", read("chart.svg"))
    return _constants(TEMPLATE=template, **texts) + script("maths", "curve", *parts, name)


def _constants(**values: Any) -> str:
    def coded(value: Any) -> str:
        return json.dumps(value, default=lambda raw: {"base64": b64encode(raw).decode()}).replace("</", "<\\/")

    return "".join(f"const {name} = {coded(value)};\n" for name, value in values.items())


class Page(anywidget.AnyWidget):
    """A widget that also runs by itself in a page: `inlined`."""

    _css = f".playground {{{COLOURS}}}\n{read('page.css')}"
    about = traitlets.Dict().tag(sync=True)
    items = traitlets.Bytes().tag(sync=True)

    def _ipython_display_(self) -> None:
        display_widget(self)


def inlined(widget: Page) -> str:
    """A widget as elements of a page, HTML or Markdown: style, a place, and a module that needs no kernel."""
    state, place = widget.get_state(), type(widget).__name__.lower()
    own = sorted(state.keys() - set(anywidget.AnyWidget().keys) - {"_esm", "_css"})
    given = _constants(PLACE=place, GIVEN={name: state[name] for name in own})
    started = given + state["_esm"].replace("export default", "const started =")
    begun = f'<script type="module">\n{started}\n{read("alone.js")}\n</script>'
    return f'<style>{state["_css"]}</style>\n<div id="{place}"></div>\n\n{begun}'


def page() -> str:
    """The playground alone, as one HTML file that needs no other."""
    head = '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += "<title>Watch a network memorize: memlib</title></head>"
    body = f"<noscript>This page needs JavaScript: please switch it on.</noscript>{inlined(playground())}"
    return f'<!doctype html>\n<html lang="en">{head}\n<body style="margin: 0; padding: 8px 16px">{body}</body></html>\n'


class Playground(Page):
    _esm = module("playground", "state", "plane", WORKER=script("maths", "network", "worker"))
    link = traitlets.Unicode().tag(sync=True)


def playground(link: str = "") -> Playground:
    """16 points, two networks A and B, and the noise levels that each trains on, as curves that are dragged. It needs
    no kernel. `link`: what *Link to this* gives, with the state of the page."""
    return Playground(link=link.rpartition("#")[2])
