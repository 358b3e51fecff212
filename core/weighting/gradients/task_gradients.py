"""Gradients of K losses by parameters: their Gram matrix, their weighted sum, and ``.grad``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from common.errors import UserError
from core.weighting.gradients.jvp import ordered
from core.weighting.gradients.low_rank import Span

SMALL = 1 << 14  # entries of a parameter
REENTRANT = "CheckpointFunctionBackward"


class Flat:
    """Parameters that require a gradient, each once, and the gradients of K losses by them.

    Gradients stay as the passes made them: memory grows by one gradient a pass, and what comes
    after looks at them piece by piece. Those of small parameters are joined, to be handled at once.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = trainable("shared", parameters)
        # What to differentiate by: the parameters, or the edges of layers with a span, which torch
        # takes in the same list while its types do not say so.
        self.inputs: list[Any] = list(self.parameters)
        self._reached = [False] * len(self.parameters)  # by a loss: others' .grad stays as it is
        self._rows: list[list[Tensor | None]] = []  # of each loss by group
        self.take({})

    def take(self, spans: Mapping[int, Span]) -> None:
        """Know the gradients of the parameters at these places by those of the layers' outputs."""
        self._spans = spans
        self._sizes = [
            spans[i].size if i in spans else parameter.numel()
            for i, parameter in enumerate(self.parameters)
        ]
        for i, span in spans.items():
            self.inputs[i] = span.edge
        small = [i for i, size in enumerate(self._sizes) if size < SMALL and i not in spans]
        large = [[i] for i, size in enumerate(self._sizes) if size >= SMALL or i in spans]
        self._groups = [small, *large] if small else large

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Take note of a loss's gradients by the :attr:`inputs`; None counts as 0."""
        flat: list[Tensor | None] = []
        for i, gradient in enumerate(gradients):
            if gradient is None:
                flat.append(None)
                continue
            self._reached[i] = True
            if i in self._spans:
                gradient = self._spans[i].by_outputs(gradient)
            flat.append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1))
        self._rows.append([self._joined(group, flat) for group in self._groups])

    def check_reached(self, ends: Sequence[Node | None]) -> None:
        """Refuse a graph that hides its parameters: they would silently stay as they are.

        Args:
            ends: The nodes of the graph at which gradients start.

        Raises:
            UserError: If no loss reached a parameter, and part of the graph is checkpointed so.
        """
        if not any(self._reached) and any(node.name() == REENTRANT for node in ordered(ends)):
            raise UserError(
                "no loss reaches a shared parameter: torch.utils.checkpoint hides them unless it "
                "is called with use_reentrant=False"
            )

    def _joined(self, group: Sequence[int], flat: Sequence[Tensor | None]) -> Tensor | None:
        if len(group) == 1:
            return flat[group[0]]
        parts = [flat[i] for i in group]
        first = next((part for part in parts if part is not None), None)
        if first is None:
            return None
        return torch.cat(
            [
                first.new_zeros(self._sizes[i]) if part is None else part.to(first.device)
                for i, part in zip(group, parts, strict=True)
            ]
        )

    def gram(self) -> Tensor:
        """Return the inner products of the gradients, ``(k, k)`` float64."""
        count = len(self._rows)
        found = self.parameters[0].new_zeros(count, count, dtype=torch.float64)
        for place, group in enumerate(self._groups):
            rows, span = self._column(place), self._spans.get(group[0])
            found += gram_of(rows if span is None else span.coordinates(rows)).to(found.device)
        return found

    def matrix(self) -> Tensor:
        """Return the gradients, ``(k, size)``, in the order of :meth:`accumulate_vector`."""
        groups = [torch.stack(self._column(place)) for place in range(len(self._groups))]
        self._rows.clear()
        return torch.cat([group.to(self.parameters[0].device) for group in groups], dim=1)

    def _column(self, place: int) -> list[Tensor]:
        """Return a group's gradients, ``(n,)`` each."""
        column = [row[place] for row in self._rows]
        size = sum(self._sizes[i] for i in self._groups[place])
        first = next((row for row in column if row is not None), self.parameters[0])
        zeros = first.new_zeros(1).expand(size)
        return [zeros if row is None else row for row in column]

    def accumulate(self, weights: Tensor) -> None:
        """Add the weighted sum of the gradients, weights ``(k,)``, to ``.grad``."""
        for place, group in enumerate(self._groups):
            rows = [(i, row[place]) for i, row in enumerate(self._rows)]
            found = _combined([(row, weights[i]) for i, row in rows if row is not None])
            del rows
            for row in self._rows:
                row[place] = None
            if found is not None:
                self._write(group, found)

    def accumulate_vector(self, direction: Tensor) -> None:
        """Add a vector, ``(size,)``, to ``.grad``."""
        sizes = [sum(self._sizes[i] for i in group) for group in self._groups]
        for group, piece in zip(self._groups, direction.split(sizes), strict=True):
            self._write(group, piece)

    def _write(self, group: Sequence[int], direction: Tensor) -> None:
        pieces = direction.split([self._sizes[i] for i in group])
        for i, piece in zip(group, pieces, strict=True):
            if self._reached[i]:
                span, shape = self._spans.get(i), self.parameters[i].shape
                accumulate(
                    self.parameters[i], piece.view(shape) if span is None else span.expand(piece)
                )


def trainable(name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return those that require a gradient, each once.

    Args:
        name: What the caller calls them.
        parameters: Parameters.

    Raises:
        UserError: If they are something else, as one parameter, a module or named parameters, or
            have complex numbers.
    """
    single = isinstance(parameters, Tensor | nn.Module) or not isinstance(parameters, Iterable)
    given = [] if single else list(parameters)
    if single or not all(isinstance(found, Tensor) and found.is_leaf for found in given):
        kind = type(parameters).__name__
        raise UserError(f"{name} is a {kind}, expected several parameters: module.parameters()")
    if any(found.is_complex() for found in given):
        raise UserError(f"{name} has complex numbers: give real parameters, see torch.view_as_real")
    unique = {id(parameter): parameter for parameter in given}
    return [found for found in unique.values() if found.requires_grad]


def _combined(rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Return the sum of vectors times weights, ``()`` each; None for none."""
    if not rows:
        return None
    kind = torch.promote_types(rows[0][0].dtype, torch.float32)
    found = torch.empty_like(rows[0][0], dtype=kind)
    factors = [weight.to(found) for _, weight in rows]
    size = _piece(found)  # the sum stays in a cache
    for start in range(0, len(found), size):
        total = found[start : start + size]
        torch.mul(rows[0][0][start : start + size], factors[0], out=total)
        for (row, _), factor in zip(rows[1:], factors[1:], strict=True):
            total.addcmul_(row[start : start + size].to(found), factor)
    return found


def gram_of(rows: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the inner products of rows, ``(k, n)`` or k of ``(n,)``, in float64, ``(k, k)``.

    Products of float32 would take half of the time, and hide gradients that oppose each other.
    """
    rows = list(rows)
    count, size = len(rows), len(rows[0])
    found = rows[0].new_zeros(count, count, dtype=torch.float64)
    step = max(1, _piece(rows[0]) // count)
    room = found.new_empty(count, min(step, size))
    for start in range(0, size, step):
        wide = room[:, : size - start]
        for own, row in zip(wide, rows, strict=True):
            own.copy_(row[start : start + step])
        found.addmm_(wide, wide.T)
    return found


def _piece(tensor: Tensor) -> int:
    """Return how many entries to handle at a time: what fits a cache, or is worth a kernel."""
    return 1 << 18 if tensor.device.type == "cpu" else 1 << 22


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to ``.grad`` as ``Tensor.backward`` does; the gradient must be nobody else's."""
    if parameter.grad is not None:
        parameter.grad.add_(gradient.to(parameter.grad))
    elif gradient.stride() == parameter.stride() and gradient.dtype == parameter.dtype:
        parameter.grad = gradient.to(parameter.device)
    else:  # the layout of the parameter, as optimisers expect
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def accumulate_all(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], factor: float = 1.0
) -> None:
    """Add gradients times a factor to ``.grad``; None is left out.

    Autograd may return one tensor for two parameters, as for two biases that are added.
    """
    taken: set[int] = set()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        shared = gradient.untyped_storage().data_ptr() in taken
        taken.add(gradient.untyped_storage().data_ptr())
        if factor != 1.0:
            accumulate(parameter, gradient * factor)
        else:
            accumulate(parameter, gradient.clone() if shared else gradient)


class Heads:
    """Gradients of the parameters that belong to one or several losses.

    Args:
        parameters: The parameters.
        weighted: Whether each loss's share is multiplied by its weight.
    """

    def __init__(self, parameters: Iterable[Tensor], weighted: bool) -> None:
        self.parameters = trainable("heads", parameters)
        self.weighted = weighted
        self._shares: list[dict[int | None, Tensor]] = [{} for _ in self.parameters]  # by loss

    def add(
        self, loss: int, gradients: Sequence[Tensor | None], places: Iterable[int] | None = None
    ) -> None:
        """Take note of the gradients of one loss by the parameters, or those at some places."""
        of = loss if self.weighted else None  # what is not weighted is summed at once
        of_all = range(len(self.parameters))
        for place, gradient in zip(of_all if places is None else places, gradients, strict=True):
            shares = self._shares[place]
            if gradient is not None:
                shares[of] = shares[of] + gradient if of in shares else gradient

    def accumulate(self, weights: Tensor | None) -> None:
        """Add to ``.grad``, with weights, ``(k,)``, where they count."""
        sums: list[Tensor | None] = []
        for shares in self._shares:
            parts = [
                part if loss is None or weights is None else part * weights[loss].to(part)
                for loss, part in shares.items()
            ]
            sums.append(torch.stack(parts).sum(0) if len(parts) > 1 else next(iter(parts), None))
        accumulate_all(self.parameters, sums)
