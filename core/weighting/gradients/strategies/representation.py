"""Weights from the gradients of the features in place of the parameters': an approximation."""

from ...base import GramWeighting
from ..accumulation import accumulate_gradients
from ..task_gradients import compute_gram
from .step import BackwardResult, StepInputs, finish_step


def backward_representation(inputs: StepInputs, weighting: GramWeighting) -> BackwardResult:
    """Compute weights from the Gram matrix of the gradients with respect to the features."""
    losses, shared, heads, features = inputs
    assert features is not None
    rows = features.compute_gradients(losses, heads)
    gram = compute_gram(rows)
    present = None if losses.present.all() else losses.present
    weights = weighting.compute_weights(gram, present)
    start = weights.to(rows) @ rows
    del rows
    accumulate_gradients(shared, features.backpropagate(start, shared, keep_graph=False))
    return finish_step(inputs, weights, gram, "representation")
