"""Own images as people have them: EXIF orientation followed, transparency put on white."""

import math

import numpy as np
from PIL import Image, ImageOps

from datasets.storage.images import ImageReader

ORIENTATION = 0x0112  # the EXIF tag
TURNED = range(2, 9)  # its values that change the image
SIDES_SWAPPED = range(5, 9)


class PictureReader(ImageReader):
    """Reads images upright, without transparency, and reduced if asked.

    Args:
        shorter_side: Pixels to which longer shorter sides are reduced; 0 keeps sizes.
    """

    def __init__(self, shorter_side: int = 0) -> None:
        self._shorter_side = shorter_side
        self._turned: list[str] = []
        self._flattened: list[str] = []

    def measure(self, image: Image.Image) -> tuple[int, int]:
        """Return height and width of the image as it will be read."""
        height, width = image.height, image.width
        if image.getexif().get(ORIENTATION) in SIDES_SWAPPED:
            height, width = width, height
        factor = self._shorter_side / min(height, width) if self._shorter_side else 1.0
        if factor >= 1:
            return height, width
        return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))

    def decode(self, image: Image.Image) -> np.ndarray:
        """Return the pixels, ``(height, width, 3)`` uint8."""
        height, width = self.measure(image)
        if image.getexif().get(ORIENTATION) in TURNED:
            self._turned.append("")  # threads may append at once
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            alpha = image.getchannel("A")
            lowest, _ = alpha.getextrema()
            if lowest != 255:
                self._flattened.append("")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=alpha)
            image = white
        image = image.convert("RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def describe_changes(self) -> str:
        """Return how many images were changed; empty if none was."""
        counts = {
            "turned as their EXIF orientation says": len(self._turned),
            "with transparency put on white": len(self._flattened),
        }
        return ", ".join(f"{count:,} {change}" for change, count in counts.items() if count)
