"""Gradients of layers' weights, by fewer numbers than the weights have.

The gradient of a weight ``(out, in)`` of a layer that saw ``n`` inputs ``X``, ``(n, in)``, is
``D' X`` with ``D``, ``(n, out)``, the gradient of the layer's outputs. With ``X' = Q R`` (``Q``
has orthonormal columns, ``R`` is ``(n, n)``) it is ``(R D)' Q'``: all tasks' gradients lie in the
span of the inputs, where their coordinates ``R D`` have the same inner products and weighted sums.
Where ``n`` is less than ``in``, that is exact, and less to compute, to hold and to multiply. A
convolution is such a layer that sees a patch of the image for each pixel that it makes: deep in a
network, these are fewer than a patch has numbers.
"""

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import functional

from core.weighting.engine.tangents import ordered, uses_of
from core.weighting.engine.work import multiplications

CONVOLUTION = "ConvolutionBackward0"
FACTORISATION = 8  # what an operation of a QR factorisation costs, in those of a product


class Span:
    """The span of a layer's inputs.

    Args:
        node: The layer in the graph; its outputs are what to differentiate by.
        weight: Its weight, ``(out, in)`` or ``(out, channels, height, width)``.
    """

    def __init__(self, node: Node, weight: Tensor) -> None:
        self.edge = GradientEdge(node, 0)
        inputs = _inputs(node, weight)
        self._basis, self._triangle = torch.linalg.qr(inputs.T)
        self._shape = weight.shape
        self.size = len(inputs) * len(weight)
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
        by_outputs = _rows(gradient if seen is None else seen)
        found: Tensor = self._triangle @ by_outputs.to(self._triangle)
        return found

    def expand(self, coordinates: Tensor) -> Tensor:
        """Return the gradient of the weight that has the coordinates ``(n * out,)``."""
        found: Tensor = coordinates.view(-1, self._shape[0]).T @ self._basis.T
        return found.view(self._shape)


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
        place: Span(node, parameters[place])
        for place, node in _worthwhile(ordered(ends), parameters, tasks)
    }


def cost_of_pass(ends: Sequence[Node | None], parameters: Sequence[Tensor], tasks: int) -> float:
    """Return what a gradient costs with the spans, as a part of what it costs without, 0.5 to 1."""
    order = ordered(ends)
    total = sum(map(multiplications, order))
    saved = sum(
        multiplications(node) * (1 - _examples(node) / parameters[place][0].numel())
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
        if p.ndim in (2, 4) and p.device.type == "cpu" and not p._backward_hooks
    }
    uses = uses_of(order) if places else {}
    for node in order if places else ():
        place = places.get(id(_weight(node, uses)))
        if place is not None:
            outputs, size = len(parameters[place]), parameters[place][0].numel()
            examples = _examples(node)
            cost, gain = FACTORISATION * examples * size, tasks * outputs * (size - examples)
            if 0 < cost <= gain:
                yield place, node


def _weight(node: Any, uses: Mapping[Node, int]) -> Tensor | None:
    """Return a layer's weight, if that is a parameter that is used there and nowhere else."""
    name = node.name()
    if name == CONVOLUTION:
        if node._saved_transposed or node._saved_groups > 1:
            return None
        source = node.next_functions[1][0]
    elif name == "MmBackward0" or (name == "AddmmBackward0" and node._saved_alpha == 1):
        transposed = node.next_functions[-1][0]
        if transposed is None or transposed.name() != "TBackward0" or uses[transposed] > 1:
            return None
        source = transposed.next_functions[0][0]
    else:
        return None
    if source is not None and source.name() == "ToCopyBackward0" and uses[source] == 1:  # autocast
        source = source.next_functions[0][0]
    weight: Tensor | None = getattr(source, "variable", None)
    return weight if weight is not None and uses[source] == 1 else None


def _inputs(node: Any, weight: Tensor) -> Tensor:
    """Return what a layer saw, ``(n, in)``; a convolution a patch for each pixel that it makes."""
    held: Tensor = (
        node._saved_mat1 if node.name() == "AddmmBackward0"
        else node._saved_input if node.name() == CONVOLUTION
        else node._saved_self
    )  # fmt: skip
    # Half precision has no factorisation, and its products are better summed in a longer type.
    held = held.detach().to(torch.promote_types(held.dtype, torch.float32))
    if node.name() != CONVOLUTION:
        return held
    stride, padding, dilation = node._saved_stride, node._saved_padding, node._saved_dilation
    patches = functional.unfold(held, weight.shape[2:], dilation, padding, stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _rows(by_outputs: Tensor) -> Tensor:
    """Return a gradient by a layer's outputs as ``(n, out)``, in the order of :func:`_inputs`."""
    if by_outputs.ndim == 2:
        return by_outputs
    return by_outputs.flatten(2).transpose(1, 2).flatten(0, 1)


def _examples(node: Any) -> int:
    """Return of how many inputs a layer made its outputs."""
    examples, _, *pixels = node._input_metadata[0].shape
    return int(examples * math.prod(pixels))
