"""FLOPs of the operations of a graph: a cost without a clock, the same in every repetition."""

import math
from collections.abc import Sequence

from torch.autograd.graph import Node

from .autograd_graph import (
    CONVOLUTION,
    LAYERS,
    get_convolution_arguments,
    get_left_factor_shape,
    get_output_shape,
    get_weight_shape,
)


def count_multiplications(node: Node) -> float:
    """Return the multiplications of a layer's forward pass; 0 for nodes that are no layers.

    From shapes alone: unpacking a tensor of a checkpointed part would compute that part again.
    """
    name = node.name()
    if name not in LAYERS:
        return 0.0
    outputs = math.prod(get_output_shape(node))
    if name == CONVOLUTION:
        weight = get_weight_shape(node)
        per_output = weight[int(get_convolution_arguments(node).is_transposed)]
        return float(outputs * math.prod(weight) / per_output)
    if all(source is None for source, _ in node.next_functions[-2:]):
        return 0.0  # only the bias takes a gradient, which is a sum
    return float(outputs * get_left_factor_shape(node)[1])


def sum_multiplications(nodes: Sequence[Node]) -> float:
    """Return the multiplications of the layers among the nodes."""
    return sum(map(count_multiplications, nodes))
