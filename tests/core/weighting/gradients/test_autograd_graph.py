"""The private fields of torch's graph nodes: present, and with the values that the engine reads."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.checkpoint import checkpoint

from core.weighting.gradients import autograd_graph as graph

ROOT = Path(__file__).resolve().parents[4]
INPUTS = torch.randn(3, 2, 5, 5, dtype=torch.float64)
FLAT = INPUTS.flatten(1)


def _node(outputs: Tensor) -> Node:
    assert outputs.grad_fn is not None
    return outputs.grad_fn


def _convolution() -> tuple[nn.Conv2d, Node]:
    layer = nn.Conv2d(2, 4, (3, 2), (2, 1), (1, 0), dilation=(1, 2), groups=2).double()
    return layer, _node(layer(INPUTS))


# With the name of each node and all private fields that the engine reads on it.
FIELDS: dict[str, tuple[Callable[[], Node], tuple[str, ...]]] = {
    graph.CONVOLUTION: (
        lambda: _convolution()[1],
        ("_saved_stride", "_saved_padding", "_saved_dilation", "_saved_transposed",
         "_saved_output_padding", "_saved_groups", "_saved_input", "_saved_weight",
         "_raw_saved_input", "_input_metadata"),
    ),
    "NativeBatchNormBackward0": (
        lambda: _node(nn.BatchNorm2d(2).double()(INPUTS)),
        ("_saved_input", "_saved_training", "_saved_result1", "_saved_result2",
         "_saved_running_mean", "_saved_running_var", "_saved_eps"),
    ),
    graph.BIASED_PRODUCT: (
        lambda: _node(nn.Linear(50, 4).double()(FLAT)),
        ("_saved_mat1", "_saved_mat2", "_saved_alpha", "_saved_beta", "_saved_mat1_sym_sizes",
         "_raw_saved_mat1"),
    ),
    graph.PRODUCT: (
        lambda: _node(nn.Linear(50, 4, bias=False).double()(FLAT)),
        ("_saved_self", "_saved_mat2", "_saved_self_sym_sizes", "_raw_saved_self"),
    ),
    "MaxPool2DWithIndicesBackward0": (
        lambda: _node(nn.functional.max_pool2d(INPUTS.clone().requires_grad_(), 2)),
        ("_saved_result1",),
    ),
}  # fmt: skip
OF_ACCELERATORS = {"_saved_epsilon"}  # of CudnnBatchNormBackward0


@pytest.mark.parametrize("name", FIELDS)
def test_torch_has_the_fields(name: str) -> None:
    make, fields = FIELDS[name]
    node = make()
    advice = f"torch {torch.__version__} changed: adapt core/weighting/gradients/autograd_graph.py"
    assert node.name() == name, advice
    missing = [field for field in fields if not hasattr(node, field)]
    assert not missing, f"{name} has no {missing}: {advice}"


def test_all_private_fields_are_in_one_file_and_tested() -> None:
    private = re.compile(
        r"(?<!self)\._(?:raw_)?saved_\w+|_(?:raw_)?saved_\w+(?=\")|\b_input_metadata\b|\._backward_hooks\b"
    )
    tested = {field for _, fields in FIELDS.values() for field in fields}
    own = ROOT / "core" / "weighting" / "gradients" / "autograd_graph.py"
    read = {found.lstrip(".") for found in private.findall(own.read_text(encoding="utf-8"))}
    assert read - {"_backward_hooks"} == tested | OF_ACCELERATORS
    for path in (ROOT / "core").rglob("*.py"):
        if path != own:
            assert not private.search(path.read_text(encoding="utf-8")), path


def test_a_missing_field_is_a_clear_error() -> None:
    node = _node(nn.Linear(50, 4).double()(FLAT).tanh())
    with pytest.raises(AttributeError, match=r"_saved_stride on TanhBackward0 nodes: adapt core/"):
        graph.get_convolution_arguments(node)


def test_convolutions() -> None:
    layer, node = _convolution()
    arguments = graph.get_convolution_arguments(node)
    assert arguments == ((2, 1), (1, 0), (1, 2), False, (0, 0), 2)
    torch.testing.assert_close(graph.get_saved_input(node), INPUTS)
    assert graph.get_saved_weight(node).data_ptr() == layer.weight.data_ptr()
    assert tuple(graph.get_weight_shape(node)) == tuple(layer.weight.shape)
    assert graph.get_output_shape(node) == tuple(layer(INPUTS).shape)
    again = torch.ops.aten.convolution.default(INPUTS, layer.weight, layer.bias, *arguments)
    torch.testing.assert_close(again, layer(INPUTS))
    layer.weight.requires_grad_(False)
    assert tuple(graph.get_weight_shape(_node(layer(INPUTS)))) == tuple(layer.weight.shape)


@pytest.mark.parametrize("bias", [False, True])
def test_matrix_products(bias: bool) -> None:
    layer = nn.Linear(50, 4, bias=bias).double()
    node = _node(layer(FLAT))
    left = graph.get_left_factor(node)
    assert left is not None
    torch.testing.assert_close(left, FLAT)
    assert tuple(graph.get_left_factor_shape(node)) == (3, 50)
    frozen = nn.Linear(50, 4, bias=bias).double().requires_grad_(False)
    inputs = FLAT.clone().requires_grad_()
    torch.testing.assert_close(graph.get_right_factor(_node(frozen(inputs))), frozen.weight.t())
    if bias:
        assert (graph.get_product_scale(node), graph.get_bias_scale(node)) == (1.0, 1.0)


@pytest.mark.parametrize("is_training", [False, True])
def test_batch_norm_statistics(is_training: bool) -> None:
    layer = nn.BatchNorm2d(2).double().train(is_training)
    outputs = layer(INPUTS)
    mean, inverse = graph.get_normalization_statistics(_node(outputs))
    expected = (INPUTS - mean.view(1, -1, 1, 1)) * inverse.view(1, -1, 1, 1)
    torch.testing.assert_close(expected, outputs.detach())


def test_pooling_indices() -> None:
    inputs = INPUTS.clone().requires_grad_()
    outputs, indices = nn.functional.max_pool2d(inputs, 2, return_indices=True)
    torch.testing.assert_close(graph.get_pooling_indices(_node(outputs)), indices)


def test_layer_inputs_are_seen_without_unpacking() -> None:
    layer = nn.Linear(50, 4).double()
    kept = _node(layer(FLAT))
    assert graph.has_dense_layer_input(kept)
    torch.testing.assert_close(graph.get_layer_input(kept), FLAT)
    outputs = checkpoint(layer, FLAT.clone().requires_grad_(), use_reentrant=False)
    assert isinstance(outputs, Tensor)
    assert not graph.has_dense_layer_input(_node(outputs))


def test_leaves_and_hooks() -> None:
    weight = nn.Parameter(torch.ones(2))
    node = _node(weight * 2)
    assert graph.get_leaf(node.next_functions[0][0]) is weight
    assert graph.get_leaf(node) is None
    assert not graph.has_hooks(weight)
    weight.register_hook(lambda gradient: gradient)
    assert graph.has_hooks(weight)


def test_order_and_uses() -> None:
    weight = nn.Parameter(torch.ones(2))
    inner = weight * 2
    end = _node(inner + inner.exp())
    order = graph.order_topologically([end, None])
    positions = {node: i for i, node in enumerate(order)}
    for node in order:
        assert all(positions[s] < positions[node] for s, _ in node.next_functions if s is not None)
    assert order[-1] is end
    uses = graph.count_uses(order)
    assert (uses[end], uses[_node(inner)]) == (0, 2)
