"""Random resized crops."""

from typing import Any, ClassVar

from core.augmentations.base import Augmentation
from core.augmentations.none import require_image_spec, resize_images
from core.batch import Batch
from core.image_ops import crop_and_normalize, draw_boxes
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch

AREA_SHARES = (0.05, 1.0)
ASPECT_RATIOS = (3 / 4, 4 / 3)


class RandomResizedCrop(Augmentation):
    """A random crop of 5% to 100% of the area, resized to the model's size, never mirrored.

    As in Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024.
    Evaluation, texts and tensors are as without augmentation.
    """

    needs_image_files: ClassVar[bool] = True

    def describe_draws(self) -> dict[str, object]:
        """Return the ends of area and aspect."""
        return {"crop_area": list(AREA_SHARES), "aspect_ratio": list(ASPECT_RATIOS), "flip": 0.0}

    def transform_training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return the batch with each image cropped, resized and normalized."""
        inputs = batch.inputs
        if not isinstance(inputs, ImageBatch):
            return batch
        image = require_image_spec(image)
        boxes = draw_boxes(inputs.sizes, AREA_SHARES, ASPECT_RATIOS)
        return batch._replace(inputs=crop_and_normalize(inputs, boxes, image.size, image))

    def transform_evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return images resized and normalized, other inputs unchanged."""
        return resize_images(inputs, image)
