"""Vision transformers.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; masked image modeling as in Xie et
al., SimMIM, CVPR 2022.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from core.models.base import ImageSpec
from core.models.patch_encoder import PatchEncoder
from core.models.transformer import ClassToken, require_part

if TYPE_CHECKING:
    from transformers import ViTModel


class ViT(PatchEncoder):
    """A vision transformer: class token -> linear layer, no pooler.

    Args:
        outputs: The number of classes, by the only task.
        parts: ``reconstruction`` (mask token and decoder to pixels), ``projection``.
        trunk: The transformer, without pooler.
        image: The format of its images. If their size is not the trunk's, the position embeddings
            are interpolated (bicubic). None if inputs are tensors of the trunk's size.
    """

    modality = "images"
    has_fixed_kernels = True
    _resampling_matrix: Tensor | None

    def __init__(
        self,
        outputs: Mapping[str, int],
        parts: frozenset[str],
        trunk: "ViTModel",
        image: ImageSpec | None,
    ) -> None:
        super().__init__(outputs, trunk, [ClassToken()], trunk.layers)
        config: Any = trunk.config
        self.image = image
        self.patch = int(config.patch_size)
        own = int(config.image_size) // self.patch
        self.grid = own if image is None else image.size // self.patch
        self.register_buffer(
            "_resampling_matrix",
            None if own == self.grid else _make_bicubic_matrix(own, self.grid),
            persistent=False,
        )
        self.build_parts(parts)

    def encode(self, inputs: Tensor, masked: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the last hidden states, ``(b, 1 + patches, width)``.

        Args:
            inputs: Normalized images, ``(b, c, h, w)``.
            masked: The patches that the mask token replaces, ``(b, patches)`` bool, row by row.
            causal: Unused.
        """
        embeddings = self.trunk.embeddings
        patches = embeddings.patch_embeddings(inputs)
        if masked is not None:
            token = require_part(self.decoder, "reconstruction").mask_token
            patches = torch.where(masked.unsqueeze(-1), token.to(patches.dtype), patches)
        first = embeddings.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        hidden = embeddings.dropout(torch.cat([first, patches], dim=1) + self.resample_positions())
        for layer in self.trunk.layers:
            hidden = layer(hidden, None)
        normed: Tensor = self.trunk.layernorm(hidden)
        return normed

    def resample_positions(self) -> Tensor:
        """Return the position embeddings for the images' size, ``(1, 1 + patches, width)``."""
        positions: Tensor = self.trunk.embeddings.position_embeddings
        if self._resampling_matrix is None:
            return positions
        with torch.autocast(positions.device.type, enabled=False):
            return torch.cat([positions[:, :1], self._resampling_matrix @ positions[:, 1:]], dim=1)


def make_random_vit(**config: Any) -> "ViTModel":
    """Return a vision transformer with random weights.

    Args:
        config: Fields of :class:`transformers.ViTConfig`.
    """
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**config), add_pooling_layer=False)


def _make_bicubic_matrix(before: int, after: int) -> Tensor:
    """Return the matrix of a grid's bicubic interpolation, ``(after^2, before^2)``.

    A matrix product is used because the gradient of :func:`torch.nn.functional.interpolate` is not
    deterministic on GPUs.
    """
    grids = torch.eye(before**2).view(before**2, 1, before, before)
    return interpolate(grids, size=(after, after), mode="bicubic").flatten(1).T.contiguous()
