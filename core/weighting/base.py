"""What every weighting is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Weighting(nn.Module, ABC):
    """Turns a vector of losses into the weights of one training step.

    A module, so that what it learns is in :meth:`parameters`, which the optimiser is given, and
    what it remembers is in :meth:`state_dict`, which checkpoints carry.
    """

    @abstractmethod
    def weights(self, losses: Tensor) -> Tensor:
        """Return the weights of this step.

        Args:
            losses: The losses, ``(k,)``, without a gradient; 0 where a loss has no example.

        Returns:
            Weights, ``(k,)``, which multiply the losses.
        """

    def bind(self, names: Sequence[str]) -> None:
        """Prepare for losses with these names; called once, before the first step.

        Args:
            names: The losses' names in their order.

        Raises:
            ValueError: If the parameters do not fit the losses.
        """

    def after_step(self, losses: Tensor) -> None:
        """Look at the losses of the batch again after the optimiser's step."""

    def end_round(self) -> None:
        """Take note that a round has ended."""
