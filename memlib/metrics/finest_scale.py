"""The finest scale of a signal or image, where an unfinished denoiser leaves noise that hides copies from distances."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from memlib.metrics.checks import Items, check_between, checked


def finest_scale(x: Items, cutoff: float = 0.5) -> Tensor:
    """The finest band of `x`, same shape, in float32 at least; `x - finest_scale(x)` is the rest.

    Images (B, C, H, W), at least 3 x 3: x minus its blur by the 5 x 5 binomial kernel of Burt & Adelson (1983),
    reflected at the edges. Signals (B, C, L): all frequencies from `cutoff` up, a fraction of the Nyquist frequency, of
    the signal continued by its mirror image (a DCT-II: else the jump between its ends would leak into all of them).
    White noise has 1 - cutoff of its energy there. Points (B, D) have no scales.
    """
    return finest_scales(cutoff, x=x)[0]


def finest_scales(cutoff: float = 0.5, **sets: Items) -> list[Tensor]:
    """`finest_scale` of several sets; errors call a set by its name."""
    check_between("cutoff", cutoff, 0, 1)
    bands = []
    for name, given in zip(sets, checked(**sets), strict=True):
        x, length = given.double(), given.shape[-1]
        if not ((x.ndim == 3 and length > 1) or (x.ndim == 4 and min(x.shape[-2:]) > 2)):
            need = "signals (B, C, L) of 2 values or more or images (B, C, H, W) of 3 x 3 or more (points have none)"
            raise ValueError(f"{name} of shape {tuple(x.shape)} has no finest scale; need {need}")
        if x.ndim == 3:
            kept = torch.arange(length + 1, device=x.device) >= cutoff * length  # the last bin is the Nyquist frequency
            if not kept[:-1].any():  # in an even continuation that bin is always 0
                raise ValueError(f"cutoff = {cutoff} leaves no frequency of signals of {length} values; lower it")
            fine = torch.fft.irfft(torch.fft.rfft(torch.cat([x, x.flip(-1)], -1)) * kept, n=2 * length)[..., :length]
        else:
            taps = torch.tensor([1, 4, 6, 4, 1]).to(x) / 16
            points = (torch.eye(n).to(x)[None] for n in x.shape[-2:])
            # (n, n): row i is a picture of one bright point i, blurred
            down, across = (F.pad(each, (2, 2), mode="reflect")[0].unfold(1, 5, 1) @ taps for each in points)
            fine = x - down.T @ (x @ across)  # as matrices several times faster than as a convolution
        bands.append(fine.to(given.dtype))
    return bands


def without_finest_scale(x: Items, cutoff: float = 0.5) -> Tensor:
    """`x` less its finest band, on which distances are measured again."""
    return checked(x=x)[0] - finest_scale(x, cutoff)


def residual_noise(samples: Items, real: Items, cutoff: float = 0.5) -> float:
    """Mean energy of `samples` (B, *D) at the finest scale over that of `real` (N, *D); 1 for real data.

    Above 2 the samples are degenerate (noise is left); far below 1 they are blurred, or at a smaller scale than `real`.
    """
    ours, theirs = (float(x.double().square().mean()) for x in finest_scales(cutoff, samples=samples, real=real))
    if not theirs:
        raise ValueError("real has no energy at the finest scale, so there is no ratio to it; check the data")
    return ours / theirs
