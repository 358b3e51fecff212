"""The losses of a step, and how to differentiate one of them alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from common.errors import UserError

Gradients = tuple[Tensor | None, ...]


class Losses:
    """K losses in parts, each of which one backward pass can start from.

    A part with one loss is differentiated without touching the other losses' heads. So losses come
    best as scalars, in a sequence or stacked; a vector that was computed as one is one part.

    Args:
        losses: The losses, ``(k,)``, or a sequence of tensors of any shapes, ``k`` entries in all.
        present: Which losses have examples, ``(k,)``; None for all.

    Raises:
        UserError: If there is no loss, none has a gradient, or ``present`` has another length.
    """

    def __init__(self, losses: Tensor | Sequence[Tensor], present: Tensor | None) -> None:
        given = [losses] if isinstance(losses, Tensor) else list(losses)
        for part in given:
            if not isinstance(part, Tensor):
                raise UserError(f"losses holds {part!r}, expected tensors with a graph")
        if not sum(part.numel() for part in given):
            raise UserError("losses is empty, expected at least one loss")
        if not any(part.requires_grad for part in given):
            raise UserError("no loss has a gradient: losses must not be detached")
        self.values = torch.cat([part.detach().reshape(-1) for part in given])
        self.factors = torch.ones_like(self.values)  # their gradients are multiplied by these
        # With its shape and first loss; None for constants.
        self.parts: list[tuple[GradientEdge | None, torch.Size, int]] = []
        first = 0
        for part in given:
            self.parts += _unstacked(part, first)
            first += part.numel()
        everything = torch.ones(first, dtype=torch.bool)
        if present is not None:
            everything = torch.as_tensor(present).to("cpu", torch.bool).flatten()
        self.present = everything
        if len(self.present) != first:
            raise UserError(f"present has {len(self.present)} entries, expected {first}, as losses")

    @property
    def scalars(self) -> bool:
        """Whether each part is one loss."""
        return all(shape.numel() == 1 for _, shape, _ in self.parts)

    def transform(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Put ``function`` of the losses, entry by entry, in their place; return values, ``(k,)``.

        Only their derivatives are needed, so the graph stays as it is.
        """
        with torch.enable_grad():
            leaf = self.values.requires_grad_()
            transformed = function(leaf)
            self.factors = torch.autograd.grad(transformed.sum(), leaf)[0]
        self.values = transformed.detach()
        return self.values

    def gradients_of(self, loss: int, inputs: Sequence[Tensor], keep: bool = True) -> Gradients:
        """Return the gradients of one loss, None for inputs that it does not depend on.

        Args:
            loss: Its number.
            inputs: What to differentiate by.
            keep: Whether another pass follows.
        """
        for part, shape, first in self.parts:
            if part is not None and 0 <= loss - first < shape.numel():
                start = self.factors.new_zeros(shape.numel())
                start[loss - first] = self.factors[loss]
                return torch.autograd.grad(
                    [part], inputs, [start.reshape(shape)], retain_graph=keep, allow_unused=True
                )
        return (None,) * len(inputs)

    def batched_gradients(
        self, part: int, losses: Sequence[int], inputs: Sequence[Tensor]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of several losses of one part, each ``(losses, ...)``, batched."""
        source, shape, first = self.parts[part]
        assert source is not None
        starts = self.factors.new_zeros(len(losses), shape.numel())
        for row, loss in zip(starts, losses, strict=True):
            row[loss - first] = self.factors[loss]
        return torch.autograd.grad(
            [source],
            inputs,
            [starts.reshape(-1, *shape)],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )

    def gradients_of_sum(
        self, part: int, losses: Sequence[int], inputs: Sequence[Tensor]
    ) -> Gradients:
        """Return the gradients of the sum of several losses of one part."""
        source, shape, first = self.parts[part]
        assert source is not None
        start = self.factors.new_zeros(shape.numel())
        for loss in losses:
            start[loss - first] = self.factors[loss]
        return torch.autograd.grad(
            [source], inputs, [start.reshape(shape)], retain_graph=True, allow_unused=True
        )

    def backward(
        self, weights: Tensor, inputs: Sequence[Tensor] | None = None, keep: bool = False
    ) -> None:
        """Accumulate the gradients of the weighted sum, ``(k,)``, in one pass.

        Args:
            weights: The weights, ``(k,)``.
            inputs: The parameters to accumulate in; None for all that the losses depend on.
            keep: Whether another pass follows.
        """
        starts = (weights * self.factors).detach()
        parts = [(part, shape, first) for part, shape, first in self.parts if part is not None]
        torch.autograd.backward(
            [part for part, _, _ in parts],
            [starts[first : first + shape.numel()].reshape(shape) for _, shape, first in parts],
            retain_graph=keep,
            inputs=inputs,
        )

    def expand(self, weights: Tensor) -> Tensor:
        """Return the weights of all losses, ``(k,)``, from those of the present ones."""
        found = torch.zeros_like(self.values)
        found[self.present.to(found.device)] = weights.detach().to(found)
        return found

    def edges(self) -> list[tuple[Node | None, int]]:
        """Return where in the graph the parts begin."""
        return [
            (None, 0) if part is None else (part.node, part.output_nr) for part, _, _ in self.parts
        ]


def _unstacked(part: Tensor, first: int) -> list[tuple[GradientEdge | None, torch.Size, int]]:
    """Return a stack of scalars as these, anything else as it is."""
    node = part.grad_fn
    if node is not None and node.name() == "StackBackward0" and part.ndim == 1:
        return [
            (None if source is None else GradientEdge(source, output), torch.Size(()), first + i)
            for i, (source, output) in enumerate(node.next_functions)
        ]
    return [(get_gradient_edge(part) if part.requires_grad else None, part.shape, first)]
