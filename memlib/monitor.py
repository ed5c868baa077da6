"""The monitor: memorization and quality while a network trains, in any loop. Three lines:

monitor = Monitor(train, held_out, schedule)
... monitor.update(t, losses)                       # after each step: its timesteps, its losses by example
... if monitor.due(): print(monitor.read(average))  # as often as 3 % of the cost of training allow"""

import math
import warnings
from dataclasses import dataclass

import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from memlib.checks import Items, Predictor, as_tensor, call_model, check_count, checked, evaluating, placement
from memlib.metrics.copying import count_distinct, excess, memorized_fraction, ratio_of, two_nearest
from memlib.metrics.estimates import Estimate, difference_of, mean_of, wilson
from memlib.metrics.evaluation import leaked, other_scale, problems_of
from memlib.metrics.generalisation import membership
from memlib.metrics.neighbours import nearest_neighbours
from memlib.samplers import Clip, dpm_solver, sample
from memlib.schedules import Schedule

COPYING = 0.05  # share of near-copies, beyond that of held-out items, from which a network is said to copy
POOLED = 3  # readings whose samples are judged together: one alone has few
FLUSH, BATCH = 64, 256  # updates counted at once; rows given to the model at once


@dataclass(frozen=True, eq=False)
class Reading:
    """What the monitor saw after `step` updates. Bands are equal ranges of t, low noise first."""

    step: int
    losses: Tensor  # (2, bands, items) of the model on items of train and of held_out, under the same noise
    running: Tensor  # (bands,) mean of the losses given to `update` since the last reading; NaN where none were
    dose: Tensor  # (bands,) how often an item of the training set was seen in the band so far, the mean over items
    copies: Estimate  # share of near-copies, d1 / d2 < 1/3, in the samples of this and the last two readings
    null: Estimate  # the same share of held-out items
    begin: Estimate | None  # the step about which copying begins, once it has
    quality: str  # of the held-out loss: it improves, is level or worsens
    best: int  # the step of the reading with the least held-out loss
    notes: list[str]  # what hides copies: samples at another scale, nearly equal training items

    @property
    def gap(self) -> list[Estimate]:
        """Held-out less training loss by band: above 0, the network knows its training set."""
        return [difference_of(*band) for band in self.losses.unbind(1)]

    @property
    def auc(self) -> list[Estimate]:
        """`membership` by band."""
        return [membership(*band) for band in self.losses.unbind(1)]

    def __str__(self) -> str:
        said = f"copying begins about step {self.begin:.0f}" if self.begin else "copying not surely above 5 %"
        share = f"near-copies {self.copies:.0%} (held-out items {self.null.value:.0%})"
        auc, band = max((auc.value, band) for band, auc in enumerate(self.auc, 1))
        known = f"membership AUC {auc:.2f} in band {band} of {len(self.dose)}"
        quality = f"held-out loss {float(self.losses[1].mean()):.3g} {self.quality}, best at step {self.best}"
        return "; ".join([f"step {self.step}: {said}", share, known, quality, *self.notes])

    def scalars(self) -> dict[str, float]:
        """Plain numbers by name, as TensorBoard, W&B and MLflow take them."""
        train, held_out = self.losses.mean((1, 2)).tolist()
        named = {"near-copies": self.copies.value, "near-copies held-out": self.null.value, "loss train": train}
        named |= {"loss held-out": held_out} | ({"copying begins": self.begin.value} if self.begin else {})
        for band, (gap, auc) in enumerate(zip(self.gap, self.auc, strict=True), 1):
            named |= {f"gap band {band}": gap.value, f"membership band {band}": auc.value}
        seen = ((band, loss) for band, loss in enumerate(self.running.tolist(), 1) if not math.isnan(loss))
        return named | {f"running loss band {band}": loss for band, loss in seen}


class Monitor:
    """Watches the training of a denoiser on `train` (N, *D), beside `held_out` (M, *D): the more, the surer the null.

    A reading costs `samples` samples in `steps` evaluations, and the loss of `items` items of each set in each band;
    `due` says when one more keeps their total cost below the share `cost` of training. `clip`: as in `sample`.

    *Copying begins* where the share of near-copies beyond that of held-out items passes 5 %: by isotonic regression
    over all readings, once the last (up to three together) lie above it with confidence. The interval runs from the
    step at which they last lay below to the one at which it was said. How far to trust the step: docs/monitor.md."""

    def __init__(
        self, train: Items, held_out: Items, schedule: Schedule, *, bands: int = 10, items: int = 32,
        samples: int = 96, steps: int = 16, cost: float = 0.03, clip: Clip = None, seed: int = 0,
    ) -> None:  # fmt: skip
        sets = [x.cpu().clone() for x in checked(train=train, **{"held-out items": held_out})]  # of any two sizes
        self.train, self.null = sets[0], memorized_fraction(sets[1], sets[0])
        if self.null.value == 1:
            raise ValueError("held_out: each item is a near-copy of one of train; need items that are not in train")
        for text in leaked(nearest_neighbours(sets[1], sets[0], 1)[0]):
            warnings.warn(text, stacklevel=2)
        if not 0 < cost <= 1:
            raise ValueError(f"cost = {cost}; need a share of the cost of training, such as 0.03")
        equal, draw = min(map(len, sets)), torch.Generator().manual_seed(seed)
        few = [x[torch.randperm(len(x), generator=draw)[:equal]] for x in sets]  # which may be sorted
        if equal > 9 and (said := other_scale(few[1], few[0], name="held_out")):  # of fewer the scale is not known
            raise ValueError(said)
        count, draw = min(items, *map(len, sets)), torch.Generator().manual_seed(seed)
        for name, value in {"bands": bands, "samples": samples, "steps": steps, "items of each set": count}.items():
            check_count(value, name, 2 if name.startswith("items") else 1)
        self.schedule, self.samples, self.cost, self.clip, self.seed = schedule, samples, cost, clip, seed
        self.readings: list[Reading] = []
        self.seen = torch.zeros(len(self.train), bands)  # how often each training item was seen in each band
        self._items = torch.stack([x[torch.randperm(len(x), generator=draw)[:count]] for x in sets])
        self._repeats = max(1, items // count)
        self._times = ((torch.arange(bands) + 0.5) * schedule.T / bands).long()
        log_snr = schedule.log_snr  # a sampler's steps are spread evenly over it, from the last that is finite
        spread = torch.linspace(float(log_snr[log_snr.isfinite()][-1]), float(log_snr[schedule.T // 50]), steps)
        self._path = [*sorted({int((log_snr - value).abs().argmin()) for value in spread}, reverse=True), -1]
        self._price = 2 * bands * count * self._repeats + samples * steps
        self.steps, self._rows, self._spent = 0, 0, 0  # updates, their examples, and evaluations for readings
        self._noted: list[tuple[Tensor, Tensor, Tensor | None]] = []  # updates not yet counted
        self._sums = torch.zeros(2, bands, dtype=torch.float64)  # since the last reading: losses, how many
        self.near, self.distinct = list[int](), list[int]()  # of each reading's samples: near-copies, no repeats

    def update(self, t: Tensor, losses: Tensor, indices: Tensor | None = None) -> None:
        """Note one step: timesteps (B,) in 0..T-1, unweighted losses (B,) and, if known, which items of train (B,)."""
        t, losses, indices = as_tensor(t), as_tensor(losses), None if indices is None else as_tensor(indices)
        if t.ndim != 1 or not losses.shape == t.shape == (t if indices is None else indices).shape:
            cure = "pass the loss of each example, such as (predicted - noise).square().flatten(1).mean(1)"
            given = ", ".join(f"{(*x.shape,)}" for x in (t, losses, indices) if x is not None)
            raise ValueError(f"t, losses, indices have shapes {given}; need (B,) each: {cure}")
        if len(t):  # copies: a loop may fill the same tensors again
            self._noted.append((t.clone(), losses.detach().clone(), None if indices is None else indices.clone()))
        self.steps, self._rows = self.steps + 1, self._rows + len(t)
        if len(self._noted) >= FLUSH:
            self._count()

    def _count(self) -> None:
        """Count what was noted, many updates at once: one by one would cost more than all the rest."""
        noted, self._noted = self._noted, []  # what is refused is not counted with the next
        t, losses = (torch.cat(parts).cpu() for parts in list(zip(*noted, strict=True))[:2])
        if not (t.min() >= 0 and t.max() < self.schedule.T) or (t.is_floating_point() and t.max() <= 1):
            cure = f"need timesteps in 0..{self.schedule.T - 1}: `Schedule.t_at_sigma` gives that of a noise level"
            raise ValueError(f"t spans [{t.min():g}, {t.max():g}]; {cure}")
        bands = self.seen.shape[1]
        band = (t.double() * bands / self.schedule.T).long()
        known = [indices for _, _, indices in noted if indices is not None]
        if len(known) == len(noted):
            items = torch.cat(known).cpu().long()
            if not 0 <= items.min() <= items.max() < len(self.train):
                raise ValueError(f"indices span [{items.min()}, {items.max()}]; need 0..{len(self.train) - 1}")
            self.seen.index_put_((items, band), torch.ones(len(band)), accumulate=True)
        else:  # each item as often as another, on average
            self.seen += band.bincount(minlength=bands) / len(self.seen)
        self._sums[0].index_add_(0, band, losses.double())
        self._sums[1] += band.bincount(minlength=bands)

    def due(self) -> bool:
        """Whether one more reading keeps the evaluations of all readings below `cost` times the examples trained on."""
        return self._spent + self._price <= self.cost * self._rows

    def read(self, model: Predictor) -> Reading:
        """Measure `model`, which predicts noise (`Denoiser` wraps others); pass the averaged weights, if any."""
        del self.near[len(self.readings) :], self.distinct[len(self.readings) :]  # of a reading that was interrupted
        drawn = sample(
            model, self.schedule, self.train.shape[1:], self.samples, seed=self.seed + 1 + len(self.readings),
            steps=self._path, sampler=dpm_solver, clip=self.clip,
        )  # fmt: skip
        flat = [x.flatten(1) for x in checked(**{f"samples of the {type(model).__name__}": drawn}, train=self.train)]
        distances, between = two_nearest(*flat)
        self.near.append(int((ratio_of(distances) < 1 / 3).sum()))
        self.distinct.append(count_distinct(*flat))
        losses = self._losses(model)
        self._spent += self._price
        if self._noted:
            self._count()
        at, held = [*(reading.step for reading in self.readings), self.steps], losses[1].mean(0)
        before = [reading.losses[1].mean(0) for reading in self.readings]
        least = min(range(len(at)), key=lambda i: float([*before, held][i].mean()))
        compared = before[least] if least < len(before) else (before or [held])[-1]  # the best, else the one before
        change = held - compared  # under the same noise
        sure = not (own := mean_of(change)).low <= 0 <= own.high
        quality = ("worsens" if float(change.mean()) > 0 else "improves") if sure else "level"
        running, dose, copies = self._sums[0] / self._sums[1], self.seen.mean(0), self._pooled(len(at) - 1)
        words = quality, at[least], problems_of(drawn, between, self.train, self.train, None)
        self.readings.append(Reading(self.steps, losses, running, dose, copies, self.null, self.begin(at), *words))
        self._sums.zero_()
        return self.readings[-1]

    def _losses(self, model: Predictor) -> Tensor:
        """(2, bands, items): losses at the middle of each band, under one noise, so that differences are sharp."""
        _, count, *shape = self._items.shape
        draw, (device, dtype) = torch.Generator().manual_seed(self.seed), placement(model)
        noise = torch.stack([torch.randn(len(self._times), self._repeats, count, *shape, generator=draw)] * 2)
        t = self._times[:, None, None].expand(noise.shape[:4])
        parts = [self._items[:, None, None].expand(noise.shape).flatten(0, 3), t.flatten(), noise.flatten(0, 3)]
        errors = []
        with evaluating(model):
            for x, t, eps in zip(*(part.split(BATCH) for part in parts), strict=True):
                x, t, eps = x.to(device, dtype or eps.dtype), t.to(device), eps.to(device, dtype)
                predicted = call_model(model, self.schedule.noise(x, t, eps), t)
                errors.append((predicted - eps).double().square().flatten(1).mean(1).cpu())
        return torch.cat(errors).reshape(noise.shape[:4]).mean(2)

    def _pooled(self, i: int) -> Estimate:
        """The share of near-copies in reading i and the last few before it."""
        near, distinct = (x[max(0, i + 1 - POOLED) : i + 1] for x in (self.near, self.distinct))
        return wilson(sum(near), len(near) * self.samples, distinct=sum(distinct))

    def begin(self, at: list[int]) -> Estimate | None:
        beyond = [excess(self._pooled(i), self.null) for i in range(len(at))]
        rising = isotonic_regression([excess(wilson(near, self.samples), self.null).value for near in self.near]).x
        said = next((step for step, found in zip(at, beyond, strict=True) if found.low > COPYING), None)
        if said is None or rising[-1] < COPYING:
            return None
        below = max((step for step, found in zip(at, beyond, strict=True) if found.high < COPYING), default=0)
        about, j = float(at[0]), int((rising >= COPYING).argmax())
        if j:  # between two readings, evenly over the logarithm of the step
            way = float((COPYING - rising[j - 1]) / (rising[j] - rising[j - 1]))
            about = max(1, at[j - 1]) * (at[j] / max(1, at[j - 1])) ** way
        return Estimate(about, min(below, about), max(said, about))


torch.serialization.add_safe_globals([Monitor, Reading, Estimate])  # for torch.load with weights_only=True
