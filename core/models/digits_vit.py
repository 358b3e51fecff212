"""A small vision transformer for 8x8 digits."""

from collections.abc import Mapping

from core.models.vit import ViT, make_random_vit


class DigitsViT(ViT):
    """Two blocks of width 32 with four heads on patches of 2x2: 18 thousand parameters.

    Args:
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.
    """

    def __init__(self, outputs: Mapping[str, int], parts: frozenset[str] = frozenset()) -> None:
        trunk = make_random_vit(
            image_size=8, patch_size=2, num_channels=2, hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=4,
            # BERT's 0.02 suits widths near 768; at width 32 only the color would be learned.
            initializer_range=0.3,
        )  # fmt: skip
        super().__init__(outputs, parts, trunk, image=None)
