"""No augmentation."""

from typing import Any

from common.errors import UserError
from core.augmentations.base import Augmentation
from core.batch import Batch
from core.image_ops import crop_and_normalize, make_whole_boxes
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch


def resize_images(inputs: Any, image: ImageSpec | None) -> Any:
    """Return whole images resized to the model's size and normalized; the aspect may change.

    Texts and tensors are returned unchanged.

    Args:
        inputs: Images of many sizes, texts, or a tensor.
        image: The model's image format.

    Raises:
        UserError: If the model does not take images of many sizes.
    """
    if not isinstance(inputs, ImageBatch):
        return inputs
    image = require_image_spec(image)
    return crop_and_normalize(inputs, make_whole_boxes(inputs), image.size, image)


def require_image_spec(image: ImageSpec | None) -> ImageSpec:
    """Return a model's image format.

    Raises:
        UserError: If the model does not take images of many sizes.
    """
    if image is None:
        raise UserError(
            "the data set gives photographs of many sizes, which this model does not take; set "
            "model to 'google/vit-base-patch16-224-in21k', 'resnet50' or a folder with a ViT"
        )
    return image


class NoAugmentation(Augmentation):
    """Resizes and normalizes images, in training as in evaluation."""

    def transform_training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return the batch with its inputs in the model's format."""
        return batch._replace(inputs=resize_images(batch.inputs, image))

    def transform_evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return images resized and normalized, other inputs unchanged."""
        return resize_images(inputs, image)
