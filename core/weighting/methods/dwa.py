"""Dynamic weight average."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..base import LossWeighting
from ..errors import require_at_least, require_positive

MAX_WINDOW = 100_000  # whose losses are kept


class DynamicWeightAverage(LossWeighting):
    r"""Losses that fall slowly weigh more.

    ``w_k = K exp(r_k / T) / sum_j exp(r_j / T)`` with ``r_k = L_k(t - 1) / L_k(t - 2)``, the ratio
    of a loss's means over the last two windows; ones until there are two. Liu, Johns & Davison,
    End-to-End Multi-Task Learning with Attention, CVPR 2019, where a window is an epoch. The
    code of Nash-MTL and FairGrad has sliding windows of 25 steps instead, filled with ones at first
    and used after ``window + 1`` steps: ``window: 25`` does exactly that. (It also divides by K: it
    descends the mean in place of the sum.)

    Properties: positive, sum K, permutation equivariant, unchanged when a loss is scaled for good.
    The ratio of negative losses (``losses: log``) has no such meaning.

    Args:
        temperature: T, above 0; the larger, the more equal the weights.
        window: Steps in a sliding window; 0 for windows of one epoch each.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``temperature`` or ``window`` is out of its range.
    """

    properties = frozenset({"positive", "equivariant"})
    has_fixed_kernels = True
    reads_loss_sizes: ClassVar[bool] = True
    history: Tensor  # (2, k), means of the last two epochs, or (2 * window, k), the last losses
    seen: Tensor  # (), int64, epochs or steps in the history
    total: Tensor  # (k,), sum over the steps of this epoch
    steps: Tensor  # (), int64, of this epoch

    def __init__(
        self, temperature: float = 2.0, window: int = 0, losses: float | str = "plain"
    ) -> None:
        super().__init__(losses)
        require_positive(temperature=temperature)
        require_at_least(0, window=window)
        if window > MAX_WINDOW:
            raise ValueError(f"window is {window}, expected at most {MAX_WINDOW:,} steps")
        self.temperature = temperature
        self.window = window
        self.register_buffer("total", torch.zeros(0))
        self.register_buffer("history", torch.zeros(2, 0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def setup(self, names: Sequence[str]) -> None:
        """Start with ones."""
        self.total = torch.zeros(len(names))
        self.history = torch.ones(2 * max(self.window, 1), len(names))

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Record the losses and return the weights, ``(k,)``."""
        self._setup_if_resized(self.total, len(losses))
        if self.window:
            # The published code counts the steps before this one, and needs more than a window.
            ready = self.seen > self.window
            self._append_losses(losses)
        else:
            ready = self.seen >= 2
            self.total = self.total.to(losses) + losses
            self.steps = self.steps + 1
        before, after = self.history.to(losses).chunk(2)
        ratio = torch.where(ready.to(losses.device), after.mean(0) / before.mean(0), 1)
        # A loss of 0 (no example in a window) has no speed.
        ratio = torch.where(torch.isfinite(ratio), ratio, 1)
        return len(losses) * (ratio / self.temperature).softmax(0)

    def on_epoch_end(self) -> None:
        """Close the window of an epoch."""
        if not self.window:
            self._append_losses(self.total / self.steps.clamp(min=1))
            self.total = torch.zeros_like(self.total)
            self.steps = torch.zeros_like(self.steps)

    def _append_losses(self, losses: Tensor) -> None:
        self.history = torch.cat([self.history.to(losses)[1:], losses[None]])
        self.seen = self.seen + 1
