"""The look of all figures: what each colour means, the style, captions, and the conversion of what is drawn."""

import textwrap
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import seaborn as sns
import torch
from cycler import cycler
from IPython import get_ipython
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memlib.timesteps import TimestepDistribution

WIDTH, FINER = 576, 1.25  # pixels of the page that a moving picture takes (90 an inch), and of its own on each

Array = torch.Tensor | np.ndarray | Sequence[Any]
Arrays = Mapping[str, Array]
Controls = Mapping[str, TimestepDistribution]
Opt = Array | None
Ax = Axes | None
NOISE_GROWS = "(more noise to the right)"
NEVER = 0.01  # T p(t), at or below which a step counts as never trained
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1)}  # a legend that covers no data


class Look(NamedTuple):
    """How one set is drawn. Line and marker differ as well as colour, so that a grey print can be read."""

    colour: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str

    @property
    def curve(self) -> dict[str, Any]:
        """The colour and line style, as `Axes.plot` takes them."""
        return {"color": self.colour, "linestyle": self.line}


# One colour means one thing in every figure (Okabe and Ito's palette, safe for the colour-blind). The memorizing
# baseline has the colour of the training data because it is the training data.
MEANINGS = {
    "train": Look("#000000", "-", "o"),
    "memorizing baseline": Look("#000000", ":", "X"),
    "held out": Look("#56B4E9", "--", "s"),
    "fresh": Look("#009E73", "-.", "D"),
    "sample": Look("#D55E00", "-", "v"),
    "uniform": Look("#0072B2", "-", "o"),
    "low noise": Look("#E69F00", "--", "s"),
    "middle noise": Look("#882255", ":", "D"),
    "high noise, no floor": Look("#AA4499", ":", "v"),
    "high noise": Look("#CC79A7", "-.", "^"),
    "p2": Look("#661100", "-.", "P"),
}
# Labels without a meaning take these in order: Tol's "muted" colours and a brown, none of them in MEANINGS.
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)), (0, (8, 2)), "-")
FALLBACK = tuple(map(Look, ["#332288", "#44AA99", "#8B5A2B", "#999933"] * 2, _LINES, "os^DPXv*"))


def use_style() -> None:
    """Set the style of the session. Notebooks show figures at their natural width, in 180 dots per inch."""
    rc: dict[str, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "0.9"}
    rc |= {"figure.constrained_layout.use": True, "legend.frameon": False, "figure.dpi": 90, "savefig.dpi": 180}
    rc |= {"lines.markersize": 5, "grid.linewidth": 0.7}
    rc |= {"axes.prop_cycle": cycler(color=[look.colour for look in FALLBACK[:4]])}  # no colour of a meaning
    sns.set_theme(style="ticks", font_scale=0.82, rc=rc)
    if shell := get_ipython():
        warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"  # and no path of this machine
        plt.switch_backend(plt.get_backend())  # loads the backend, which would put its own format in place later
        shell.display_formatter.formatters["image/png"].for_type(Figure, as_png)


def as_png(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """A figure in 180 dots per inch and 256 colours, a third of the bytes, with its natural width and height."""
    every, small = BytesIO(), BytesIO()
    figure.savefig(every, format="png", dpi=180, bbox_inches="tight")
    image = PIL.Image.open(every).convert("RGB").quantize(256, PIL.Image.Quantize.MAXCOVERAGE, kmeans=1)
    image.save(small, "PNG", optimize=True)
    return small.getvalue(), {"width": image.width // 2, "height": image.height // 2}


def moving(figure: Figure, draw: Callable[[int], object], frames: int, alt: str, seconds: float = 4.0) -> HTML:
    """`draw(i)` puts frame i into `figure`; all frames as one WebP that repeats. In print, and for readers who ask for
    less motion, it is the last frame."""
    figure.set_dpi(FINER * WIDTH / figure.get_figwidth())
    canvas, shots = FigureCanvasAgg(figure), []
    for i in range(frames):
        draw(i)
        canvas.draw()
        shots.append(PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    plt.close(figure)
    durations, texts = [round(1000 * seconds / frames)] * (frames - 1) + [2500], []
    for first, rest in ((shots[0], shots[1:]), (shots[-1], [])):
        file = BytesIO()
        options = {"save_all": True, "append_images": rest, "duration": durations} if rest else {}
        first.save(file, "webp", loop=0, quality=40, method=4, **options)
        texts.append(f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}")
    still = f'<source media="print, (prefers-reduced-motion: reduce)" srcset="{texts[1]}">'
    return HTML(f'<picture>{still}<img src="{texts[0]}" alt="{escape(alt)}" width="{WIDTH}"></picture>')


def meaning(label: str) -> Look | None:
    """The look that MEANINGS gives to the first words of a label ("low noise 0-500"); None if it has none."""
    plain = label.lower().replace("_", " ").replace("-", " ")
    return next((look for words, look in MEANINGS.items() if plain.startswith(words)), None)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """The look of each label: its meaning, given once, else the first of FALLBACK whose line and marker are free."""
    chosen: dict[str, Look] = {}
    for label in labels:
        look, taken = meaning(label), {own[1:] for own in chosen.values()}
        if look is None or look in chosen.values():
            look = next((own for own in FALLBACK if own[1:] not in taken), FALLBACK[len(chosen) % len(FALLBACK)])
        chosen[label] = look
    return chosen


def caption(drawn: Figure | Axes, text: str) -> None:
    """Write `text` (profile, seeds, hardware) small under a figure; a second call replaces the first."""
    if not text.strip():
        raise ValueError(f"text = {text!r}: a caption names profile, seeds and hardware")
    figure: Any = drawn if isinstance(drawn, Figure) else drawn.figure
    figure.set_layout_engine(figure.get_layout_engine() or "constrained")  # it keeps the caption clear of the axes
    wrapped = textwrap.fill(text, int(figure.get_figwidth() * 72 / 3.9))  # a letter of 7 points is 3.9 points wide
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=7, color="0.35")


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend above all axes of `figure`, in as many columns as its width has room for."""
    widths = [5 * len(handle.get_label()) + 44 for handle in handles]  # points: five a letter, and the symbol
    width = 72 * figure.get_figwidth()
    room = (n for n in range(len(widths), 1, -1) if sum(map(max, np.array_split(widths, n))) < width)
    figure.legend(handles=handles, loc="outside upper center", ncols=next(room, 1))


def panels(names: Sequence[str], rows: Sequence[str], width: float) -> tuple[Figure, Any]:
    """A figure with a panel for each of `names`, which stand below it, and a row for each of `rows`, first on top.

    A panel is `width` inches wide, and narrower where a page has no room for as many."""
    words = "\n".join(rows).split("\n")
    beside = 0.4 + 0.075 * max(map(len, words))
    width = min(width, (10.4 - beside) / len(names))  # JupyterLab would shrink a wider figure, words and all
    size = (beside + width * len(names), 1.2 + 0.36 * len(rows) + 0.06 * len(words))
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_xlabel("\n".join(textwrap.fill(line, int(12 * width)) for line in name.split("\n")))
        ax.margins(x=0.15)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.6))
    return figure, axes[0]


def note(ax: Axes, x: float, y: float, text: str) -> None:
    """Small text just above the point (x, y), on a pale ground."""
    ground = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
    ax.annotate(text, (x, y), (0, 5), textcoords="offset points", ha="center", size=7.5, bbox=ground)


def number(value: float) -> str:
    """`value` in three digits, with a real minus sign."""
    return f"{value:.3g}".replace("-", "\u2212")


def given(name: str, values: Any) -> Any:
    """`values`, which must not be empty."""
    if not len(values):
        raise ValueError(f"{name}: empty, there is nothing to draw")
    return values


def numbers(name: str, values: Any, *shape: int | None, gaps: bool = False) -> np.ndarray:
    """`values` as float64 of `shape`, where None is any size; `gaps` lets NaN stand for "no value"."""
    array = np.asarray(values.detach().cpu().double() if isinstance(values, torch.Tensor) else values, dtype=float)
    if not array.size or [n if n is None else m for n, m in zip(shape, array.shape, strict=False)] != [*shape]:
        raise ValueError(f"{name}: need shape {shape}, where None is any size above 0, got {array.shape}")
    if not (np.isfinite(array) | (gaps & np.isnan(array))).all() or np.isnan(array).all():
        raise ValueError(f"{name}: holds NaN or infinity, which cannot be drawn")
    return array
