"""The memorization spectrum: how much each band of noise, seen so often, adds to near-copies; fitted to random designs.

near-copies = sum over bands of k(band) p(band): linear in the shares of p(t), with coefficients of either sign for each
number of steps. It holds for one data set, number of items, batch size and network, near the p(t) of the design."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memlib.lab.courses import Line
from memlib.lab.experiment import schedule_named
from memlib.metrics import Estimate
from memlib.timesteps import TimestepDistribution, from_recipe

RIDGE = 0.1  # in units of the shares' variance: bands that the design hardly moves stay near the mean
DRAWS = 1000  # of the bootstrap over controls
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """`coefficients` (controls drawn again, steps, bands): near-copies if all of p(t) lay in one band, minus those of
    the mean design; the first row is the fit itself."""

    edges: tuple[int, ...]
    T: int
    steps: Array
    mean_shares: Array
    mean_copies: Array
    coefficients: Array
    residual: float  # standard deviation of a control's near-copies, means over seeds, about the prediction, left out

    @property
    def intervals(self) -> tuple[Array, Array]:
        """The ends (bands,) of each band's 95 % interval over controls, at the last step."""
        low, high = np.quantile(self.coefficients[1:, -1], [0.025, 0.975], axis=0)
        return low, high

    @property
    def zone(self) -> tuple[int, int] | None:
        """The ends of the bands whose interval lies above zero: the first timestep, and the one after the last."""
        ends, above = [0, *self.edges, self.T], np.flatnonzero(self.intervals[0] > 0)
        return (ends[above[0]], ends[above[-1] + 1]) if len(above) else None

    def predict(self, p: TimestepDistribution, steps: float) -> Estimate:
        """Near-copies of p (of T steps) after so many steps of a run like those recorded, with a 95 % interval: the
        fit's, and the spread of controls about it. Other sizes of the set or of the batch copy differently, also at
        equal views (hypothesis H5). Raises ValueError for another T, or steps outside those of the readings."""
        if p.T != self.T or not self.steps[0] <= steps <= self.steps[-1]:
            known = f"T = {self.T} and {self.steps[0]:g} to {self.steps[-1]:g} steps"
            raise ValueError(f"p has T = {p.T}, steps = {steps:g}; the runs had {known}")
        shares = np.add.reduceat(p.pmf.numpy(), [0, *self.edges])
        by_step = self.mean_copies + self.coefficients @ (shares - self.mean_shares)  # (draws, steps)
        drawn = np.array([np.interp(np.log(steps), np.log(self.steps), row) for row in by_step]).clip(0, 1)
        half = 1.96 * float(np.hypot(drawn.std(), self.residual))
        return Estimate(float(drawn[0]), max(0.0, float(drawn[0]) - half), min(1.0, float(drawn[0]) + half))


def memorization_spectrum(lines: Sequence[Line]) -> Spectrum:
    """The spectrum of recorded runs of one data set and budget, whose controls are bands with common edges."""
    shares, copies, edges = _design(lines)
    mean, config = copies.mean(1), lines[0]["config"]  # (controls, steps), over seeds
    steps = np.array([x["step"] for x in lines[0]["course"]])
    drawn = np.random.default_rng(0).integers(len(shares), size=(DRAWS, len(shares)))
    fits = [_fit(shares, mean), *(_fit(shares[rows], mean[rows]) for rows in drawn)]
    centre, residual = shares.mean(0), float((_left_out(shares, mean[:, -1]) - mean[:, -1]).std())
    coefficients, (w, level) = np.stack([w.T for w, _ in fits]), fits[0]
    return Spectrum(tuple(edges), config["T"], steps, centre, level + centre @ w, coefficients, residual)


def recorded_spectra(lines: Sequence[Line], *names: str) -> dict[str, Spectrum]:
    """The spectra of the random designs, plans NAME_random, of those names of which enough has been recorded."""
    found = {}
    for name in names:
        with suppress(ValueError):
            own = [x for x in lines if x["plan"] == f"{name}_random" and x["control"] != "uniform"]
            found[name] = memorization_spectrum(own)
    return found


def explained(lines: Sequence[Line]) -> tuple[Estimate, Estimate]:
    """R2 at the last step of near-copies of controls that were left out (means over seeds), and of seeds that were
    (control by control, from the other seeds); with 95 % intervals by the bootstrap over controls."""
    shares, copies, _ = _design(lines)
    last = copies[:, :, -1]  # (controls, seeds)
    of_controls = _left_out(shares, last.mean(1))[:, None], last.mean(1)[:, None]
    fits = [_fit(shares, np.delete(last, seed, 1).mean(1)) for seed in range(last.shape[1])]
    predicted = np.stack([level + shares @ w for w, level in fits], 1)
    rng, found = np.random.default_rng(0), []
    # a seed's own level is not predicted: its items are others
    for guess, truth in (of_controls, (predicted - predicted.mean(0), last - last.mean(0))):
        rows = rng.integers(len(truth), size=(DRAWS, len(truth)))
        low, high = np.quantile([_r2(guess[r], truth[r]) for r in rows], [0.025, 0.975])
        found.append(Estimate(_r2(guess, truth), float(low), float(high)))
    return found[0], found[1]


def _design(lines: Sequence[Line]) -> tuple[Array, Array, list[int]]:
    """Shares (controls, bands), near-copies (controls, seeds, steps), and the bands' edges. A seed of which half of the
    controls or fewer are recorded is left out."""
    recipes = {x["control"]: x["config"]["timesteps"] for x in lines}
    edges = {tuple(recipe.get("edges", ())) for recipe in recipes.values()}
    sets = {str({**x["config"], "timesteps": None, "seed": None}) for x in lines}
    by = {(x["control"], x["seed"]): [r["measures"]["near-copies"] for r in x["course"]] for x in lines}
    seeds = [seed for seed, count in sorted(Counter(seed for _, seed in by).items()) if 2 * count > len(recipes)]
    complete = [name for name in recipes if all((name, seed) in by for seed in seeds)]
    if len(edges) != 1 or len(sets) != 1 or len(complete) < 8 or len(seeds) < 2:
        given = f"{len(complete)} controls recorded for all of {len(seeds)} seeds, of {len(edges)} sets of edges"
        need = "need 8 banded controls of common edges, and 2 seeds, of one data set and budget"
        raise ValueError(f"lines hold {given} and {len(sets)} of data and budget; {need}")
    config, starts = lines[0]["config"], [0, *next(iter(edges))]
    schedule = schedule_named(config.get("schedule", "linear"), config["T"])
    pmfs = (from_recipe(recipes[name], schedule).pmf.numpy() for name in complete)  # with a floor, if there is one
    shares = np.array([np.add.reduceat(pmf, starts) for pmf in pmfs])
    return shares, np.array([[by[name, seed] for seed in seeds] for name in complete]), starts[1:]


def _fit(shares: Array, copies: Array) -> tuple[Array, Array]:
    """Ridge regression of copies (controls, ...) on shares: coefficients (bands, ...) and the level at shares of 0."""
    x = shares - shares.mean(0)
    penalty = RIDGE * np.trace(x.T @ x) / x.shape[1]
    w = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (copies - copies.mean(0)))
    return w, copies.mean(0) - shares.mean(0) @ w


def _left_out(shares: Array, copies: Array) -> Array:
    """(controls,): each predicted from the others."""
    fits = [_fit(np.delete(shares, k, 0), np.delete(copies, k)) for k in range(len(copies))]
    return np.array([level + own @ w for own, (w, level) in zip(shares, fits, strict=True)])


def _r2(predicted: Array, truth: Array) -> float:
    total = float(((truth - truth.mean(0)) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total else 0.0
