"""Nash-MTL."""

import torch
from torch import Tensor

from ..base import AlphaFairWeighting
from ..errors import require_at_least


class NashMTL(AlphaFairWeighting):
    r"""The Nash bargaining solution: ``G w = 1 / w``, FairGrad with alpha = 1.

    Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022. The published code searches
    by up to 20 cone programs (``optim_niter``), the first from the last step's solution; where
    their solver fails or is missing, it silently keeps that. Here the solution is exact and needs
    no memory. The published ``max_norm`` clips before the backward pass, which does nothing.

    Properties: positive, permutation equivariant; the direction has length ``sqrt(K)`` for any
    gradients, and a positive inner product with every gradient. Flagged steps as in FairGrad.

    Args:
        update_interval: Steps from one solution to the next, at least 1, with the weights cached in
            between: no Gram matrix is needed there. Published runs take 1.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``update_interval`` is below 1.
    """

    previous: Tensor  # (k,)

    def __init__(self, update_interval: int = 1, losses: float | str = "plain") -> None:
        super().__init__(1.0, losses)
        require_at_least(1, update_interval=update_interval)
        self.update_interval = update_interval
        self._steps_since_solution = 0
        self.register_buffer("previous", torch.zeros(0))

    @property
    def has_fixed_kernels(self) -> bool:
        """Whether every step solves: the host counts the steps between solutions."""
        return self.update_interval == 1

    def use_cached_weights(self) -> Tensor | None:
        """Return the last solution until the next is due."""
        if not len(self.previous) or self._steps_since_solution + 1 >= self.update_interval:
            return None
        self._steps_since_solution += 1
        return self.previous

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``, and cache them."""
        self.set_weights(super().solve_weights(gram))
        return self.previous

    def set_weights(self, weights: Tensor) -> None:
        """Cache weights, ``(k,)``, as :meth:`solve_weights` does."""
        self.previous = weights
        self._steps_since_solution = 0

    def get_extra_state(self) -> dict[str, int]:
        """Return the steps since the last solution, and the search history."""
        return {"steps_since_solution": self._steps_since_solution, **super().get_extra_state()}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore the state that :meth:`get_extra_state` returned."""
        history = dict(state)
        self._steps_since_solution = history.pop("steps_since_solution")
        super().set_extra_state(history)
