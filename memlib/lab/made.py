"""Data made on the spot: points about a curve in the plane, and Gaussian mixtures whose score is known."""

from collections.abc import Callable
from math import pi

import numpy as np
import torch
from torch import Tensor

NOISE = 0.05  # standard deviation about a curve of unit scale: low, so that copying a point differs from learning


def _xy(radius: Tensor | float, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _moons(u: Tensor) -> Tensor:
    upper = _xy(1, 2 * pi * u % pi)
    return torch.where((u < 0.5)[:, None], upper, torch.tensor([1, 0.5]) - upper)


CURVES: dict[str, Callable[[Tensor], Tensor]] = {  # u (N,) in [0, 1) -> (N, 2), evenly along the curve
    "spiral": lambda u: _xy(3 * pi * u.sqrt(), 3 * pi * u.sqrt()),
    "moons": _moons,
    "rings": lambda u: _xy(torch.where(u < 1 / 3, 0.5, 1), torch.where(u < 1 / 3, 6 * pi * u, 3 * pi * (u - 1 / 3))),
    "gaussians": lambda u: _xy(1, (8 * u).floor() * pi / 4),
}
MIXTURES = {f"mixture{dim}": dim for dim in (4, 16, 64)}  # of six Gaussians of standard deviation SPREAD
SPREAD = 0.5
MADE = (*CURVES, *MIXTURES)


def points(name: str, n: int, generator: torch.Generator) -> np.ndarray:
    """(n, dim) float32 points about a curve or from a mixture; no point depends on the others."""
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    if name in MIXTURES:
        centres, noise = mixture_centres(name), SPREAD
        clean = centres[(len(centres) * u).long()]
    else:
        clean, noise = curve(name, u), NOISE
    return (clean + noise * torch.randn(clean.shape, generator=generator, dtype=torch.float64)).float().numpy()


def curve(name: str, u: Tensor | None = None) -> Tensor:
    """(N, 2) float64 points of a curve at u (N,) in [0, 1), or at 4,096 even ones, scaled by its own moments."""
    grid = CURVES[name](even := (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096)
    centre = grid.mean(0)
    return (CURVES[name](even if u is None else u) - centre) / (grid - centre).square().mean().sqrt()


def mixture_centres(name: str) -> Tensor:
    """(6, dim) float64: the centres of a mixture, always the same, scaled so that the mixture has mean 0 and unit mean
    variance; with `SPREAD` they give its exact score (`ExactDenoiser(centres, schedule, SPREAD)`)."""
    centres = torch.randn(6, MIXTURES[name], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centres = centres - centres.mean(0)
    return centres * ((1 - SPREAD**2) / centres.square().mean()).sqrt()
