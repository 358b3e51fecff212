"""Jacobian-vector products on a graph that is there already.

The features' derivative along a direction of the parameters, without a forward pass (which would
draw dropout and move batch statistics again) and without a differentiable backward pass (which
would hold a second set of activations): walk the graph from the parameters to the features and
apply to each node the transpose of its backward function.

- Entry-by-entry functions and the input of a batch norm have a symmetric Jacobian: the backward
  function itself is its transpose.
- Convolutions, products, views and max pooling have a rule.
- For all others the backward function, linear in what it is given, is differentiated by that.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from core.weighting.gradients.jvp_rules import RULES, SYMMETRIC, Tangent


class Tangents:
    """Jacobian-vector products of features by parameters.

    Args:
        features: Their places in a graph that is kept.
        parameters: Leaf tensors of the graph.
    """

    def __init__(self, features: Sequence[GradientEdge], parameters: Sequence[Tensor]) -> None:
        self.features = features
        self.place = {id(parameter): i for i, parameter in enumerate(parameters)}
        self.order = ordered([edge.node for edge in features])

    @torch.no_grad()
    def __call__(self, direction: Sequence[Tangent]) -> list[Tensor]:
        """Return the features' derivatives, in their shapes.

        Args:
            direction: One tensor for each parameter, None for 0.

        Raises:
            RuntimeError: If an operation's backward function cannot be differentiated.
        """
        found: dict[Node, list[Tangent]] = {}
        uses = uses_of(self.order)
        for node in self.order:
            place = self.place.get(id(getattr(node, "variable", None)))
            if place is not None:
                found[node] = [direction[place]]
                continue
            given = [
                None if source is None else found[source][output]
                for source, output in node.next_functions
            ]
            found[node] = _forward(node, given)
            for source, _ in node.next_functions:  # let go of what no other node needs
                if source is not None:
                    uses[source] -= 1
                    if not uses[source]:
                        found[source] = []
        return [_filled(found[node][output], node, output) for node, output, *_ in self.features]


def ordered(ends: Sequence[Node | None]) -> list[Node]:
    """Return the graph's nodes, each after those that it depends on."""
    order: list[Node] = []
    seen: set[Node] = set()
    waiting = [(node, False) for node in ends if node is not None]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend((s, False) for s, _ in node.next_functions if s is not None)
    return order


def uses_of(order: Sequence[Node]) -> dict[Node, int]:
    """Return how many inputs of other nodes each node is; the ends are none's and stay."""
    uses = dict.fromkeys(order, 0)
    for node in order:
        for source, _ in node.next_functions:
            if source is not None:
                uses[source] += 1
    return uses


def _filled(tangent: Tangent, node: Any, output: int) -> Tensor:
    if tangent is not None:
        return tangent
    shape = node._input_metadata[output]
    return torch.zeros(tuple(shape.shape), dtype=shape.dtype, device=shape.device)


def _forward(node: Any, given: Sequence[Tangent]) -> list[Tangent]:
    """Return the derivatives of a node's outputs from those of its inputs."""
    outputs = node._input_metadata
    if all(tangent is None for tangent in given):
        return [None] * len(outputs)
    name = node.name()
    if name in SYMMETRIC:
        image = node(given[0])
        return [(image if isinstance(image, Tensor) else image[0]).to(outputs[0].dtype)]
    if name in RULES:
        found = RULES[name](node, given).to(outputs[0].dtype)
        return [found, *[None] * (len(outputs) - 1)]
    return _transposed(node, given)


def _transposed(node: Any, given: Sequence[Tangent]) -> list[Tangent]:
    if not callable(node):  # written in Python, or compiled
        raise RuntimeError(f"{node.name()} has no Jacobian-vector product")
    with torch.enable_grad():
        starts = [
            torch.zeros(tuple(end.shape), dtype=end.dtype, device=end.device, requires_grad=True)
            for end in node._input_metadata
        ]
        images = node(*starts)
        images = (images,) if images is None or isinstance(images, Tensor) else images
        pairs = [
            (image, tangent.to(image.dtype).expand(image.shape))  # autograd sums after the node
            for image, tangent in zip(images, given, strict=True)
            if image is not None and tangent is not None and image.requires_grad
        ]
        if not pairs:
            return [None] * len(starts)
        return list(
            torch.autograd.grad(
                [image for image, _ in pairs], starts, [t for _, t in pairs], allow_unused=True
            )
        )
