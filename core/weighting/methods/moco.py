"""MoCo."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import GradientWeighting
from ..errors import require_at_least
from ..solvers.simplex import project_to_simplex


class MoCo(GradientWeighting):
    r"""MGDA with tracked gradients and weights that move a little at each step.

    ``y_k <- y_k - beta_t (y_k - g_k)``; ``w <- P(w - gamma_t (Y Y' + rho) w)`` with ``P`` the
    projection onto the simplex; the step is ``sum_k w_k y_k``; ``beta_t = beta t^-decay`` and
    ``gamma_t = gamma t^-decay`` at step ``t``. Fernando et al., Mitigating Gradient Bias in
    Multi-objective Learning: A Provably Convergent Approach, ICLR 2023. The tracked gradients
    are outside the span of one step's gradients, so all of these are needed, and memory of K times
    the parameters. The tracked gradient of a task without an example in the batch is kept and takes
    part. (The authors' code also rescales the gradients to the size of the losses and replaces the
    projection by a softmax; this is the paper's algorithm.)

    Properties: weights non-negative with sum 1; permutation invariant; the direction scales with
    the gradients only where the weights stay, as ``gamma`` has a unit: that of ``1 / |g|^2``.

    Args:
        beta: Share of the new gradients in the tracked ones at step 1, above 0, at most 1.
        gamma: Step size of the weights at step 1, at least 0.
        rho: Pull of the weights towards equality, at least 0.
        decay: Power of the step number by which both fall, at least 0.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If a parameter is out of its range.
    """

    properties = frozenset({"equivariant"})
    has_fixed_kernels = True
    tracked: Tensor  # (k, p)
    shares: Tensor  # (k,)
    steps: Tensor  # (), int64

    def __init__(
        self,
        beta: float = 0.5,
        gamma: float = 0.1,
        rho: float = 0.0,
        decay: float = 0.5,
        losses: float | str = "plain",
    ) -> None:
        super().__init__(losses)
        if not 0 < beta <= 1:
            raise ValueError(f"beta is {beta}, expected a number above 0 and up to 1")
        require_at_least(0, gamma=gamma, rho=rho, decay=decay)
        self.beta, self.gamma, self.rho, self.decay = beta, gamma, rho, decay
        self.register_buffer("tracked", torch.zeros(0, 0))
        self.register_buffer("shares", torch.zeros(0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def setup(self, names: Sequence[str]) -> None:
        """Start from equal weights."""
        self.shares = torch.full((len(names),), 1 / max(len(names), 1))

    def combine_gradients(self, gradients: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the step's direction, ``(p,)``, of the gradients, ``(k, p)``, of present tasks."""
        tasks = len(gradients) if present is None else len(present)
        self._setup_if_resized(self.shares, tasks)
        if self.tracked.shape != (tasks, gradients.shape[1]):
            self.tracked = gradients.new_zeros(tasks, gradients.shape[1])
        self.steps = (self.steps + 1).to(gradients.device)
        slower = self.steps.to(gradients.dtype) ** -self.decay
        tracked = self.tracked.to(gradients)
        if present is None:
            self.tracked = tracked.lerp(gradients, self.beta * slower)
        else:
            rows = present.nonzero()[:, 0].to(gradients.device)
            self.tracked = tracked.index_copy(
                0, rows, tracked[rows].lerp(gradients, self.beta * slower)
            )
        shares = self.shares.to(gradients)
        slope = self.tracked @ (self.tracked.T @ shares) + self.rho * shares
        self.shares = project_to_simplex(shares - self.gamma * slower * slope)
        return self.shares @ self.tracked
