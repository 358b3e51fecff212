"""Projection onto the simplex."""

import torch
from torch import Tensor


def project_to_simplex(vector: Tensor) -> Tensor:
    """Return the nearest point, ``(k,)``, that is non-negative with sum 1.

    It is ``max(v - t, 0)`` for the ``t`` that makes the sum 1, found from the sorted vector.
    """
    descending = vector.sort(descending=True).values
    count = torch.arange(1, len(vector) + 1, dtype=vector.dtype, device=vector.device)
    thresholds = (descending.cumsum(0) - 1) / count
    # Thresholds rise as long as they are below their own entry: the largest is the right one.
    return (vector - thresholds.max()).clamp(min=0)
