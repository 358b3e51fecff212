"""Exact gradients: one pass through the heads and K passes through the trunk."""

from torch import Tensor

from ...base import GradientWeighting, GramWeighting, Weighting
from ..low_rank import find_low_rank_gradients
from ..task_gradients import TaskGradients
from .step import BackwardResult, StepInputs, finish_step


def backward_exact(
    inputs: StepInputs, weighting: Weighting, feature_gradients: Tensor | None = None
) -> BackwardResult:
    """Compute all gradients of the shared parameters, and combine them.

    Args:
        inputs: The inputs of the step.
        weighting: A Gram or gradient weighting.
        feature_gradients: The gradients with respect to the features, ``(k, n)``, where they are
            known, together with the heads' gradients.
    """
    present = None if inputs.losses.present.all() else inputs.losses.present
    if isinstance(weighting, GramWeighting):
        gradients = _compute_task_gradients(inputs, feature_gradients, allow_low_rank=True)
        gram = gradients.compute_gram()
        weights = weighting.compute_weights(gram, present)
        gradients.accumulate_weighted(weights)
        return finish_step(inputs, weights, gram, "exact")
    assert isinstance(weighting, GradientWeighting)
    gradients = _compute_task_gradients(inputs, feature_gradients, allow_low_rank=False)
    gram = gradients.compute_gram()  # of which callers read the gradients' conflicts
    direction = weighting.combine_gradients(gradients.pop_matrix(), present)
    gradients.accumulate_direction(direction)
    inputs.heads.accumulate(None)
    return BackwardResult(None, gram, "exact")


def _compute_task_gradients(
    inputs: StepInputs, feature_gradients: Tensor | None, allow_low_rank: bool
) -> TaskGradients:
    """Return the present losses' gradients of the shared parameters; add those of the heads."""
    losses, shared, heads, features = inputs
    present = losses.present.nonzero().flatten().tolist()
    if features is not None and feature_gradients is None:
        features = features if features.separate_losses(losses, shared) else None
    ends = [edge[0] for edge in losses.list_edges()] if features is None else features.list_nodes()
    low_rank = find_low_rank_gradients(ends, shared, len(present)) if allow_low_rank else {}
    gradients = TaskGradients(shared, low_rank)
    if features is None:
        targets = [*gradients.inputs, *heads.parameters]
        for loss in present:
            found = losses.differentiate(loss, targets, keep_graph=loss != present[-1])
            gradients.add_gradients(found[: len(shared)])
            heads.add_gradients(loss, found[len(shared) :])
            del found
    else:
        # No loss passes the other losses' heads K times, and the heads' activations are freed.
        rows = (
            features.iterate_gradients(losses, heads)
            if feature_gradients is None
            else iter(feature_gradients)
        )
        for loss, row in zip(present, rows, strict=True):
            keep_graph = loss != present[-1]
            gradients.add_gradients(features.backpropagate(row, gradients.inputs, keep_graph))
    gradients.check_reached(ends)
    return gradients
