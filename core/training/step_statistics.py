"""What an epoch's steps did to the losses: their weights, and their gradients' conflicts."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.device_copies import copy_to_device

BUFFERED_STEPS = 64  # steps whose values are kept until a few kernels take them all in


class StepStatistics:
    """Accumulates weights and Gram matrices on the device, without waiting for it.

    Args:
        names: The names of the losses that the weighting covers, in order.
        device: The losses' device.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = names
        self._device = device
        self._weights: list[Tensor] = []
        self._grams: list[Tensor] = []
        shape = (len(names),)
        zeros = torch.zeros(4, *shape, dtype=torch.float64, device=device)
        self._weight_sums, self._weight_counts, self._norm_sums, self._norm_counts = zeros
        self._lowest = torch.full(shape, math.inf, dtype=torch.float64, device=device)
        self._highest = torch.full(shape, -math.inf, dtype=torch.float64, device=device)
        self._pairs = torch.zeros(2, dtype=torch.float64, device=device)  # conflicting, and all

    def add_step(self, weights: Tensor | None, gram: Tensor | None, present: Tensor | None) -> None:
        """Add a step.

        Args:
            weights: The weights of the losses, ``(k,)``; None where there are none.
            gram: Inner products of the present losses' gradients; None where unknown.
            present: Mask of the present losses, ``(k,)`` bool on the host; None for all.
        """
        if len(self.names) < 2:  # nothing to weigh
            return
        rows = None
        if present is not None and not present.all():
            rows = copy_to_device(present.nonzero().flatten(), self._device)
        if weights is not None:
            weights = weights.detach().double()
            self._weights.append(weights if rows is None else _spread(weights[rows], rows, present))
        if gram is not None:
            gram = copy_to_device(gram.detach().double(), self._device)
            self._grams.append(gram if rows is None else _spread(gram, rows, present))
        if max(len(self._weights), len(self._grams)) >= BUFFERED_STEPS:
            self._reduce()

    def _reduce(self) -> None:
        """Take the buffered steps in; NaN marks absent losses."""
        if self._weights:
            weights = torch.stack(self._weights)
            known = ~weights.isnan()
            self._weight_sums += weights.nansum(dim=0)
            self._weight_counts += known.sum(dim=0)
            lowest = torch.where(known, weights, math.inf).amin(dim=0)
            highest = torch.where(known, weights, -math.inf).amax(dim=0)
            self._lowest = torch.minimum(self._lowest, lowest)
            self._highest = torch.maximum(self._highest, highest)
            self._weights.clear()
        if self._grams:
            grams = torch.stack(self._grams)
            norms = grams.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
            self._norm_sums += norms.nansum(dim=0)
            self._norm_counts += (~norms.isnan()).sum(dim=0)
            known = norms > 0
            pairs = (known[:, :, None] & known[:, None, :]).triu(diagonal=1)
            self._pairs[0] += (pairs & (grams < 0)).sum()
            self._pairs[1] += pairs.sum()
            self._grams.clear()

    def summarize(self) -> tuple[dict[str, dict[str, float]] | None, dict[str, Any] | None]:
        """Return mean, lowest and highest weight by loss, and the gradients' conflicts.

        Each is None where no step had any. Waits for the device, once.
        """
        self._reduce()
        sums = (self._weight_sums, self._weight_counts, self._norm_sums, self._norm_counts)
        columns = torch.stack([*sums, self._lowest, self._highest], dim=1)
        found = torch.cat([columns.flatten(), self._pairs]).tolist()
        conflicting, pairs = found[-2:]
        width = columns.shape[1]
        rows = {name: found[i * width : (i + 1) * width] for i, name in enumerate(self.names)}
        weights = {
            name: {"mean": total / count, "min": lowest, "max": highest}
            for name, (total, count, _, _, lowest, highest) in rows.items()
            if count
        }
        norms = {name: row[2] / row[3] for name, row in rows.items() if row[3]}
        conflicts = {
            "negative_cosines": conflicting / pairs if pairs else None,
            "norms": norms,
        }
        return weights or None, conflicts if norms else None


def _spread(values: Tensor, rows: Tensor, present: Tensor | None) -> Tensor:
    """Return values of the present losses at their places among all, NaN elsewhere.

    Args:
        values: ``(p,)`` or ``(p, p)``.
        rows: The places, ``(p,)`` int64.
        present: The mask that they come from, ``(k,)``.
    """
    assert present is not None
    count = len(present)
    found = values.new_full((count,) * values.ndim, math.nan)
    if values.ndim == 1:
        return found.index_copy_(0, rows, values)
    return found.index_put_((rows[:, None], rows[None, :]), values)
