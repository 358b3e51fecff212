"""Task gradients: K losses' gradients of the shared parameters, and their Gram matrix."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ..errors import WeightingError
from .accumulation import accumulate_gradient
from .autograd_graph import REENTRANT_CHECKPOINT, order_topologically
from .low_rank import LowRankGradient

SMALL_PARAMETER_ENTRIES = 1 << 14
# Entries to process at a time: a chunk fits a CPU's cache, or is worth a kernel.
CPU_CHUNK_ENTRIES, DEVICE_CHUNK_ENTRIES = 1 << 18, 1 << 22
# Rows of a block of a Gram matrix, half of whose blocks are computed on a CPU. With fewer, products
# are slower; matrices of so few rows are one block.
GRAM_BLOCK_ROWS = 16
# Length of the products of which accelerators take many at once. Of 40 rows they take half of the
# time of one long product, of few rows as much (docs/gpu.md).
DEVICE_PRODUCT_ENTRIES = 1 << 12
# Length of the products of float32 in an estimate. Longer ones are no faster and less exact.
FLOAT32_PRODUCT_ENTRIES = 1 << 10
# Rows of unit length whose Gram matrix has a smaller eigenvalue are nearly dependent.
MIN_EIGENVALUE = 1e-3


class TaskGradients:
    """Gradients of K losses by parameters.

    Gradients stay as the passes made them: memory grows by one gradient a pass, and later steps
    read them piece by piece. Those of small parameters are joined, to be processed at once; on
    accelerators, where each parameter would cost kernels, those of all parameters.

    Args:
        parameters: Parameters that require a gradient, each once; at least one.
        low_rank: Low-rank gradients of some of them, by index.
    """

    def __init__(
        self, parameters: Sequence[Tensor], low_rank: Mapping[int, LowRankGradient]
    ) -> None:
        self.parameters = parameters
        # Targets of differentiation: parameters, or edges of layers with a low-rank gradient, which
        # torch takes in the same list though its types do not say so.
        self.inputs: list[Any] = list(parameters)
        for index, gradient in low_rank.items():
            self.inputs[index] = gradient.edge
        self._low_rank = low_rank
        # Parameters that no loss reaches keep their .grad.
        self._is_reached = [False] * len(parameters)
        self._rows: list[list[Tensor | None]] = []  # of each loss by group
        self._sizes = [
            low_rank[i].size if i in low_rank else parameter.numel()
            for i, parameter in enumerate(parameters)
        ]
        joined: list[int] = []
        single: list[list[int]] = []
        for i, size in enumerate(self._sizes):
            is_joined = size < SMALL_PARAMETER_ENTRIES or parameters[i].device.type != "cpu"
            if is_joined and i not in low_rank:
                joined.append(i)
            else:
                single.append([i])
        self._groups = [joined, *single] if joined else single

    def add_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Add a loss's gradients with respect to the :attr:`inputs`; None counts as 0."""
        flat: list[Tensor | None] = []
        for i, gradient in enumerate(gradients):
            if gradient is None:
                flat.append(None)
                continue
            self._is_reached[i] = True
            if i in self._low_rank:
                gradient = self._low_rank[i].select_output_gradient(gradient)
            flat.append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1))
        self._rows.append([self._join_group(group, flat) for group in self._groups])

    def check_reached(self, ends: Sequence[Node | None]) -> None:
        """Refuse a graph that hides its parameters, whose gradients would silently be missing.

        Args:
            ends: The nodes of the graph at which gradients start.

        Raises:
            WeightingError: If no loss reached a parameter, and part of the graph is checkpointed
                so.
        """
        if not any(self._is_reached) and any(
            node.name() == REENTRANT_CHECKPOINT for node in order_topologically(ends)
        ):
            raise WeightingError(
                "no loss reaches a shared parameter: torch.utils.checkpoint hides them unless it "
                "is called with use_reentrant=False"
            )

    def _join_group(self, group: Sequence[int], flat: Sequence[Tensor | None]) -> Tensor | None:
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

    def compute_gram(self) -> Tensor:
        """Return the inner products of the gradients, ``(k, k)`` float64."""
        count = len(self._rows)
        found = self.parameters[0].new_zeros(count, count, dtype=torch.float64)
        for number, group in enumerate(self._groups):
            rows, low_rank = self._list_rows(number), self._low_rank.get(group[0])
            found += compute_gram(
                rows if low_rank is None else low_rank.compute_coordinates(rows)
            ).to(found.device)
        return found

    def pop_matrix(self) -> Tensor:
        """Return the gradients, ``(k, size)``, in the order of :meth:`accumulate_direction`.

        They are freed here.
        """
        groups = [torch.stack(self._list_rows(number)) for number in range(len(self._groups))]
        self._rows.clear()
        return torch.cat([group.to(self.parameters[0].device) for group in groups], dim=1)

    def _list_rows(self, number: int) -> list[Tensor]:
        """Return a group's gradients, ``(n,)`` each."""
        rows = [row[number] for row in self._rows]
        size = sum(self._sizes[i] for i in self._groups[number])
        first = next((row for row in rows if row is not None), self.parameters[0])
        zeros = first.new_zeros(1).expand(size)
        return [zeros if row is None else row for row in rows]

    def accumulate_weighted(self, weights: Tensor) -> None:
        """Add the weighted sum of the gradients, weights ``(k,)``, to ``.grad``; frees them."""
        for number, group in enumerate(self._groups):
            rows = [(i, row[number]) for i, row in enumerate(self._rows)]
            found = _sum_weighted([(row, weights[i]) for i, row in rows if row is not None])
            del rows
            for row in self._rows:
                row[number] = None
            if found is not None:
                self._accumulate_group(group, found)

    def accumulate_direction(self, direction: Tensor) -> None:
        """Add a vector, ``(size,)``, to ``.grad``."""
        sizes = [sum(self._sizes[i] for i in group) for group in self._groups]
        for group, piece in zip(self._groups, direction.split(sizes), strict=True):
            self._accumulate_group(group, piece)

    def _accumulate_group(self, group: Sequence[int], direction: Tensor) -> None:
        pieces = direction.split([self._sizes[i] for i in group])
        for i, piece in zip(group, pieces, strict=True):
            if self._is_reached[i]:
                low_rank, shape = self._low_rank.get(i), self.parameters[i].shape
                accumulate_gradient(
                    self.parameters[i],
                    piece.view(shape) if low_rank is None else low_rank.expand_gradient(piece),
                )


def _sum_weighted(rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Return the sum of vectors times weights, ``()`` each; None for none."""
    if not rows:
        return None
    dtype = torch.promote_types(rows[0][0].dtype, torch.float32)
    found = torch.empty_like(rows[0][0], dtype=dtype)
    factors = [weight.to(found) for _, weight in rows]
    size = get_chunk_entries(found)  # the sum stays in a cache
    for start in range(0, len(found), size):
        total = found[start : start + size]
        torch.mul(rows[0][0][start : start + size], factors[0], out=total)
        for (row, _), factor in zip(rows[1:], factors[1:], strict=True):
            total.addcmul_(row[start : start + size].to(found), factor)
    return found


def compute_gram(rows: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the inner products of rows, ``(k, n)`` or k of ``(n,)``, in float64, ``(k, k)``.

    Products of float32 would take half of the time, and hide nearly dependent gradients.
    """
    count, size = len(rows), len(rows[0])
    found = rows[0].new_zeros(count, count, dtype=torch.float64)
    step = max(1, get_chunk_entries(rows[0]) // count)
    if found.device.type != "cpu":
        for start in range(0, size, step):
            chunk = torch.stack([row[start : start + step] for row in rows])
            found += compute_gram_in_pieces(chunk)
        return found
    for chunk in _iterate_chunks(rows, step):
        for first in range(0, count, GRAM_BLOCK_ROWS):  # the lower triangle of blocks
            block = chunk[first : first + GRAM_BLOCK_ROWS]
            found[first:, first : first + GRAM_BLOCK_ROWS].addmm_(chunk[first:], block.T)
    return found if count <= GRAM_BLOCK_ROWS else found.tril() + found.tril(-1).T


def estimate_gram(rows: Tensor) -> Tensor:
    """Return the inner products of rows, ``(k, n)``; for float32 accurate to 1e-7 of the norms.

    Products of float32 take half of the time. They are short and are added in float64, so that
    long rows have smaller errors (3e-8 with 160,000 entries). Such a matrix can be indefinite: use
    :func:`compute_gram` where :func:`has_dependent_rows`.

    Returns:
        A float64 matrix, ``(k, k)``.
    """
    if rows.dtype != torch.float32:
        return compute_gram(rows)
    count, size = rows.shape
    length = min(size, FLOAT32_PRODUCT_ENTRIES)
    end = size - size % length
    found = compute_gram(rows[:, end:]) if end < size else rows.new_zeros(count, count).double()
    pieces = rows[:, :end].unflatten(1, (-1, length)).transpose(0, 1)
    for first in range(0, count, GRAM_BLOCK_ROWS):  # the lower triangle of blocks
        last = first + GRAM_BLOCK_ROWS
        products = pieces[:, first:] @ pieces[:, first:last].mT
        found[first:, first:last] += products.sum(0, dtype=torch.float64)
    return found if count <= GRAM_BLOCK_ROWS else found.tril() + found.tril(-1).T


def has_dependent_rows(gram: Tensor) -> bool:
    """Return whether rows of this Gram matrix, scaled to unit length, are nearly dependent.

    Errors of 1e-7 in the products move solutions by up to 1e-7 over the smallest eigenvalue.
    """
    norms = gram.diagonal().sqrt()
    if not gram.isfinite().all() or not norms.all():
        return True
    smallest = torch.linalg.eigvalsh(gram / (norms[:, None] * norms))[0]
    return bool(smallest < MIN_EIGENVALUE)


def _iterate_chunks(rows: Tensor | Sequence[Tensor], step: int) -> Iterator[Tensor]:
    """Yield chunks of rows in float64, in memory that the next chunk overwrites."""
    if isinstance(rows, Tensor) and rows.dtype == torch.float64:
        yield rows
        return
    count, size = len(rows), len(rows[0])
    buffer = rows[0].new_empty(count, min(step, size), dtype=torch.float64)
    for start in range(0, size, step):
        chunk = buffer[:, : size - start]
        if isinstance(rows, Tensor):
            chunk.copy_(rows[:, start : start + step])
        else:
            for target, row in zip(chunk, rows, strict=True):
                target.copy_(row[start : start + step])
        yield chunk


def compute_gram_in_pieces(rows: Tensor) -> Tensor:
    """Return the inner products of rows, ``(k, n)``, in float64, as the sum of those of pieces."""
    missing = -rows.shape[1] % DEVICE_PRODUCT_ENTRIES
    wide = torch.nn.functional.pad(rows.double(), (0, missing))
    pieces = wide.unflatten(1, (-1, DEVICE_PRODUCT_ENTRIES)).transpose(0, 1)
    found: Tensor = (pieces @ pieces.mT).sum(0)
    return found


def get_chunk_entries(tensor: Tensor) -> int:
    """Return how many entries of gradients to process at a time on a tensor's device."""
    return CPU_CHUNK_ENTRIES if tensor.device.type == "cpu" else DEVICE_CHUNK_ENTRIES
