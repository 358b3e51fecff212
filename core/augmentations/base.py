"""What every augmentation is."""

from abc import ABC, abstractmethod
from typing import Any

from core.batch import Batch
from core.models.base import ImageSpec


class Augmentation(ABC):
    """Turns what a benchmark gives into what a model takes.

    Random numbers come from torch's global CPU generator, which a run seeds at the start of every
    epoch, so that they do not depend on the device; they are few, one draw per batch.
    """

    @abstractmethod
    def training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return a training batch, augmented, ready for the model.

        Args:
            batch: The batch as the benchmark gives it.
            image: What images the model takes; None where it takes the inputs as they are.
        """

    def evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return inputs ready for the model, without randomness."""
        return inputs
