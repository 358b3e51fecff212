"""Jacobian-vector products (JVPs) on an existing autograd graph.

The derivative of the features along a direction of the parameters, without a forward pass (which
would draw dropout and update batch statistics again) and without a differentiable backward pass
(which would hold a second set of activations): walk the graph from the parameters to the features
and apply to each node the transpose of its backward function.

- Entry-by-entry functions and the input of a batch norm have a symmetric Jacobian: the backward
  function itself is its transpose.
- Convolutions, products, views and max pooling have a rule.
- For all others the backward function, which is linear in the gradient, is differentiated.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from .autograd_graph import (
    call_backward,
    count_uses,
    get_leaf,
    list_outputs,
    order_topologically,
)
from .jvp_rules import RULES, SYMMETRIC, Derivative, apply_backward


class FeatureJvp:
    """JVPs of features with respect to parameters.

    Args:
        features: Edges of the features in a graph that is kept.
        parameters: Leaf tensors of the graph.
    """

    def __init__(self, features: Sequence[GradientEdge], parameters: Sequence[Tensor]) -> None:
        self._features = features
        self._indices = {id(parameter): i for i, parameter in enumerate(parameters)}
        self._order = order_topologically([edge.node for edge in features])

    @torch.no_grad()
    def __call__(self, direction: Sequence[Derivative]) -> list[Tensor]:
        """Return the derivatives of the features, in their shapes.

        Args:
            direction: One tensor for each parameter, None for 0.

        Raises:
            RuntimeError: If an operation's backward function cannot be differentiated.
        """
        found: dict[Node, list[Derivative]] = {}
        uses = count_uses(self._order)
        for node in self._order:
            index = self._indices.get(id(get_leaf(node)))
            if index is not None:
                found[node] = [direction[index]]
                continue
            derivatives = [
                None if source is None else found[source][output]
                for source, output in node.next_functions
            ]
            found[node] = _differentiate_node(node, derivatives)
            for source, _ in node.next_functions:  # free derivatives after their last use
                if source is not None:
                    uses[source] -= 1
                    if not uses[source]:
                        found[source] = []
        return [
            _fill_zeros(found[node][output], node, output) for node, output, *_ in self._features
        ]


def _fill_zeros(derivative: Derivative, node: Node, output: int) -> Tensor:
    if derivative is not None:
        return derivative
    metadata = list_outputs(node)[output]
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device)


def _differentiate_node(node: Node, derivatives: Sequence[Derivative]) -> list[Derivative]:
    """Return the derivatives of a node's outputs from those of its inputs."""
    outputs = list_outputs(node)
    if all(derivative is None for derivative in derivatives):
        return [None] * len(outputs)
    name = node.name()
    if name in SYMMETRIC:
        return [apply_backward(node, derivatives[0]).to(outputs[0].dtype)]
    if name in RULES:
        first = RULES[name](node, derivatives).to(outputs[0].dtype)
        return [first, *[None] * (len(outputs) - 1)]
    return _transpose_backward(node, derivatives)


def _transpose_backward(node: Node, derivatives: Sequence[Derivative]) -> list[Derivative]:
    """Differentiate a node's backward function by the gradient that it receives."""
    with torch.enable_grad():
        starts = [
            torch.zeros(tuple(end.shape), dtype=end.dtype, device=end.device, requires_grad=True)
            for end in list_outputs(node)
        ]
        images = call_backward(node, *starts)
        images = (images,) if images is None or isinstance(images, Tensor) else images
        pairs = [
            (image, derivative.to(image.dtype).expand(image.shape))  # autograd sums after the node
            for image, derivative in zip(images, derivatives, strict=True)
            if image is not None and derivative is not None and image.requires_grad
        ]
        if not pairs:
            return [None] * len(starts)
        return list(
            torch.autograd.grad(
                [image for image, _ in pairs], starts, [d for _, d in pairs], allow_unused=True
            )
        )
