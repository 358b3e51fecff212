"""One step's gradients of several tasks whose examples are separate: one pass for all of them.

The gradient of task ``k`` by a shared layer's weights is the product of the rows ``k`` of the
layer's inputs and of the gradients by its outputs. One backward pass gives the latter for all
tasks, and batched products the former, where the general :func:`core.weighting.backward` takes a
pass per task. The weightings are the same objects.

The products are made in pieces, from which they go into the Gram matrix. Where that is quicker than
to make them again for the weighted sum, they are kept, in the same memory in every step; elsewhere
memory does not grow with the number of tasks times that of parameters.
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
from core.weighting.gradients.task_gradients import (
    DEVICE_CHUNK_ENTRIES,
    compute_gram,
    compute_gram_in_pieces,
    estimate_gram,
    has_dependent_rows,
)

# Entries of gradients that a CPU makes at a time. Pieces that fit its cache are no faster: the
# products of few examples then have too few columns.
PIECE_ENTRIES = 1 << 23
# Gradients of more bytes are not kept. Those of few examples are made again as quickly as read.
MAX_KEPT_BYTES, MIN_KEPT_EXAMPLES = 1 << 30, 64


class StepMemory:
    """Memory that every step uses: a process gets new memory by pages, slower than it is filled."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def provide(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the memory of a name, not initialized, with the type and device of a tensor."""
        key = f"{name} {shape} {like.dtype}"
        if key not in self._tensors:
            self._tensors[key] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return self._tensors[key]


def backward_tasks(
    losses: Tensor,
    weighting: Weighting,
    traces: Sequence[LayerTrace],
    heads: Sequence[Tensor],
    *,
    weighted_heads: bool = False,
    memory: StepMemory | None = None,
) -> BackwardResult:
    """Accumulate one step's gradients in ``.grad``; frees the graph.

    Args:
        losses: The tasks' losses, ``(k,)``, with a graph in which each depends on its own row of
            the traces only.
        weighting: Any weighting.
        traces: The shared layers, each once.
        heads: Parameters with a row per task, ``(k, ...)``.
        weighted_heads: Whether the heads' gradients are weighted too (loss weightings always do).
        memory: The memory of the last step with the same layers.

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
    memory = StepMemory() if memory is None else memory
    layers = [
        LayerGradients(trace, of_outputs, memory, number)
        for number, (trace, of_outputs) in enumerate(zip(traces, found, strict=False))
    ]
    keeps = sum(layer.count_bytes() for layer in layers) <= MAX_KEPT_BYTES
    keeps = keeps and (not losses.is_cpu or traces[0].inputs.shape[1] >= MIN_KEPT_EXAMPLES)
    gram = torch.stack([layer.compute_gram(keeps) for layer in layers]).sum(0)
    if losses.is_cpu and losses.dtype == torch.float32 and has_dependent_rows(gram):
        # Solvers would take the errors of products of float32 for differences of gradients.
        gram = torch.stack([layer.compute_gram(keeps, is_exact=True) for layer in layers]).sum(0)
    weights: Tensor | None = None
    if isinstance(weighting, GramWeighting):
        weights = weighting.compute_weights(gram)
        for layer in layers:
            layer.accumulate_weighted(weights)
    else:
        assert isinstance(weighting, GradientWeighting)
        _accumulate_direction(layers, weighting)
    for head, gradient in zip(heads, found[len(traces) :], strict=True):
        if weighted_heads and weights is not None:
            gradient *= weights.to(gradient).view(-1, *[1] * (gradient.ndim - 1))
        accumulate_gradient(head, gradient)
    return BackwardResult(weights, gram, "exact")


class LayerGradients:
    """The tasks' gradients by a shared layer's weights and biases.

    Args:
        trace: The layer and its inputs, ``(k, b, in)``.
        of_outputs: The losses' gradients by its outputs, ``(k, b, out)``.
        memory: Memory that every step uses.
        number: The layer's number there.
    """

    def __init__(
        self, trace: LayerTrace, of_outputs: Tensor, memory: StepMemory, number: int = 0
    ) -> None:
        self.layer = trace.layer
        self._memory, self._number = memory, number
        self._inputs, self._of_outputs = trace.inputs, of_outputs
        self._of_biases = of_outputs.sum(1)
        self._kept: Tensor | None = None

    def count_bytes(self) -> int:
        """Return the memory of the gradients by the weights."""
        tasks, _, outputs = self._of_outputs.shape
        return tasks * outputs * self._inputs.shape[2] * self._inputs.element_size()

    def compute_gradients(self) -> list[Tensor]:
        """Return the gradients by weights and biases, ``(k, entries)`` each."""
        if self._kept is None:
            self._kept = torch.bmm(self._of_outputs.transpose(1, 2), self._inputs)
        return [self._kept.flatten(1), self._of_biases]

    def compute_gram(self, keep: bool = False, is_exact: bool = False) -> Tensor:
        """Return the gradients' inner products, ``(k, k)`` float64.

        Args:
            keep: Whether to keep the gradients for the weighted sum.
            is_exact: Whether a CPU multiplies gradients of float32 in float64, not as
                :func:`estimate_gram` does.
        """
        found = compute_gram(self._of_biases)
        of_outputs, examples = self._of_outputs, self._inputs
        is_on_cpu = found.device.type == "cpu"
        multiply = compute_gram if is_exact else estimate_gram
        multiply = multiply if is_on_cpu else compute_gram_in_pieces
        tasks, _, inputs = examples.shape
        outputs = of_outputs.shape[2]
        entries = PIECE_ENTRIES if is_on_cpu else DEVICE_CHUNK_ENTRIES
        step = min(outputs, max(1, entries // (tasks * inputs)))
        shape = (tasks, outputs if keep else step, inputs)
        made = self._memory.provide(f"layer {self._number}" if keep else "piece", shape, examples)
        for start in range(0, outputs, step):
            columns = of_outputs.transpose(1, 2)[:, start : start + step]
            width = columns.shape[1]
            part = made[:, start : start + width] if keep else made[:, :width]
            torch.bmm(columns, examples, out=part)
            rows = part.flatten(1)
            found += multiply(rows)
        self._kept = made if keep else None
        return found

    def accumulate_weighted(self, weights: Tensor) -> None:
        """Add the sum of the gradients with weights, ``(k,)``, to ``.grad``."""
        weights = weights.to(self._of_outputs)
        if self._kept is not None:
            of_weights = weights @ self._kept.flatten(1)
        else:
            weighted = self._memory.provide("weighted", self._of_outputs.shape, self._of_outputs)
            torch.mul(self._of_outputs, weights[:, None, None], out=weighted)
            of_weights = weighted.flatten(0, 1).T @ self._inputs.flatten(0, 1)
        accumulate_gradient(self.layer.weight, of_weights.view_as(self.layer.weight))
        accumulate_gradient(self.layer.bias, weights @ self._of_biases)


def _accumulate_direction(layers: Sequence[LayerGradients], weighting: GradientWeighting) -> None:
    """Add the direction that a weighting makes of all gradients to ``.grad``."""
    rows = [part for layer in layers for part in layer.compute_gradients()]
    joined = weighting.combine_gradients(torch.cat(rows, dim=1))
    parameters = [p for layer in layers for p in (layer.layer.weight, layer.layer.bias)]
    for parameter, piece in zip(
        parameters, joined.split([part.shape[1] for part in rows]), strict=True
    ):
        accumulate_gradient(parameter, piece.view_as(parameter))
