"""Gradient sign dropout."""

import torch
from torch import Tensor

from ..base import GradientWeighting


class GradDrop(GradientWeighting):
    r"""Keeps one sign per parameter, drawn with the share of the gradients that have it.

    ``P = (1 + sum_k g_k / sum_k |g_k|) / 2`` per parameter, ``U`` uniform: where ``P > U`` the
    negative entries are dropped, elsewhere the positive ones; then the sum over tasks. Chen et al.,
    Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout, NeurIPS 2020.
    Needs the gradients themselves. Drawn from torch's global generator, on the gradients' device.

    Properties: the mean over draws is ``(P sum_k max(g_k, 0) + (1 - P) sum_k min(g_k, 0))``;
    permutation invariant; scales with the gradients. No entry of the direction has a sign that no
    gradient has there.

    Args:
        leak: Share of every gradient that is never dropped, from 0 to 1 (1: the sum).
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``leak`` is out of its range.
    """

    properties = frozenset({"scale_free"})
    has_fixed_kernels = True

    def __init__(self, leak: float = 0.0, losses: float | str = "plain") -> None:
        super().__init__(losses)
        if not 0 <= leak <= 1:
            raise ValueError(f"leak is {leak}, expected a number from 0 to 1")
        self.leak = leak

    def combine_gradients(self, gradients: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the step's direction, ``(p,)``, of the gradients, ``(k, p)``, of present tasks."""
        above = gradients.clamp(min=0).sum(0)
        below = gradients.clamp(max=0).sum(0)
        size = above - below
        share = torch.where(size > 0, above / size, 0.5)
        kept = torch.where(share > torch.rand_like(share), above, below)
        return self.leak * (above + below) + (1 - self.leak) * kept
