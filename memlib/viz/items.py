"""The items themselves: coming out of the noise, side by side, in the plane, and beside their nearest neighbours."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from memlib.samplers import Frame
from memlib.schedules import Schedule
from memlib.viz.style import BESIDE, MEANINGS, Array, Ax, Opt, given, looks, number, numbers

THRESHOLD = 1 / 3  # of d1/d2, below which the ratio rule (Yoon 2023) calls a sample memorized
TRAIN, SAMPLE = MEANINGS["train"].colour, MEANINGS["sample"].colour
# A sample lies broad and pale beneath, so that a copy shows as one line along the middle of another.
_LAYERS: dict[str, dict[str, Any]] = {
    "sample": {"color": SAMPLE, "linewidth": 4, "alpha": 0.5},
    "nearest": {"color": TRAIN, "linewidth": 1.1},
    "second": {"color": "0.45", "linewidth": 1.1, "linestyle": "--"},
}


def picture(image: Any) -> np.ndarray:
    """An image (C, H, W) in [-1, 1] as (H, W, 3) in [0, 1], clipped: one channel (or two) as grey, else three."""
    shown = np.asarray(image)[: 3 if len(image) > 2 else 1]
    return np.broadcast_to(np.clip((shown + 1) / 2, 0, 1), (3, *shown.shape[1:])).transpose(1, 2, 0)


def denoising_strip(
    frames: Iterable[Frame], *, samples: Sequence[int] = (0,), schedule: Schedule | None = None
) -> Figure:
    """x_t above the predicted x0 of the items `samples`, images or signals, from pure noise (left) to the sample.

    Up to eight frames are drawn, evenly spaced. Signals share the limits of x_t, which a predicted x0 may leave. Titles
    say t, and sigma if a `schedule` is given."""
    every = given("frames", list(frames))
    picked = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, 8).round().astype(int))]
    which = list(given("samples", samples))
    x, x0 = (np.stack([_items("frames", getattr(f, part))[which] for f in picked]) for part in ("x", "x0"))
    rows, size = 2 * len(samples), (1.3 * len(picked), 2.4 * len(samples) + 0.4)
    figure, axes = plt.subplots(rows, len(picked), figsize=size, layout="constrained", squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        item = (x, x0)[row % 2][column, row // 2]
        ax.set(xticks=[], yticks=[])
        if item.ndim == 3:
            ax.imshow(picture(item), interpolation="nearest")
        else:
            ax.plot(item.T, color=SAMPLE, linewidth=1)
            ax.set_ylim(1.05 * x.min(), 1.05 * x.max())
    for ax, frame in zip(axes[0], picked, strict=True):
        sigma = f"\n\u03c3 = {number(float(schedule.sigma[frame.t]))}" if schedule else ""
        ax.set_title("sample" if frame.t < 0 else f"t = {frame.t}{sigma}")
    for row, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(("$x_t$", "predicted $x_0$")[row % 2])
    return figure


def grid(items: Array, *, label: str = "samples", columns: int = 8, ax: Ax = None) -> Axes:
    """Images (N, C, H, W) or signals (N, C, L) side by side, signals on one scale, or points (N, 2) in one plane."""
    shown, look = numbers("items", items, *[None] * np.ndim(items)), looks([label])[label]
    columns = min(columns, len(shown))
    rows, scale = -(-len(shown) // columns), (shown.min(), shown.max())
    ax = ax or plt.subplots(figsize=(0.8 * columns, 0.8 * rows + 0.2), layout="constrained")[1]
    if shown.ndim == 2:
        ax.scatter(shown[:, 0], shown[:, 1], s=10, color=look.colour, marker=look.marker, linewidth=0, label=label)
        ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        return ax
    for i, item in enumerate(_items("items", shown)):
        _place(ax, item, i % columns, -1 - i // columns, scale, color=look.colour, linewidth=1)
    _bare(ax, shown, columns, rows)
    if shown.ndim == 3:
        ax.set_xlabel(f"each: {shown.shape[2]} samples across, {number(scale[0])} to {number(scale[1])} up", size=8)
    return ax


def points(
    train: Array, samples: Opt = None, *, name: str = "samples", nearest: Opt = None, field: Opt = None, ax: Ax = None
) -> Axes:
    """Training points (N, 2) and samples (B, 2) in the plane; `name` is what the samples are, and so their colour.

    `nearest` (B,), the index of each sample's nearest training point, draws the line to it; `field`, positions (M, 2)
    and vectors (M, 2), draws arrows (of the denoiser, say)."""
    known = numbers("train", train, None, 2)
    ax = ax or plt.subplots(figsize=(5.4, 4), layout="constrained")[1]
    if field is not None:
        arrows = np.hstack([numbers("field", each, None, 2) for each in field])
        ax.quiver(*arrows.T, color="0.65", angles="xy", width=0.003, zorder=1)
    ax.scatter(known[:, 0], known[:, 1], s=36, facecolor="white", edgecolor=TRAIN, label="train", zorder=3)
    if samples is not None:
        shown, look = numbers("samples", samples, None, 2), looks([name])[name]
        drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linewidth": 0, "label": name}
        ax.scatter(shown[:, 0], shown[:, 1], s=14, zorder=4, **drawn)
        if nearest is not None:
            lines: Any = np.stack([shown, known[np.asarray(nearest)]], 1)
            ax.add_collection(LineCollection(lines, colors="0.5", linewidths=0.8, zorder=2))
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    ax.legend(**BESIDE)
    return ax


def beside_nearest(
    samples: Array, nearest: Array, notes: Sequence[str], *, second: Opt = None, framed: Array = (), ax: Ax = None
) -> Axes:
    """Samples (B, *D), images or signals, each with the training item (B, *D) nearest to it, in one row, `notes` below.

    Images stand above their nearest item, and above the `second` nearest if given; a signal lies broad and pale under
    them. A frame marks those of `framed`, B booleans."""
    shown = _items("samples", samples)
    layers = {"sample": shown, "nearest": numbers("nearest", nearest, *shown.shape)}
    layers |= {} if second is None else {"second": numbers("second", second, *shown.shape)}
    if len(notes) != len(shown) or len(framed) not in (0, len(shown)):
        raise ValueError(f"notes and framed: need one for each of the {len(shown)} samples")
    stacked = shown.ndim == 4
    rows: int = len(layers) if stacked else 1
    ax = ax or plt.subplots(figsize=(1.15 * len(shown) + 0.6, 1.2 * rows + 0.4), layout="constrained")[1]
    scale = min(layer.min() for layer in layers.values()), max(layer.max() for layer in layers.values())
    for row, (name, layer) in enumerate(layers.items()):
        for i, item in enumerate(layer):
            _place(ax, item, i, -1 - row * stacked, scale, **_LAYERS[name])
    for left in np.flatnonzero(framed):  # round the sample and its nearest item
        ax.add_patch(Rectangle((float(left), -1 - stacked), 1, 1 + stacked, fill=False, edgecolor=SAMPLE, linewidth=3))
    _bare(ax, shown, len(shown), rows)
    ax.set_xticks(np.arange(len(shown)) + 0.5, notes, size=8)
    if stacked:
        ax.set_yticks(-0.5 - np.arange(rows), ("sample", "nearest\ntraining item", "second\nnearest")[:rows])
    else:
        words = ("sample: pale", "nearest: black", "second: dashed")[: len(layers)]
        ax.set_ylabel("\n".join(words), size=8, rotation=0, ha="right", va="center")
    return ax


def neighbour_panels(samples: Array, train: Array, distances: Array, indices: Array, *, count: int = 8) -> Figure:
    """`count` samples beside their nearest and second-nearest training items, smallest ratio d1/d2 first.

    distances and indices (B, k >= 2) are what `metrics.nearest_neighbours` gives. A frame marks ratios below 1/3
    (Yoon 2023); at distance 0 the ratio is 0, as in the metrics."""
    shown, known, who = _items("samples", samples), _items("train", train), np.asarray(indices)
    d1, d2 = numbers("distances", distances, len(shown), None).T[:2]
    if (d1 < 0).any() or (d1 > d2).any():
        raise ValueError("distances: must be >= 0 and rise along k, nearest first")
    ratio = np.divide(d1, d2, out=np.zeros(len(shown)), where=d1 > 0)
    worst = np.argsort(ratio, kind="stable")[:count]
    rows = 2 if shown.ndim == 3 and len(worst) > 5 else 1
    size = (min(9.6, 1.6 * len(worst) + 1), 4.4 if shown.ndim == 4 else 1.9 * rows + 0.3)
    figure, axes = plt.subplots(rows, 1, figsize=size, layout="constrained", squeeze=False)
    for ax, own in zip(axes[:, 0], np.array_split(worst, rows), strict=True):
        notes = [f"$d_1/d_2$ = {ratio[i]:.2f}\n$d_1$ = {number(d1[i])}\n$d_2$ = {number(d2[i])}" for i in own]
        near, second = known[who[own, 0]], known[who[own, 1]]
        beside_nearest(shown[own], near, notes, second=second, framed=ratio[own] < THRESHOLD, ax=ax)
    if (ratio[worst] < THRESHOLD).any():
        axes[0, 0].set_title("framed: $d_1/d_2$ < 1/3, memorized by the ratio rule")
    return figure


def _items(name: str, values: Any) -> np.ndarray:
    if np.ndim(values) not in (3, 4):
        raise ValueError(f"{name}: need signals (N, C, L) or images (N, C, H, W), got {np.ndim(values)} dimensions")
    return numbers(name, values, *[None] * np.ndim(values))


def _place(ax: Axes, item: np.ndarray, left: int, low: int, scale: tuple[float, float], **look: Any) -> None:
    """Draw an image or a signal in the unit square whose lower left corner is given."""
    if item.ndim == 3:
        ax.imshow(picture(item), extent=(left + 0.03, left + 0.97, low + 0.03, low + 0.97), interpolation="nearest")
    else:
        up = (item - scale[0]) / max(scale[1] - scale[0], np.finfo(float).tiny)
        ax.plot(left + np.linspace(0.05, 0.95, item.shape[1]), low + 0.05 + 0.9 * up.T, **look)


def _bare(ax: Axes, items: np.ndarray, columns: int, rows: int) -> None:
    """Leave nothing but the items of a grid of unit squares, which have the shape of an image."""
    aspect = items.shape[2] / items.shape[3] if items.ndim == 4 else "auto"
    ax.set(xticks=[], yticks=[], xlim=(-0.02, columns + 0.02), ylim=(-rows - 0.02, 0.02), aspect=aspect)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
