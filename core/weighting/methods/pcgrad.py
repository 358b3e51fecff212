"""Projecting conflicting gradients."""

import torch
from torch import Tensor

from ..base import GramWeighting


class PCGrad(GramWeighting):
    r"""The sum of the gradients, each with its conflicts projected away.

    For each task ``i``, ``p = g_i``; for the other tasks ``j`` in random order, if ``p g_j < 0``
    then ``p <- p - (p g_j / |g_j|^2) g_j``; the step is the sum over ``i``. Yu et al., Gradient
    Surgery for Multi-Task Learning, NeurIPS 2020. All of it stays in the gradients' span, so the
    Gram matrix suffices. Orders are drawn from torch's global generator, on the matrix's device.

    Properties: weights of at least 1; permutation equivariant in distribution; unchanged when the
    matrix is scaled. With two tasks the direction conflicts with neither; with more it may.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "scale_free"})
    has_fixed_kernels = True

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        tasks = len(gram)
        order = torch.rand(tasks, tasks, device=gram.device).argsort(dim=1)
        projected = torch.eye(tasks, dtype=gram.dtype, device=gram.device)  # row i: task i's p
        squares = gram.diagonal()
        squares = torch.where(squares > 0, squares, 1)
        own = torch.arange(tasks, device=gram.device)
        for other in order.T:  # of all tasks at once, each with its own
            conflict = (projected * gram[other]).sum(1).clamp(max=0)
            conflict = torch.where(other == own, 0, conflict / squares[other])
            projected = projected.scatter_add(1, other[:, None], -conflict[:, None])
        return projected.sum(0)
