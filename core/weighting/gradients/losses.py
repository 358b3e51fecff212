"""The losses of a step, and their gradients one by one, in batches or as a weighted sum."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from ..device_copies import copy_to_device
from ..errors import WeightingError

Gradients = tuple[Tensor | None, ...]


class LossPart(NamedTuple):
    """Losses that one operation made.

    Args:
        edge: The edge of the graph that a backward pass starts from; None for constants.
        shape: Shape of the operation's output, one entry per loss.
        first: Index of the first of its losses among all.
    """

    edge: GradientEdge | None
    shape: torch.Size
    first: int


class LossGraph:
    """K losses in parts, each of which one backward pass can start from.

    A part with one loss is differentiated without passing the heads of other losses. So losses are
    cheapest as scalars, in a sequence or stacked; a vector that one operation made is one part.

    Args:
        losses: The losses, ``(k,)``, or a sequence of tensors of any shapes, ``k`` entries in all.
        present: Mask of the losses that have examples, ``(k,)``; None for all.

    Raises:
        TypeError: If an entry is no tensor.
        WeightingError: If there is no loss, none has a gradient, or ``present`` has another length.
    """

    def __init__(
        self, losses: Tensor | Sequence[Tensor], present: Tensor | Sequence[bool] | None
    ) -> None:
        tensors = [losses] if isinstance(losses, Tensor) else list(losses)
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"losses holds {tensor!r}, expected tensors with a graph")
        if not sum(tensor.numel() for tensor in tensors):
            raise WeightingError("losses is empty, expected at least one loss")
        if not any(tensor.requires_grad for tensor in tensors):
            raise WeightingError("no loss has a gradient: losses must not be detached")
        self.values = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        self.factors = torch.ones_like(self.values)  # derivatives of the transform by the losses
        self.parts: list[LossPart] = []
        count = 0
        for tensor in tensors:
            self.parts += _split_stack(tensor, count)
            count += tensor.numel()
        mask = torch.ones(count, dtype=torch.bool)
        if present is not None:
            mask = torch.as_tensor(present).to("cpu", torch.bool).flatten()
        self.present = mask
        self._all_present = bool(mask.all())
        if len(self.present) != count:
            raise WeightingError(
                f"present has {len(self.present)} entries, expected {count}, one per loss"
            )

    def apply_transform(self, transform: Callable[[Tensor], Tensor]) -> None:
        """Replace the losses by ``transform`` of them, which acts entry by entry.

        Only the derivatives of the transform are needed, so the graph stays as it is.
        """
        with torch.enable_grad():
            leaf = self.values.requires_grad_()
            transformed = transform(leaf)
            self.factors = torch.autograd.grad(transformed.sum(), leaf)[0]
        self.values = transformed.detach()

    def differentiate(
        self, loss: int, inputs: Sequence[Tensor], keep_graph: bool = True
    ) -> Gradients:
        """Return the gradients of one loss, None for inputs that it does not depend on.

        Args:
            loss: Its index.
            inputs: The tensors or edges to differentiate by.
            keep_graph: Whether another pass follows.
        """
        for edge, shape, first in self.parts:
            if edge is not None and 0 <= loss - first < shape.numel():
                start = self.factors.new_zeros(shape.numel())
                start[loss - first] = self.factors[loss]
                return torch.autograd.grad(
                    [edge],
                    inputs,
                    [start.reshape(shape)],
                    retain_graph=keep_graph,
                    allow_unused=True,
                )
        return (None,) * len(inputs)

    def differentiate_batch(
        self, part: int, losses: Sequence[int], inputs: Sequence[Tensor]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of several losses of one part, ``(losses, ...)``, in one pass."""
        edge, shape, first = self.parts[part]
        assert edge is not None
        starts = self.factors.new_zeros(len(losses), shape.numel())
        for row, loss in zip(starts, losses, strict=True):
            row[loss - first] = self.factors[loss]
        return torch.autograd.grad(
            [edge],
            inputs,
            [starts.reshape(-1, *shape)],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )

    def differentiate_sum(
        self, part: int, losses: Sequence[int], inputs: Sequence[Tensor]
    ) -> Gradients:
        """Return the gradients of the sum of several losses of one part."""
        edge, shape, first = self.parts[part]
        assert edge is not None
        start = self.factors.new_zeros(shape.numel())
        for loss in losses:
            start[loss - first] = self.factors[loss]
        return torch.autograd.grad(
            [edge], inputs, [start.reshape(shape)], retain_graph=True, allow_unused=True
        )

    def backward_weighted(
        self, weights: Tensor, inputs: Sequence[Tensor] | None = None, keep_graph: bool = False
    ) -> None:
        """Accumulate the gradients of the weighted sum in one pass.

        Args:
            weights: The weights, ``(k,)``.
            inputs: The parameters to accumulate in; None for all that the losses depend on.
            keep_graph: Whether another pass follows.
        """
        starts = (weights * self.factors).detach()
        parts = [(edge, shape, first) for edge, shape, first in self.parts if edge is not None]
        torch.autograd.backward(
            [edge for edge, _, _ in parts],
            [starts[first : first + shape.numel()].reshape(shape) for _, shape, first in parts],
            retain_graph=keep_graph,
            inputs=inputs,
        )

    def expand_weights(self, weights: Tensor) -> Tensor:
        """Return weights of all losses, ``(k,)``, from those of the present ones; 0 elsewhere."""
        weights = weights.detach().to(self.values, copy=True)
        if self._all_present:
            return weights
        # By row numbers: a mask on a GPU would make the host wait for the count of its entries.
        rows = copy_to_device(self.present.nonzero().flatten(), weights.device)
        return torch.zeros_like(self.values).index_copy_(0, rows, weights)

    def clear_absent(self, values: Tensor) -> Tensor:
        """Return a copy of values, one per loss, ``(k,)``, that is 0 for absent losses."""
        values = values.detach().to(self.values, copy=True)
        if self._all_present:
            return values
        return torch.where(copy_to_device(self.present, values.device), values, 0)

    def list_edges(self) -> list[tuple[Node | None, int]]:
        """Return the node and output of the graph at which each part begins."""
        return [
            (None, 0) if edge is None else (edge.node, edge.output_nr) for edge, _, _ in self.parts
        ]


def _split_stack(tensor: Tensor, first: int) -> list[LossPart]:
    """Return one part for each scalar of a stack of scalars, one part for anything else."""
    node = tensor.grad_fn
    if node is not None and node.name() == "StackBackward0" and tensor.ndim == 1:
        return [
            LossPart(
                None if source is None else GradientEdge(source, output), torch.Size(()), first + i
            )
            for i, (source, output) in enumerate(node.next_functions)
        ]
    edge = get_gradient_edge(tensor) if tensor.requires_grad else None
    return [LossPart(edge, tensor.shape, first)]
