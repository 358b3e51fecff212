"""SegNet with an eighth of the filters, for CPUs."""

from typing import ClassVar

from core.models.segnet import SegNet


class SegNetSmall(SegNet):
    """SegNet with 8 to 64 filters: 0.4 million parameters."""

    filters: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 64)
