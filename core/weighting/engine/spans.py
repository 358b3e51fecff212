"""Gradients of linear layers' weights, by fewer numbers than the weights have.

The gradient of a weight ``(out, in)`` of a layer that saw ``n`` inputs ``X``, ``(n, in)``, is
``D' X`` with ``D``, ``(n, out)``, the gradient of the layer's outputs. With ``X' = Q R`` (``Q``
has orthonormal columns, ``R`` is ``(n, n)``) it is ``(R D)' Q'``: all tasks' gradients lie in the
span of the inputs, where their coordinates ``R D`` have the same inner products and weighted sums.
Where ``n`` is less than ``in``, that is exact, and less to compute, to hold and to multiply.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from core.weighting.engine.tangents import ordered, uses_of
from core.weighting.engine.work import multiplications

FACTORISATION = 8  # what an operation of a QR factorisation costs, in those of a product


class Span:
    """The span of a layer's inputs.

    Args:
        node: The layer in the graph; its outputs are what to differentiate by.
        inputs: What it saw, ``(n, in)``, n at most ``in``.
        outputs: How many it has.
    """

    def __init__(self, node: Node, inputs: Tensor, outputs: int) -> None:
        self.edge = GradientEdge(node, 0)
        # Half precision has no factorisation, and its products are better summed in a longer type.
        kind = torch.promote_types(inputs.dtype, torch.float32)
        self._basis, self._triangle = torch.linalg.qr(inputs.detach().to(kind).T)
        self.outputs = outputs
        self.size = len(inputs) * outputs
        # Where a pass goes on below the layer, torch returns the gradient at the edge from before
        # the hooks on the layer's outputs; this hook comes after them. A node that kept the span,
        # which keeps the node, would never be let go.
        self._after_hooks: Tensor | None = None
        span = weakref.ref(self)
        node.register_prehook(lambda gradients: _note(span(), gradients[0]))

    def coordinates(self, gradient: Tensor) -> Tensor:
        """Return the coordinates, ``(n, out)``, of a loss's gradient by the layer's outputs.

        Args:
            gradient: What the pass that just ended returned for :attr:`edge`.
        """
        seen, self._after_hooks = self._after_hooks, None
        found: Tensor = self._triangle @ (gradient if seen is None else seen).to(self._triangle)
        return found

    def expand(self, coordinates: Tensor) -> Tensor:
        """Return the gradient of the weight, ``(out, in)``, that has coordinates ``(n * out,)``."""
        found: Tensor = coordinates.view(-1, self.outputs).T @ self._basis.T
        return found


def _note(span: Span | None, gradient: Tensor) -> None:
    if span is not None:
        span._after_hooks = gradient


def spans(
    ends: Sequence[Node | None], parameters: Sequence[Tensor], tasks: int
) -> Mapping[int, Span]:
    """Return the spans that are worth their factorisation, by the parameters' places.

    On CPUs only: devices take longer for a factorisation than for the products that it saves.

    Args:
        ends: The nodes of the graph at which gradients start.
        parameters: The parameters to look for.
        tasks: How many gradients are needed.
    """
    return {
        place: Span(node, _inputs(node), len(parameters[place]))
        for place, node in _worthwhile(ordered(ends), parameters, tasks)
    }


def cost_of_pass(ends: Sequence[Node | None], parameters: Sequence[Tensor], tasks: int) -> float:
    """Return what a gradient costs with the spans, as a part of what it costs without, 0.5 to 1."""
    order = ordered(ends)
    total = sum(map(multiplications, order))
    saved = sum(
        multiplications(node) * (1 - _examples(node) / parameters[place].shape[1])
        for place, node in _worthwhile(order, parameters, tasks)
    )
    return 1 - saved / total / 2 if total else 1.0  # half of a pass is for gradients of inputs


def _worthwhile(
    order: Sequence[Node], parameters: Sequence[Tensor], tasks: int
) -> Iterator[tuple[int, Node]]:
    """Yield the layers and the places of their weights."""
    places = {
        id(p): i
        for i, p in enumerate(parameters)
        if p.ndim == 2 and p.device.type == "cpu" and not p._backward_hooks
    }
    uses = uses_of(order) if places else {}
    for node in order if places else ():
        place = places.get(id(_weight(node, uses)))
        if place is not None:
            outputs, size = parameters[place].shape
            examples = _examples(node)
            cost, gain = FACTORISATION * examples * size, tasks * outputs * (size - examples)
            if 0 < cost <= gain:
                yield place, node


def _weight(node: Any, uses: Mapping[Node, int]) -> Tensor | None:
    """Return the parameter whose transpose is a product's second factor there and nowhere else."""
    if node.name() not in ("AddmmBackward0", "MmBackward0"):
        return None
    if node.name() == "AddmmBackward0" and node._saved_alpha != 1:
        return None
    source = node.next_functions[-1][0]
    if source is None or source.name() != "TBackward0" or uses[source] > 1:
        return None
    source = source.next_functions[0][0]
    if source.name() == "ToCopyBackward0" and uses[source] == 1:  # autocast
        source = source.next_functions[0][0]
    weight: Tensor | None = getattr(source, "variable", None)
    return weight if uses[source] == 1 else None


def _inputs(node: Any) -> Tensor:
    held: Tensor = node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self
    return held


def _examples(node: Any) -> int:
    found: int = node._input_metadata[0].shape[0]
    return found
