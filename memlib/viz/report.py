"""The page of an audit: one HTML file with its pictures inside."""

import base64
import html
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import Tensor

from memlib.audit import Audit, audit
from memlib.lab.files import write_atomically
from memlib.lab.own import PICTURES, read_items
from memlib.viz.curves import compare
from memlib.viz.items import grid, neighbour_panels, points
from memlib.viz.style import as_png, use_style

STYLE = "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}"
STYLE += "td,th{padding:.2rem .7rem;text-align:left}.note{border-left:4px solid #D55E00;padding-left:.7rem}"
SHOWN = 8  # samples, and training items


def audit_files(
    samples: Path, train: Path, held_out: Path | None = None, *, features: str | None = None, out: Path = Path("audit")
) -> Audit:
    """The audit of items in files (`read_items`), written to `out` as audit.html and audit.json."""
    sets = [read_items(path) for path in (samples, train, held_out) if path]
    out.mkdir(parents=True, exist_ok=True)  # now, not after the work
    match = warped if sets[0].ndim == 3 and find_spec("dtaidistance") else None
    extract = features_of(features, sets[1]) if features else None
    made = audit(*sets, generator=torch.Generator().manual_seed(0), features=extract, match=match)
    if sets[0].ndim == 3 and match is None:
        made.notes.append("signals were not compared over time warps, for which pip install dtaidistance")
    if len({x.ndim == 4 and bool((x[:, :1] == x).all()) for x in sets}) > 1:
        made.notes.append("pictures of one set are grey, those of another are not: recoloured copies are not seen")
    for path in filter(None, (samples, train, held_out)):
        if others := sum(file.is_file() and file.suffix.lower() not in PICTURES for file in path.rglob("*")):
            made.notes.append(f"{others} other files in {path} were left out")
    use_style()
    write_atomically(out / "audit.html", audit_page(made, *sets[:2]))
    write_atomically(out / "audit.json", json.dumps(made.to_json(), indent=1))
    return made


def audit_page(made: Audit, samples: Tensor, train: Tensor) -> str:
    """The HTML page of an audit of samples (B, *D) against train (N, *D)."""
    worst, near = made.worst[:SHOWN], made.table["samples"]["near-copies"]
    nulls = [f"{name} {own['near-copies'].value:.1%}" for name, own in made.table.items() if name != "samples"]
    parts = [f"<p><b>{near:.1%} of {len(samples)} samples are near-copies</b> (d1/d2 &lt; 1/3). By the same rule, "]
    parts[0] += html.escape(f"of {', of '.join(nulls)}.") + "</p>"
    parts += [f'<p class="note">{html.escape(note)}.</p>' for note in made.notes]
    measures = list(dict.fromkeys(name for row in made.table.values() for name in row))
    _, null, *_ = made.table  # held-out items, else training items among each other
    figures: dict[str, Any] = {"Samples beside their nulls": compare(made.table, measures, null=null)}
    chosen, items = _shown(samples[worst], train), _shown(train[made.indices[worst].flatten()], train)
    if 2 < samples.ndim < 5:
        order = torch.arange(2 * len(worst)).reshape(-1, 2)
        panels = neighbour_panels(chosen, items, made.distances[worst], order, count=SHOWN)
        figures["The likeliest copies beside their nearest and second-nearest training items"] = panels
    elif samples.shape[1:] == (2,):
        figures["The likeliest copies"] = points(items, chosen).figure
    most = made.copied.argsort(descending=True, stable=True)[:SHOWN]
    most = most[made.copied[most] > 0]
    if len(most) and 2 < train.ndim < 5:
        often = ", ".join(f"{i} ({made.copied[i]})" for i in most.tolist())
        copied = grid(_shown(train[most], train), label="train").figure
        figures[f"The most copied training items (how often): {often}"] = copied
    for title, figure in figures.items():
        image = base64.b64encode(as_png(figure)[0]).decode()
        said = html.escape(title)
        parts.append(f'<h2>{said}</h2><img src="data:image/png;base64,{image}" alt="{said}">')
        plt.close(figure)
    words = {row: {name: f"{value:.3g}" for name, value in own.items()} for row, own in made.table.items()}
    table = pd.DataFrame(words).T.reindex(columns=measures).fillna("").to_html(border=0)
    parts.append(f"<h2>The numbers, with intervals of 95 %</h2>{table}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>memlib: audit</title><style>{STYLE}</style>'
    return f"{head}<h1>Does this generator copy its training set?</h1>{''.join(parts)}</html>"


def _shown(x: Tensor, train: Tensor) -> Tensor:
    """Items as figures take them: images in [-1, 1], from [0, 255], [0, 1] or [-1, 1] as `train` has it."""
    if x.ndim != 4 or train[:100].min() < 0:
        return x.float()
    return x / (127.5 if train[:100].max() > 1.5 else 0.5) - 1


def features_of(name: str, like: Tensor) -> Callable[[Tensor], Tensor]:
    """What a network of `timm` gives for resized pictures in [0, 255], [0, 1] or [-1, 1]: in the range of `like`."""
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        cure = "pip install timm, or give `memlib.audit.audit` a function or arrays"
        raise ValueError(f"features {name!r} need timm, which is not installed; {cure}") from error
    network = timm.create_model(name, pretrained=True, num_classes=0).eval()
    config: dict[str, Any] = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))

    def features(x: Tensor) -> Tensor:
        x = x / 255 if like.max() > 1.5 else (x + 1) / 2 if like.min() < 0 else x
        x = F.interpolate(x.expand(-1, 3, -1, -1), config["input_size"][1:], mode="bilinear", antialias=True)
        return network((x - mean) / std)

    return features


def warped(a: Tensor, b: Tensor) -> Tensor:
    """(P,) distances of pairs of signals (P, C, L) under dynamic time warping, within a tenth of their length."""
    dtw, window = import_module("dtaidistance.dtw_ndim"), max(1, a.shape[2] // 10)
    pairs = zip(*(x.double().transpose(1, 2).contiguous().numpy() for x in (a, b)), strict=True)
    return torch.tensor([dtw.distance_fast(*pair, window=window) for pair in pairs], dtype=torch.float64)
