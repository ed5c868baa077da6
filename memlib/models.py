"""Denoisers: model(x_t (B, *D), t (B,)) -> predicted noise (B, *D), whether learnt (MLP, UNet) or exact."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memlib.checks import call_model, check_batch, check_count, examples
from memlib.schedules import Schedule


def time_features(t: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width): sines and cosines at wavelengths 2 pi to about 20,000 pi timesteps (Vaswani 1706.03762)."""
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) / half * torch.arange(half, device=t.device))
    return torch.cat([angles.sin(), angles.cos()], 1)


class MLP(nn.Module):
    """A residual perceptron for points (B, dim) of about unit scale: `depth` hidden layers of `width` units. Each
    coordinate is also given as `frequencies` sines and cosines of period 4, 2, 1, ..., without which a small network
    cannot distinguish neighbouring points (Tancik et al. 2006.10739)."""

    frequencies: Tensor

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 4, frequencies: int = 4) -> None:
        super().__init__()
        if width % 2 or min(dim, width, depth, frequencies + 1) < 1:
            given = f"dim = {dim}, width = {width}, depth = {depth}, frequencies = {frequencies}"
            raise ValueError(f"{given}; need >= 1 (frequencies >= 0), and an even width (sines and cosines)")
        self.width = width
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(frequencies), persistent=False)
        self.time = nn.Linear(width, width)
        self.first = nn.Linear(dim * (1 + 2 * frequencies), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, dim)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        check_batch(x, t)
        angles = (x[:, :, None] * self.frequencies).flatten(1)  # (B, dim * frequencies)
        time = self.time(time_features(t, self.width).to(x))  # (B, width)
        h = self.first(torch.cat([x, angles.sin(), angles.cos()], 1))
        for layer in self.hidden:
            h = h + layer(F.silu(h + time))
        return self.last(F.silu(h))


class UNet(nn.Module):
    """A small U-Net for signals (ndim=1, x (B, C, L)) or images (ndim=2, x (B, C, H, W)) of any size.

    Level i has width * multipliers[i] channels, half the resolution of the last, and `blocks` residual blocks;
    attention: self-attention at the lowest resolution; unshuffle: r > 1 folds r^ndim neighbouring values into channels
    at the stem. After Ho et al. 2006.11239, with the time embedding as scale and shift (2102.09672)."""

    def __init__(
        self, ndim: int, channels: int, width: int = 32, multipliers: tuple[int, ...] = (1, 2, 2), blocks: int = 1,
        attention: bool = False, unshuffle: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        given = {"channels": channels, "width": width, "blocks": blocks, "unshuffle": unshuffle}
        for name, value in {**given, "a multiplier": min(multipliers, default=0)}.items():
            check_count(value, name, 1)
        if ndim not in (1, 2) or width % 8:
            raise ValueError(f"ndim = {ndim}, width = {width}; need ndim 1 or 2 and a width that 8 divides")
        self.width, self.unshuffle = width, unshuffle
        conv = nn.Conv1d if ndim == 1 else nn.Conv2d
        folded, time = unshuffle**ndim, 4 * width
        sizes = [width * m for m in multipliers]
        self.multiple = unshuffle * 2 ** (len(sizes) - 1)  # x is padded to a multiple of it
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.stem = conv(channels * folded, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        current, skips = width, [width]
        for level, size in enumerate(sizes):
            if level:
                self.down.append(conv(current, current, 3, stride=2, padding=1))
                skips.append(current)
            for _ in range(blocks):
                self.down.append(ResidualBlock(conv, current, size, time))
                current = size
                skips.append(size)
        self.middle = nn.ModuleList([ResidualBlock(conv, current, current, time)])
        if attention:
            self.middle += [SelfAttention(conv, current), ResidualBlock(conv, current, current, time)]
        for level, size in reversed(list(enumerate(sizes))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(conv, current + skips.pop(), size, time))
                current = size
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2.0), conv(current, current, 3, padding=1)))
        # The head works at full resolution on few channels and sees x again, so that an unshuffle stem leaves no grid.
        self.head = nn.Sequential(nn.GroupNorm(8, current), nn.SiLU(), conv(current, 8 * folded, 3, padding=1))
        self.last = conv(8 + channels, channels, 3, padding=1)
        for parameter in self.last.parameters():  # predicts zero noise at first: the loss starts at 1
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        check_batch(x, t)
        padding = [p for n in reversed(x.shape[2:]) for p in (0, -n % self.multiple)]
        padded = F.pad(x, padding, mode="replicate") if any(padding) else x
        time = self.time(time_features(t, self.width).to(x))  # (B, 4 width)
        h = self.stem(fold(padded, self.unshuffle))
        skips = [h]
        for layer in self.down:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], 1), time) if isinstance(layer, ResidualBlock) else layer(h)
        eps = self.last(torch.cat([unfold(self.head(h), self.unshuffle), padded], 1))
        return eps[(..., *(slice(n) for n in x.shape[2:]))]


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time embedding as scale and shift between; plus the input."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], before: int, after: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, before), conv(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), conv(after, after, 3, padding=1)
        self.time = nn.Linear(time, 2 * after)
        self.skip = nn.Identity() if before == after else conv(before, after, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time).reshape(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        return self.skip(x) + self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))


class SelfAttention(nn.Module):
    """Self-attention over all positions, four heads, residual."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv, self.out = conv(channels, 3 * channels, 1), conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), 3, 4, x.shape[1] // 4, -1).transpose(3, 4).unbind(1)
        # written out: on a GPU the gradient of F.scaled_dot_product_attention fails under vmap and autocast
        logits = q @ k.mT * q.shape[-1] ** -0.5  # (B, 4, positions, positions)
        weights = logits.to(torch.promote_types(q.dtype, torch.float32)).softmax(-1)
        mixed = (weights.to(v.dtype) @ v).to(x.dtype)
        return x + self.out(mixed.transpose(2, 3).reshape(x.shape))


def fold(x: Tensor, r: int) -> Tensor:
    """Neighbouring values to channels: (B, C, L) -> (B, C r, L/r) or (B, C, H, W) -> (B, C r^2, H/r, W/r)."""
    return F.pixel_unshuffle(x, r) if x.ndim == 4 else x.unflatten(2, (-1, r)).movedim(3, 2).flatten(1, 2)


def unfold(x: Tensor, r: int) -> Tensor:
    """The inverse of `fold`."""
    return F.pixel_shuffle(x, r) if x.ndim == 4 else x.unflatten(1, (-1, r)).movedim(2, 3).flatten(2, 3)


class ExactDenoiser(nn.Module):
    """The perfect memorizer: the minimiser of the training loss over *all* functions, for a training set (N, *D).

    D(x_t) = sum_i softmax_i(-|x_t - sqrt(alpha_bar) x_i|^2 / (2 (1 - alpha_bar))) x_i and
    eps = (x_t - sqrt(alpha_bar) D) / sqrt(1 - alpha_bar) (Karras et al. 2206.00364 eq. 57; Gu et al. 2310.02664), in
    float64, over `chunk` examples at a time. A deterministic sampler then returns copies.

    With `std` s > 0 each x_i is the centre of a Gaussian of that standard deviation (equal weights): the exact denoiser
    of a mixture, whose variance at t is v = alpha_bar s^2 + 1 - alpha_bar in place of 1 - alpha_bar."""

    train_set: Tensor
    alpha_bar: Tensor

    def __init__(self, train: Tensor, schedule: Schedule, std: float = 0.0, chunk: int = 4096) -> None:
        super().__init__()
        self.schedule, self.std, self.chunk = schedule, std, chunk
        self.register_buffer("train_set", examples(train, "train").clone())
        self.register_buffer("alpha_bar", schedule.alpha_bar.clone())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, *D), (B,) -> (B, *D): the noise that the exact posterior mean implies."""
        mean = self._mean(x, t)
        alpha_bar = self.alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        return ((x.double() - alpha_bar.sqrt() * mean) / (1 - alpha_bar).sqrt()).to(x.dtype)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """The posterior mean E[x0 | x_t], (B, *D): a weighted mean of training examples."""
        return self._mean(x, t).to(x.dtype)

    def weights(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, N) float64: the posterior probability of each training example given x_t; rows sum to 1."""
        check_batch(x, t, len(self.alpha_bar))
        alpha_bar, logits = self.alpha_bar[t][:, None], []
        for train in self._chunks():  # -|x_t - sqrt(alpha_bar) x_i|^2 / 2, less what all i share
            inner = x.flatten(1).double() @ train.T * alpha_bar.sqrt() - train.square().sum(1) * alpha_bar / 2
            logits.append(inner / (alpha_bar * self.std**2 + 1 - alpha_bar))
        return torch.cat(logits, 1).softmax(1)

    def _chunks(self) -> Iterator[Tensor]:
        return (part.double() for part in self.train_set.flatten(1).split(self.chunk))

    def _mean(self, x: Tensor, t: Tensor) -> Tensor:
        parts = zip(self.weights(x, t).split(self.chunk, 1), self._chunks(), strict=True)
        mean = sum((weights @ train for weights, train in parts), torch.zeros((), dtype=torch.float64))
        if self.std:  # each centre moves towards x_t
            alpha_bar = self.alpha_bar[t][:, None]
            gain = alpha_bar.sqrt() * self.std**2 / (alpha_bar * self.std**2 + 1 - alpha_bar)
            mean = mean + gain * (x.flatten(1).double() - alpha_bar.sqrt() * mean)
        return mean.reshape(x.shape)


class Spliced(nn.Module):
    """Two denoisers as one: `above` from timestep `at` up (more noise), `below` under it. Its samples show what was
    learnt in a band of noise, and which of the two networks memorizes."""

    def __init__(self, above: nn.Module, below: nn.Module, at: int) -> None:
        super().__init__()
        self.above, self.below, self.at = above, below, at

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        high = t >= self.at
        if high.all() or not high.any():  # always so in sampling, where a batch has one timestep
            return call_model(self.above if high.all() else self.below, x, t)
        chosen = high.reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(chosen, call_model(self.above, x, t), call_model(self.below, x, t))
