"""Where to compute."""

import torch


def check_device(device: str | torch.device) -> torch.device:
    """The device; RuntimeError if this machine, or this build of torch, does not have it."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: a build of torch without CUDA
        raise RuntimeError(f"device = {str(device)!r} cannot be used; try device='cpu'") from error
    return torch.device(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own (emulated, it is slower than float32)."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
