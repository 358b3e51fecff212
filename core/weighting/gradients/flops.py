"""What the operations of a graph cost, without a clock: by it a repeated run decides alike."""

import math
from typing import Any

CONVOLUTION = "ConvolutionBackward0"
PRODUCTS = frozenset({"AddmmBackward0", "MmBackward0", CONVOLUTION})


def saved_inputs(node: Any) -> Any:
    """Return what a linear layer or a convolution saw, as the graph holds it: not unpacked."""
    if node.name() == CONVOLUTION:
        return node._raw_saved_input
    return node._raw_saved_mat1 if node.name() == "AddmmBackward0" else node._raw_saved_self


def multiplications(node: Any) -> float:
    """Return those of a linear layer or a convolution in a forward pass; 0 for anything else.

    By shapes alone: to unpack a tensor of a part that is checkpointed would compute that again.
    """
    name = node.name()
    if name not in PRODUCTS:
        return 0.0
    outputs = math.prod(node._input_metadata[0].shape)
    if name == CONVOLUTION:
        source, place = node.next_functions[1]
        weight = node._saved_weight.shape if source is None else source._input_metadata[place].shape
        return float(outputs * math.prod(weight) / weight[int(node._saved_transposed)])
    if all(source is None for source, _ in node.next_functions[-2:]):
        return 0.0  # only the bias takes a gradient, for a sum
    inputs = node._saved_mat1_sym_sizes if name == "AddmmBackward0" else node._saved_self_sym_sizes
    return float(outputs * inputs[1])
