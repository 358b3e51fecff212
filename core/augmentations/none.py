"""No augmentation."""

from typing import Any

from common.errors import UserError
from core.augmentations.base import Augmentation
from core.batch import Batch
from core.image_ops import cut, whole
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch


def resized(inputs: Any, image: ImageSpec | None) -> Any:
    """Return whole images resized to the model's size, whatever their aspect, and normalised.

    Texts and tensors are returned as they are.

    Args:
        inputs: Images of many sizes, texts, or a tensor.
        image: What images the model takes.

    Raises:
        UserError: If the model takes no images of many sizes.
    """
    if not isinstance(inputs, ImageBatch):
        return inputs
    image = demanded(image)
    return cut(inputs, whole(inputs), image.size, image)


def demanded(image: ImageSpec | None) -> ImageSpec:
    """Return the specification.

    Raises:
        UserError: If there is none.
    """
    if image is None:
        raise UserError(
            "the data set gives photographs of many sizes, which this model does not take; set "
            "model to 'google/vit-base-patch16-224-in21k', 'resnet50' or a folder with a ViT"
        )
    return image


class NoAugmentation(Augmentation):
    """Images as in evaluation: resized to the model's size and normalised; texts as they are."""

    def training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return the batch with its inputs as in evaluation."""
        return batch._replace(inputs=resized(batch.inputs, image))

    def evaluation(self, inputs: Any, image: ImageSpec | None) -> Any:
        """Return images resized and normalised, all else as it is."""
        return resized(inputs, image)
