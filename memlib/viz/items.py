"""The items themselves: coming out of the noise, side by side, and beside their nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from memlib.samplers import Frame
from memlib.schedules import Schedule
from memlib.viz.style import (
    SAMPLE,
    TRAIN,
    Array,
    Kind,
    as_array,
    as_indices,
    as_items,
    looks,
    new_axes,
    number,
    picture,
    top_legend,
)

# a sample lies broad and pale beneath, so that a copy shows as one line along the middle of another
_LAID_OVER = {
    "sample": {"color": SAMPLE.colour, "linewidth": 4, "alpha": 0.5},
    "second": {"color": "0.45", "linewidth": 1.1, "linestyle": "--"},
    "nearest": {"color": TRAIN.colour, "linewidth": 1.1},
}


def denoising_strip(
    frames: Iterable[Frame],
    *,
    samples: Sequence[int] = (0,),
    columns: int = 8,
    schedule: Schedule | None = None,
    train: Array | None = None,
) -> Figure:
    """x_t above the predicted x0, from pure noise (left) to the sample (right), for images, signals or 2-D points.

    Each frame has t, x (B, *D) and x0 (B, *D); `columns` of them are drawn, evenly spaced, first and last included.
    Of images and signals the items `samples` are drawn, two rows each; of points the whole batch, over `train` (N, 2)
    if given. Panels share the limits of x_t, which a predicted x0 may leave. `schedule` adds sigma to the titles.
    Raises ValueError for no frames, unequal shapes, columns < 2, an unknown sample, `train` where items are no points.
    """
    frames = list(frames)
    if not frames:
        raise ValueError("frames: empty, there is nothing to draw; give what a sampler yields")
    if columns < 2:
        raise ValueError(f"columns = {columns}: need at least 2, for the noise and for the sample")
    first, kind = as_items("frames[0].x", frames[0].x)
    picked = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, columns).round().astype(int))]
    x, x0 = (
        np.stack([as_array(f"frames: {part}", getattr(frame, part), first.shape) for frame in picked])
        for part in ("x", "x0")
    )
    if not len(samples) or not all(0 <= i < len(first) for i in samples):
        raise ValueError(f"samples = {list(samples)}: need at least one index, each in 0..{len(first) - 1}")
    if train is not None and kind != "points":
        raise ValueError(f"train: drawn under 2-D points only, but the frames hold items of kind {kind!r}")
    backdrop = None if train is None else as_array("train", train, (None, 2))

    which = [slice(None)] if kind == "points" else list(samples)
    rows = [(name, part[:, i]) for i in which for name, part in (("$x_t$", x), ("predicted $x_0$", x0))]
    figure, axes = _panels(len(rows), len(picked), kind)
    limits = (x.min(), x.max())
    for row, (name, items) in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, size=9)
        for ax, item in zip(row, items, strict=True):
            _draw(ax, item, kind, limits, backdrop)
    for ax, frame in zip(axes[0], picked, strict=True):
        sigma = "" if schedule is None else f"\n\u03c3 = {number(float(schedule.sigma[frame.t]))}"
        ax.set_title("sample" if frame.t < 0 else f"t = {frame.t}{sigma}", size=9)
    return figure


def _panels(rows: int, columns: int, kind: Kind) -> tuple[Figure, np.ndarray]:
    """A figure of small bare panels, (rows, columns)."""
    width, height = {"points": (1.3, 1.3), "signal": (1.5, 1.0), "image": (1.05, 1.05)}[kind]
    size = (width * columns + 0.3, height * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(kind != "image")
    return figure, axes


def _draw(ax: Axes, item: np.ndarray, kind: Kind, limits: tuple[float, float], under: np.ndarray | None = None) -> None:
    """One image, one signal, or a cloud of points (N, 2) over training points `under` it."""
    if kind == "image":
        ax.imshow(picture(item), interpolation="nearest")
        return
    margin = 0.05 * (limits[1] - limits[0])
    ax.set_ylim(limits[0] - margin, limits[1] + margin)
    if kind == "signal":
        ax.plot(item.T, color=SAMPLE.colour, linewidth=1)
        return
    ax.set(xlim=ax.get_ylim(), aspect="equal")
    if under is not None:
        ax.scatter(*under.T, s=3, color=TRAIN.colour, linewidth=0)
    ax.scatter(*item.T, s=7, color=SAMPLE.colour, marker=SAMPLE.marker, linewidth=0)


def grid(items: Array, *, label: str = "samples", columns: int = 8, ax: Axes | None = None) -> Axes:
    """Images (N, C, H, W) or signals (N, C, L) side by side, or points (N, 2) in one plane, in the look of `label`.

    Signals share one scale. Raises ValueError for another shape, NaN, or columns < 1.
    """
    array, kind = as_items("items", items)
    if columns < 1:
        raise ValueError(f"columns = {columns}: need at least 1")
    look = looks([label])[label]
    columns = min(columns, len(array))
    rows = -(-len(array) // columns)
    ax = new_axes(ax, *{"points": (4, 4), "signal": (0.8 * columns, 0.7 * rows)}.get(kind, (0.8 * columns, 0.8 * rows)))
    if kind == "points":
        ax.scatter(*array.T, s=10, color=look.colour, marker=look.marker, linewidth=0, label=label)
        ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        return ax
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if kind == "image":
        ax.imshow(_montage(array, rows, columns), interpolation="nearest")
        return ax
    low, high = array.min(), array.max()
    across = np.linspace(0, 0.9, array.shape[2])
    for i, signal in enumerate(array):
        up = 0.9 * (signal - low) / max(high - low, np.finfo(float).tiny)
        ax.plot(i % columns + across, (up - i // columns).T, color=look.colour, linewidth=1)
    ax.set_xlabel(f"each: {array.shape[2]} samples across, {number(low)} to {number(high)} up", size=8)
    return ax


def _montage(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1] as one white-ruled picture (rows (H + 1), columns (W + 1), 3) in [0, 1]."""
    height, width = images.shape[2:]
    sheet = np.ones((rows, columns, height + 1, width + 1, 3))
    for i, image in enumerate(images):
        sheet[i // columns, i % columns, :height, :width] = picture(image)
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), columns * (width + 1), 3)


def neighbour_panels(
    samples: Array, train: Array, distances: Array, indices: Array, *, count: int = 8, threshold: float = 1 / 3
) -> Figure:
    """Samples beside their nearest and second-nearest training items, worst first: smallest ratio d1/d2 first.

    samples (B, *D) and train (N, *D) are images or signals; distances and indices (B, k >= 2) are what
    `metrics.nearest_neighbours` gives. Images stand in columns, signals lie over each other; `count` are shown. A thick
    frame marks ratios below `threshold` (Yoon 2023); at distance 0 the ratio is 0, as in the metrics.
    Raises ValueError for points, shapes that disagree, indices outside train, distances that do not rise, count < 1.
    """
    shown, kind = as_items("samples", samples)
    known = as_array("train", train, (None, *shown.shape[1:]))
    if kind == "points":
        raise ValueError("samples: 2-D points have no panels; points() joins them to their nearest neighbours")
    if count < 1:
        raise ValueError(f"count = {count}: need at least 1")
    near, who, ratio = _ratios(distances, indices, len(shown), len(known))
    worst = np.argsort(ratio, kind="stable")[:count]
    draw = _image_columns if kind == "image" else _signal_overlays
    return draw(shown[worst], known[who[worst]], near[worst], ratio[worst], threshold)


def beside_nearest(
    samples: Array,
    nearest: Array,
    notes: Sequence[str],
    *,
    second: Array | None = None,
    framed: Sequence[bool] = (),
    ax: Axes | None = None,
) -> Axes:
    """Samples (B, *D), images or signals, each with the training item (B, *D) next to it, in one row, `notes` below.

    Images stand above their neighbour, and above the `second` nearest where given; a signal lies broad and pale under
    them. A frame marks those of `framed`, B booleans. Raises ValueError for points, and for shapes or numbers of notes
    and of frames that differ.
    """
    shown, kind = as_items("samples", samples)
    items = {"sample": shown, "nearest": as_array("nearest", nearest, shown.shape)}
    if second is not None:
        items["second"] = as_array("second", second, shown.shape)
    if kind == "points" or len(notes) != len(shown) or len(framed) not in (0, len(shown)):
        raise ValueError(
            f"samples are {len(shown)} of kind {kind!r} with {len(notes)} notes and {len(framed)} values of framed; "
            "need images or signals, and as many of each"
        )
    image = kind == "image"
    rows = len(items) if image else 1
    ax = new_axes(ax, 1.15 * len(shown) + 0.4, 1.2 * rows if image else 1.5)
    low, high = min(array.min() for array in items.values()), max(array.max() for array in items.values())
    for row, (name, array) in enumerate(items.items()):
        bottom = 1.02 * (rows - 1 - row)
        for i, item in enumerate(array):
            if image:
                ax.imshow(picture(item), extent=(i + 0.03, i + 0.97, bottom, bottom + 0.94), interpolation="nearest")
            else:
                up = (item - low) / max(high - low, np.finfo(float).tiny)
                ax.plot(i + np.linspace(0.05, 0.95, item.shape[1]), up.T, **_LAID_OVER[name])
    top = 1.02 * (rows - 1) + 0.96 if image else 1.03
    foot = 1.02 * max(rows - 2, 0) - 0.02  # of a frame: round the sample and its nearest
    for left in np.flatnonzero(framed) + 0.02:
        ax.add_patch(Rectangle((left, foot), 0.96, top - 0.01 - foot, fill=False, ec=SAMPLE.colour, linewidth=2))
    ax.set_xticks(np.arange(len(shown)) + 0.5, notes, size=8)
    names = ("sample", "nearest\ntraining item", "second\nnearest")[:rows]
    ax.set_yticks([1.02 * (rows - 1 - row) + 0.5 for row in range(rows)] if image else (), names if image else ())
    ax.set(xlim=(0, len(shown)), ylim=(-0.03, top), aspect="equal" if image else "auto")
    if not image:
        words = "\n".join(("sample: pale", "nearest: black", "second: dashed")[: len(items)])
        ax.set_ylabel(words, size=8, rotation=0, ha="right", va="center")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _ratios(distances: Array, indices: Array, count: int, known: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first two distances (B, 2), their indices (B, 2) and the ratio d1/d2 (B,), checked."""
    near = as_array("distances", distances, (count, None))
    if near.shape[1] < 2:
        raise ValueError(f"distances: need the two nearest, (B, k >= 2), got shape {near.shape}")
    who = as_indices("indices", indices, near.shape, known)
    if near.min() < 0 or (np.diff(near) < 0).any():
        raise ValueError("distances: must be >= 0 and rise along k, nearest first")
    d1, d2 = near[:, 0], near[:, 1]
    return near[:, :2], who[:, :2], np.divide(d1, d2, out=np.zeros(count), where=d1 > 0)


def _frame(ax: Axes) -> None:
    """A thick frame that takes no room, so that a row of framed panels is as high as one without."""
    look = {"fill": False, "edgecolor": SAMPLE.colour, "linewidth": 3}
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, clip_on=False, zorder=3, **look)).set_in_layout(False)


def _rule(threshold: float) -> Patch:
    text = f"framed: $d_1/d_2$ < {threshold:.3g}, memorized by the ratio rule"
    return Patch(facecolor="none", edgecolor=SAMPLE.colour, linewidth=2.5, label=text)


def _image_columns(
    samples: np.ndarray, neighbours: np.ndarray, near: np.ndarray, ratio: np.ndarray, threshold: float
) -> Figure:
    figure, axes = _panels(3, len(samples), "image")
    for row, name in zip(axes, ("sample", "nearest", "second"), strict=True):
        row[0].set_ylabel(name)
    for i, column in enumerate(axes.T):
        for ax, image in zip(column, (samples[i], *neighbours[i]), strict=True):
            _draw(ax, image, "image", (-1, 1))
        column[0].set_title(f"$d_1/d_2$ = {ratio[i]:.2f}", size=8)
        for ax, distance in zip(column[1:], near[i], strict=True):
            ax.set_xlabel(f"d = {number(distance)}", size=8, labelpad=3)
        if ratio[i] < threshold:
            _frame(column[0])
            _frame(column[1])
    if (ratio < threshold).any():
        top_legend(figure, [_rule(threshold)])
    return figure


def _signal_overlays(
    samples: np.ndarray, neighbours: np.ndarray, near: np.ndarray, ratio: np.ndarray, threshold: float
) -> Figure:
    rows = -(-len(samples) // 5)
    columns = -(-len(samples) // rows)
    size = (min(2.3 * columns, 9.6), 1.7 * rows + 0.5)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for ax in axes.flat[len(samples) :]:
        ax.set_visible(False)
    for i, ax in enumerate(axes.flat[: len(samples)]):
        for name, item in (("sample", samples[i]), ("second", neighbours[i, 1]), ("nearest", neighbours[i, 0])):
            ax.plot(item.T, **_LAID_OVER[name])
        ax.set_title(f"$d_1/d_2$ = {ratio[i]:.2f}  ($d_1$ = {number(near[i, 0])})", size=8)
        if i + columns >= len(samples):
            ax.set_xlabel("sample index")
            ax.tick_params(labelbottom=True)
        if ratio[i] < threshold:
            _frame(ax)
    sample, second, nearest = axes[0, 0].get_lines()[:: samples.shape[1]]
    sample.set_label("sample")
    nearest.set_label("nearest training item")
    second.set_label("second nearest")
    top_legend(figure, [sample, nearest, second, *([_rule(threshold)] if (ratio < threshold).any() else [])])
    return figure
