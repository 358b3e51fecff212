"""One step's gradients of several tasks whose examples are separate: one pass for all of them.

The gradient of task ``k`` by a shared layer's weights is the product of the rows ``k`` of the
layer's inputs and of the gradients by its outputs. One backward pass gives the latter for all
tasks, and batched products the former, where the general :func:`core.weighting.backward` takes a
pass per task. The weightings are the same objects.

A Gram matrix needs no gradient longer than its products take: gradients are made in pieces that fit
a cache, and the weighted sum is one more product, of inputs and weighted gradients by outputs. So
memory does not grow with the number of tasks times the number of parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.reinforcement.networks import LayerTrace
from core.weighting.base import GradientWeighting, GramWeighting, LossWeighting, Weighting
from core.weighting.gradients.accumulation import accumulate_gradient
from core.weighting.gradients.head_gradients import HeadGradients
from core.weighting.gradients.losses import LossGraph
from core.weighting.gradients.strategies.scalarised import apply_cached_weights, descend_objective
from core.weighting.gradients.strategies.step import BackwardResult, StepInputs
from core.weighting.gradients.task_gradients import compute_gram, get_chunk_entries


def backward_tasks(
    losses: Tensor,
    weighting: Weighting,
    traces: Sequence[LayerTrace],
    heads: Sequence[Tensor],
    *,
    weighted_heads: bool = False,
) -> BackwardResult:
    """Accumulate one step's gradients in ``.grad``; frees the graph.

    Args:
        losses: The tasks' losses, ``(k,)``, with a graph in which each depends on its own row of
            the traces only.
        weighting: Any weighting.
        traces: The shared layers, each once.
        heads: Parameters with a row per task, ``(k, ...)``.
        weighted_heads: Whether the heads' gradients are weighted too (loss weightings always do).

    Returns:
        The weights and the Gram matrix, as :func:`core.weighting.backward`.
    """
    graph = LossGraph(losses, None)
    if isinstance(weighting, LossWeighting):
        return descend_objective(graph, weighting)
    graph.apply_transform(weighting.transform_losses)
    if isinstance(weighting, GramWeighting):
        cached = weighting.use_cached_weights()
        if cached is not None and len(cached) == len(losses):
            shared = [p for trace in traces for p in (trace.layer.weight, trace.layer.bias)]
            own = HeadGradients(heads, weighted_heads)
            return apply_cached_weights(StepInputs(graph, shared, own, None), cached)
    targets = [*(trace.outputs for trace in traces), *heads]
    found = torch.autograd.grad(losses, targets, graph.factors)
    pairs = list(zip(traces, found[: len(traces)], strict=True))
    gram = torch.stack([compute_layer_gram(*pair) for pair in pairs]).sum(0)
    weights: Tensor | None = None
    if isinstance(weighting, GramWeighting):
        weights = weighting.compute_weights(gram)
        for trace, of_outputs in pairs:
            _accumulate_weighted(trace, of_outputs, weights)
    else:
        assert isinstance(weighting, GradientWeighting)
        _accumulate_direction(pairs, weighting)
    for head, gradient in zip(heads, found[len(traces) :], strict=True):
        if weighted_heads and weights is not None:
            gradient *= weights.to(gradient).view(-1, *[1] * (gradient.ndim - 1))
        accumulate_gradient(head, gradient)
    return BackwardResult(weights, gram, "exact")


def compute_task_gradients(trace: LayerTrace, of_outputs: Tensor) -> list[Tensor]:
    """Return every task's gradients by a layer's weights and by its biases, ``(k, entries)``."""
    weight = torch.bmm(of_outputs.transpose(1, 2), trace.inputs).flatten(1)
    return [weight, of_outputs.sum(1)]


def compute_layer_gram(trace: LayerTrace, of_outputs: Tensor) -> Tensor:
    """Return the inner products of the tasks' gradients by a layer, ``(k, k)`` float64.

    Args:
        trace: The layer and its inputs, ``(k, b, in)``.
        of_outputs: The losses' gradients by its outputs, ``(k, b, out)``.
    """
    found = compute_gram(of_outputs.sum(1))  # of the biases
    tasks, _, inputs = trace.inputs.shape
    outputs = of_outputs.shape[2]
    step = max(1, get_chunk_entries(of_outputs) // (tasks * inputs))
    transposed = of_outputs.transpose(1, 2)
    buffer = found.new_empty(tasks, min(step, outputs) * inputs)
    for start in range(0, outputs, step):
        part = torch.bmm(transposed[:, start : start + step], trace.inputs).flatten(1)
        chunk = buffer[:, : part.shape[1]].copy_(part)
        found.addmm_(chunk, chunk.T)
    return found


def _accumulate_weighted(trace: LayerTrace, of_outputs: Tensor, weights: Tensor) -> None:
    """Add the weighted sum of the tasks' gradients by a layer to ``.grad``."""
    weighted = (of_outputs * weights.to(of_outputs)[:, None, None]).flatten(0, 1)
    accumulate_gradient(trace.layer.weight, weighted.T @ trace.inputs.flatten(0, 1))
    accumulate_gradient(trace.layer.bias, weighted.sum(0))


def _accumulate_direction(
    pairs: Sequence[tuple[LayerTrace, Tensor]], weighting: GradientWeighting
) -> None:
    """Add the direction that a weighting makes of all gradients to ``.grad``."""
    rows = [part for pair in pairs for part in compute_task_gradients(*pair)]
    joined = weighting.combine_gradients(torch.cat(rows, dim=1))
    parameters = [p for trace, _ in pairs for p in (trace.layer.weight, trace.layer.bias)]
    for parameter, piece in zip(
        parameters, joined.split([part.shape[1] for part in rows]), strict=True
    ):
        accumulate_gradient(parameter, piece.view_as(parameter))
