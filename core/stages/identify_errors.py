"""The first stage of JTT."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.stages.base import Stage


@dataclass
class IdentifyErrors(Stage):
    """Trains for ``epochs`` and then repeats the training examples that the model gets wrong.

    Liu et al., Just Train Twice, ICML 2021. None of its epochs is eligible: System 1 let its best
    epoch fall into this stage, so that 4 of its 5 published JTT runs are ERM.

    Args:
        epochs: Epochs before the errors are counted (``T`` of the paper).
        upweight: How often the next stage sees each error (``lambda_up`` of the paper).
    """

    eligible: ClassVar[bool] = False

    upweight: int = 1

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one makes no sense.
        """
        super().__post_init__()
        if self.upweight < 1:
            raise ValueError(f"errors upweighted {self.upweight} times; expected at least 1")

    def compute_sample_counts(self, correct: Callable[[], Tensor]) -> Tensor:
        """Return ``upweight`` for the errors and 1 for the others, ``(n,)`` int64."""
        right = correct()
        return torch.where(right, 1, self.upweight)
