"""What others train with: loss weights and densities of noise levels, each one vector over timesteps."""

from collections.abc import Callable

import torch
from torch import Tensor

from memlib.schedules import Schedule
from memlib.timesteps import RECIPES, TimestepDistribution, from_log_snr, from_weights


def min_snr_weight(schedule: Schedule, gamma: float = 5.0) -> Tensor:
    """(T,) min(SNR, gamma)/SNR, the Min-SNR weight on the eps loss (Hang et al. 2303.09556), gamma > 0."""
    if not gamma > 0:
        raise ValueError(f"gamma = {gamma}; need > 0")
    return (float(gamma) / schedule.snr).clamp(max=1)


def p2_weight(schedule: Schedule, k: float = 1.0, gamma: float = 1.0) -> Tensor:
    """(T,) 1/(k + SNR)^gamma on the eps loss, unnormalised, k > 0, gamma >= 0 (Choi et al. 2204.00227)."""
    if not (k > 0 and gamma >= 0):
        raise ValueError(f"k = {k}, gamma = {gamma}; need k > 0 and gamma >= 0")
    return (float(k) + schedule.snr) ** -float(gamma)


def published(schedule: Schedule, rival: str) -> TimestepDistribution:
    """What others train with, by name (`PUBLISHED`): densities of noise levels carried to t, and loss weights."""
    if rival not in PUBLISHED:
        raise ValueError(f"rival = {rival!r}; choose one of {', '.join(PUBLISHED)}")
    return TimestepDistribution(PUBLISHED[rival](schedule).pmf, {"name": "published", "rival": rival})


PUBLISHED: dict[str, Callable[[Schedule], TimestepDistribution]] = {
    # a band of noise in the middle nearly left out, and all but that band
    "notch": lambda s: from_weights(torch.where((s.sigma > 0.3) & (s.sigma < 3), 0.05, 1.0).double()),
    "inverse notch": lambda s: from_weights(torch.where((s.sigma > 0.3) & (s.sigma < 3), 1.0, 0.05).double()),
    # cosh(4 (2u - 1)) over flow time u = sigmoid(-log-SNR / 2): a U like that of 2603.13421
    "U-shape": lambda s: from_log_snr(s, lambda x: (4 * (x / 4).tanh()).cosh() / (x / 4).cosh() ** 2),
    "logit-normal": lambda s: from_log_snr(s, lambda x: (-(x**2) / 8).exp()),  # Esser et al. 2403.03206, N(0, 1)
    "Laplace": lambda s: from_log_snr(s, lambda x: (-x.abs() / 0.5).exp()),  # Hang et al. 2407.03297
    "EDM": lambda s: from_log_snr(s, lambda x: (-0.5 * ((-x / 2 + 1.2) / 1.2) ** 2).exp()),  # Karras et al. 2206.00364
    "B-TTDM": lambda s: from_weights(((torch.arange(s.T).double() + 0.5) / s.T) ** -0.2),  # Beta(0.8, 1) over t / T
    "SpeeD": lambda s: from_weights(torch.where(torch.arange(s.T) < 0.7 * s.T, 5.0, 1.0).double()),  # 2405.17403
    "Min-SNR": lambda s: from_weights(min_snr_weight(s)),
    "P2": lambda s: from_weights(p2_weight(s)),
}

RECIPES["published"] = published
