"""Copies between the host and a GPU that do not wait for the GPU.

Like :mod:`common.device_copies`: this package is also installed alone.
"""

import torch
from torch import Tensor


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the host does not wait for a copy to a GPU.

    A copy from pageable memory would wait until the GPU has done all work before it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
