"""ResNet-50, pretrained on ImageNet."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from core.batch import Output
from core.models.base import ImageSpec, Model
from core.models.transformer import classes
from core.models.weights import torchvision_file


class ResNet50(Model):
    """torchvision's ResNet-50 with its first ImageNet weights, which DFR and others start from.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

    Args:
        outputs: The number of classes, by the only task.
        pretrained: Whether it starts from the ImageNet weights.
    """

    image: ImageSpec = ImageSpec(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __init__(self, outputs: Mapping[str, int], pretrained: bool = True) -> None:
        super().__init__()
        import core.compat  # noqa: F401

        # isort: split
        from torchvision.models import ResNet50_Weights, resnet50

        self.trunk = resnet50()
        if pretrained:
            path = torchvision_file("resnet50", ResNet50_Weights.IMAGENET1K_V1.url)
            self.trunk.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        width = self.trunk.fc.in_features
        self.trunk.fc = nn.Identity()
        self.head = nn.Linear(width, classes(outputs))

    def forward(self, inputs: Tensor) -> Output:
        """Return logits and pooled features ``(b, 2048)`` of normalised ``(b, 3, h, w)``."""
        pooled = self.trunk(inputs)
        return Output(self.head(pooled), pooled, (pooled,))

    def last_layer(self) -> nn.Linear:
        """Return the layer from the pooled features to the logits."""
        return self.head

    def heads(self) -> dict[str, nn.Module]:
        """Return the classifier, ``y``."""
        return {"y": self.head}
