"""ResNets in the files of transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from core.batch import Output
from core.models.base import ImageSpec, Model
from core.models.transformer import classes


class ResNet(Model):
    """A ResNet of transformers: pooled features -> linear layer.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    Args:
        outputs: The number of classes, by the only task.
        trunk: A ``ResNetModel`` of transformers.
        image: The images that it takes.
    """

    def __init__(self, outputs: Mapping[str, int], trunk: Any, image: ImageSpec) -> None:
        super().__init__()
        self.trunk = trunk
        self.image = image
        self.head = nn.Linear(trunk.config.hidden_sizes[-1], classes(outputs))

    def forward(self, inputs: Tensor) -> Output:
        """Return logits and pooled features ``(b, width)`` of normalised ``(b, 3, h, w)``."""
        pooled = self.trunk(inputs).pooler_output.flatten(1)
        return Output(self.head(pooled), pooled, (pooled,))

    def last_layer(self) -> nn.Linear:
        """Return the layer from the pooled features to the logits."""
        return self.head

    def heads(self) -> dict[str, nn.Module]:
        """Return the classifier, ``y``."""
        return {"y": self.head}
