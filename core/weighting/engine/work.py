"""What the operations of a graph cost, without a clock: by it a repeated run decides alike."""

import math
from typing import Any

PRODUCTS = frozenset({"AddmmBackward0", "MmBackward0", "ConvolutionBackward0"})


def multiplications(node: Any) -> float:
    """Return those of a linear layer or a convolution in a forward pass; 0 for anything else."""
    name = node.name()
    if name not in PRODUCTS:
        return 0.0
    outputs = math.prod(node._input_metadata[0].shape)
    if name == "ConvolutionBackward0":
        weight = node._saved_weight
        return float(outputs * weight.numel() / weight.shape[int(node._saved_transposed)])
    if node._saved_mat2 is not None:
        return float(outputs * node._saved_mat2.shape[0])
    inputs = node._saved_mat1 if name == "AddmmBackward0" else node._saved_self
    if inputs is None:  # only the bias takes a gradient, for a sum
        return 0.0
    return float(outputs * inputs.shape[1])
