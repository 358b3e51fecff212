"""Copies to a device."""

import pytest
import torch

from common.device_copies import copy_to_device


def test_a_tensor_on_the_device_is_not_copied() -> None:
    tensor = torch.arange(3)
    assert copy_to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_the_host_does_not_wait() -> None:
    torch.zeros(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = copy_to_device(torch.arange(3), torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.tolist() == [0, 1, 2]
