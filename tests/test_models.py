"""Models: shapes of every kind, rows that do not touch each other, the exact denoiser against brute force, splices."""

import math
from functools import partial

import draws
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import nn

from memlib import MLP, ExactDenoiser, Schedule, Spliced, UNet
from memlib.models import ResidualBlock, SelfAttention, fold, time_features, unfold


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn, the zero-initialised last layer too, so that what is compared is not zero everywhere."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((1 / math.sqrt(p[0].numel()) if p.ndim > 1 else 0.5) * torch.randn(p.shape, generator=g))
    return model.eval()


normal = partial(draws.normal, seed=1)

NETWORKS = {
    "mlp": (lambda: MLP(2), (2,)),
    "mlp of 5 dimensions, no frequencies": (lambda: MLP(5, width=16, depth=1, frequencies=0), (5,)),
    "1-d, 140": (lambda: UNet(1, 1, width=8), (1, 140)),
    "1-d, 141, unshuffle, attention": (lambda: UNet(1, 2, width=8, unshuffle=2, attention=True), (2, 141)),
    "1-d, one sample": (lambda: UNet(1, 1, width=8), (1, 1)),
    "2-d, 31 x 37": (lambda: UNet(2, 3, width=8), (3, 31, 37)),
    "2-d, 32 x 32, unshuffle, attention": (lambda: UNet(2, 3, width=8, unshuffle=2, attention=True), (3, 32, 32)),
    "2-d, 5 x 3, unshuffle 3": (lambda: UNet(2, 1, width=16, multipliers=(1, 3), blocks=2, unshuffle=3), (1, 5, 3)),
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request) -> tuple[nn.Module, tuple[int, ...]]:
    make, shape = request.param
    return randomised(make()), shape


@torch.no_grad()
def test_each_row_gets_noise_of_its_shape_that_depends_on_its_own_x_and_t_alone(network) -> None:
    model, shape = network
    x, t = normal(4, *shape), torch.tensor([3, 250, 600, 999])
    together = model(x, t)
    assert together.shape == x.shape and together.isfinite().all() and together.abs().max() > 0.01
    np.testing.assert_allclose(torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(4)]), together, atol=2e-5)
    assert (model(x, t.flip(0)) - together).abs().max() > 1e-3, "the timestep matters"


@pytest.mark.parametrize("make", [lambda: MLP(2, width=8, depth=1), lambda: UNet(1, 1, width=8, multipliers=(1, 1))])
def test_compiles_into_one_graph(make) -> None:
    model = randomised(make())
    x, t = normal(2, 2) if isinstance(model, MLP) else normal(2, 1, 3), torch.tensor([0, 999])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    np.testing.assert_allclose(compiled(x, t).detach(), model(x, t).detach(), atol=1e-6)


def test_every_weight_learns(network) -> None:
    model, shape = network
    model(normal(3, *shape), torch.tensor([1, 400, 999])).square().sum().backward()
    flat = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    if shape == (1, 1):  # of one sample, a 3-wide kernel sees the middle only: whole weights still move
        flat = [name for name in flat if "norm" not in name]
    assert flat == []


@torch.no_grad()
def test_a_fresh_unet_predicts_no_noise_so_that_the_loss_starts_at_one() -> None:
    assert UNet(1, 1, width=8)(normal(2, 1, 20), torch.tensor([0, 5])).abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize(("ndim", "size", "padding"), [(1, (141,), (0, 3)), (2, (31, 37), (0, 3, 0, 1))])
def test_other_sizes_are_padded_by_their_last_value_and_cropped(ndim, size, padding) -> None:
    model = randomised(UNet(ndim, 1, width=8))
    x, t = normal(2, 1, *size), torch.tensor([5, 700])
    assert torch.equal(model(x, t), model(F.pad(x, padding, mode="replicate"), t)[(..., *(slice(n) for n in size))])


def test_time_features_by_hand() -> None:
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]]
    np.testing.assert_allclose(time_features(torch.tensor([0, 3]), 4), expected, atol=1e-6)
    features = time_features(torch.arange(1000), 32)
    assert (torch.cdist(features, features) + 9 * torch.eye(1000)).min() > 0.1, "all timesteps differ"


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 12, 6)])
@pytest.mark.parametrize("r", [1, 2, 3])
def test_fold_takes_neighbours_to_channels_and_unfold_undoes_it(shape, r) -> None:
    assert fold(torch.arange(6.0).reshape(1, 1, 6), 2).tolist() == [[[0, 2, 4], [1, 3, 5]]]
    assert fold(torch.arange(16.0).reshape(1, 1, 4, 4), 2)[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    folded = fold(normal(*shape), r)
    assert folded.shape == (2, 3 * r ** (len(shape) - 2), *(n // r for n in shape[2:]))
    assert torch.equal(unfold(folded, r), normal(*shape))


@torch.no_grad()
def test_residual_block_scales_and_shifts_by_the_time_embedding() -> None:
    block = randomised(ResidualBlock(nn.Conv1d, 8, 16, 5))
    x, time = normal(2, 8, 7), normal(2, 5, seed=2)
    h = F.conv1d(F.silu(F.group_norm(x, 8, block.norm1.weight, block.norm1.bias)), block.conv1.weight, padding=1)
    h = F.group_norm(h + block.conv1.bias[:, None], 8, block.norm2.weight, block.norm2.bias)
    embedding = time @ block.time.weight.T + block.time.bias
    h = h * (1 + embedding[:, :16, None]) + embedding[:, 16:, None]
    h = F.conv1d(F.silu(h), block.conv2.weight, block.conv2.bias, padding=1)
    skipped = torch.einsum("oc,bcl->bol", block.skip.weight[:, :, 0], x) + block.skip.bias[:, None]
    np.testing.assert_allclose(block(x, time), skipped + h, atol=1e-5)


@torch.no_grad()
def test_attention_is_the_softmax_of_scaled_products() -> None:
    layer = randomised(SelfAttention(nn.Conv1d, 16))
    x = normal(2, 16, 7)
    h = F.group_norm(x, 8, layer.norm.weight, layer.norm.bias).numpy()
    qkv = np.einsum("oc,bcl->bol", layer.qkv.weight[:, :, 0], h) + layer.qkv.bias.numpy()[:, None]
    mixed = np.zeros((2, 16, 7))
    for b in range(2):
        for head in range(4):
            q, k, v = (qkv[b, part * 16 + head * 4 : part * 16 + head * 4 + 4] for part in range(3))
            mixed[b, head * 4 : head * 4 + 4] = v @ softmax(q.T @ k / math.sqrt(4), axis=1).T
    expected = x.numpy() + np.einsum("oc,bcl->bol", layer.out.weight[:, :, 0], mixed)
    np.testing.assert_allclose(layer(x), expected + layer.out.bias.numpy()[:, None], atol=1e-5)


SCHEDULE = Schedule.linear()
TIMES = torch.tensor([0, 1, 50, 300, 999])


def brute_force(train: np.ndarray, x: np.ndarray, alpha_bar: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Posterior weights and mean of each row, one training example at a time."""
    weights = []
    for row, a in zip(x, alpha_bar, strict=True):
        weights.append(softmax([-np.sum((row - math.sqrt(a) * point) ** 2) / (2 * (1 - a)) for point in train]))
    return np.array(weights), np.einsum("bn,n...->b...", weights, train)


@pytest.mark.parametrize("schedule", [SCHEDULE, SCHEDULE.zero_terminal_snr()])
@pytest.mark.parametrize("shape", [(2,), (1, 9), (3, 4, 5)])
@pytest.mark.parametrize("chunk", [{}, {"chunk": 5}])
def test_exact_denoiser_equals_brute_force(chunk, shape, schedule: Schedule) -> None:
    train = 0.5 * normal(12, *shape, dtype=torch.float64)
    x = schedule.noise(train[:5], TIMES, normal(5, *shape, seed=2, dtype=torch.float64))
    weights, mean = brute_force(train.numpy(), x.numpy(), schedule.alpha_bar[TIMES].tolist())
    model = ExactDenoiser(train, schedule, **chunk)
    np.testing.assert_allclose(model.weights(x, TIMES), weights, atol=1e-10)
    np.testing.assert_allclose(model.denoise(x, TIMES), mean, atol=1e-10)
    a = schedule.alpha_bar[TIMES].numpy().reshape(-1, *[1] * len(shape))
    np.testing.assert_allclose(model(x, TIMES), (x.numpy() - np.sqrt(a) * mean) / np.sqrt(1 - a), atol=1e-8)


@pytest.mark.parametrize("far", [1e4, 1e10, 1e30])
def test_far_away_no_nan(far: float) -> None:
    train = normal(9, 2)
    x = torch.tensor([[far, 0.0], [-far, far], [0.0, -far], [far, far], [-far, 0.0]])
    model = ExactDenoiser(train, SCHEDULE)
    np.testing.assert_allclose(model.weights(x, TIMES).sum(1), 1, atol=1e-12)
    assert model(x, TIMES).isfinite().all()
    low, high = train.min(0).values - 1e-6, train.max(0).values + 1e-6
    denoised = model.denoise(x, TIMES)
    assert ((denoised >= low) & (denoised <= high)).all()  # a mean of training points lies among them


def test_exact_denoiser_answers_in_the_precision_asked_and_keeps_its_own_copy() -> None:
    train = normal(4, 2)
    model = ExactDenoiser(train, SCHEDULE)
    x, t = normal(3, 2), torch.tensor([1, 2, 3])
    before = model(x, t)
    assert before.dtype == model.denoise(x, t).dtype == torch.float32
    train.zero_()
    assert torch.equal(model(x, t), before)


def test_what_torch_would_broadcast_wrap_or_mask_is_refused() -> None:
    exact, x = ExactDenoiser(normal(4, 2), SCHEDULE), normal(2, 2)
    for model in (MLP(2), exact):
        with pytest.raises(ValueError, match="t has shape"):
            model(x, torch.tensor([5]))
    for ask in (exact, exact.denoise, exact.weights):
        with pytest.raises(ValueError, match="t spans"):
            ask(x, torch.tensor([5, 1000]))
    for sizes in ({"width": 33}, {"width": 0}, {"dim": 0}, {"depth": 0}, {"frequencies": -1}):
        with pytest.raises(ValueError, match=f"{min(sizes)} = "):
            MLP(**sizes)
    for sizes in ({"width": 12}, {"blocks": 0}, {"channels": 0}, {"ndim": 3}, {"multipliers": ()}):
        with pytest.raises(ValueError, match=f"{min(sizes).rstrip('s')}s? = "):
            UNet(**{"ndim": 1, "channels": 1} | sizes)
    with pytest.raises(ValueError, match="train"):
        ExactDenoiser(torch.tensor([[math.nan, 0.0]]), SCHEDULE)


@pytest.mark.parametrize("shape", [(2,), (1, 9), (3, 4, 5)])
def test_a_splice_answers_row_by_row_and_its_own_timestep_belongs_above(shape) -> None:
    t, x = torch.tensor([0, 399, 400, 401, 999]), normal(5, *shape)
    splice, expected = Spliced(lambda x, t: x, lambda x, t: -x, at=400), torch.cat([-x[:2], x[2:]])
    alone = torch.cat([splice(x[i : i + 1], t[i : i + 1]) for i in range(5)])  # a batch of one timestep, as in sampling
    assert torch.equal(splice(x, t), expected) and torch.equal(alone, expected)
