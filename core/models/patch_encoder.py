"""The base of image encoders with a hidden state per patch: their decoder and projection."""

import torch
from torch import Tensor, nn

from core.models.transformer import Transformer, require_part


class PatchEncoder(Transformer):
    """An image encoder whose last hidden states are those of the patches, row by row.

    A subclass sets ``patch`` and ``grid``, then calls :meth:`build_parts`.

    Attributes:
        patch: Height and width of a patch in pixels.
        grid: Patches per row and per column.
        decoder: Mask token and decoder to pixels; None if not built.
        projection: The head of contrastive objectives; None if not built.
    """

    modality = "images"
    patch: int
    grid: int
    decoder: "PixelDecoder | None"
    projection: nn.Sequential | None

    def build_parts(self, parts: frozenset[str]) -> None:
        """Build the parts for auxiliary objectives: ``reconstruction``, ``projection``."""
        self.decoder = None
        if "reconstruction" in parts:
            channels = int(self.trunk.config.num_channels)
            self.decoder = PixelDecoder(self.width, channels, self.patch)
        self.projection = None
        if "projection" in parts:
            self.projection = nn.Sequential(nn.Linear(self.width, self.width), nn.GELU())

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, and decoder and projection if they were built."""
        heads = super().get_task_heads()
        if self.decoder is not None:
            heads["reconstruction"] = self.decoder
        if self.projection is not None:
            heads["projection"] = self.projection
        return heads

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Return normalized pixels ``(b, c, h, w)`` from hidden states ``(b, n, width)``.

        Raises:
            ValueError: If the model was built without this part.
        """
        decoder = require_part(self.decoder, "reconstruction")
        patches = hidden[:, -(self.grid**2) :].transpose(1, 2)
        pixels: Tensor = decoder(patches.unflatten(2, (self.grid, -1)))
        return pixels

    def project(self, pooled: Tensor) -> Tensor:
        """Return the projection of class-token states, ``(b, width)``.

        Raises:
            ValueError: If the model was built without this part.
        """
        projected: Tensor = require_part(self.projection, "projection")(pooled)
        return projected


class PixelDecoder(nn.Module):
    """A linear map from each patch's hidden state to its pixels, and the mask token.

    Args:
        width: Width of the hidden states.
        channels: Channels of the images.
        patch: Height and width of a patch in pixels.
    """

    def __init__(self, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.pixels = nn.Sequential(
            nn.Conv2d(width, patch**2 * channels, kernel_size=1), nn.PixelShuffle(patch)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Return pixels ``(b, c, h, w)`` from ``(b, width, h / patch, w / patch)``."""
        pixels: Tensor = self.pixels(patches)
        return pixels
