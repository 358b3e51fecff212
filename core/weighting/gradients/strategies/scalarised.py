"""One backward pass of a weighted sum: loss weightings, and cached weights."""

import torch
from torch import Tensor

from ...base import LossWeighting
from ..losses import LossGraph
from .step import BackwardResult, StepInputs


def descend_objective(losses: LossGraph, weighting: LossWeighting) -> BackwardResult:
    """Accumulate the gradients of a loss weighting's objective."""
    with torch.enable_grad():
        leaf = losses.clear_absent(losses.values).requires_grad_()
        transformed = weighting.transform_losses(leaf)
        transformed.retain_grad()
        weighting.compute_objective(transformed).backward()
    assert leaf.grad is not None
    assert transformed.grad is not None
    losses.backward_weighted(leaf.grad)
    return BackwardResult(transformed.grad.detach(), None, "scalarised")


def apply_cached_weights(inputs: StepInputs, weights: Tensor) -> BackwardResult:
    """Accumulate the gradients of the sum with weights, ``(k,)``, that are known beforehand."""
    losses, heads = inputs.losses, inputs.heads
    weights = losses.clear_absent(weights)
    if heads.parameters:
        own = weights if heads.is_weighted else losses.clear_absent(torch.ones_like(weights))
        losses.backward_weighted(own, heads.parameters, keep_graph=True)
    losses.backward_weighted(weights, inputs.shared)
    return BackwardResult(weights, None, "scalarised")
