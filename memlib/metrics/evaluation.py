"""All measures of one set of samples at once, so that no value of memorization stands without one of quality."""

import hashlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from memlib.checks import Items, checked
from memlib.metrics.alignment import PCA, energy_rows, finest_scale, jensen_shannon, wasserstein_rows
from memlib.metrics.copying import CHANCE, NEAR, count_distinct, ratio_of, share_below, share_closer, two_nearest
from memlib.metrics.estimates import Estimate, bootstrap, mean_of
from memlib.metrics.neighbours import nearest_neighbours

SMOOTH, NOISY = 0.2, 2.0  # residual noise outside is warned of: the blurriest of 438 recorded networks had 0.29


def evaluate(
    samples: Items, train: Items, held_out: Items, *, generator: torch.Generator, resamples: int = 100
) -> dict[str, Estimate]:
    """Memorization and quality of `samples` (B, *D) against equally large `train` and `held_out` sets (N, *D).

    Compare with fresh real items (the null) and the training set (the memorizing baseline). Components are those of
    both real sets; signals and images are also measured without the finest scale. Equal training items count once,
    repeated samples once in intervals of memorization. A warning says what no value shows: scale, blur, leaks."""
    samples, train, held_out = sets = checked(samples=samples, train=train, held_out=held_out)
    real = torch.cat([train, held_out])
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    every = torch.arange(len(samples), device=samples.device)

    def bootstrapped(name: str, measure: Callable[[Tensor], float]) -> dict[str, Estimate]:
        """A function of the rows of samples, from a generator of its own: a new measure changes no other's interval."""
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        own = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        return {name: bootstrap(measure, every, generator=own, resamples=resamples)}

    pca = PCA(real)
    projected, to_train, to_held_out = (pca.transform(x) for x in sets)
    copying, between = _copying("", *sets)
    estimates = {
        **copying,
        "PCA-L2 to nearest": mean_of(nearest_neighbours(projected, to_train, 1)[0]),
        **bootstrapped("PCA-W to train", wasserstein_rows(projected, to_train, pca.std)),
        **bootstrapped("PCA-W to held-out", wasserstein_rows(projected, to_held_out, pca.std)),
        **bootstrapped("PCA-JS to train", lambda rows: jensen_shannon(projected[rows], to_train)),
        **bootstrapped("PCA-JS to held-out", lambda rows: jensen_shannon(projected[rows], to_held_out)),
        **bootstrapped("energy to held-out", energy_rows(samples, held_out)),
    }
    if samples.ndim > 2:
        fine = [finest_scale(x, name) for x, name in zip(sets, ("samples", "train", "held_out"), strict=True)]
        noise, *real_noise = (x.double().square().flatten(1).mean(1) for x in fine)
        if not (level := float(torch.cat(real_noise).mean())):
            raise ValueError("train and held_out have no energy at the finest scale, so no ratio to it; check the data")
        estimates |= bootstrapped("residual noise", lambda rows: float(noise[rows].mean() / level))
        estimates |= _copying("smoothed ", *(x - part for x, part in zip(sets, fine, strict=True)))[0]
    said = leaked(nearest_neighbours(held_out, train, 1)[0])
    if problems := problems_of(samples, between, train, real, estimates.get("residual noise")) + said:
        warnings.warn("; ".join(problems), stacklevel=2)
    return estimates


def _copying(prefix: str, *sets: Tensor) -> tuple[dict[str, Estimate], Tensor]:
    """Measures of copying, by one search, and how far apart each sample's two nearest training items are."""
    samples, train, held_out = (x.flatten(1) for x in sets)
    (to_two, between), distinct = two_nearest(samples, train), count_distinct(samples, train)
    estimates = {
        f"{prefix}L2 to nearest": mean_of(to_two[:, :1], distinct),
        f"{prefix}memorized": share_below(ratio_of(to_two), distinct=distinct),
        f"{prefix}closer to train": share_closer(to_two[:, :1], nearest_neighbours(samples, held_out, 1)[0], distinct),
    }
    return estimates, between


def other_scale(x: Tensor, real: Tensor, residual: Estimate | None = None, name: str = "samples") -> str | None:
    """What to say of x (`name`) at another scale. It changes the range, the spread and the residual noise's root by one
    factor, and a shift moves both ends of the range one way; noise, blur and collapse do neither."""
    (low, high), (least, most) = ((float(part.min()), float(part.max())) for part in (x, real))
    width, spread = most - least, float(x.var(0, correction=0).sum() / real.var(0, correction=0).sum()) ** 0.5
    ratios = [(high - low) / width, spread, *([] if residual is None else [residual.value**0.5])]
    moved = (low - least) / width, (high - most) / width
    scaled = min(ratios) > 1.5 or max(ratios) < 1 / 1.5 or min(moved) > 0.25 or max(moved) < -0.25
    if not scaled or max(ratios) >= 1.3 * min(ratios):
        return None
    ranges = f"{name} lie in [{low:.3g}, {high:.3g}], the real items in [{least:.3g}, {most:.3g}]"
    return f"{ranges}: bring both to one scale, else copies are not seen"


def leaked(distances: Tensor) -> list[str]:
    """What to say of held-out items at these distances to the nearest training item."""
    said = "{} held-out items equal training items, so that the null counts copies: leave them out"
    return [said.format(count)] if (count := int((distances == 0).sum())) else []


def problems_of(samples: Tensor, between: Tensor, train: Tensor, real: Tensor, residual: Estimate | None) -> list[str]:
    """What no value shows: another scale, blur, noise, nearly equal training items (`between`: see `two_nearest`)."""
    problems = [said] if (said := other_scale(samples, real, residual)) else []
    if residual is not None and not SMOOTH <= residual.value <= NOISY:
        blurred = "only {:.2g}: the samples are blurred or at a smaller scale", "{:.2g}: it hides copies from distances"
        problems.append(f"residual noise is {blurred[residual.value > NOISY].format(residual.value)}")
    train, real = train.flatten(1), real.flatten(1)
    share = float((between < NEAR * float((real - real.mean(0)).square().sum(1).mean()) ** 0.5).double().mean())
    if share > CHANCE and count_distinct(train := train.unique(dim=0), train) < len(train):
        hidden = f"{share:.0%} of samples lie nearest to two nearly equal items of train, so that no copy is seen"
        problems.append(f"{hidden}: drop one of each pair (find_duplicates)")
    return problems
