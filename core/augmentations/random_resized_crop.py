"""Random crops."""

from typing import Any

from core.augmentations.base import Augmentation
from core.augmentations.none import demanded, resized
from core.batch import Batch
from core.image_ops import cut, random_boxes
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch

SCALE = (0.05, 1.0)
RATIO = (3 / 4, 4 / 3)


class RandomResizedCrop(Augmentation):
    """A random crop of 5% to 100% of the area, resized to the model's size, never mirrored.

    As Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024, train.
    Evaluation, and inputs that are no photographs, are as without augmentation.
    """

    def training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return the batch with each image cropped, resized and normalised."""
        inputs = batch.inputs
        if not isinstance(inputs, ImageBatch):
            return batch
        image = demanded(image)
        boxes = random_boxes(inputs.sizes, SCALE, RATIO)
        return batch._replace(inputs=cut(inputs, boxes, image.size, image))

    def evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return images resized and normalised, all else as it is."""
        return resized(inputs, image)
