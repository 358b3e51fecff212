"""Autograd graphs: traversal, and the private fields of torch's graph nodes.

Torch has no public access to the tensors and arguments that a node saved for its backward pass, nor
to the shapes of its outputs. This is the only file that reads them;
``tests/core/weighting/gradients/test_autograd_graph.py`` fails when torch changes one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch._functorch.config
from torch import Tensor
from torch.autograd.graph import Node

# Compiled functions reuse ("donate") the memory of saved tensors in their first backward pass, and
# then refuse others. Task gradients take several. Read where a function is compiled.
torch._functorch.config.donated_buffer = False

CONVOLUTION = "ConvolutionBackward0"
BIASED_PRODUCT = "AddmmBackward0"
PRODUCT = "MmBackward0"
TRANSPOSE = "TBackward0"
CAST = "ToCopyBackward0"
REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"
LAYERS = frozenset({BIASED_PRODUCT, PRODUCT, CONVOLUTION})  # linear layers and convolutions


class LayerInput(NamedTuple):
    """The fields that hold the input of a linear layer or a convolution."""

    unpacked: str
    packed: str


_LAYER_INPUTS = {
    CONVOLUTION: LayerInput("_saved_input", "_raw_saved_input"),
    BIASED_PRODUCT: LayerInput("_saved_mat1", "_raw_saved_mat1"),
    PRODUCT: LayerInput("_saved_self", "_raw_saved_self"),
}


class OutputMetadata(Protocol):
    """Shape, type and device of an output of a node."""

    shape: Sequence[int]
    dtype: torch.dtype
    device: torch.device


class ConvolutionArguments(NamedTuple):
    """Arguments of ``torch.ops.aten.convolution`` after input, weight and bias, in its order."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    is_transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def order_topologically(ends: Sequence[Node | None]) -> list[Node]:
    """Return the graph's nodes, each after those that it depends on."""
    order: list[Node] = []
    seen: set[Node] = set()
    pending = [(node, False) for node in ends if node is not None]
    while pending:
        node, is_ready = pending.pop()
        if is_ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            pending.extend((s, False) for s, _ in node.next_functions if s is not None)
    return order


def count_uses(order: Sequence[Node]) -> dict[Node, int]:
    """Return for each node the number of inputs of other nodes that it provides."""
    uses = dict.fromkeys(order, 0)
    for node in order:
        for source, _ in node.next_functions:
            if source is not None:
                uses[source] += 1
    return uses


def get_leaf(node: Node | None) -> Tensor | None:
    """Return the tensor that a node accumulates gradients of; None for other nodes."""
    leaf: Tensor | None = getattr(node, "variable", None)
    return leaf


def has_hooks(tensor: Tensor) -> bool:
    """Return whether hooks on a tensor may change its gradient."""
    return bool(tensor._backward_hooks)


def call_backward(node: Node, *gradients: Tensor | None) -> Any:
    """Return a node's gradients of its inputs from those of its outputs.

    Raises:
        RuntimeError: If its backward function was written in Python or compiled.
    """
    if not callable(node):
        raise RuntimeError(f"{node.name()} has no Jacobian-vector product")
    return node(*gradients)


def list_outputs(node: Node) -> Sequence[OutputMetadata]:
    """Return the metadata of a node's outputs."""
    outputs: Sequence[OutputMetadata] = _read_field(node, "_input_metadata")
    return outputs


def get_output_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of a node's first output."""
    return tuple(list_outputs(node)[0].shape)


def get_convolution_arguments(node: Node) -> ConvolutionArguments:
    """Return the arguments of a convolution."""
    return ConvolutionArguments(
        _read_field(node, "_saved_stride"),
        _read_field(node, "_saved_padding"),
        _read_field(node, "_saved_dilation"),
        _read_field(node, "_saved_transposed"),
        _read_field(node, "_saved_output_padding"),
        _read_field(node, "_saved_groups"),
    )


def get_saved_input(node: Node) -> Tensor:
    """Return the input of a convolution or batch norm; computes it again if checkpointed."""
    saved: Tensor = _read_field(node, "_saved_input")
    return saved


def get_saved_weight(node: Node) -> Tensor:
    """Return the weight of a convolution."""
    saved: Tensor = _read_field(node, "_saved_weight")
    return saved


def get_weight_shape(node: Node) -> Sequence[int]:
    """Return the shape of a convolution's weight, without unpacking the weight where possible."""
    source, output = node.next_functions[1]
    return get_saved_weight(node).shape if source is None else list_outputs(source)[output].shape


def get_normalization_statistics(node: Node) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation per channel that a batch norm applied."""
    if _read_field(node, "_saved_training"):
        return _read_field(node, "_saved_result1"), _read_field(node, "_saved_result2")
    variance: Tensor = _read_field(node, "_saved_running_var")
    is_native = node.name().startswith("Native")
    inverse = (
        variance + _read_field(node, "_saved_eps" if is_native else "_saved_epsilon")
    ).rsqrt()
    return _read_field(node, "_saved_running_mean"), inverse


def get_left_factor(node: Node) -> Tensor | None:
    """Return the left factor of a matrix product: the input of a linear layer; None if unsaved."""
    field = "_saved_mat1" if node.name() == BIASED_PRODUCT else "_saved_self"
    saved: Tensor | None = _read_field(node, field)
    return saved


def get_left_factor_shape(node: Node) -> Sequence[int]:
    """Return the shape of the left factor of a matrix product, without unpacking the factor."""
    is_biased = node.name() == BIASED_PRODUCT
    shape: Sequence[int] = _read_field(
        node, "_saved_mat1_sym_sizes" if is_biased else "_saved_self_sym_sizes"
    )
    return shape


def get_right_factor(node: Node) -> Tensor:
    """Return the right factor of a matrix product: the transposed weight of a linear layer."""
    saved: Tensor = _read_field(node, "_saved_mat2")
    return saved


def get_product_scale(node: Node) -> float:
    """Return ``alpha`` of ``beta * bias + alpha * left @ right``."""
    return float(_read_field(node, "_saved_alpha"))


def get_bias_scale(node: Node) -> float:
    """Return ``beta`` of ``beta * bias + alpha * left @ right``."""
    return float(_read_field(node, "_saved_beta"))


def get_pooling_indices(node: Node) -> Tensor:
    """Return the flat indices of the maxima that a max pooling selected."""
    saved: Tensor = _read_field(node, "_saved_result1")
    return saved


def has_dense_layer_input(node: Node) -> bool:
    """Return whether a layer's input is in memory as a dense tensor: not checkpointed."""
    saved = _read_field(node, _LAYER_INPUTS[node.name()].packed)
    return saved.unpack_hook is None and saved.data.layout == torch.strided


def get_layer_input(node: Node) -> Tensor:
    """Return the input of a linear layer or a convolution, detached."""
    saved: Tensor = _read_field(node, _LAYER_INPUTS[node.name()].unpacked)
    return saved.detach()


def _read_field(node: Node, name: str) -> Any:
    try:
        return getattr(node, name)
    except AttributeError:
        raise AttributeError(
            f"torch {torch.__version__} has no field {name} on {node.name()} nodes: "
            "adapt core/weighting/gradients/autograd_graph.py"
        ) from None
