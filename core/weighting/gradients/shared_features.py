"""Shared features: the tensors between shared parameters and heads, and the losses' gradients."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from ..errors import WeightingError
from .autograd_graph import get_leaf, has_hooks, order_topologically
from .head_gradients import HeadGradients
from .losses import LossGraph

Edge = tuple[Node | None, int]


class SharedFeatures:
    """The tensors through which the losses depend on the shared parameters.

    Args:
        tensors: One or several, of any shapes, with a graph; ``n`` entries in all.

    Raises:
        WeightingError: If one has no graph.
    """

    def __init__(self, tensors: Tensor | Sequence[Tensor]) -> None:
        given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        if not given or any(getattr(tensor, "grad_fn", None) is None for tensor in given):
            raise WeightingError(
                "features must be tensors that the shared parameters were used for"
            )
        unique = {(tensor.grad_fn, tensor.output_nr): tensor for tensor in given}
        edges = [get_gradient_edge(tensor) for tensor in unique.values()]
        self._initialize(edges, unique.values(), any(has_hooks(tensor) for tensor in given))

    @classmethod
    def from_edges(cls, edges: Sequence[GradientEdge], values: Sequence[Tensor]) -> Self:
        """Return features from edges of the graph and the values there."""
        features = cls.__new__(cls)
        features._initialize(edges, values, False)
        return features

    def _initialize(
        self, edges: Sequence[GradientEdge], values: Iterable[Tensor], is_hooked: bool
    ) -> None:
        self.edges = list(edges)
        self._is_hooked = is_hooked
        self.values = [value.detach() for value in values]
        self.sizes = [value.numel() for value in self.values]
        # For each part of the losses, the leaves of the graph that it depends on after the
        # features; None if parts share operations there, or before the graph was searched.
        self._leaves: list[set[int]] | None = None

    def separate_losses(self, losses: LossGraph, shared: Iterable[Tensor]) -> bool:
        """Search the graph from losses to features; return whether these separate it.

        They do if losses depend on shared parameters through the features only, and through each of
        them directly: a part that one feature contributes to another would count twice. Nor may
        they have hooks, which would run in the pass to the features and in the pass from there.
        """
        wanted = {id(parameter) for parameter in shared}
        ends: set[Edge] = {(edge.node, edge.output_nr) for edge in self.edges}
        seen: set[Node] = set()
        leaves: list[set[int]] = []
        are_parts_apart = True
        for start in losses.list_edges():
            own: set[Node] = set()
            leaves.append(set())
            pending = [start]
            while pending:
                edge = pending.pop()
                node = edge[0]
                if node is None or edge in ends or node in own:
                    continue
                own.add(node)
                leaf = get_leaf(node)
                if leaf is not None:
                    leaves[-1].add(id(leaf))
                    if id(leaf) in wanted:
                        return False
                elif node in seen:
                    are_parts_apart = False
                else:
                    pending.extend(node.next_functions)
            seen |= own
        self._leaves = leaves if are_parts_apart else None
        return not self._is_hooked and (len(self.edges) == 1 or not self._is_nested(ends))

    def list_nodes(self) -> list[Node | None]:
        """Return the graph's nodes that made the features."""
        return [edge.node for edge in self.edges]

    def _is_nested(self, ends: set[Edge]) -> bool:
        """Return whether a feature was made from another one."""
        order = order_topologically(self.list_nodes())
        return any(edge in ends for node in order for edge in node.next_functions)

    def compute_gradients(self, losses: LossGraph, heads: HeadGradients) -> Tensor:
        """Return the gradients of the present losses, ``(k, n)``; add those of the heads."""
        dtype = torch.promote_types(losses.factors.dtype, self.values[0].dtype)
        count = int(losses.present.sum())
        found = self.values[0].new_empty(count, sum(self.sizes), dtype=dtype)
        for target, row in zip(found, self.iterate_gradients(losses, heads), strict=True):
            target.copy_(row)
        return found

    def iterate_gradients(self, losses: LossGraph, heads: HeadGradients) -> Iterator[Tensor]:
        """Yield the gradient of each present loss, ``(n,)``; add those of the heads.

        One pass through each scalar loss's head; for losses that are one vector, a batched pass and
        one for the parameters of the heads.
        """
        present = losses.present.nonzero().flatten().tolist()
        for part, (_, shape, first) in enumerate(losses.parts):
            own = [loss for loss in present if first <= loss < first + shape.numel()]
            rows = self._differentiate_batch(losses, heads, part, own) if len(own) > 1 else None
            if rows is not None:
                yield from rows
                continue
            indices = self._list_head_indices(part, heads)
            inputs: list[Any] = [*self.edges, *(heads.parameters[index] for index in indices)]
            for loss in own:
                # The part of the graph that belongs to this loss alone is not needed again.
                keep_graph = self._leaves is None or loss != own[-1]
                gradients = losses.differentiate(loss, inputs, keep_graph)
                heads.add_gradients(loss, gradients[len(self.edges) :], indices)
                yield self.flatten_gradients(gradients[: len(self.edges)])

    def _list_head_indices(self, part: int, heads: HeadGradients) -> list[int]:
        """Return the indices of the heads' parameters that a part of the losses may depend on."""
        if self._leaves is None:
            return list(range(len(heads.parameters)))
        leaves = self._leaves[part]
        return [i for i, parameter in enumerate(heads.parameters) if id(parameter) in leaves]

    def _differentiate_batch(
        self, losses: LossGraph, heads: HeadGradients, part: int, own: Sequence[int]
    ) -> Tensor | None:
        """Differentiate the losses of a part at once; return None where an operation cannot."""
        if heads.is_weighted:
            return None
        inputs: list[Any] = self.edges
        try:
            gradients = losses.differentiate_batch(part, own, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no batching rule: compiled code, some recurrent networks
            return None
        if heads.parameters:
            heads.add_gradients(own[0], losses.differentiate_sum(part, own, heads.parameters))
        return self.flatten_gradients(gradients, (len(own),))

    def flatten_gradients(
        self, gradients: Sequence[Tensor | None], rows: tuple[int, ...] = ()
    ) -> Tensor:
        """Return gradients of the tensors as one, ``(*rows, n)``; None counts as 0."""
        parts = [
            tensor.new_zeros(*rows, tensor.numel()) if part is None else part.reshape(*rows, -1)
            for part, tensor in zip(gradients, self.values, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def split_gradient(self, row: Tensor) -> list[Tensor]:
        """Return a vector, ``(n,)``, as gradients of the tensors."""
        pieces = row.split(self.sizes)
        return [
            piece.reshape(tensor.shape).to(tensor.dtype)
            for piece, tensor in zip(pieces, self.values, strict=True)
        ]

    def backpropagate(
        self, row: Tensor, parameters: Sequence[Tensor], keep_graph: bool = True
    ) -> Sequence[Tensor | None]:
        """Return the parameters' gradients from a gradient of the features, ``(n,)``."""
        return torch.autograd.grad(
            self.edges,
            parameters,
            self.split_gradient(row),
            retain_graph=keep_graph,
            allow_unused=True,
        )
