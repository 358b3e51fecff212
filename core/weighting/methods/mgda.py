"""The multiple-gradient descent algorithm."""

import numpy as np
import torch
from torch import Tensor

from ..base import GramWeighting
from ..solvers.active_set import Vector, find_min_norm_weights
from ..solvers.gram import gram_to_array, weights_to_tensor

NORMALIZATIONS = ("none", "norm", "loss", "loss+")


class MGDA(GramWeighting):
    r"""The shortest vector in the hull of the gradients: ``min |sum_k w_k g_k|`` on the simplex.

    Désidéri, Multiple-gradient descent algorithm for multiobjective optimization, C. R. Math. 2012;
    Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, whose
    Frank-Wolfe search stops early; here an active set finds the minimum up to rounding. (The
    published multi-task code multiplies the weights by K, as ``times_losses`` does in training.)

    Properties: non-negative, sum 1, unchanged when the matrix is scaled; the direction has no
    negative inner product with a gradient, and is 0 where 0 is in the hull. Permutation equivariant
    where the weights are unique, which the direction always is. A zero gradient gets all weight.

    Args:
        normalization: Divisor of each gradient in the search, one of ``none``, ``norm`` (its
            length), ``loss`` (its loss, before any transform) and ``loss+`` (both), as in the
            published code; the weights still multiply the gradients as they are.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``normalization`` is none of these.
    """

    properties = frozenset({"positive", "simplex", "equivariant", "scale_free", "conflict_free"})

    def __init__(self, normalization: str = "none", losses: float | str = "plain") -> None:
        super().__init__(losses)
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization: received '{normalization}', expected one of {NORMALIZATIONS}"
            )
        self.normalization = normalization
        self._losses = torch.ones(0)  # of this step

    def transform_losses(self, losses: Tensor) -> Tensor:
        """Return the transformed losses, ``(k,)``, and keep the given ones."""
        given = losses.detach()
        kept = self._losses
        if (kept.shape, kept.device, kept.dtype) != (given.shape, given.device, given.dtype):
            self._losses = torch.empty_like(given)
        self._losses.copy_(given)  # in place, because the CUDA graphs of all shapes write there
        return super().transform_losses(losses)

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        matrix = gram_to_array(gram)
        divisors = np.ones(len(matrix))
        if self.normalization in ("norm", "loss+"):
            divisors *= matrix.diagonal() ** 0.5
        if self.normalization in ("loss", "loss+"):
            divisors *= self._read_losses(len(matrix))
        divisors = np.where(divisors > 0, divisors, 1)
        matrix = matrix / divisors / divisors[:, None]
        return weights_to_tensor(find_min_norm_weights(matrix), gram)

    def _read_losses(self, tasks: int) -> Vector:
        """Return the losses of the tasks in the matrix; those without an example are 0.

        Raises:
            ValueError: If the step's losses are unknown.
        """
        losses: Vector = self._losses.double().cpu().numpy()
        if len(losses) != tasks:
            losses = losses[losses != 0]
        if len(losses) != tasks:
            raise ValueError(
                f"normalization={self.normalization} needs the losses of the step: call "
                "transform_losses with them first, as core.weighting.backward does"
            )
        return losses
