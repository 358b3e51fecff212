"""ResNet-50, pretrained on ImageNet."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from core.models.base import ImageSpec
from core.models.pretrained.weights import find_or_download_torchvision
from core.models.resnet import IMAGENET_MEAN_AND_STD, ResNet


class ResNet50(ResNet):
    """torchvision's ResNet-50 with its first ImageNet weights, as used by DFR and others.

    Args:
        outputs: The number of classes, by the only task.
        pretrained: Whether the ImageNet weights are loaded.
    """

    def __init__(self, outputs: Mapping[str, int], pretrained: bool = True) -> None:
        import core.torchvision_compat  # noqa: F401

        # isort: split
        from torchvision.models import ResNet50_Weights, resnet50

        trunk = resnet50()
        if pretrained:
            path = find_or_download_torchvision("resnet50", ResNet50_Weights.IMAGENET1K_V1.url)
            trunk.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        width = trunk.fc.in_features
        trunk.fc = nn.Identity()
        super().__init__(outputs, trunk, width, ImageSpec(224, *IMAGENET_MEAN_AND_STD))

    def compute_features(self, inputs: Tensor) -> Tensor:
        """Compute the pooled features ``(b, 2048)`` of normalized images ``(b, 3, h, w)``."""
        features: Tensor = self.trunk(inputs)
        return features
