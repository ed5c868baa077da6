"""What every explorer is: controls above a picture, its reading in words and a place for errors.

A page holds its slider messages back until the kernel has answered the last one, so that of many quick moves the last
value wins. Where there is no kernel, a panel is shown as HTML: one slider still moves, through pictures drawn before.
"""

from __future__ import annotations

import base64
import html
import io
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from memlib import viz as plots

Draw = Callable[..., tuple[Figure, str]]
Frame = tuple[str, Figure, str]
DATA, UNIFORM, SAMPLE = (plots.MEANINGS[name].colour for name in ("train", "uniform", "sample"))
INTERVAL = plots.looks(["interval"])["interval"].colour
NOISE_GROWS = "(noise grows \u2192)"
WIDER = 0.18  # inches at each side of the axes: numbers along them may grow by a digit later
FRAMES = 9  # pictures of a strip: a slider that moves, in some 100 kB
_MOVE = (
    "const all=this.closest('div').querySelectorAll('figure');all.forEach((one,i)=>one.hidden=i!=this.value);"
    "this.nextElementSibling.value=all[this.value].dataset.value"
)


class Panel(widgets.VBox):
    """Controls above a picture, its reading and a place for errors; `draw` is called with the controls' values.

    `strip` names the control that moves where there is no kernel; or it is the name of what changes there and a
    function that yields a (value in words, figure, reading) per frame.
    """

    def __init__(
        self,
        controls: Mapping[str, widgets.Widget],
        draw: Draw,
        strip: str | tuple[str, Callable[[], Iterable[Frame]]],
        buttons: tuple[widgets.Widget, ...] = (),
    ) -> None:
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.reading, self.errors = widgets.HTML(), widgets.Output()
        self._controls, self._draw, self._strip = controls, draw, strip
        self._places: dict[tuple[float, ...], list[Bbox]] = {}
        share = 30 if len(controls) == 3 else 45  # per cent: three beside each other, else two
        for control in controls.values():
            control.layout.flex, control.layout.min_width = f"1 1 {share}%", "280px"
        together = [widgets.HBox(buttons, layout={"flex": "1 1 100%"})] if buttons else []
        row = widgets.HBox([*controls.values(), *together], layout={"flex_flow": "row wrap"})
        super().__init__([row, self.picture, self.reading, self.errors])

        def redraw(_: object = None) -> None:
            self.show(lambda: draw(**self._values()))

        for control in controls.values():
            control.observe(redraw, "value")
        redraw()

    def show(self, draw: Callable[[], tuple[Figure, str]]) -> None:
        """Put what `draw` returns in place of the last picture and reading, or its error below them."""
        try:
            with _closing():
                figure, text = draw()
                self._lay_out(figure)
                self.picture.value = _encoded(figure, "png", 256)
            self.reading.value = f"<p>{html.escape(text)}</p>"
            self.errors.outputs = ()
        except Exception as error:  # whatever it is, the reader sees it where they moved the slider
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Show the error as a cell would, so that a check of the executed notebook finds it too."""
        shown = {"ename": type(error).__name__, "evalue": str(error), "traceback": traceback.format_exception(error)}
        self.errors.outputs = ({"output_type": "error"} | shown,)

    def still(self) -> str:
        """HTML that needs neither kernel nor network: the controls as they stand, one of them moving through frames."""
        name, frames = self._strip if isinstance(self._strip, tuple) else (self._strip, self._sweep)
        moving, figures, values = self._controls.get(name), [], []
        with _closing():
            for value, figure, text in frames():
                self._lay_out(figure)
                source, text = base64.b64encode(_encoded(figure, "webp", 64, lossless=True)).decode(), html.escape(text)
                plt.close(figure)
                figures.append(
                    f'<div style="overflow-x:auto"><img src="data:image/webp;base64,{source}" alt="{text}" '
                    f'style="max-width:100%"></div><figcaption>{text}</figcaption>'
                )
                values.append(html.escape(value))
        at = values.index(html.escape(_said(moving))) if moving else len(values) - 1
        slider = (
            f"<label>{html.escape(moving.description if moving else name)} "
            f'<input type="range" max="{len(values) - 1}" value="{at}" oninput="{_MOVE}" '
            f'style="width:min(24rem,50%);vertical-align:middle"> '
            f"<output>{values[at]}</output></label>"
        )
        others = (f"{c.description}: {_said(c)}" for c in self._controls.values() if c is not moving)
        shown = (
            f'<figure data-value="{value}" style="margin:0"{"" if i == at else " hidden"}>{figure}</figure>'
            for i, (value, figure) in enumerate(zip(values, figures, strict=True))
        )
        rest = f"<br><small>{html.escape('; '.join(others))}</small>"
        return f'<div class="explorer"><p>{slider}{rest}</p>{"".join(shown)}</div>'

    def _lay_out(self, figure: Figure) -> None:
        """As the first figure of this size: axes that keep their place do not jump, and take half the time to draw."""
        size = (*figure.get_size_inches(), len(figure.axes))
        if size not in self._places:
            figure.set_layout_engine("constrained", w_pad=WIDER)
            figure.draw_without_rendering()
            self._places[size] = [ax.get_position(original=True) for ax in figure.axes]
        figure.set_layout_engine("none")
        for ax, place in zip(figure.axes, self._places[size], strict=True):
            ax.set_position(place)

    def _values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self._controls.items()}

    def _sweep(self) -> Iterator[Frame]:
        """A frame for each of up to FRAMES even steps along the control `strip`; where it stands is one of them."""
        control = self._controls[self._strip]
        if hasattr(control, "options"):
            choices = _options(control)
            at = control.index
        else:
            count = round((control.max - control.min) / control.step) + 1
            choices = [(f"{x:g}", x) for x in (control.min + i * control.step for i in range(count))]
            at = round((control.value - control.min) / control.step)
            choices[at] = _said(control), control.value  # which may stand between two steps
        even = {round(i) for i in np.linspace(0, len(choices) - 1, min(FRAMES, len(choices)))}
        even.remove(min(even, key=lambda i: abs(i - at)))
        for i in sorted(even | {at}):
            said, value = choices[i]
            yield said, *self._draw(**self._values() | {self._strip: value})

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return super()._repr_mimebundle_(**options) | {"text/html": self.still()}


@contextmanager
def _closing() -> Iterator[None]:
    """Close the figures opened within, else the notebook would show them a second time."""
    before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _encoded(figure: Figure, format: str, colours: int, **options: Any) -> bytes:
    """The figure as a small picture: in so few colours, and drawn once (savefig draws twice)."""
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, format, **options)
    return file.getvalue()


def _options(control: widgets.Widget) -> list[tuple[str, Any]]:
    return [pair if isinstance(pair, tuple) else (str(pair), pair) for pair in control.options]


def _said(control: widgets.Widget) -> str:
    """The control's value in words, as the reader sees it."""
    if hasattr(control, "options"):
        return _options(control)[control.index][0]  # its label is empty until the index first changes
    return f"{control.value:g}" if isinstance(control.value, (int, float)) else str(control.value)
