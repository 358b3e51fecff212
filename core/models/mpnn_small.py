"""A message passing network for CPUs."""

from collections.abc import Mapping

from core.models.mpnn import MPNN


class SmallMPNN(MPNN):
    """The network with states of width 16 and edge networks of width 32: 14,464 parameters.

    Args:
        outputs: The tasks; each has one output and adds 17 parameters.
    """

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__(outputs, width=16, hidden=32)
