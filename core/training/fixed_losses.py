"""Losses that enter the step with a fixed weight, beside those that the weighting covers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from common.device_copies import copy_to_device


class LossSplit:
    """Parts a step's losses into the covered ones and those of fixed weight.

    Args:
        names: The names of all losses, in order.
        fixed: The weights of the losses that the weighting does not cover, by name.
        device: The losses' device.

    Attributes:
        covered: Mask of the covered losses, ``(k,)`` bool on the host.
    """

    def __init__(
        self, names: Sequence[str], fixed: Mapping[str, float], device: torch.device
    ) -> None:
        self.covered = torch.tensor([name not in fixed for name in names])
        self._has_fixed = bool(fixed)
        self._rows = (~self.covered).nonzero().flatten().to(device)
        self._weights = torch.tensor([fixed[n] for n in names if n in fixed], device=device)

    def select_covered(self, values: list[Tensor]) -> list[Tensor]:
        """Return the covered losses.

        Args:
            values: All losses in order, as scalars or vectors.
        """
        if not self._has_fixed:
            return values
        found = []
        masks = self.covered.split([value.numel() for value in values])
        for value, mask in zip(values, masks, strict=True):
            if mask.all():
                found.append(value)
            elif mask.any():
                rows = copy_to_device(mask.nonzero().flatten(), value.device)
                found.append(value.index_select(0, rows))
        return found

    def sum_fixed(self, values: list[Tensor]) -> Tensor | None:
        """Return the weighted sum of the other losses, ``()``; None if there are none.

        Args:
            values: All losses in order, as scalars or vectors.
        """
        if not self._has_fixed:
            return None
        losses = torch.cat([value.reshape(-1) for value in values])
        return losses.index_select(0, self._rows) @ self._weights
