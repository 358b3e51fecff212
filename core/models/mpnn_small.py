"""A message passing network for CPUs."""

from collections.abc import Mapping

from core.models.mpnn import MPNN


class SmallMPNN(MPNN):
    """:class:`core.models.mpnn.MPNN` with states of 16 and edge networks of 32: 14,464 parameters.

    Args:
        outputs: The tasks; each has one output and adds 17 parameters.
    """

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__(outputs, width=16, hidden=32)
