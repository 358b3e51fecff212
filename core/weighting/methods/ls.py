"""The sum of the losses."""

from collections.abc import Mapping

from .fixed import Fixed


class LinearScalarization(Fixed):
    """The sum of the losses, ``sum_k L_k``: the baseline of all weightings.

    Properties: positive, permutation equivariant; the step scales with each loss.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
        weights: Weight per loss, by name, as in ``fixed``: by default 1 for all.

    Raises:
        ValueError: If a text of weights is malformed.
    """

    properties = frozenset({"positive", "equivariant"})

    def __init__(
        self, losses: float | str = "plain", weights: Mapping[str, float] | str = ""
    ) -> None:
        super().__init__(weights, losses)
