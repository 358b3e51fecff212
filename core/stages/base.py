"""What every stage is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass
class Stage:
    """Rounds of training from fresh weights.

    Args:
        epochs: Epochs; None takes the protocol's.
    """

    eligible: ClassVar[bool] = True  # whether selection may choose a round of this stage

    epochs: int | None = None

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one makes no sense.
        """
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"a stage of {self.epochs} epochs; expected at least 1")

    def repetitions(self, correct: Callable[[], Tensor]) -> Tensor | None:
        """Return how often later stages repeat each training example, ``(n,)`` int64.

        Called when the stage's last round is done.

        Args:
            correct: Computes whether the model is right on each training example, ``(n,)`` bool.

        Returns:
            The repetitions, or None to leave them as they are.
        """
        return None
