"""Nash-MTL."""

from typing import Any

import torch
from torch import Tensor

from core.weighting.methods.fairgrad import FairGrad


class NashMTL(FairGrad):
    r"""The Nash bargaining solution: ``G w = 1 / w``, FairGrad with alpha = 1.

    Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022. The published code searches
    by up to 20 cone programs (``optim_niter``), the first from the last step's solution; where
    their solver fails or is missing, it silently keeps that. Here the solution is exact and needs
    no memory. The published ``max_norm`` clips before the backward pass, which does nothing.

    Properties: positive, permutation equivariant; the direction has length ``sqrt(K)`` whatever the
    gradients', and a positive inner product with every gradient. Flagged steps as in FairGrad.

    Args:
        update_interval: Steps from one solution to the next, at least 1, with the weights kept in
            between: no Gram matrix is needed there. Published runs take 1.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    previous: Tensor  # (k,)

    def __init__(self, update_interval: int = 1, losses: float | str = "plain") -> None:
        super().__init__(1.0, losses)
        if update_interval < 1:
            raise ValueError(f"update_interval is {update_interval}, expected at least 1")
        self.update_interval = update_interval
        self._kept = 0  # steps since the solution that stands
        self.register_buffer("previous", torch.zeros(0))

    def use_cached_weights(self) -> Tensor | None:
        """Return the last solution until the next is due."""
        if not len(self.previous) or self._kept + 1 >= self.update_interval:
            return None
        self._kept += 1
        return self.previous

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        self.previous = super().solve_weights(gram)
        self._kept = 0
        return self.previous

    def set_weights(self, weights: Tensor) -> None:
        """Let weights, ``(k,)``, stand as :meth:`solve_weights` would."""
        self.previous = weights
        self._kept = 0

    def get_extra_state(self) -> dict[str, int]:
        """Return the steps since the last solution, and the state of FairGrad."""
        return {"kept": self._kept, **super().get_extra_state()}

    def set_extra_state(self, state: Any) -> None:
        """Go on from :meth:`get_extra_state`."""
        super().set_extra_state(state)
        self._kept = int(state["kept"])
