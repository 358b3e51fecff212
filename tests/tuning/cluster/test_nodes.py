"""This machine as a node."""

from pathlib import Path

import pytest
import torch

from tests.support.nvidia_smi import MIG, stand_in
from tuning.cluster.nodes import local_node


def test_mig_slices_of_this_machine_are_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, MIG)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_node().gpus == 4
    for named, expected in (("MIG-a,MIG-b", 2), ("GPU-1,MIG-a,MIG-b", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert local_node().gpus == expected
