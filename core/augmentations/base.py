"""The interface of augmentations."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from core.batch import Batch
from core.models.base import ImageSpec


class Augmentation(ABC):
    """Transforms a benchmark's inputs into a model's.

    Random numbers come from torch's global CPU generator, which a run seeds at the start of every
    epoch, so that they do not depend on the device. There is one draw per batch.
    """

    needs_image_files: ClassVar[bool] = False  # whether other inputs stay as they are

    @abstractmethod
    def transform_training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return a training batch, augmented and in the model's format.

        Args:
            batch: The benchmark's batch.
            image: The model's image format; None if the model takes the inputs unchanged.
        """

    def describe_draws(self) -> dict[str, object]:
        """Return what is drawn for each example, and between which ends; nothing by default."""
        return {}

    def transform_evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return inputs in the model's format, without randomness."""
        return inputs
