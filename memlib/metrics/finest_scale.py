"""The finest scale of a signal or an image: where an unfinished denoiser leaves its residue.

Residual noise makes samples look far from the training set without anything being less memorized, so every distance is
read beside `residual_noise`, and again on samples `without_finest_scale`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from memlib.metrics.checks import check_between, checked


def finest_scale(x: Tensor, cutoff: float = 0.5) -> Tensor:
    """The finest band of `x`, same shape and dtype; `x - finest_scale(x)` is the rest.

    Images (B, C, H, W), at least 3 x 3: the finest Laplacian band, x minus its blur by the 5 x 5 binomial kernel of
    Burt & Adelson (1983), reflected at the edges. Signals (B, C, L): all frequencies from `cutoff` up, a fraction of
    the Nyquist frequency. The signal is first continued by its mirror image (which amounts to a DCT-II): cut off as
    it is, the jump between its ends would leak into every high frequency. White noise has 1 - cutoff of its energy up
    there.

    Raises TypeError and ValueError as `checked`, and ValueError for points (B, D), which have no scales, for items too
    small, or a cutoff outside (0, 1).
    """
    checked(x=x)
    check_between("cutoff", cutoff, 0, 1)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"there is no finest scale in x of shape {tuple(x.shape)}: points have none; "
            "signals are (B, C, L) and images (B, C, H, W)"
        )
    fine = _above(x.detach().double(), cutoff) if x.ndim == 3 else _laplacian_band(x.detach().double())
    return fine.to(x.dtype)


def _above(x: Tensor, cutoff: float) -> Tensor:
    length = x.shape[-1]
    kept = torch.arange(length + 1, device=x.device) >= cutoff * length  # bin `length` is the Nyquist frequency
    if not kept[:length].any():  # of an even continuation, the Nyquist bin is always 0
        raise ValueError(f"signals of {length} values have no frequency from cutoff = {cutoff} up: lower the cutoff")
    spectrum = torch.fft.rfft(torch.cat([x, x.flip(-1)], -1))
    return torch.fft.irfft(spectrum * kept, n=2 * length)[..., :length]


def _laplacian_band(x: Tensor) -> Tensor:
    if min(x.shape[-2:]) < 3:
        raise ValueError(f"images must be at least 3 x 3 to be blurred with reflected edges, got {tuple(x.shape[-2:])}")
    down, across = (_blur(n, x) for n in x.shape[-2:])
    return x - down.T @ (x @ across)  # as matrices the two passes are several times faster than as a convolution


def _blur(n: int, like: Tensor) -> Tensor:
    """(n, n): row i is a picture of one bright point i, blurred."""
    taps = torch.tensor([1, 4, 6, 4, 1], dtype=like.dtype, device=like.device) / 16
    points = torch.eye(n, dtype=like.dtype, device=like.device)
    return F.pad(points[None], (2, 2), mode="reflect")[0].unfold(1, 5, 1) @ taps


def without_finest_scale(x: Tensor, cutoff: float = 0.5) -> Tensor:
    """`x` less its finest band: the light denoising under which distances are measured again. As `finest_scale`."""
    fine = finest_scale(x, cutoff)  # which checks x
    return x.detach() - fine


def residual_noise(samples: Tensor, real: Tensor, cutoff: float = 0.5) -> float:
    """Mean energy of `samples` (B, *D) at the finest scale over that of `real` (N, *D): 1 is real, above 2 is broken.

    Raises as `finest_scale`, and ValueError where items differ in shape or `real` has nothing at the finest scale.
    """
    checked(samples=samples, real=real)
    ours, theirs = (float(finest_scale(x, cutoff).double().square().mean()) for x in (samples, real))
    if theirs == 0:
        raise ValueError(
            "real has no energy at the finest scale, so no ratio to it: lower the cutoff or check the data"
        )
    return ours / theirs
