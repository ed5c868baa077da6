"""Widgets that compute in the reader's browser, with a kernel or without: the playground, an interval, the SNR."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from memlib import Schedule, TimestepDistribution, gaussian_interval, uniform
from memlib.checks import Items
from memlib.lab import data
from memlib.lab.spectrum import Spectrum
from memlib.timesteps import TAILS
from memlib.viz.explore.noise import TOP, checked, display_widget
from memlib.viz.style import NEVER

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

    _css = f".playground {{{COLOURS}}}\n{read('controls.css')}\n{read('playground.css')}"
    about = traitlets.Dict().tag(sync=True)
    items = traitlets.Bytes().tag(sync=True)
    _ipython_display_ = display_widget


def inlined(widget: Page) -> str:
    """A widget as elements of a page, HTML or Markdown: style, a place, and a module that needs no kernel."""
    state, place = widget.get_state(), type(widget).__name__.lower()
    given = {name: state[name] for name in sorted(state.keys() - set(anywidget.AnyWidget().keys) - {"_esm", "_css"})}
    started = _constants(PLACE=place, GIVEN=given) + state["_esm"].replace("export default", "const started =")
    begun = f'<script type="module">\n{started}\n{read("alone.js")}\n</script>'
    return f'<style>{state["_css"]}</style>\n<div id="{place}"></div>\n\n{begun}'


def page() -> str:
    """The playground alone, as one HTML file that needs no other."""
    return read("alone.html").replace("PLAYGROUND", inlined(playground()))


class Playground(Page):
    _esm = module("playground", "state", "plane", WORKER=script("maths", "network", "worker"))
    link = traitlets.Unicode().tag(sync=True)


def playground(link: str = "") -> Playground:
    """16 points, two networks A and B, and the noise levels that each trains on, as curves that are dragged. It needs
    no kernel. `link`: what *Link to this* gives, with the state of the page."""
    return Playground(link=link.rpartition("#")[2])


class IntervalExplorer(Page):
    """Sliders can be linked to `width` and `centre`, in timesteps (`jslink`)."""

    _esm = module("interval", "panel")
    width, centre = (traitlets.Float().tag(sync=True) for _ in range(2))
    tails = traitlets.Enum(TAILS, TAILS[0]).tag(sync=True)
    spectra = traitlets.Dict().tag(sync=True)

    @property
    def timesteps(self) -> TimestepDistribution:
        """What is shown now, to train with."""
        low, high = self.centre - self.width / 2, self.centre + self.width / 2
        return gaussian_interval(len(self.about["logSnr"]), low, high, tails=self.tails)


class SnrExplorer(Page):
    """Sliders can be linked to `position`, t / (T - 1)."""

    _esm = module("snr", "panel")
    schedule = traitlets.Enum(SETTINGS["schedules"], "linear").tag(sync=True)
    T = traitlets.Int(1000).tag(sync=True)
    position = traitlets.Float(0.25).tag(sync=True)


def _sent(items: Items | None, **about: Any) -> dict[str, Any]:
    shown = checked(data.load("spiral", 256).train if items is None else items)
    return {"about": {"shape": list(shown.shape), **about}, "items": shown.numpy().tobytes()}


def interval_explorer(
    schedule: Schedule | None = None, items: Items | None = None, spectra: Mapping[str, Spectrum] | None = None
) -> IntervalExplorer:
    """Drag an interval, or move its width and centre: p(t), noise levels, and items noised at its ends and centre
    (schedule: linear, items: a spiral). `.timesteps` is the distribution shown. With `spectra` of runs on this
    schedule, by the name of the data set, it shows their zones and predicts near-copies."""
    schedule = schedule or Schedule.linear()
    log_snr, _ = uniform(schedule.T).log_snr_density(schedule)  # it refuses an end without signal
    sent = _sent(items, logSnr=log_snr.tolist(), top=TOP, never=NEVER, tails=TAILS)
    sent["spectra"] = {name: _coefficients(spectrum, schedule.T) for name, spectrum in (spectra or {}).items()}
    return IntervalExplorer(width=schedule.T // 2, centre=schedule.T // 4, **sent)


def _coefficients(spectrum: Spectrum, T: int) -> dict[str, Any]:
    """What predicts near-copies at the last step, and the bands whose interval lies above zero."""
    if spectrum.T != T:
        raise ValueError(f"spectra are of T = {spectrum.T}, the schedule has T = {T}; need one of those runs")
    return {
        "edges": spectrum.edges,
        "shares": spectrum.mean_shares.tolist(),
        "copies": float(spectrum.mean_copies[-1]),
        "residual": spectrum.residual,
        "steps": int(spectrum.steps[-1]),
        "fits": spectrum.coefficients[:, -1].round(7).tolist(),
        "zone": spectrum.zone and [spectrum.zone[0], spectrum.zone[1] - 1],
    }


def snr_explorer(items: Items | None = None) -> SnrExplorer:
    """Schedule, T and a timestep: the SNR there, where uniform sampling spends its draws, and items (a spiral, unless
    given) noised at the same place of three schedules."""
    return SnrExplorer(**_sent(items))
