"""The audit: samples of any generator, judged against the training set that they may repeat."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from memlib.checks import Items, as_tensor, channels_last, evaluating, placement
from memlib.metrics.alignment import energy_rows, finest_scale
from memlib.metrics.copying import NEAR, count_distinct, ratio_of, share_below, share_closer, two_nearest
from memlib.metrics.estimates import Estimate, bootstrap, wilson
from memlib.metrics.evaluation import leaked, other_scale, problems_of
from memlib.metrics.generalisation import generalisation_gap, kid
from memlib.metrics.neighbours import COLUMNS, distinct, measure, nearest, scan
from memlib.metrics.nulls import model_nulls

LIMIT = 1000  # items of a set, fewer of wide ones, that enter all measures but near-copies and closer to train
COARSE = 16  # pixels or points across, at which twins and candidates for the best match are searched
UNUSABLE = torch.bool, torch.uint16, torch.uint32, torch.uint64  # torch cannot add the last three
MATCHED = 4  # candidates for a sample's best match, as it is and again mirrored
Features = Callable[[Tensor], Tensor] | Sequence[Items] | None
Match = Callable[[Tensor, Tensor], Tensor]  # pairs of items (P, *D), (P, *D) to their distances (P,)
Twin = tuple[int, int, float, bool]


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found. A row of `table` is a set, "samples" first and then its nulls; a column is a measure."""

    table: dict[str, dict[str, Estimate]]
    distances: Tensor  # (B, 2) of each sample to the nearest and the second nearest training item
    indices: Tensor  # (B, 2) which they are
    copied: Tensor  # (N,) how many near-copies each training item has
    twins: list[Twin]  # training items that are nearly equal: i, j, RMS difference, whether one is mirrored
    notes: list[str]  # what hides copies, or makes a value mislead

    @property
    def worst(self) -> Tensor:
        """(B,) indices of the samples in order of d1 / d2, the likeliest copy first."""
        return ratio_of(self.distances).argsort(stable=True)

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the hundred likeliest copies."""
        table = {row: {name: vars(value) for name, value in own.items()} for row, own in self.table.items()}
        copied = {int(i): int(self.copied[i]) for i in self.copied.argsort(descending=True, stable=True)}
        names, worst = ("sample", "train", "distances"), self.worst[:100]
        rows = zip(worst.tolist(), self.indices[worst].tolist(), self.distances[worst].tolist(), strict=True)
        found = {"copied": {i: n for i, n in copied.items() if n}, "twins": self.twins, "notes": self.notes}
        return {"table": table, "worst": [dict(zip(names, row, strict=True)) for row in rows], **found}


def audit(
    samples: Items, train: Items, held_out: Items | None = None, *, generator: torch.Generator,
    features: Features = None, match: Match | None = None,
) -> Audit:  # fmt: skip
    """Judge samples (B, *D) of any generator against the whole training set (N, *D), both of one scale and type.

    Nulls: `held_out`, else training items, each against the others; and simple models fitted to the
    training set. Energy, KID and gap take 4 samples and 4 held-out items. Distances are those of pixels, or of
    `features`: a function of a float batch to (b, F), or arrays for samples, train and held_out. `match`: maps pairs
    of signals to distances at best fit (images have `shifted`)."""
    sets = _items({"samples": samples, "train": train} | ({} if held_out is None else {"held_out": held_out}))
    flat = {name: x.flatten(1) for name, x in sets.items()} if features is None else _featured(sets, features)
    unique = {name: distinct(x) for name, x in sets.items() if name != "samples"}  # repeats are nearer by chance
    kept, size = unique["train"], len(sets["train"])
    if len(kept) < 4:  # a model takes three, KID four
        raise ValueError(f"train has {len(kept)} item(s) that differ; need at least 4")
    for name, first in unique.items():
        if len(first) < len(sets[name]):
            sets[name], flat[name] = sets[name][first], flat[name][first]
    known, match = flat["train"], shifted if sets["train"].ndim == 4 else match
    kind = torch.float32 if known.shape[1] > COLUMNS else torch.float64

    limit = max(200, min(LIMIT, *(2**22 // x[0].numel() for x in (known, sets["train"]))))
    picks = {name: torch.randperm(len(x), generator=generator)[:limit] for name, x in sets.items()}
    few = {name: sets[name][pick].float() for name, pick in picks.items()}
    real = torch.cat([few["train"], few.get("held_out", few["train"][:0])])
    for name, others in (("held_out", few["train"]), ("samples", real)):  # of fewer than ten it is a note
        if len(few.get(name, ())) > 9 and (said := other_scale(few[name], others, name=name)):
            raise ValueError(said)
    twins = [(int(kept[i]), int(kept[j]), rms, mirrored) for i, j, rms, mirrored in _twins(sets["train"], real)]

    distances, indices = nearest(flat["samples"], known, 2, kind)
    fresh = "held-out" if held_out is not None else "train, each against the others"
    rest = flat["held_out"][picks["held_out"]] if held_out is not None else known[picks["train"]]
    skipped = int(held_out is None)  # the nearest to a training item is itself
    apart = nearest(rest, known, 2 + skipped, kind)[0][:, skipped:]
    ratios = {"samples": ratio_of(distances), fresh: ratio_of(apart)}
    rows = {name: x[picks[name]].double() for name, x in flat.items()}
    models = model_nulls(rows["train"], len(rows["samples"]), generator)
    ratios |= {name: ratio_of(nearest(made, known, 2, kind)[0]) for name, made in models.items()}
    table = {name: {"near-copies": share_below(ratio)} for name, ratio in ratios.items()}
    few_once = count_distinct(rows["samples"], rows["train"])  # of those that enter all measures
    once = min(len(distinct(sets["samples"])), few_once * len(distances) // len(rows["samples"]))
    table["samples"] = {"near-copies": share_below(ratios["samples"], distinct=once)}
    table["memorizing baseline"] = {"near-copies": wilson(len(distances), len(distances))}
    if match is not None:
        for name, part in {"samples": few["samples"], fresh: few.get("held_out")}.items():
            if part is not None:
                table[name]["near-copies at best match"] = share_below(_matched(part, sets["train"], match))

    if held_out is not None:
        n = min(len(known), len(flat["held_out"]))
        both = known, flat["held_out"]
        equal = [x if len(x) == n else x[torch.randperm(len(x), generator=generator)[:n]] for x in both]
        for name, x in {"samples": flat["samples"], **models}.items():
            to_train, to_held = (nearest(x, own, 1, kind)[0] for own in equal)
            table[name]["closer to train"] = share_closer(to_train, to_held, once if name == "samples" else None)
        scale, centre = (rows["train"].std(), rows["train"].mean()) if features is None else (1.0, 0.0)  # KID's unit
        enough = min(len(rows["samples"]), len(rows["held_out"])) > 3  # for KID
        beside = {"samples": rows["samples"], "memorizing baseline": rows["train"], **models} if enough else {}
        for name, x in beside.items():
            every, draw = torch.arange(len(x)), torch.Generator().manual_seed(0)
            table[name]["energy to held-out"] = bootstrap(energy_rows(x, rows["held_out"]), every, generator=draw)
            table[name]["KID to held-out"] = kid((x - centre) / scale, (rows["held_out"] - centre) / scale)
            if name != "memorizing baseline":  # where it is without bound
                table[name]["generalisation gap"] = generalisation_gap(x, rows["train"], rows["held_out"])
    copied = kept[indices[ratios["samples"] < 1 / 3, 0]].bincount(minlength=size)
    notes = _notes(size - len(kept), twins, few["samples"], few["train"], real)
    notes += leaked(apart[:, 0]) if held_out is not None else []
    return Audit(table, distances, kept[indices], copied, twins, notes)


def _items(given: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of one shape and type of number; whole numbers stay as they are, for they take the least memory."""
    sets = {name: as_tensor(values).detach().cpu().contiguous() for name, values in given.items()}
    for name, x in sets.items():
        if x.ndim < 2 or not x.numel() or x.is_complex() or x.dtype in UNUSABLE or not x.isfinite().all():
            raise ValueError(f"{name} is {x.dtype} of shape {(*x.shape,)}; need finite (N, *D), signed or uint8")
        if channels_last(x.shape):
            raise ValueError(f"{name} has shape {(*x.shape,)}; need channels first, (N, C, ...): x.movedim(-1, 1)")
    if len({x.shape[1:] for x in sets.values()}) > 1:
        shapes = ", ".join(f"{name} {(*x.shape,)}" for name, x in sets.items())
        raise ValueError(f"the shapes are {shapes}; bring all to one size")
    return sets


def _featured(sets: dict[str, Tensor], features: Any) -> dict[str, Tensor]:
    """The features of each set, (N, F)."""
    if not isinstance(features, Sequence):
        owner = getattr(features, "__self__", features)  # a network, of which features may be a method
        where, kind = placement(owner)
        kind = kind or torch.float32
        with evaluating(owner):
            rows = [[as_tensor(features(part.to(where, kind))) for part in x.split(256)] for x in sets.values()]
        features = [torch.cat([part.cpu() for part in parts]) for parts in rows]
    if len(features) != len(sets):
        raise ValueError(f"features holds {len(features)} arrays; need one for each of {', '.join(sets)}")
    flat = (x.flatten(1) if x.ndim > 2 else x for x in map(as_tensor, features))  # they have no layout
    made = _items({f"features of {name}": x for name, x in zip(sets, flat, strict=True)})
    for (name, x), own in zip(sets.items(), made.values(), strict=True):
        if len(own) != len(x):
            raise ValueError(f"features of {name} are {len(own)}; need one row for each of its {len(x)} items")
    return dict(zip(sets, made.values(), strict=True))


def _coarse(x: Tensor) -> Tensor:
    """Means over blocks of items (N, C, *S), times the root of a block's size: an orthogonal projection, so that these
    distances are never above the true ones; points (N, D) are as they are."""
    if x.ndim == 2:
        return x.double()
    step = max(1, min(x.shape[2:]) // COARSE)
    pool: Any = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.ndim]
    return torch.cat([pool(part.float(), step) for part in x.split(256)]).double() * step ** ((x.ndim - 2) / 2)


def _twins(train: Tensor, real: Tensor) -> list[Twin]:
    """Training items that are nearly equal (`NEAR`), as they are or mirrored, but for coincidences of many items in few
    dimensions, where about as many pairs again lie a little farther apart."""
    found: list[Twin] = []
    limit = NEAR**2 * float((real - real.mean(0)).flatten(1).square().sum(1).mean())
    coarse = _coarse(train)
    for mirrored in (False, True)[: 1 + (train.ndim == 4)]:
        other, close, around = coarse.flip(-1) if mirrored else coarse, list[Tensor](), 0
        for start, quick, slack in scan(coarse.flatten(1), other.flatten(1)):
            quick = quick.masked_fill(torch.ones_like(quick, dtype=torch.bool).tril(start), torch.inf)
            close.append((quick <= limit + slack).nonzero() + torch.tensor([start, 0]))
            around += int((quick <= 9 * limit).sum())
        pairs = torch.cat(close)
        if 2 * len(pairs) > around:
            i, j = pairs.unbind(1)
            second = train[j].flip(-1) if mirrored else train[j]
            rms = measure(train[i].flatten(1), second.flatten(1), *[torch.arange(len(i))] * 2)
            near = zip(*(x[rms <= limit**0.5].tolist() for x in (i, j, rms / train[0].numel() ** 0.5)), strict=True)
            found += [(*pair, mirrored) for pair in near]
    return found


def shifted(a: Tensor, b: Tensor) -> Tensor:
    """(P,) RMS difference of pairs of images (P, C, H, W), each less the mean of its channels, at the best shift of up
    to 1/32 of the size (a pixel at least) and mirrored or not, over the part in which both are seen."""
    (height, width), best = a.shape[2:], torch.full((len(a),), math.inf)
    reach = range(-max(1, min(height, width) // 32), max(1, min(height, width) // 32) + 1)
    a, b = (x - x.mean((2, 3), keepdim=True) for x in (a.float(), b.float()))
    for other in (b, b.flip(-1)):
        for down in reach if height > 2 else [0]:
            for right in reach if width > 2 else [0]:
                one = a[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
                two = other[..., max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
                best = torch.minimum(best, (one - two).square().mean((1, 2, 3)))
    return best.sqrt()


def _matched(samples: Tensor, train: Tensor, match: Match) -> Tensor:
    """d1 / d2 (B,) at the best match among items that are nearest on a coarse scale, pictures less their means."""
    k = min(MATCHED, len(train))
    a, b = (x - x.mean((2, 3), keepdim=True) if x.ndim == 4 else x for x in (_coarse(samples), _coarse(train)))
    others = [b, b.flip(-1)] if train.ndim == 4 else [b]
    candidates = torch.cat([nearest(a.flatten(1), other.flatten(1), k)[1] for other in others], 1)
    rows = torch.arange(len(a)).repeat_interleave(candidates.shape[1])
    pairs = zip(rows.split(256), candidates.flatten().split(256), strict=True)
    found = torch.cat([match(samples[i], train[j].float()) for i, j in pairs]).double().reshape(candidates.shape)
    best, at = found.min(1, keepdim=True)
    second = found.masked_fill(candidates == candidates.gather(1, at), torch.inf).amin(1)  # of another item
    return ratio_of(torch.stack([best[:, 0], second], 1))


def _notes(repeats: int, twins: list[Twin], samples: Tensor, train: Tensor, real: Tensor) -> list[str]:
    residual = None
    if (real.ndim == 4 and min(real.shape[2:]) > 2) or (real.ndim == 3 and real.shape[2] > 1):
        noise, level = (float(finest_scale(x).square().mean()) for x in (samples, real))
        residual = Estimate(noise / max(level, 1e-30), 0.0, math.inf)
    mirrored = sum(twin[3] for twin in twins)
    said = {
        "training items repeat others, and each counts once": repeats,
        "pairs of training items are nearly equal: no copy of either is counted": len(twins) - mirrored,
        "pairs of training items are mirror images of each other": mirrored,
    }
    words = [f"{count} {text}" for text, count in said.items() if count]
    return words + problems_of(samples, two_nearest(samples.flatten(1), train.flatten(1))[1], train, real, residual)
