"""Impartial multi-task learning, by gradients."""

import torch
from torch import Tensor

from ..base import GramWeighting


class IMTLG(GramWeighting):
    r"""A direction with equal projections onto all unit gradients (IMTL-G).

    ``u_i (sum_j w_j g_j)`` is the same for all ``i`` and ``sum_j w_j = 1``: in closed form
    ``w = G^+ n / sum(G^+ n)`` with ``n`` the gradients' lengths. Liu et al., Towards Impartial
    Multi-Task Learning, ICLR 2021. Solved for unit gradients by a pseudo-inverse, so that equal
    gradients share their weight.

    Properties: sum 1, of either sign; permutation equivariant; unchanged when the matrix is scaled.
    Flagged where no direction has equal projections: gradients that oppose each other exactly or
    are 0, and as a rule more tasks than dimensions.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"equivariant", "scale_free"})

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        noise = 4 * len(gram) * torch.finfo(gram.dtype).eps
        # On the CPU: a GPU is slower at so small a matrix, and its solver makes the host wait.
        matrix = gram.to("cpu", torch.float64)
        lengths = matrix.diagonal().sqrt()
        unit = (matrix / lengths / lengths[:, None]).nan_to_num(0.0, 0.0, 0.0)
        equal = torch.linalg.pinv(unit, rtol=noise, hermitian=True).sum(1)
        exists = (unit @ equal - 1).abs().max() < 1e-2
        weights = equal / lengths
        total = weights.sum()
        exists = exists & (total.abs() > noise * weights.abs().sum())
        return torch.where(exists, weights / total, torch.nan).to(gram.device)
