"""The end of a trunk that K gradients pass at little cost, as linear layers after convolutions.

Matrix-free weights need products with the Gram matrix. What the trunk's end contributes to it is
cheaper known than multiplied: then the products stop below it, and there is less to find out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from core.weighting.gradients.flops import multiplications
from core.weighting.gradients.jvp import ordered, uses_of
from core.weighting.gradients.jvp_rules import RULES, SYMMETRIC
from core.weighting.gradients.shared_features import Features

SHARE = 0.5  # of a forward pass that K gradients may cost
# What may be between them; after anything else the search for the end stops.
KNOWN = SYMMETRIC | set(RULES) | {"AddBackward0", "MulBackward0", "NativeLayerNormBackward0"}


class Tail(NamedTuple):
    """The end of a trunk.

    Args:
        features: The only way from its parameters to the trunk below.
        parameters: Its parameters, of which nothing else of the trunk knows.
    """

    features: Features
    parameters: list[Tensor]


def tail(features: Features, parameters: Sequence[Tensor], tasks: int) -> Tail | None:
    """Return the longest cheap end that begins with the inputs of a linear layer; None for none.

    Args:
        features: What comes after it.
        parameters: Those of the trunk.
        tasks: How many gradients would pass.
    """
    order = ordered(features.nodes())
    uses = uses_of(order)
    limit = SHARE * sum(map(multiplications, order)) / tasks
    wanted = {id(parameter) for parameter in parameters}
    open_edges = {(edge.node, edge.output_nr) for edge in features.edges}
    own: list[Tensor] = []
    found, spent = None, 0.0
    for node in reversed(order):
        if _leaf(node) is not None:
            continue
        spent += multiplications(node)
        if node.name() not in KNOWN or spent > limit:
            break
        open_edges -= {edge for edge in open_edges if edge[0] is node}
        for source, output in node.next_functions:
            leaf = None if source is None else _leaf(source)
            if source is None or leaf is None:
                open_edges |= {(source, output)} if source is not None else set()
            elif id(leaf) in wanted:
                if not _once(source, uses):
                    return found
                own.append(leaf)
        if len(open_edges) == 1:
            found = _cut(node, next(iter(open_edges)), own) or found
    return found


def _cut(node: Any, below: tuple[Node, int], own: Sequence[Tensor]) -> Tail | None:
    """Return the end that begins with this node, if it is a linear layer that saw ``below``."""
    if node.name() == "AddmmBackward0":
        place, held = 1, node._saved_mat1
    elif node.name() == "MmBackward0":
        place, held = 0, node._saved_self
    else:
        return None
    if held is None or node.next_functions[place] != below or not own:
        return None
    return Tail(Features.at([GradientEdge(*below)], [held.detach()]), list(own))


def _leaf(node: Any) -> Tensor | None:
    """Return the parameter that a node is, or makes in another layout or type; None for others."""
    while len(node.next_functions) == 1 and node.name() in ("TBackward0", "ToCopyBackward0"):
        node = node.next_functions[0][0]
    leaf: Tensor | None = getattr(node, "variable", None)
    return leaf


def _once(node: Any, uses: Mapping[Node, int]) -> bool:
    """Return whether a parameter is used by nothing else."""
    while uses[node] == 1 and not hasattr(node, "variable"):
        node = node.next_functions[0][0]
    return uses[node] == 1
