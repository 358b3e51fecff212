"""SegNet with one shared decoder."""

from collections.abc import Mapping

from torch import Tensor

from core.batch import Output
from core.models.segnet_base import SegNetBase


class SegNet(SegNetBase):
    """Predicts all tasks from the last feature map of one decoder.

    Args:
        outputs: Channels by task. Predictions of the task ``normals`` are scaled to unit length.
    """

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__(outputs)
        self.initialize_weights()

    def forward(self, inputs: Tensor) -> Output:
        """Return predictions ``(b, channels, h, w)`` by task for images ``(b, 3, h, w)``.

        Segmentation gives logits. Representation and features are the decoder's last map,
        ``(b, filters[0], h, w)``.
        """
        last = self.compute_maps(inputs).decoded[-1]
        return Output(self.predict_tasks(dict.fromkeys(self.pred, last)), last, (last,))
