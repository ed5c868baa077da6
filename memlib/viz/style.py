"""The one look of all figures: what each colour means, the seaborn style, captions, and the checks of what is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

Array = torch.Tensor | np.ndarray
Kind = Literal["points", "signal", "image"]


class Look(NamedTuple):
    """How one set is drawn. Line and marker differ as well as colour, so that a grey print can be read."""

    colour: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str

    @property
    def curve(self) -> dict[str, Any]:
        """The colour and line style, as `Axes.plot` takes them."""
        return {"color": self.colour, "linestyle": self.line}


# One colour means one thing in every figure. Okabe and Ito's colour-blind safe palette; a copycat has the colour of
# the training data because it is the training data.
MEANINGS: dict[str, Look] = {
    "train": Look("#000000", "-", "o"),
    "copycat": Look("#000000", ":", "X"),
    "held out": Look("#56B4E9", "--", "s"),
    "fresh": Look("#009E73", "-.", "D"),
    "sample": Look("#D55E00", "-", "v"),
    "uniform": Look("#0072B2", "-", "o"),
    "low noise": Look("#E69F00", "--", "s"),
    "middle noise": Look("#882255", ":", "D"),
    "high noise": Look("#CC79A7", "-.", "^"),
}
TRAIN, SAMPLE = MEANINGS["train"], MEANINGS["sample"]
# Everything else, in the order of its labels (Tol's "muted" and a brown): none of them is a colour of MEANINGS.
FALLBACK: tuple[Look, ...] = (
    Look("#332288", "-", "o"),
    Look("#44AA99", "--", "s"),
    Look("#8B5A2B", "-.", "^"),
    Look("#999933", ":", "D"),
    Look("#332288", (0, (6, 2, 1, 2, 1, 2)), "P"),
    Look("#44AA99", (0, (1, 3)), "X"),
    Look("#8B5A2B", (0, (8, 2)), "v"),
    Look("#999933", "-", "*"),
)


def use_style() -> None:
    """Set the seaborn style for the session: call it once, at the top of a notebook."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "axes.prop_cycle": plt.cycler(color=[look.colour for look in FALLBACK[:4]]),  # no colour of a meaning
            "figure.dpi": 90,
            "savefig.dpi": 90,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "0.9",
            "grid.linewidth": 0.7,
            "axes.edgecolor": "0.3",
            "axes.linewidth": 0.8,
            "axes.labelsize": 10,
            "axes.titlesize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "mathtext.fontset": "dejavusans",
            "hatch.linewidth": 0.6,
        },
    )


def meaning(label: str) -> Look | None:
    """The look of what the first words of a label mean in MEANINGS ("low noise 0-500"), if they mean something."""
    plain = label.lower().replace("_", " ").replace("-", " ")
    return next((look for words, look in MEANINGS.items() if plain.startswith(words)), None)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """The look of each label: its `meaning`, else the first of FALLBACK whose line and marker no label before it has.

    A meaning is given once; a second label with the same first words takes a fallback, so that the two differ.
    """
    chosen: dict[str, Look] = {}
    for label in labels:
        look = meaning(label)
        if look is None or look in chosen.values():
            taken = {own[1:] for own in chosen.values()}
            look = next((own for own in FALLBACK if own[1:] not in taken), FALLBACK[len(chosen) % len(FALLBACK)])
        chosen[label] = look
    return chosen


def caption(drawn: Figure | Axes, text: str) -> None:
    """Write `text` (profile, seeds, hardware) small under a figure; a second call replaces the first.

    Raises ValueError for an empty text: no figure goes without.
    """
    if not text.strip():
        raise ValueError(f"text: a caption names profile, seeds and hardware, got {text!r}")
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    if figure.get_layout_engine() is None:  # the constrained layout is what keeps the caption clear of the axes
        figure.set_layout_engine("constrained")
    characters = int(figure.get_figwidth() * 72 / 3.9)  # a letter of 7 points is some 3.9 points wide
    wrapped = "\n".join(textwrap.wrap(text, characters))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=7, color="0.35")


def side_legend(ax: Axes) -> None:
    """A legend to the right of `ax`: it covers no data and leaves the place of the title free."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0)


def top_legend(figure: Figure, handles: list[Any]) -> None:
    """One legend for all axes of `figure`, above them, in as many columns as its width has room for."""
    widths = [5 * len(handle.get_label()) + 44 for handle in handles]  # points, at 9 points a letter and its symbol
    columns = range(len(widths), 1, -1)
    room = (n for n in columns if sum(map(max, np.array_split(widths, n))) <= 72 * figure.get_figwidth())
    figure.legend(handles=handles, loc="outside upper center", ncols=next(room, 1))


def number(value: float) -> str:
    """`value` in three digits, with a real minus sign."""
    return f"{value:.3g}".replace("-", "\u2212")


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """`ax`, or the only axes of a new figure of `width` x `height` inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def logarithmic(ax: Axes, axis: str) -> None:
    """A logarithmic scale with plain numbers on it."""
    ax.set(**{f"{axis}scale": "log"})
    ticks = {"major_locator": _FewTicks(), "major_formatter": "{x:g}", "minor_locator": NullLocator()}
    getattr(ax, f"{axis}axis").set(**ticks)


class _FewTicks(LogLocator):
    """Two to five round numbers, so that their labels have room side by side."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        decades = 10.0 ** np.arange(np.floor(np.log10(vmin)), np.ceil(np.log10(vmax)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = np.outer(decades, steps).ravel()
            ticks = ticks[(vmin <= ticks) & (ticks <= vmax)]
            if 2 <= len(ticks) <= 5:
                return ticks
        if len(ticks) > 5:
            return ticks[:: -(-len(ticks) // 5)]
        return MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)


@contextmanager
def all_or_none() -> Iterator[None]:
    """Decorates a plot that can refuse what it was given half-way: the figure it began is closed."""
    before = set(plt.get_fignums())
    try:
        yield
    except Exception:
        for begun in set(plt.get_fignums()) - before:
            plt.close(begun)
        raise


def labelled(name: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` as a dict; ValueError for an empty one."""
    if not mapping:
        raise ValueError(f"{name}: empty, there is nothing to draw; give at least one label")
    return dict(mapping)


def as_array(name: str, values: Any, shape: tuple[int | None, ...], *, gaps: bool = False) -> np.ndarray:
    """`values` (tensor, array or nested list) as float64 of `shape`, where None is any size above 0.

    NaN and infinity are refused, except that `gaps` lets NaN stand for "not measured".
    """
    if isinstance(values, torch.Tensor) and not values.is_complex():
        values = values.detach().cpu().double()  # NumPy knows no bfloat16
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex numbers have no order")
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected a tensor, an array or a nested list of numbers, got {values!r:.80}"
        ) from error
    wanted = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
    fits = array.ndim == len(shape) and all(
        have == want or (want is None and have > 0) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected shape {wanted} with n > 0, got {array.shape}")
    if not (np.isfinite(array) | (gaps & np.isnan(array))).all():
        raise ValueError(f"{name}: holds NaN or infinity, which cannot be drawn")
    return array


def as_indices(name: str, values: Any, shape: tuple[int | None, ...], count: int) -> np.ndarray:
    """`values` as int64 indices of `shape` into a training set of `count` items."""
    array = as_array(name, values, shape)
    if not ((array >= 0) & (array < count) & (array == array.round())).all():
        raise ValueError(
            f"{name}: need whole numbers in 0..{count - 1}, the training set, got {array.ravel()[:8].tolist()}"
        )
    return array.astype(np.int64)


def as_items(name: str, values: Any) -> tuple[np.ndarray, Kind]:
    """`values` as (N, 2) points, (N, C, L) signals or (N, C, H, W) images, C = 1 or 3, with the name of their kind."""
    kinds: dict[int, tuple[tuple[int | None, ...], Kind]] = {
        2: ((None, 2), "points"),
        3: ((None, None, None), "signal"),
        4: ((None, None, None, None), "image"),
    }
    try:
        dimensions = values.ndim if isinstance(values, torch.Tensor) else np.ndim(values)
    except ValueError as error:
        raise TypeError(f"{name}: expected rows of equal length, got {values!r:.80}") from error
    if dimensions not in kinds:
        raise ValueError(f"{name}: expected (N, 2), (N, C, L) or (N, C, H, W), got {dimensions} dimensions")
    shape, kind = kinds[dimensions]
    array = as_array(name, values, shape)
    if kind == "image" and array.shape[1] not in (1, 3):
        raise ValueError(f"{name}: images have 1 or 3 channels, (N, C, H, W), got shape {array.shape}")
    return array, kind


def picture(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) in [-1, 1] as (H, W, 3) in [0, 1]; what lies outside is clipped, one channel is grey."""
    return np.broadcast_to(np.clip((image + 1) / 2, 0, 1), (3, *image.shape[1:])).transpose(1, 2, 0)
