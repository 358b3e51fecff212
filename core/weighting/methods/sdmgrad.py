"""SDMGrad."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import GramWeighting
from ..device_copies import copy_to_device
from ..errors import require_at_least
from ..solvers.active_set import find_min_norm_weights
from ..solvers.gram import gram_to_array, weights_to_tensor
from ..solvers.simplex import project_to_simplex

STEP_SIZE, MOMENTUM = 10.0, 0.5  # of the published search
MAX_ITERATIONS = 10_000  # of every step


class SDMGrad(GramWeighting):
    r"""MGDA drawn towards the mean gradient.

    ``w`` minimizes ``|sum_k w_k g_k + strength g_0|`` on the simplex, ``g_0`` the mean gradient;
    the step is ``(sum_k w_k g_k + strength g_0) / (1 + strength)``. Xiao, Ban & Ji,
    Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms,
    NeurIPS 2023. The published code takes 20 projected steps (size 10, momentum 0.5) from the last
    step's weights, on the matrix divided by the square of the mean gradient length;
    ``iterations: 20`` does that, 0 finds the minimum. The variants with three independent batches
    and with sampled objectives change the losses, not the weighting.

    Properties: positive, sum 1; unchanged when the matrix is scaled; permutation equivariant where
    the minimum is unique, which the direction always is. ``strength: 0`` is MGDA, large values the
    mean. At the minimum, the direction has no negative inner product with a gradient plus
    ``strength g_0``.

    Args:
        strength: Pull towards the mean gradient (the paper's lambda), at least 0.
        iterations: Steps of the published search; 0 for the minimum itself.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``strength`` or ``iterations`` is negative.
    """

    properties = frozenset({"positive", "simplex", "equivariant", "scale_free"})
    found: Tensor  # (k,), the last search's end

    def __init__(
        self, strength: float = 0.3, iterations: int = 0, losses: float | str = "plain"
    ) -> None:
        super().__init__(losses)
        require_at_least(0, strength=strength, iterations=iterations)
        if iterations > MAX_ITERATIONS:
            raise ValueError(f"iterations is {iterations}, expected at most {MAX_ITERATIONS:,}")
        self.strength = strength
        self.iterations = iterations
        self.register_buffer("found", torch.zeros(0))

    @property
    def has_fixed_kernels(self) -> bool:
        """Whether the published search runs: the minimum itself is found on the host."""
        return self.iterations > 0

    def setup(self, names: Sequence[str]) -> None:
        """Start the search from equal weights."""
        self.found = torch.full((len(names),), 1 / max(len(names), 1))

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        shares = self._take_published_steps(gram) if self.iterations else self._find_minimum(gram)
        return (shares + self.strength / len(gram)) / (1 + self.strength)

    def _find_minimum(self, gram: Tensor) -> Tensor:
        matrix = gram_to_array(gram)
        pull = self.strength * matrix.mean(1)
        moved = matrix + pull + pull[:, None] + self.strength * pull.mean()
        return weights_to_tensor(find_min_norm_weights(moved), gram)

    def _take_published_steps(self, gram: Tensor) -> Tensor:
        present = self._present
        self._setup_if_resized(self.found, len(gram) if present is None else len(present))
        if present is None:
            self.found = self._search(gram, self.found.to(gram))
            return self.found
        # Absent tasks keep their weights; the present ones share theirs anew.
        found = self.found.to(gram)
        rows = copy_to_device(present.nonzero()[:, 0], gram.device)
        kept = found[rows].sum()
        weights = self._search(gram, torch.where(kept > 0, found[rows] / kept, 1 / len(gram)))
        self.found = found.index_copy(0, rows, weights * kept)
        return weights

    def _search(self, gram: Tensor, weights: Tensor) -> Tensor:
        """Return the weights, ``(k,)``, after the published steps from given ones."""
        scale = (gram.diagonal().clamp(min=0)).sqrt().mean().square()
        matrix = gram / torch.where(scale > 0, scale, 1)
        pull = self.strength * matrix.mean(1)
        moving = torch.zeros_like(weights)
        for _ in range(self.iterations):
            moving = MOMENTUM * moving + matrix @ weights + pull
            weights = project_to_simplex(weights - STEP_SIZE * moving)
        return weights
