"""All that is measured of a run in a time course: values only, since the intervals come from the seeds."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from memlib.lab import data, made
from memlib.lab.experiment import Experiment
from memlib.metrics import PCA, copied_items, finest_scale, membership, model_nulls
from memlib.metrics.alignment import energy_distance, fidelity, jensen_shannon, wasserstein_rows
from memlib.metrics.neighbours import nearest_neighbours
from memlib.models import ExactDenoiser
from memlib.schedules import Schedule
from memlib.training import gradient_norm_at, loss_at

LOSS_AT = (5, 15, *range(50, 1000, 100))  # timesteps of 1000 at which the loss is measured
STRANGERS = 128  # real items outside train whose loss is compared with that of train
REPEATS = 4  # noises per item and timestep


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The data of one seed, with what all controls of that seed are measured against."""

    dataset: data.Dataset
    schedule: Schedule
    seed: int
    n: int  # samples of the last reading

    @classmethod
    def of(cls, own: Experiment) -> "Yardstick":
        content = "" if data.is_known(name := str(own.dataset)) else own.load_data().sha256  # a file may change
        return _yardstick(name, own.n_train, own.image_size, own.seed, own.n_samples, own.build_schedule(), content)

    @property
    def times(self) -> list[int]:
        """The timesteps at which the loss is measured: LOSS_AT, of this schedule."""
        return [t * self.schedule.T // 1000 for t in LOSS_AT]

    @cached_property
    def pca(self) -> PCA:
        return PCA(self.dataset.reference)

    @cached_property
    def references(self) -> dict[str, dict[str, float]]:
        """The measures of fresh real items, of the training set itself and of the model nulls."""
        train = self.dataset.train
        sets = {"fresh": self.dataset.fresh, "copies": train[torch.arange(self.n) % len(train)]}
        sets |= model_nulls(train, self.n, torch.Generator().manual_seed(self.seed))
        return {name: self.of_samples(items[: self.n], full=True) for name, items in sets.items()}

    def of_samples(self, samples: Tensor, full: bool = False) -> dict[str, float]:
        """Near-copies and quality; `full` adds the paper's own measures."""
        own = self.dataset
        copies = copied_items(samples, own.train)
        share = copies[copies > 0] / max(1, int(copies.sum()))
        to_train, to_held_out = (nearest_neighbours(samples, x, 1)[0] for x in (own.train, own.held_out))
        found = {
            "near-copies": int(copies.sum()) / len(samples),
            "closer to train": float((to_train < to_held_out).double().mean()),
            "fidelity": fidelity(samples, own.fresh, own.reference).value,
            "energy": energy_distance(samples, own.reference),  # it grows as samples get fewer: compare equally many
            "copied items": float((copies > 0).sum()),
            "copy entropy": float(-(share * share.log()).sum()) / math.log(len(own.train)),
        }
        if samples.ndim > 2:
            noise, level = (float(finest_scale(x).square().mean()) for x in (samples, own.reference))
            if not level:
                raise ValueError(f"{own.name} has no energy at the finest scale, so no ratio to it; check the data")
            found["residual noise"] = noise / level
        if full:
            found["L2 to nearest"] = float(to_train.mean())
            projected, rows = self.pca.transform(samples), torch.arange(len(samples))
            for name, items in (("reference", own.reference), ("train", own.train)):
                real = self.pca.transform(items)
                found[f"PCA-W to {name}"] = wasserstein_rows(projected, real, self.pca.std)(rows)
                found[f"PCA-JS to {name}"] = jensen_shannon(projected, real)
        return found

    def gradient_norms(self, denoiser: torch.nn.Module) -> list[float]:
        """The gradient norm of the mean loss of train at each of `times`: its mean over REPEATS noises."""
        generator, train = torch.Generator().manual_seed(self.seed), self.dataset.train
        norms = gradient_norm_at(denoiser, train, self.schedule, self.times, generator=generator, repeats=REPEATS)
        return norms.mean(1).tolist()

    def of_network(self, denoiser: torch.nn.Module) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Membership and, for mixtures, the error of the score; and the mean loss at each of `times` on both sides."""
        generator, own = torch.Generator().manual_seed(self.seed), self.dataset
        strangers = torch.cat([own.held_out, own.fresh])[:STRANGERS]
        losses = {}
        for side, items in (("train", own.train), ("held_out", strangers)):
            losses[side] = loss_at(denoiser, items, self.schedule, self.times, generator=generator, repeats=REPEATS)
        found = {"membership": membership(losses["train"], losses["held_out"]).value}
        if own.name in made.MIXTURES:
            found["score error"] = self._score_error(denoiser, generator)
        return found, {side: x.mean(1).tolist() for side, x in losses.items()}

    def _score_error(self, denoiser: torch.nn.Module, generator: torch.Generator) -> float:
        """Mean squared difference to the exact noise prediction of the mixture, over `times` and new draws of it."""
        exact = ExactDenoiser(made.mixture_centres(self.dataset.name), self.schedule, made.SPREAD)
        x, errors = self.dataset.reference[:STRANGERS], []
        for step in self.times:
            t = torch.full((len(x),), step)
            x_t = self.schedule.noise(x, t, torch.randn(x.shape, generator=generator))
            with torch.no_grad():
                errors.append(float((denoiser(x_t, t) - exact(x_t, t)).square().mean()))
        return sum(errors) / len(errors)


@lru_cache(maxsize=32)
def _yardstick(name: str, n_train: int, image_size: int, seed: int, n: int, schedule: Schedule, _: str) -> Yardstick:
    part, n_fresh = partial(data.load, name, n_train, seed=seed, image_size=image_size), None
    if name not in data.MADE:
        n_fresh = min(n, beyond := len(part(n_fresh=1).reference) + 1 - 2 * n_train)
        if beyond < 1:  # quality would be measured against fewer than twice the training set
            raise ValueError(f"n_train = {n_train} leaves too few of {name}; at most {n_train + (beyond - 1) // 3}")
    return Yardstick(part(n_fresh=n_fresh), schedule, seed, n)
