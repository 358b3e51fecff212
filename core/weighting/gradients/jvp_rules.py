"""Derivatives of single operations along a direction, from what their graph nodes have saved.

A rule takes a node and the derivatives of its inputs, in the node's order, at least one of them not
None (0), and returns that of its output.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Tangent = Tensor | None
Rule = Callable[[Any, Sequence[Tangent]], Tensor]


def _convolution(node: Any, given: Sequence[Tangent]) -> Tensor:
    inputs, weight, bias = given
    kind = (
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        node._saved_transposed,
        node._saved_output_padding,
        node._saved_groups,
    )
    convolve = torch.ops.aten.convolution.default
    parts: list[Tensor] = []
    if weight is not None:
        parts.append(convolve(node._saved_input, weight, bias, *kind))
    elif bias is not None:
        parts.append(bias.reshape(-1, *[1] * (node._saved_weight.ndim - 2)))
    if inputs is not None:
        parts.append(convolve(inputs, node._saved_weight, None, *kind))
    return _total(parts, node)


def _batch_norm(node: Any, given: Sequence[Tangent]) -> Tensor:
    inputs, weight, bias = given
    parts: list[Tensor] = []
    if inputs is not None:
        parts.append(node(inputs)[0])
    saved = node._saved_input
    shape = (1, -1, *[1] * (saved.ndim - 2))
    if weight is not None:
        if node._saved_training:
            mean, inverse = node._saved_result1, node._saved_result2
        else:
            mean = node._saved_running_mean
            inverse = (node._saved_running_var + node._saved_eps).rsqrt()
        scale = weight * inverse
        shift = -scale * mean if bias is None else bias - scale * mean
        start = parts.pop() if parts else torch.zeros_like(saved)
        parts.append(torch.addcmul(start + shift.view(shape), saved, scale.view(shape)))
    elif bias is not None:
        parts.append(bias.view(shape))
    return _total(parts, node)


def _addmm(node: Any, given: Sequence[Tangent]) -> Tensor:
    bias, first, second = given
    parts = _products(first, second, node, node._saved_mat1 if second is not None else None)
    parts = [node._saved_alpha * part for part in parts] if node._saved_alpha != 1 else parts
    if bias is not None:
        parts.append(node._saved_beta * bias)
    return _total(parts, node)


def _mm(node: Any, given: Sequence[Tangent]) -> Tensor:
    first, second = given
    held = node._saved_self if second is not None else None
    return _total(_products(first, second, node, held), node)


def _products(first: Tangent, second: Tangent, node: Any, held: Tangent) -> list[Tensor]:
    parts: list[Tensor] = []
    if first is not None:
        parts.append(first @ node._saved_mat2)
    if second is not None and held is not None:
        parts.append(held @ second)
    return parts


def _total(parts: list[Tensor], node: Any) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.expand(tuple(node._input_metadata[0].shape))


def _reshaped(node: Any, given: Sequence[Tangent]) -> Tensor:
    return _only(given).reshape(tuple(node._input_metadata[0].shape))


def _max_pool(node: Any, given: Sequence[Tangent]) -> Tensor:
    places = node._saved_result1
    return _only(given).flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)


def _only(given: Sequence[Tangent]) -> Tensor:
    assert given[0] is not None
    return given[0]


SYMMETRIC = frozenset(
    {
        "AbsBackward0",
        "ClampBackward1",
        "EluBackward0",
        "ExpBackward0",
        "GeluBackward0",
        "HardsigmoidBackward0",
        "HardswishBackward0",
        "HardtanhBackward0",
        "LeakyReluBackward0",
        "LogBackward0",
        "MishBackward0",
        "NativeDropoutBackward0",
        "ReluBackward0",
        "SigmoidBackward0",
        "SiluBackward0",
        "SoftplusBackward0",
        "SqrtBackward0",
        "TanhBackward0",
        "ThresholdBackward0",
    }
)
RULES: dict[str, Rule] = {
    "ConvolutionBackward0": _convolution,
    "NativeBatchNormBackward0": _batch_norm,
    "CudnnBatchNormBackward0": _batch_norm,
    "AddmmBackward0": _addmm,
    "MmBackward0": _mm,
    "TBackward0": lambda node, given: _only(given).t(),
    "ToCopyBackward0": lambda node, given: _only(given),
    "MaxPool2DWithIndicesBackward0": _max_pool,
    **dict.fromkeys(
        (
            "ViewBackward0",
            "UnsafeViewBackward0",
            "ReshapeAliasBackward0",
            "UnsqueezeBackward0",
            "SqueezeBackward0",
            "SqueezeBackward1",
        ),
        _reshaped,
    ),
}
