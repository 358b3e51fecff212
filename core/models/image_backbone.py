"""Image backbones of transformers, torchvision and timm, by their pooled features."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from core.models.base import ImageSpec
from core.models.resnet import ResNet


class ImageBackbone(ResNet):
    """Any network of images: pooled features -> linear layer.

    Args:
        outputs: The number of classes, by the only task.
        trunk: The network.
        width: The number of its features.
        image: The format of its images.
        pool: Computes the features ``(b, width)`` from the network and images.
    """

    prefers_channels_last = False  # not measured for all of them

    def __init__(
        self,
        outputs: Mapping[str, int],
        trunk: nn.Module,
        width: int,
        image: ImageSpec,
        pool: Callable[[nn.Module, Tensor], Tensor],
    ) -> None:
        super().__init__(outputs, trunk, width, image)
        self._pool = pool

    def compute_features(self, inputs: Tensor) -> Tensor:
        """Compute the pooled features ``(b, width)`` of normalized images ``(b, 3, h, w)``."""
        return self._pool(self.trunk, inputs)
