"""A vision transformer small enough for tests, for photographs."""

from collections.abc import Mapping

from core.models.base import ImageSpec
from core.models.vit import ViT, make_random_vit


class TinyViT(ViT):
    """Two blocks of width 32 on patches of 4x4 of images of 32 pixels; random weights.

    Args:
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.
    """

    def __init__(self, outputs: Mapping[str, int], parts: frozenset[str] = frozenset()) -> None:
        trunk = make_random_vit(
            image_size=32, patch_size=4, hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=4,
        )  # fmt: skip
        super().__init__(outputs, parts, trunk, ImageSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
