"""JVP rules of single operations, from the tensors that their graph nodes saved.

A rule takes a node and the derivatives of its inputs along one direction, in the node's order, at
least one of them not None (which means 0), and returns the derivative of its output.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .autograd_graph import (
    BIASED_PRODUCT,
    CAST,
    CONVOLUTION,
    PRODUCT,
    TRANSPOSE,
    call_backward,
    get_bias_scale,
    get_convolution_arguments,
    get_left_factor,
    get_normalization_statistics,
    get_output_shape,
    get_pooling_indices,
    get_product_scale,
    get_right_factor,
    get_saved_input,
    get_saved_weight,
)

Derivative = Tensor | None
Rule = Callable[[Node, Sequence[Derivative]], Tensor]


def apply_backward(node: Node, gradient: Derivative) -> Tensor:
    """Return the gradient of a node's first input from that of its first output."""
    found = call_backward(node, gradient)
    first: Tensor = found if isinstance(found, Tensor) else found[0]
    return first


def _differentiate_convolution(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    inputs, weight, bias = derivatives
    arguments = get_convolution_arguments(node)
    convolve = torch.ops.aten.convolution.default
    terms: list[Tensor] = []
    if weight is not None:
        terms.append(convolve(get_saved_input(node), weight, bias, *arguments))
    elif bias is not None:
        terms.append(bias.reshape(-1, *[1] * (get_saved_weight(node).ndim - 2)))
    if inputs is not None:
        terms.append(convolve(inputs, get_saved_weight(node), None, *arguments))
    return _sum_terms(terms, node)


def _differentiate_batch_norm(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    inputs, weight, bias = derivatives
    terms: list[Tensor] = []
    if inputs is not None:
        terms.append(apply_backward(node, inputs))
    saved = get_saved_input(node)
    shape = (1, -1, *[1] * (saved.ndim - 2))
    if weight is not None:
        mean, inverse = get_normalization_statistics(node)
        scale = weight * inverse
        shift = -scale * mean if bias is None else bias - scale * mean
        start = terms.pop() if terms else torch.zeros_like(saved)
        terms.append(torch.addcmul(start + shift.view(shape), saved, scale.view(shape)))
    elif bias is not None:
        terms.append(bias.view(shape))
    return _sum_terms(terms, node)


def _differentiate_biased_product(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    bias, left, right = derivatives
    terms = _multiply_factors(node, left, right)
    alpha = get_product_scale(node)
    terms = [alpha * term for term in terms] if alpha != 1 else terms
    if bias is not None:
        terms.append(get_bias_scale(node) * bias)
    return _sum_terms(terms, node)


def _differentiate_product(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    left, right = derivatives
    return _sum_terms(_multiply_factors(node, left, right), node)


def _multiply_factors(node: Node, left: Derivative, right: Derivative) -> list[Tensor]:
    terms: list[Tensor] = []
    if left is not None:
        terms.append(left @ get_right_factor(node))
    if right is not None:
        saved = get_left_factor(node)
        if saved is not None:
            terms.append(saved @ right)
    return terms


def _sum_terms(terms: Sequence[Tensor], node: Node) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total.expand(get_output_shape(node))


def _differentiate_view(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    return _first_input(derivatives).reshape(get_output_shape(node))


def _differentiate_max_pooling(node: Node, derivatives: Sequence[Derivative]) -> Tensor:
    indices = get_pooling_indices(node)
    selected = _first_input(derivatives).flatten(-2).gather(-1, indices.flatten(-2))
    return selected.view(indices.shape)


def _first_input(derivatives: Sequence[Derivative]) -> Tensor:
    assert derivatives[0] is not None
    return derivatives[0]


# Operations whose backward function is its own transpose.
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
    CONVOLUTION: _differentiate_convolution,
    "NativeBatchNormBackward0": _differentiate_batch_norm,
    "CudnnBatchNormBackward0": _differentiate_batch_norm,
    BIASED_PRODUCT: _differentiate_biased_product,
    PRODUCT: _differentiate_product,
    TRANSPOSE: lambda node, derivatives: _first_input(derivatives).t(),
    CAST: lambda node, derivatives: _first_input(derivatives),
    "MaxPool2DWithIndicesBackward0": _differentiate_max_pooling,
    **dict.fromkeys(
        (
            "ViewBackward0",
            "UnsafeViewBackward0",
            "ReshapeAliasBackward0",
            "UnsqueezeBackward0",
            "SqueezeBackward0",
            "SqueezeBackward1",
        ),
        _differentiate_view,
    ),
}
