"""The sum of alpha-fair losses."""

from .ls import LinearScalarization


class AlphaFairLoss(LinearScalarization):
    """The sum of alpha-fair losses, ``sum_k L_k^(1 - alpha) / (1 - alpha)``.

    Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024, who put alpha-fairness
    into the losses of other methods: every weighting here can do so by its parameter ``losses``,
    and this one is ``{ls: {losses: alpha}}``. At alpha = 0 it is ``ls``, at alpha = 1 ``si``.

    Properties: positive, permutation equivariant; scaling a loss by ``s`` scales its gradient by
    ``s^(1 - alpha)``.

    Args:
        alpha: The fairness, of at least 0; above 1, small losses weigh more than in ``si``.
    """

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__(float(alpha))
