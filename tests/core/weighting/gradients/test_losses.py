"""Weights of present and absent losses, and no wait for a GPU in their layout."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.weighting.gradients.losses import LossGraph


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_absent_losses_have_weight_0(present: list[bool]) -> None:
    mask = torch.tensor(present)
    values = torch.rand(len(present), requires_grad=True)
    losses = LossGraph(values, mask)
    weights = torch.rand(int(mask.sum()), dtype=torch.float64)
    expected = torch.zeros(len(present))
    expected[mask] = weights.float()
    assert torch.equal(losses.expand_weights(weights), expected)
    expected[mask] = values.detach()[mask]
    assert torch.equal(losses.clear_absent(values), expected)


def test_results_are_copies() -> None:
    losses = LossGraph(torch.rand(2, requires_grad=True), None)
    weights = torch.rand(2)
    for found in (losses.expand_weights(weights), losses.clear_absent(weights)):
        found.zero_()
        assert weights.all()


@pytest.fixture
def waits_raise() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("present", [None, torch.tensor([True, False, True])])
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.usefixtures("waits_raise")
def test_on_a_gpu_nothing_waits(present: torch.Tensor | None) -> None:
    losses = LossGraph(torch.zeros(3, device="cuda", requires_grad=True), present)
    count = 3 if present is None else 2
    assert len(losses.expand_weights(torch.ones(count, device="cuda"))) == 3
    assert len(losses.clear_absent(torch.ones(3, device="cuda"))) == 3
