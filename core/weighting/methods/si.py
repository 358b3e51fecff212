"""The sum of the losses' logarithms."""

from collections.abc import Mapping

from .ls import LinearScalarization


class ScaleInvariant(LinearScalarization):
    """The sum of the logarithms, ``sum_k log L_k``: no loss's unit matters.

    The baseline "SI" of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022. The same
    as ``{ls: {losses: log}}``.

    Properties: positive, permutation equivariant; the step is unchanged when a loss is scaled.

    Args:
        weights: Weight per loss, by name, as in ``fixed``: by default 1 for all.

    Raises:
        ValueError: If a text of weights is malformed.
    """

    def __init__(self, weights: Mapping[str, float] | str = "") -> None:
        super().__init__("log", weights)
