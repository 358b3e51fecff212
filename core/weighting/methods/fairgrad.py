"""FairGrad."""

from ..base import AlphaFairWeighting


class FairGrad(AlphaFairWeighting):
    r"""Maximizes the alpha-fair utility of the tasks' loss decreases: ``G w = w^(-1/alpha)``.

    Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024. Solved by
    :func:`core.weighting.solve_alpha_fair`; inside a CUDA graph by
    :func:`core.weighting.solve_alpha_fair_on_device`. The published code uses bounded least
    squares from 1/K, which ends far from the solution where gradients are small; it also multiplies
    the direction by K and clips its norm to 1.

    Properties: positive, permutation equivariant; scaling the matrix by ``s`` scales the weights by
    ``s^(-alpha/(alpha+1))``; in solved steps the direction has a positive inner product with every
    gradient. Where the equation has no solution (0 is in the gradients' convex hull), the nearest
    point found or inverse-norm weights replace it, by the rules of ``replace_unsolvable`` in
    solvers/alpha_fair.py (CPU) and solvers/alpha_fair_device.py (CUDA graphs). A matrix with NaN or
    Inf does not reach them: it gets the weights of ``compute_inverse_norm_weights`` in base.py.

    Args:
        alpha: The fairness, above 0: 1 is proportional fairness (Nash-MTL), large values approach
            max-min fairness of the decreases. Published runs take 2.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    has_fixed_kernels = True

    def __init__(self, alpha: float = 2.0, losses: float | str = "plain") -> None:
        super().__init__(alpha, losses)
