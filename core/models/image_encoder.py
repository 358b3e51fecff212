"""Image encoders of any family of transformers that keeps a state per patch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.models.base import ImageSpec
from core.models.patch_encoder import PatchEncoder
from core.models.transformer import ClassToken, require_part


class ImageEncoder(PatchEncoder):
    """An image encoder with class token: pooled output, or class token -> linear layer.

    Args:
        outputs: The number of classes, by the only task.
        parts: ``reconstruction`` (mask token and decoder to pixels), ``projection``.
        trunk: The encoder.
        image: The format of its images.
        embedding: The layer that embeds patches, ``(b, patches, width)`` or ``(b, width, h, w)``.
    """

    def __init__(
        self,
        outputs: Mapping[str, int],
        parts: frozenset[str],
        trunk: Any,
        image: ImageSpec,
        embedding: nn.Module,
    ) -> None:
        super().__init__(outputs, trunk, [ClassToken()], nn.ModuleList([trunk]))
        self.image = image
        self.patch = int(trunk.config.patch_size)
        self.grid = image.size // self.patch
        self._masked: Tensor | None = None
        self.build_parts(parts)
        if self.decoder is not None:
            embedding.register_forward_hook(self._replace_masked)

    def encode(self, inputs: Tensor, masked: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the last hidden states, ``(b, n, width)``, the patches' last.

        Args:
            inputs: Normalized images, ``(b, c, h, w)``.
            masked: The patches that the mask token replaces, ``(b, patches)`` bool, row by row.
            causal: Unused.
        """
        self._masked = masked
        hidden = encode_images(self.trunk, inputs)
        self._masked = None
        return hidden

    def _replace_masked(self, layer: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        """Replace masked patches' embeddings, before positions are added."""
        if self._masked is None:
            return patches
        token = require_part(self.decoder, "reconstruction").mask_token.to(patches.dtype)
        if patches.ndim == 4:
            masked = self._masked.unflatten(1, patches.shape[2:]).unsqueeze(1)
            return torch.where(masked, token.view(1, -1, 1, 1), patches)
        return torch.where(self._masked.unsqueeze(-1), token, patches)


def encode_images(trunk: Any, inputs: Tensor) -> Tensor:
    """Return the last hidden states of an encoder of transformers, patches in their order."""
    options = {}
    if trunk.config.model_type == "vit_mae":  # shuffles patches by this noise
        patches = (inputs.shape[-1] // int(trunk.config.patch_size)) ** 2
        order = torch.arange(patches, device=inputs.device, dtype=torch.float32)
        options["noise"] = order.expand(len(inputs), -1)
    hidden: Tensor = trunk(pixel_values=inputs, **options).last_hidden_state
    return hidden
