"""Where to compute, and how not to keep a GPU waiting for Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

WARM = 3  # plain calls before a GPU's work is recorded: in them libraries choose their kernels and reserve memory


def check_device(device: str | torch.device) -> torch.device:
    """The device, or RuntimeError naming it where it is none, or this machine or torch's build has none."""
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: a build of torch without CUDA
        reason = str(error).split(". ")[0]  # some are a page long
        raise RuntimeError(f"device = {str(device)!r} cannot be used ({reason}); try device='cpu'") from error
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own (emulated, it is slower than float32)."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; a GPU fetches it when its turn comes, while the caller goes on."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return torch.empty_like(tensor, pin_memory=True).copy_(tensor).to(device, non_blocking=True)


def captured(function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    """`function` itself; on a CUDA device, what does the same by one launch in place of hundreds (a CUDA graph).

    The work of small networks is over before Python has started the next kernel. So the first calls are plain, the next
    is recorded, and from then on the recording is replayed: no Python of `function` runs, and it must not read a value
    back, else RuntimeError. It takes tensors, each call of the same shapes, and numbers, which arrive as tensors on the
    device.
    """
    return _Captured(function, device) if device.type == "cuda" else function


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: libraries keep a workspace for each stream that they have seen."""
    return torch.cuda.Stream(device)


class _Captured:
    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self.function, self.device, self.calls = function, device, 0
        self.stream = _stream(device)

    def __call__(self, *arguments: Tensor | float) -> tuple[Tensor, ...]:
        if not self.calls:
            self.inputs = [torch.empty_like(torch.as_tensor(a), device=self.device) for a in arguments]
        for kept, given in zip(self.inputs, arguments, strict=True):
            kept.copy_(send(given, self.device)) if isinstance(given, Tensor) else kept.fill_(given)
        self.calls += 1
        if self.calls <= WARM:
            current = torch.cuda.current_stream(self.device)
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):  # what is recorded must have been run before, and not on the main one
                outputs = self.function(*self.inputs)
            current.wait_stream(self.stream)
            return outputs
        if self.calls == WARM + 1:
            self.graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self.graph, stream=self.stream):
                    self.outputs = self.function(*self.inputs)
            except RuntimeError as error:
                said = "a step cannot be recorded on the GPU; does the network read a value back? `train` may"
                raise RuntimeError(f"{said} ({error})") from error
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)  # the next replay writes over them
