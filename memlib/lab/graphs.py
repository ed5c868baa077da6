"""How not to keep a GPU waiting for Python: copies that do not block, and steps recorded once and then replayed."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

WARM = 3  # plain calls before the recording: in them libraries choose their kernels and reserve memory
Function = Callable[..., tuple[Tensor, ...]]
_stream = cache(torch.cuda.Stream)  # one for all recordings: libraries keep a workspace for each that they have seen


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a GPU fetches it when its turn comes, while the caller goes on."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return torch.empty_like(tensor, pin_memory=True).copy_(tensor).to(device, non_blocking=True)


def captured(function: Function, device: torch.device) -> Function:
    """`function` itself; on a CUDA device, what does the same by one launch in place of hundreds (a CUDA graph).

    The first calls are plain, the next is recorded, and later ones replay the recording without Python: `function` must
    not read a value back. It takes tensors, of the same shapes in each call, and numbers, which arrive as tensors."""
    if device.type != "cuda":
        return function
    stream, graph, calls = _stream(device), torch.cuda.CUDAGraph(), 0
    inputs: list[Tensor] = []
    outputs: tuple[Tensor, ...] = ()

    def call(*arguments: Tensor | float) -> tuple[Tensor, ...]:
        nonlocal calls, outputs
        if not calls:
            inputs.extend(torch.empty_like(torch.as_tensor(a), device=device) for a in arguments)
        for kept, given in zip(inputs, arguments, strict=True):
            kept.copy_(send(given, device)) if isinstance(given, Tensor) else kept.fill_(given)
        calls += 1
        if calls <= WARM:
            current = torch.cuda.current_stream(device)
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # what is recorded must have been run before, and not on the main stream
                plain = function(*inputs)
            current.wait_stream(stream)
            return plain
        if calls == WARM + 1:
            with torch.cuda.graph(graph, stream=stream):
                outputs = function(*inputs)
        graph.replay()
        return tuple(output.clone() for output in outputs)  # the next replay writes over them

    return call
