"""ResNets with a linear classifier on pooled features."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from core.batch import Output
from core.models.base import ImageSpec, Model
from core.models.transformer import count_classes

# Mean and standard deviation of ImageNet's channels, with which ResNets are trained.
IMAGENET_MEAN_AND_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResNet(Model):
    """A ResNet of transformers: pooled features -> linear layer.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    Args:
        outputs: The number of classes, by the only task.
        trunk: A ``ResNetModel`` of transformers; subclasses may use another network.
        width: The number of the trunk's features.
        image: The format of its images.
    """

    has_fixed_kernels = True
    prefers_channels_last = True

    def __init__(
        self, outputs: Mapping[str, int], trunk: Any, width: int, image: ImageSpec
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.image = image
        self.head = nn.Linear(width, count_classes(outputs))

    def compute_features(self, inputs: Tensor) -> Tensor:
        """Compute the pooled features ``(b, width)`` of normalized images ``(b, 3, h, w)``."""
        features: Tensor = self.trunk(inputs).pooler_output.flatten(1)
        return features

    def forward(self, inputs: Tensor) -> Output:
        """Return logits and pooled features ``(b, width)``; images normalized, ``(b, 3, h, w)``."""
        pooled = self.compute_features(inputs)
        return Output(self.head(pooled), pooled, (pooled,))

    def get_last_layer(self) -> nn.Linear:
        """Return the layer from the pooled features to the logits."""
        return self.head

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, ``y``."""
        return {"y": self.head}
