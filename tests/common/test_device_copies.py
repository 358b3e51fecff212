"""Copies to a device."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import common.device_copies
import core.weighting.device_copies

Copy = Callable[[Tensor, torch.device], Tensor]
COPIES: list[Copy] = [
    common.device_copies.copy_to_device,
    core.weighting.device_copies.copy_to_device,
]


@pytest.mark.parametrize("copy_to_device", COPIES)
def test_a_tensor_on_the_device_is_not_copied(copy_to_device: Copy) -> None:
    tensor = torch.arange(3)
    assert copy_to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
@pytest.mark.parametrize("copy_to_device", COPIES)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_the_host_does_not_wait(copy_to_device: Copy) -> None:
    torch.zeros(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = copy_to_device(torch.arange(3), torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.tolist() == [0, 1, 2]
