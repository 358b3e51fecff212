"""Uncertainty weighting."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..base import LossWeighting
from ..errors import require_at_least


class UncertaintyWeighting(LossWeighting):
    """Weights learned as the losses' noise: the step descends ``sum_k (exp(-s_k) L_k + s_k) / 2``.

    Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics, CVPR 2018; ``s_k`` is the logarithm of the variance, 0 at first, and learned by
    the optimizer, which must be given :meth:`parameters` after :meth:`setup`. The published CelebA
    code forgets that, so that its weights never move.

    Properties: positive, permutation equivariant; with ``s`` at its optimum ``log L`` for every
    loss, the step is unchanged when a loss is scaled. Losses must stay positive (alpha-fair losses
    up to alpha below 1): a negative one would make ``s`` fall without bound.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
        lr: Learning rate of ``s``, at least 0; None takes the model's.

    Raises:
        ValueError: If ``lr`` is negative.
    """

    properties = frozenset({"positive", "equivariant"})
    has_fixed_kernels = True
    reads_loss_sizes: ClassVar[bool] = True
    log_variance: nn.Parameter  # (k,)

    def __init__(self, losses: float | str = "plain", lr: float | None = None) -> None:
        super().__init__(losses)
        if lr is not None:
            require_at_least(0, lr=lr)
        self.lr = lr
        self.log_variance = nn.Parameter(torch.zeros(0))

    def setup(self, names: Sequence[str]) -> None:
        """Create the parameters that the optimizer learns."""
        self.log_variance = nn.Parameter(torch.zeros(len(names)))

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return ``exp(-s) / 2``, ``(k,)``, without a gradient.

        Raises:
            ValueError: If :meth:`setup` was not called for so many losses.
        """
        return self._exponentiate(losses).detach()

    def compute_objective(self, losses: Tensor) -> Tensor:
        """Return the sum that model and weights descend together, ``()``.

        Raises:
            ValueError: If :meth:`setup` was not called for so many losses.
        """
        return (self._exponentiate(losses) * losses).sum() + self.log_variance.sum() / 2

    def _exponentiate(self, losses: Tensor) -> Tensor:
        if len(self.log_variance) != len(losses):
            raise ValueError(
                f"uw is set up for {len(self.log_variance)} losses, received {len(losses)}: "
                "call setup with the names of the losses before making the optimizer"
            )
        return (-self.log_variance).exp().to(losses) / 2
