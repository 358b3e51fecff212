"""SegNet with twice the convolutions."""

from typing import ClassVar

from core.models.segnet import SegNet


class SegNetDeep(SegNet):
    """The variant "deep" of MTAN's code: two convolutions in each block."""

    convolutions: ClassVar[int] = 2
