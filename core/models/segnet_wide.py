"""SegNet with 1024 filters at the coarsest stage."""

from typing import ClassVar

from core.models.segnet import SegNet


class SegNetWide(SegNet):
    """The variant "wide" of MTAN's code: 64 to 1024 filters."""

    filters: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 1024)
