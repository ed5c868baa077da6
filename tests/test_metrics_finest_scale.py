"""The finest scale: what it holds, what it leaves, and that residual noise shows there."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.ndimage import convolve1d

from memlib.metrics import finest_scale, residual_noise, without_finest_scale


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("cutoff", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("length", [139, 140])
def test_signal_band_is_the_upper_end_of_the_cosine_transform(length, cutoff):
    x = noise(3, 2, length)
    spectrum = dct(x.numpy(), norm="ortho")
    below = np.arange(length) < cutoff * length
    fine = dct(finest_scale(x, cutoff).numpy(), norm="ortho")
    rest = dct(without_finest_scale(x, cutoff).numpy(), norm="ortho")
    np.testing.assert_allclose(fine, np.where(below, 0, spectrum), atol=1e-12)
    np.testing.assert_allclose(rest, np.where(below, spectrum, 0), atol=1e-12)


def test_white_noise_has_one_minus_cutoff_of_its_energy_there():
    x = noise(500, 1, 140)
    for cutoff in (0.25, 0.5, 0.75):
        assert float(finest_scale(x, cutoff).square().mean()) == pytest.approx(1 - cutoff, abs=0.02)


def test_a_ramp_does_not_leak_as_it_would_without_its_mirror_image():
    ramp = torch.linspace(-1, 1, 140, dtype=torch.float64).view(1, 1, -1)
    spectrum = torch.fft.rfft(ramp)
    spectrum[..., :35] = 0
    leak = float(torch.fft.irfft(spectrum, n=140).square().sum())
    assert float(finest_scale(ramp).square().sum()) < leak / 1000


def test_image_band_is_the_image_less_its_binomial_blur():
    x = noise(2, 3, 9, 7)
    taps = np.array([1, 4, 6, 4, 1]) / 16
    blurred = convolve1d(convolve1d(x.numpy(), taps, axis=2, mode="mirror"), taps, axis=3, mode="mirror")
    np.testing.assert_allclose(finest_scale(x).numpy(), x.numpy() - blurred, atol=1e-14)
    np.testing.assert_allclose(without_finest_scale(x).numpy(), blurred, atol=1e-14)


def test_flat_pictures_have_none_and_a_checkerboard_is_all_of_it():
    assert finest_scale(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-6
    board = torch.tensor([[(-1.0) ** (i + j) for j in range(8)] for i in range(8)]).view(1, 1, 8, 8)
    assert torch.equal(finest_scale(board), board)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), image=st.booleans())
def test_both_parts_add_up_and_scale(seed, scale, image):
    x = noise(2, 1, 8, 8, seed=seed) if image else noise(2, 1, 64, seed=seed)
    np.testing.assert_allclose(finest_scale(x) + without_finest_scale(x), x, atol=1e-12)
    np.testing.assert_allclose(finest_scale(scale * x), scale * finest_scale(x), atol=1e-12 * scale)
    assert residual_noise(scale * x, x) == pytest.approx(scale**2, rel=1e-9)


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    levels = noise(shape[0], *[1] * (len(shape) - 1), seed=4)
    return levels + 0.02 * noise(*shape, seed=5)


@pytest.mark.parametrize("shape", [(40, 1, 140), (40, 3, 16, 16)])
def test_residual_noise_is_one_for_real_data_and_grows_with_noise(shape):
    real = smooth(shape)
    assert residual_noise(real, real) == 1
    assert residual_noise(real[:25], real) == pytest.approx(1, abs=0.1)
    noisy = real + 0.04 * noise(*shape, seed=6)
    assert residual_noise(noisy, real) == pytest.approx(5, rel=0.1)  # (.02^2 + .04^2) / .02^2
    assert residual_noise(without_finest_scale(noisy), real) < 0.5


@pytest.mark.parametrize("x", [noise(5, 2), noise(5, 1, 2, 8), noise(5, 1, 1), noise(0, 1, 8), noise(2, 1, 8) / 0])
def test_what_has_no_finest_scale_is_refused_by_name(x):
    for call, name in ((finest_scale, "x"), (without_finest_scale, "x"), (lambda x: residual_noise(x, x), "samples")):
        with pytest.raises(ValueError, match=rf"^{name} "):
            call(x)


def test_other_bad_input():
    x = noise(2, 1, 8)
    for cutoff in (0, 1, math.nan, 0.95):
        with pytest.raises(ValueError, match="cutoff"):
            finest_scale(x, cutoff)
    for real in (torch.zeros(2, 1, 8).double(), noise(2, 1, 9)):
        with pytest.raises(ValueError, match="real"):
            residual_noise(x, real)
