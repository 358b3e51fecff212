"""The gradients of the losses with respect to the shared features."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from core.weighting.engine.flat import Heads
from core.weighting.engine.losses import Losses
from datasets.errors import UserError


class Features:
    """The tensors through which the losses depend on the shared parameters.

    Args:
        tensors: One or several, of any shapes, with a graph; ``n`` entries in all.

    Raises:
        UserError: If one has no graph.
    """

    def __init__(self, tensors: Tensor | Sequence[Tensor]) -> None:
        self.tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        if not self.tensors or any(tensor.grad_fn is None for tensor in self.tensors):
            raise UserError("features must be tensors that the shared parameters were used for")
        self.sizes = [tensor.numel() for tensor in self.tensors]
        self.apart = False  # whether no two parts of the losses share an operation

    def passes_by(self, losses: Losses, shared: Iterable[Tensor]) -> bool:
        """Return whether a loss depends on a shared parameter by another way.

        Takes note, too, of whether losses have operations after the features in common.
        """
        wanted = {id(parameter) for parameter in shared}
        ends: set[Node | None] = {tensor.grad_fn for tensor in self.tensors}
        seen: set[Node] = set()
        self.apart = True
        for start in losses.nodes():
            own: set[Node] = set()
            waiting = [start]
            while waiting:
                node = waiting.pop()
                if node is None or node in ends or node in own:
                    continue
                own.add(node)
                leaf = getattr(node, "variable", None)
                if id(leaf) in wanted:
                    return True
                if node in seen and leaf is None:
                    self.apart = False
                    continue
                waiting.extend(source for source, _ in node.next_functions)
            seen |= own
        return False

    def gradients(self, losses: Losses, heads: Heads) -> Tensor:
        """Return the gradients of the present losses, ``(k, n)``, and note those of the heads.

        One pass through each scalar loss's head; for losses that are one vector, a batched one and
        one for the parameters of the heads.
        """
        kept = losses.present.nonzero().flatten().tolist()
        kind = torch.promote_types(losses.factors.dtype, self.tensors[0].dtype)
        found = self.tensors[0].new_zeros(len(kept), sum(self.sizes), dtype=kind)
        inputs = [*self.tensors, *heads.parameters]
        for part, (_, shape, first) in enumerate(losses.parts):
            own = [i for i, loss in enumerate(kept) if first <= loss < first + shape.numel()]
            if len(own) > 1 and self._batched(
                losses, heads, part, kept, found[own[0] : own[-1] + 1]
            ):
                continue
            for i in own:
                # What belongs to this loss alone is not needed again.
                keep = not self.apart or i != own[-1]
                gradients = losses.gradients_of(kept[i], inputs, keep)
                self._fill(found[i : i + 1], gradients[: len(self.tensors)])
                heads.add(kept[i], gradients[len(self.tensors) :])
        return found

    def _batched(
        self, losses: Losses, heads: Heads, part: int, kept: Sequence[int], room: Tensor
    ) -> bool:
        """Differentiate the losses of a part at once; return False where an operation cannot."""
        _, shape, first = losses.parts[part]
        own = [loss for loss in kept if first <= loss < first + shape.numel()]
        if heads.weighted:
            return False
        try:
            gradients = losses.batched_gradients(part, own, self.tensors)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no batching rule: compiled code, some recurrent networks
            return False
        self._fill(room, gradients)
        if heads.parameters:
            heads.add(own[0], losses.gradients_of_sum(part, own, heads.parameters))
        return True

    def _fill(self, rows: Tensor, gradients: Sequence[Tensor | None]) -> None:
        for room, gradient in zip(rows.split(self.sizes, dim=1), gradients, strict=True):
            if gradient is not None:
                room.copy_(gradient.reshape(room.shape))

    def split(self, row: Tensor) -> list[Tensor]:
        """Return a vector, ``(n,)``, as gradients of the tensors."""
        pieces = row.split(self.sizes)
        return [
            piece.reshape(tensor.shape).to(tensor.dtype)
            for piece, tensor in zip(pieces, self.tensors, strict=True)
        ]

    def pull(
        self, row: Tensor, parameters: Sequence[Tensor], keep: bool = True
    ) -> Sequence[Tensor | None]:
        """Return the parameters' gradients for a gradient of the features, ``(n,)``."""
        return torch.autograd.grad(
            self.tensors, parameters, self.split(row), retain_graph=keep, allow_unused=True
        )
