"""The gradients of the losses with respect to the shared features."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from common.errors import UserError
from core.weighting.gradients.jvp import ordered
from core.weighting.gradients.losses import Losses
from core.weighting.gradients.task_gradients import Heads

Edge = tuple[Node | None, int]


class Features:
    """The tensors through which the losses depend on the shared parameters.

    Args:
        tensors: One or several, of any shapes, with a graph; ``n`` entries in all.

    Raises:
        UserError: If one has no graph.
    """

    def __init__(self, tensors: Tensor | Sequence[Tensor]) -> None:
        given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        if not given or any(getattr(tensor, "grad_fn", None) is None for tensor in given):
            raise UserError("features must be tensors that the shared parameters were used for")
        unique = {(tensor.grad_fn, tensor.output_nr): tensor for tensor in given}
        self._hold([get_gradient_edge(tensor) for tensor in unique.values()], unique.values())
        self._hooked = any(tensor._backward_hooks for tensor in given)

    @classmethod
    def at(cls, edges: Sequence[GradientEdge], values: Sequence[Tensor]) -> Self:
        """Return features that are known by their places in the graph and their values."""
        found = cls.__new__(cls)
        found._hold(edges, values)
        return found

    def _hold(self, edges: Sequence[GradientEdge], values: Iterable[Tensor]) -> None:
        self.edges = list(edges)
        self._hooked = False
        self.values = [value.detach() for value in values]
        self.sizes = [value.numel() for value in self.values]
        # Of each part of the losses: the leaves of the graph that it depends on after the features;
        # None if parts have operations there in common, or that is not known.
        self._leaves: list[set[int]] | None = None

    def separate(self, losses: Losses, shared: Iterable[Tensor]) -> bool:
        """Return whether losses depend on shared parameters by the features alone.

        And by each of them directly: what one feature has to do with another is counted once. Nor
        may they have hooks, which would run in the pass to the features and in that from there.
        """
        wanted = {id(parameter) for parameter in shared}
        ends: set[Edge] = {(edge.node, edge.output_nr) for edge in self.edges}
        seen: set[Node] = set()
        leaves: list[set[int]] = []
        apart = True
        for start in losses.edges():
            own: set[Node] = set()
            leaves.append(set())
            waiting = [start]
            while waiting:
                edge = waiting.pop()
                node = edge[0]
                if node is None or edge in ends or node in own:
                    continue
                own.add(node)
                leaf = getattr(node, "variable", None)
                if leaf is not None:
                    leaves[-1].add(id(leaf))
                    if id(leaf) in wanted:
                        return False
                elif node in seen:
                    apart = False
                else:
                    waiting.extend(node.next_functions)
            seen |= own
        self._leaves = leaves if apart else None
        return not self._hooked and (len(self.edges) == 1 or not self._nested(ends))

    def nodes(self) -> list[Node | None]:
        """Return the graph's nodes that made the features."""
        return [edge.node for edge in self.edges]

    def _nested(self, ends: set[Edge]) -> bool:
        """Return whether a feature was made from another one."""
        order = ordered(self.nodes())
        return any(edge in ends for node in order for edge in node.next_functions)

    def gradients(self, losses: Losses, heads: Heads) -> Tensor:
        """Return the gradients of the present losses, ``(k, n)``, and note those of the heads."""
        kind = torch.promote_types(losses.factors.dtype, self.values[0].dtype)
        kept = int(losses.present.sum())
        found = self.values[0].new_empty(kept, sum(self.sizes), dtype=kind)
        for room, row in zip(found, self.each(losses, heads), strict=True):
            room.copy_(row)
        return found

    def each(self, losses: Losses, heads: Heads) -> Iterator[Tensor]:
        """Yield the gradient of each present loss, ``(n,)``, and note those of the heads.

        One pass through each scalar loss's head; for losses that are one vector, a batched one and
        one for the parameters of the heads.
        """
        kept = losses.present.nonzero().flatten().tolist()
        for part, (_, shape, first) in enumerate(losses.parts):
            own = [loss for loss in kept if first <= loss < first + shape.numel()]
            rows = self._batched(losses, heads, part, own) if len(own) > 1 else None
            if rows is not None:
                yield from rows
                continue
            places = self._places(part, heads)
            inputs: list[Any] = [*self.edges, *(heads.parameters[place] for place in places)]
            for loss in own:
                # What belongs to this loss alone is not needed again.
                keep = self._leaves is None or loss != own[-1]
                gradients = losses.gradients_of(loss, inputs, keep)
                heads.add(loss, gradients[len(self.edges) :], places)
                yield self.joined(gradients[: len(self.edges)])

    def _places(self, part: int, heads: Heads) -> list[int]:
        """Return which of the heads' parameters a part of the losses depends on, at most."""
        if self._leaves is None:
            return list(range(len(heads.parameters)))
        leaves = self._leaves[part]
        return [i for i, parameter in enumerate(heads.parameters) if id(parameter) in leaves]

    def _batched(
        self, losses: Losses, heads: Heads, part: int, own: Sequence[int]
    ) -> Tensor | None:
        """Differentiate the losses of a part at once; return None where an operation cannot."""
        if heads.weighted:
            return None
        inputs: list[Any] = self.edges
        try:
            gradients = losses.batched_gradients(part, own, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no batching rule: compiled code, some recurrent networks
            return None
        if heads.parameters:
            heads.add(own[0], losses.gradients_of_sum(part, own, heads.parameters))
        return self.joined(gradients, (len(own),))

    def joined(self, gradients: Sequence[Tensor | None], rows: tuple[int, ...] = ()) -> Tensor:
        """Return gradients of the tensors as one, ``(*rows, n)``."""
        parts = [
            tensor.new_zeros(*rows, tensor.numel()) if part is None else part.reshape(*rows, -1)
            for part, tensor in zip(gradients, self.values, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def split(self, row: Tensor) -> list[Tensor]:
        """Return a vector, ``(n,)``, as gradients of the tensors."""
        pieces = row.split(self.sizes)
        return [
            piece.reshape(tensor.shape).to(tensor.dtype)
            for piece, tensor in zip(pieces, self.values, strict=True)
        ]

    def pull(
        self, row: Tensor, parameters: Sequence[Tensor], keep: bool = True
    ) -> Sequence[Tensor | None]:
        """Return the parameters' gradients for a gradient of the features, ``(n,)``."""
        return torch.autograd.grad(
            self.edges, parameters, self.split(row), retain_graph=keep, allow_unused=True
        )
