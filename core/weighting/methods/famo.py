"""Fast adaptive multitask optimization."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..base import LossWeighting
from ..errors import require_at_least, require_positive

LOSS_OFFSET = 1e-8  # keeps logarithms finite
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class FAMO(LossWeighting):
    r"""Lets all losses fall at the same rate, from the losses before and after the step.

    ``w_k = (z_k / L_k) / sum_j (z_j / L_j)`` with ``z = softmax(xi)``. After the step, with
    ``delta_k = log L_k - log L_k'``, Adam (as in the published code) descends ``xi`` along
    ``J' delta + gamma xi``, where ``J`` is the derivative of the softmax: losses that fell less
    than others gain weight. Liu, Feng, Stone & Liu, FAMO: Fast Adaptive Multitask Optimization,
    NeurIPS 2023.

    Properties: positive, sum 1, permutation equivariant; the step's direction is unchanged when a
    loss is scaled for good. Losses of 0 count as absent: weight 0, and they move no logits.

    Args:
        gamma: Decay of the logits, at least 0; published values are 0.001 and 0.01.
        step_size: Adam's step size for the logits, above 0.

    Raises:
        ValueError: If ``gamma`` or ``step_size`` is out of its range.
    """

    properties = frozenset({"positive", "simplex", "equivariant"})
    has_fixed_kernels = True
    needs_losses_after_step: ClassVar[bool] = True
    reads_loss_sizes: ClassVar[bool] = True
    logits: Tensor  # (k,)
    before: Tensor  # (k,), the logarithms of the losses before the step, NaN where absent
    momentum: Tensor  # (k,)
    squares: Tensor  # (k,)
    updates: Tensor  # (), int64

    def __init__(self, gamma: float = 0.01, step_size: float = 0.025) -> None:
        super().__init__()
        require_at_least(0, gamma=gamma)
        require_positive(step_size=step_size)
        self.gamma = gamma
        self.step_size = step_size
        for name in ("logits", "before", "momentum", "squares"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def setup(self, names: Sequence[str]) -> None:
        """Start from equal logits."""
        for name in ("logits", "before", "momentum", "squares"):
            setattr(self, name, torch.zeros(len(names)))

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return the weights, ``(k,)``, and record the losses."""
        self._setup_if_resized(self.logits, len(losses))
        self.before = _take_logarithms(losses)
        raised = self.logits.to(losses).softmax(0).log() - self.before
        return raised.nan_to_num(-torch.inf).softmax(0).nan_to_num(1 / len(losses))

    def update_after_step(self, losses: Tensor) -> None:
        """Move the logits by how much each loss fell in the step."""
        if len(losses) != len(self.before):
            raise ValueError(
                f"after_step received {len(losses)} losses, expected {len(self.before)}, as in the "
                "step"
            )
        fall = (self.before.to(losses) - _take_logarithms(losses)).nan_to_num(0.0)
        logits = self.logits.to(losses)
        share = logits.softmax(0)
        gradient = share * (fall - share @ fall) + self.gamma * logits
        self.updates = self.updates + 1
        self.momentum = torch.lerp(gradient, self.momentum.to(losses), ADAM_BETA1)
        self.squares = torch.lerp(gradient.square(), self.squares.to(losses), ADAM_BETA2)
        updates = self.updates.to(losses)
        mean = self.momentum / (1 - ADAM_BETA1**updates)
        spread = (self.squares / (1 - ADAM_BETA2**updates)).sqrt() + ADAM_EPSILON
        self.logits = logits - self.step_size * mean / spread


def _take_logarithms(losses: Tensor) -> Tensor:
    return torch.where(losses == 0, torch.nan, losses + LOSS_OFFSET).log()
