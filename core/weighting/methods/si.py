"""The sum of the losses' logarithms."""

from core.weighting.methods.ls import LinearScalarization


class ScaleInvariant(LinearScalarization):
    """The sum of the logarithms, ``sum_k log L_k``: no loss's unit matters.

    The baseline "SI" of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022. The same
    as ``{ls: {losses: log}}``.

    Properties: positive, permutation equivariant; the step is unchanged when a loss is scaled.
    """

    def __init__(self) -> None:
        super().__init__("log")
