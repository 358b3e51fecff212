"""Alpha-fair weights from products with the Gram matrix, without K gradients of the trunk."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...base import AlphaFairWeighting
from ..accumulation import accumulate_gradients
from ..alpha_fair_search import MAX_PRODUCTS, SearchResult, search_weights
from ..last_layers import LastLayers, find_last_layers
from ..low_rank import find_low_rank_gradients
from ..shared_features import SharedFeatures
from ..task_gradients import TaskGradients
from .exact import backward_exact
from .step import BackwardResult, StepInputs, finish_step


def backward_matrix_free(inputs: StepInputs, weighting: AlphaFairWeighting) -> BackwardResult:
    """Search the weights by products; take the exact step where the search fails."""
    losses, shared, heads, features = inputs
    assert features is not None
    rows = features.compute_gradients(losses, heads)
    try:
        found, known, products = _search_below_last_layers(rows, features, shared, weighting.alpha)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError):  # an operation without a second derivative
        found, known, products = None, None, 1
    if found is None:
        # The passes that the step cost: "auto" would otherwise search in vain at every step with
        # more tasks than a search costs passes, and take the passes after it.
        weighting.search_history.record_fallback(MAX_PRODUCTS + len(rows))
        return backward_exact(inputs, weighting, rows)._replace(products=products)
    weighting.search_history.record_search(products)
    weighting.set_weights(found.weights.to(rows.device))
    accumulate_gradients(found.parameters, found.gradients, found.factor)
    if known is not None:
        known.accumulate_weighted(found.weights)
    result = finish_step(inputs, found.weights, found.model, "matrix_free")
    return result._replace(residual=found.residual, products=products)


def _search_below_last_layers(
    rows: Tensor, features: SharedFeatures, parameters: Sequence[Tensor], alpha: float
) -> tuple[SearchResult | None, TaskGradients | None, int]:
    """Search below the trunk's last layers; return the result, their gradients, the products."""
    last_layers = find_last_layers(features, parameters, len(rows))
    if last_layers is None:
        found, products = search_weights(rows, features, parameters, alpha)
        return found, None, products
    known, lower_rows = _pass_last_layers(rows, features, last_layers)
    passed = {id(parameter) for parameter in last_layers.parameters}
    lower = [parameter for parameter in parameters if id(parameter) not in passed]
    gram = known.compute_gram()
    found, products = search_weights(lower_rows, last_layers.features, lower, alpha, gram)
    return found, known, products


def _pass_last_layers(
    rows: Tensor, features: SharedFeatures, last_layers: LastLayers
) -> tuple[TaskGradients, Tensor]:
    """Return the gradients of the last layers' parameters, and those by the tensor below."""
    below, own = last_layers.features, last_layers.parameters
    gradients = TaskGradients(own, find_low_rank_gradients(features.list_nodes(), own, len(rows)))
    inputs = [*below.edges, *gradients.inputs]
    lower_rows = rows.new_empty(len(rows), sum(below.sizes))
    for row, target in zip(rows, lower_rows, strict=True):
        found = features.backpropagate(row, inputs)
        target.copy_(below.flatten_gradients(found[:1]))
        gradients.add_gradients(found[1:])
    return gradients, lower_rows
