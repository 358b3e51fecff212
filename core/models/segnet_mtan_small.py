"""SegNet with task attention and an eighth of the filters, for CPUs."""

from typing import ClassVar

from core.models.segnet_mtan import SegNetMTAN


class SegNetMTANSmall(SegNetMTAN):
    """SegNet with task attention and 8 to 64 filters: 0.7 million parameters for three tasks."""

    filters: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 64)
