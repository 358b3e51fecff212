"""Low-rank representation of per-task weight gradients. Used on CPUs only.

The gradient of a weight ``(out, in)`` of a layer with ``n`` inputs ``X``, ``(n, in)``, is ``D' X``
with ``D``, ``(n, out)``, the gradient of the layer's outputs. Where ``n`` is less than ``in``, the
``D`` of all tasks take less time to compute and multiply and less memory than their gradients: with
``X' = Q R`` (``Q`` has orthonormal columns, ``R`` is ``(n, n)``) the gradients have the inner
products of the ``R D``, and their weighted sum is that of the ``D``, times ``X``. A convolution is
such a layer with one input, a patch of the image, for each pixel that it makes: deep in a network,
patches are fewer than the entries of a patch.

On accelerators a factorization takes longer than the products that it saves.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import functional

from .autograd_graph import (
    BIASED_PRODUCT,
    CAST,
    CONVOLUTION,
    LAYERS,
    TRANSPOSE,
    count_uses,
    get_convolution_arguments,
    get_layer_input,
    get_leaf,
    get_output_shape,
    get_product_scale,
    has_dense_layer_input,
    has_hooks,
    list_outputs,
    order_topologically,
)
from .flops import count_multiplications, sum_multiplications

# Cost of a QR factorization of (n, in), in n * n * in multiplications of a layer's gradient, and of
# a multiplication of coordinates, which are products of smaller matrices.
FACTORIZATION_COST, COORDINATE_COST = 4, 2


class LowRankGradient:
    """Low-rank representation of the gradients of one layer's weight.

    Args:
        node: The layer in the graph; gradients are taken by its outputs.
        weight: Its weight, ``(out, in)`` or ``(out, channels, height, width)``.
    """

    def __init__(self, node: Node, weight: Tensor) -> None:
        self.edge = GradientEdge(node, 0)
        self._read_inputs = _defer_inputs(node, weight)
        inputs = self._read_inputs()
        self._triangle = torch.linalg.qr(inputs.T, mode="r")[1]
        self._shape = weight.shape
        self.size = len(inputs) * len(weight)
        # Where a pass continues below the layer, torch returns the gradient at the edge from before
        # the hooks on the layer's outputs; this hook comes after them. It holds a weak reference: a
        # node that kept this object, which keeps the node, would never be freed.
        self._gradient_after_hooks: Tensor | None = None
        node.register_prehook(partial(_record_gradient, weakref.ref(self)))

    def record_gradient(self, gradient: Tensor) -> None:
        """Take note of the gradient by the layer's outputs after their hooks."""
        self._gradient_after_hooks = gradient

    def select_output_gradient(self, gradient: Tensor) -> Tensor:
        """Return a loss's gradient by the layer's outputs, ``(n, out)``.

        Args:
            gradient: The gradient that the last pass returned for :attr:`edge`.
        """
        after_hooks, self._gradient_after_hooks = self._gradient_after_hooks, None
        found = gradient if after_hooks is None else after_hooks
        # In the order of the inputs: by images, then by pixels.
        return found if found.ndim == 2 else found.flatten(2).transpose(1, 2).flatten(0, 1)

    def compute_coordinates(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return vectors with the inner products of the gradients of the weight.

        Args:
            rows: Gradients by the layer's outputs, ``(n * out,)`` each.
        """
        with torch.autocast(self._triangle.device.type, enabled=False):
            wide = [row.reshape(len(self._triangle), -1).to(self._triangle) for row in rows]
            return [(self._triangle @ row).flatten() for row in wide]

    def expand_gradient(self, row: Tensor) -> Tensor:
        """Return the gradient of the weight from one by the layer's outputs, ``(n * out,)``."""
        inputs = self._read_inputs()
        with torch.autocast(inputs.device.type, enabled=False):
            found: Tensor = row.view(len(inputs), -1).T.to(inputs) @ inputs
        return found.view(self._shape)


def _record_gradient(
    reference: "weakref.ref[LowRankGradient]", gradients: tuple[Tensor, ...]
) -> None:
    target = reference()
    if target is not None:
        target.record_gradient(gradients[0])


def find_low_rank_gradients(
    ends: Sequence[Node | None], parameters: Sequence[Tensor], tasks: int
) -> Mapping[int, LowRankGradient]:
    """Return the low-rank gradients that are worth their factorization, by parameter index.

    Args:
        ends: The nodes of the graph at which gradients start.
        parameters: The parameters to look for; those on accelerators are left out.
        tasks: The number of gradients needed.
    """
    if all(parameter.device.type != "cpu" for parameter in parameters):
        return {}  # without a search of the graph
    return {
        index: LowRankGradient(node, parameters[index])
        for index, node in _iterate_worthwhile_layers(order_topologically(ends), parameters, tasks)
    }


def estimate_pass_cost(
    ends: Sequence[Node | None], parameters: Sequence[Tensor], tasks: int
) -> float:
    """Return the cost of one gradient with low-rank gradients relative to without, 0.5 to 1."""
    order = order_topologically(ends)
    total = sum_multiplications(order)
    saved = sum(
        count_multiplications(node)
        * (1 - COORDINATE_COST * _count_inputs(node) / _count_columns(parameters[index]))
        for index, node in _iterate_worthwhile_layers(order, parameters, tasks)
    )
    return 1 - saved / total / 2 if total else 1.0  # half of a pass is for gradients of inputs


def _iterate_worthwhile_layers(
    order: Sequence[Node], parameters: Sequence[Tensor], tasks: int
) -> Iterator[tuple[int, Node]]:
    """Yield the index of each weight whose low-rank gradient pays, and its layer."""
    indices = {
        id(p): i
        for i, p in enumerate(parameters)
        if p.ndim in (2, 4) and p.device.type == "cpu" and not has_hooks(p)
    }
    uses = count_uses(order) if indices else {}
    for node in order if indices else ():
        index = indices.get(id(_find_weight(node, uses)))
        if (
            index is not None
            and _is_eligible(node)
            and _is_worthwhile(node, parameters[index], tasks)
        ):
            yield index, node


def _is_worthwhile(node: Node, weight: Tensor, tasks: int) -> bool:
    """Return whether a low-rank gradient costs less than it saves of the passes."""
    outputs, columns, inputs = len(weight), _count_columns(weight), _count_inputs(node)
    expansion = outputs * columns
    cost = FACTORIZATION_COST * inputs * columns + expansion
    return inputs > 0 and cost <= tasks * outputs * (columns - COORDINATE_COST * inputs)


def _count_columns(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _find_weight(node: Node, uses: Mapping[Node, int]) -> Tensor | None:
    """Return a layer's weight if it is a parameter that is used nowhere else."""
    name = node.name()
    if name not in LAYERS:
        return None
    if name == CONVOLUTION:
        arguments = get_convolution_arguments(node)
        if arguments.is_transposed or arguments.groups > 1:
            return None
        source = node.next_functions[1][0]
    else:
        transposed = node.next_functions[-1][0]
        if transposed is None or transposed.name() != TRANSPOSE or uses[transposed] > 1:
            return None
        if name == BIASED_PRODUCT and get_product_scale(node) != 1:
            return None
        source = transposed.next_functions[0][0]
    if source is not None and source.name() == CAST and uses[source] == 1:  # autocast
        source = source.next_functions[0][0]
    weight = get_leaf(source)
    return weight if source is not None and weight is not None and uses[source] == 1 else None


def _is_eligible(node: Node) -> bool:
    """Return whether a layer's inputs are in memory, dense and real."""
    return has_dense_layer_input(node) and list_outputs(node)[0].dtype.is_floating_point


def _defer_inputs(node: Node, weight: Tensor) -> Callable[[], Tensor]:
    """Return a function that returns a layer's inputs, ``(n, in)``, also after the graph's end."""
    inputs = get_layer_input(node)
    # Half precision has no factorization, and its products are better summed in a longer type.
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    if node.name() != CONVOLUTION:
        return lambda: inputs.to(dtype)
    arguments = get_convolution_arguments(node)
    extract_patches = partial(
        functional.unfold,
        kernel_size=weight.shape[2:],
        dilation=arguments.dilation,
        padding=arguments.padding,
        stride=arguments.stride,
    )
    return lambda: extract_patches(inputs.to(dtype)).transpose(1, 2).flatten(0, 1)


def _count_inputs(node: Node) -> int:
    """Return the number of inputs, examples or patches, that a layer has."""
    examples, _, *pixels = get_output_shape(node)
    return examples * math.prod(pixels)
