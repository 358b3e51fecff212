"""Gradients of layers' weights, by fewer numbers than the weights have.

The gradient of a weight ``(out, in)`` of a layer that saw ``n`` inputs ``X``, ``(n, in)``, is
``D' X`` with ``D``, ``(n, out)``, the gradient of the layer's outputs. Where ``n`` is less than
``in``, all tasks' ``D`` are less to compute, to hold and to multiply than their gradients: with
``X' = Q R`` (``Q`` has orthonormal columns, ``R`` is ``(n, n)``) the gradients have the inner
products of the ``R D``, and their weighted sum is that of the ``D``, times ``X``. A convolution is
such a layer that sees a patch of the image for each pixel that it makes: deep in a network, these
are fewer than a patch has numbers.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import functional

from core.weighting.gradients.flops import CONVOLUTION, PRODUCTS, multiplications, saved_inputs
from core.weighting.gradients.jvp import ordered, uses_of

# What a QR factorisation of (n, in) costs, in n * n * in multiplications of a layer's gradient, and
# what a multiplication of coordinates costs, which are products of smaller matrices.
FACTORISATION, COORDINATES = 4, 2


class Span:
    """The span of a layer's inputs.

    Args:
        node: The layer in the graph; its outputs are what to differentiate by.
        weight: Its weight, ``(out, in)`` or ``(out, channels, height, width)``.
    """

    def __init__(self, node: Node, weight: Tensor) -> None:
        self.edge = GradientEdge(node, 0)
        self._inputs = _inputs(node, weight)
        inputs = self._inputs()
        self._triangle = torch.linalg.qr(inputs.T, mode="r")[1]
        self._shape = weight.shape
        self.size = len(inputs) * len(weight)
        # Where a pass goes on below the layer, torch returns the gradient at the edge from before
        # the hooks on the layer's outputs; this hook comes after them. A node that kept the span,
        # which keeps the node, would never be let go.
        self._after_hooks: Tensor | None = None
        span = weakref.ref(self)
        node.register_prehook(lambda gradients: _note(span(), gradients[0]))

    def by_outputs(self, gradient: Tensor) -> Tensor:
        """Return a loss's gradient by the layer's outputs, ``(n, out)``.

        Args:
            gradient: What the pass that just ended returned for :attr:`edge`.
        """
        after, self._after_hooks = self._after_hooks, None
        found = gradient if after is None else after
        # In the order of the inputs: by images, then by pixels.
        return found if found.ndim == 2 else found.flatten(2).transpose(1, 2).flatten(0, 1)

    def coordinates(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return vectors with the inner products of the gradients of the weight.

        Args:
            rows: Gradients by the layer's outputs, ``(n * out,)`` each.
        """
        with torch.autocast(self._triangle.device.type, enabled=False):
            wide = [row.reshape(len(self._triangle), -1).to(self._triangle) for row in rows]
            return [(self._triangle @ row).flatten() for row in wide]

    def expand(self, row: Tensor) -> Tensor:
        """Return the gradient of the weight from one by the layer's outputs, ``(n * out,)``."""
        inputs = self._inputs()
        with torch.autocast(inputs.device.type, enabled=False):
            found: Tensor = row.view(len(inputs), -1).T.to(inputs) @ inputs
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
        multiplications(node) * (1 - COORDINATES * _examples(node) / _columns(parameters[place]))
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
        if place is not None and _plain(node) and _gains(node, parameters[place], tasks):
            yield place, node


def _gains(node: Any, weight: Tensor, tasks: int) -> bool:
    """Return whether a span costs less than what it saves of the passes."""
    outputs, columns, examples = len(weight), _columns(weight), _examples(node)
    cost = FACTORISATION * examples * columns + outputs * columns  # the last for expand()
    return examples > 0 and cost <= tasks * outputs * (columns - COORDINATES * examples)


def _columns(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _weight(node: Any, uses: Mapping[Node, int]) -> Tensor | None:
    """Return a layer's weight, if that is a parameter that is used there and nowhere else."""
    name = node.name()
    if name not in PRODUCTS:
        return None
    if name == CONVOLUTION:
        if node._saved_transposed or node._saved_groups > 1:
            return None
        source = node.next_functions[1][0]
    else:
        transposed = node.next_functions[-1][0]
        if transposed is None or transposed.name() != "TBackward0" or uses[transposed] > 1:
            return None
        if name == "AddmmBackward0" and node._saved_alpha != 1:
            return None
        source = transposed.next_functions[0][0]
    if source is not None and source.name() == "ToCopyBackward0" and uses[source] == 1:  # autocast
        source = source.next_functions[0][0]
    weight: Tensor | None = getattr(source, "variable", None)
    return weight if weight is not None and uses[source] == 1 else None


def _plain(node: Any) -> bool:
    """Return whether a layer's inputs are at hand: dense, real, and not to be made again."""
    held = saved_inputs(node)
    return (
        held.unpack_hook is None
        and held.data.layout == torch.strided
        and node._input_metadata[0].dtype.is_floating_point
    )


def _inputs(node: Any, weight: Tensor) -> Callable[[], Tensor]:
    """Return what gives a layer's inputs, ``(n, in)``, also when the graph has been let go."""
    held: Tensor = saved_inputs(node).unpack().detach()
    # Half precision has no factorisation, and its products are better summed in a longer type.
    kind = torch.promote_types(held.dtype, torch.float32)
    if node.name() != CONVOLUTION:
        return lambda: held.to(kind)
    patches = partial(
        functional.unfold,
        kernel_size=weight.shape[2:],
        dilation=node._saved_dilation,
        padding=node._saved_padding,
        stride=node._saved_stride,
    )
    return lambda: patches(held.to(kind)).transpose(1, 2).flatten(0, 1)


def _examples(node: Any) -> int:
    """Return of how many inputs a layer made its outputs."""
    examples, _, *pixels = node._input_metadata[0].shape
    return int(examples * math.prod(pixels))
