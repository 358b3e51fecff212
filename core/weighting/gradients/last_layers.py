"""Last layers of the trunk that K gradients pass cheaply, as linear layers after convolutions.

Matrix-free weights need products with the Gram matrix. Where computing the contribution of the last
layers is cheaper than multiplying by it, the products stop below these layers, and a smaller part
of the matrix is unknown.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from .autograd_graph import (
    BIASED_PRODUCT,
    CAST,
    PRODUCT,
    TRANSPOSE,
    count_uses,
    get_leaf,
    get_left_factor,
    order_topologically,
)
from .flops import count_multiplications, sum_multiplications
from .jvp_rules import RULES, SYMMETRIC
from .shared_features import SharedFeatures

MAX_FORWARD_SHARE = 0.5  # of a forward pass that K gradients may cost
# Operations that the last layers may hold; the search stops at any other.
SUPPORTED = SYMMETRIC | set(RULES) | {"AddBackward0", "MulBackward0", "NativeLayerNormBackward0"}


class LastLayers(NamedTuple):
    """The last layers of a trunk.

    Args:
        features: The tensor through which they depend on the rest of the trunk.
        parameters: Their parameters, which nothing else in the trunk uses.
    """

    features: SharedFeatures
    parameters: list[Tensor]


def find_last_layers(
    features: SharedFeatures, parameters: Sequence[Tensor], tasks: int
) -> LastLayers | None:
    """Return the most last layers that are cheap, from a linear layer on; None for none.

    Args:
        features: The features that the last layers make.
        parameters: The parameters of the trunk.
        tasks: The number of gradients that would pass.
    """
    order = order_topologically(features.list_nodes())
    uses = count_uses(order)
    limit = MAX_FORWARD_SHARE * sum_multiplications(order) / tasks
    wanted = {id(parameter) for parameter in parameters}
    open_edges = {(edge.node, edge.output_nr) for edge in features.edges}
    own: list[Tensor] = []
    found, spent = None, 0.0
    for node in reversed(order):
        if _find_parameter(node) is not None:
            continue
        spent += count_multiplications(node)
        if node.name() not in SUPPORTED or spent > limit:
            break
        open_edges -= {edge for edge in open_edges if edge[0] is node}
        for source, output in node.next_functions:
            parameter = None if source is None else _find_parameter(source)
            if source is None or parameter is None:
                open_edges |= {(source, output)} if source is not None else set()
            elif id(parameter) in wanted:
                if not _is_used_once(source, uses):
                    return found
                own.append(parameter)
        if len(open_edges) == 1:
            found = _cut_below(node, next(iter(open_edges)), own) or found
    return found


def _cut_below(node: Node, below: tuple[Node, int], own: Sequence[Tensor]) -> LastLayers | None:
    """Return the last layers from this node on, if it is a linear layer with input ``below``."""
    if node.name() not in (BIASED_PRODUCT, PRODUCT):
        return None
    saved = get_left_factor(node)
    index = 1 if node.name() == BIASED_PRODUCT else 0
    if saved is None or node.next_functions[index] != below or not own:
        return None
    features = SharedFeatures.from_edges([GradientEdge(*below)], [saved.detach()])
    return LastLayers(features, list(own))


def _find_parameter(node: Node) -> Tensor | None:
    """Return the parameter that a node holds, transposes or casts; None for other nodes."""
    source: Node | None = node
    while (
        source is not None
        and len(source.next_functions) == 1
        and source.name() in (TRANSPOSE, CAST)
    ):
        source = source.next_functions[0][0]
    return get_leaf(source)


def _is_used_once(node: Node, uses: Mapping[Node, int]) -> bool:
    """Return whether nothing else uses the parameter that a node holds, transposes or casts."""
    source: Node | None = node
    while source is not None and uses[source] == 1 and get_leaf(source) is None:
        source = source.next_functions[0][0]
    return source is not None and uses[source] == 1
