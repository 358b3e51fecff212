"""Group distributionally robust optimization."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import LossWeighting
from ..errors import require_positive


class GroupDRO(LossWeighting):
    r"""Exponentiated gradient ascent on the weights: the worst losses weigh most.

    Sagawa et al., Distributionally Robust Neural Networks, ICLR 2020, algorithm 1:
    ``q_k <- q_k exp(step_size * L_k)``, scaled to sum 1; the step descends ``sum_k q_k L_k``.
    A loss without an example in the batch counts as 0. Kept as logarithms, so that losses of any
    size leave the weights finite.

    Properties: positive, sum 1, permutation equivariant; adding a constant to all losses changes
    nothing. The memory fades slowly: a loss that was large for long keeps a large weight for long.

    Args:
        step_size: Step size of the ascent, above 0, in 1 / loss.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``step_size`` is not above 0.
    """

    properties = frozenset({"positive", "simplex", "equivariant"})
    has_fixed_kernels = True
    log_q: Tensor

    def __init__(self, step_size: float = 0.01, losses: float | str = "plain") -> None:
        super().__init__(losses)
        require_positive(step_size=step_size)
        self.step_size = step_size
        self.register_buffer("log_q", torch.zeros(0))

    def setup(self, names: Sequence[str]) -> None:
        """Start from equal weights."""
        self.log_q = torch.full((len(names),), -torch.log(torch.tensor(float(len(names)))).item())

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Update and return ``q``, ``(k,)``, positive with sum 1."""
        self._setup_if_resized(self.log_q, len(losses))
        raised = self.log_q.to(losses) + self.step_size * losses
        self.log_q = raised - torch.logsumexp(raised, dim=0)
        return self.log_q.exp()
