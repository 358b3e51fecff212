"""Copies between the host and a GPU that do not wait for the GPU."""

from functools import cache

import torch
from torch import Tensor


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the host does not wait for a copy to a GPU.

    A copy from pageable memory would wait until the GPU has done all work before it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@cache  # one for all runs of a process, because a stream keeps its memory for its next copies
def get_copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the stream on which copies to a GPU run beside its other work; None for a CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None
