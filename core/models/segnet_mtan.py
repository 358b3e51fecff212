"""SegNet with an attention network per task (MTAN; Liu et al., CVPR 2019)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.batch import Output
from core.models.segnet_base import Maps, SegNetBase, make_conv_block


class SegNetMTAN(SegNetBase):
    """Masks the shared maps of every stage by each task's attention.

    The blocks between stages are shared by all tasks. As in the published code all parameters but
    the prediction layers count as shared, including the attention. Heads read different tensors,
    so there are no features that all outputs have in common.

    Args:
        outputs: Channels by task. Predictions of the task ``normals`` are scaled to unit length.
    """

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__(outputs)
        wide, narrow = self.filters, (self.filters[0], *self.filters[:-1])
        after = (*wide[1:], wide[-1])
        # The first encoder stage takes the shared map only, the others the previous stage too.
        encoder = [(wide[0], wide[0]), *((2 * width, width) for width in wide[1:])]
        decoder = [(a + b, b) for a, b in zip(wide, narrow, strict=True)]
        self.encoder_attention = nn.ModuleDict(
            {task: _make_attention_stages(encoder) for task in outputs}
        )
        self.decoder_attention = nn.ModuleDict(
            {task: _make_attention_stages(decoder) for task in outputs}
        )
        self.encoder_between = nn.ModuleList(
            make_conv_block(a, b) for a, b in zip(wide, after, strict=True)
        )
        self.decoder_between = nn.ModuleList(
            make_conv_block(a, b) for a, b in zip(wide, narrow, strict=True)
        )
        self.initialize_weights()

    def forward(self, inputs: Tensor) -> Output:
        """Return predictions ``(b, channels, h, w)`` by task for images ``(b, 3, h, w)``.

        Segmentation gives logits. The representation is the shared decoder's last map,
        ``(b, filters[0], h, w)``.
        """
        maps = self.compute_maps(inputs)
        features = {task: self._compute_task_map(task, maps) for task in self.pred}
        return Output(self.predict_tasks(features), maps.decoded[-1])

    def _compute_task_map(self, task: str, maps: Maps) -> Tensor:
        """Compute a task's last map, ``(b, filters[0], h, w)``."""
        encoder, decoder = self.encoder_attention[task], self.decoder_attention[task]
        assert isinstance(encoder, nn.ModuleList)
        assert isinstance(decoder, nn.ModuleList)
        x: Tensor | None = None
        for stage, attention in enumerate(encoder):
            seen = maps.first[stage] if x is None else torch.cat((maps.first[stage], x), dim=1)
            x = self.encoder_between[stage](attention(seen) * maps.last[stage])
            x = functional.max_pool2d(x, 2)
        assert x is not None
        for depth, (unpooled, decoded) in enumerate(zip(maps.unpooled, maps.decoded, strict=True)):
            stage = len(self.filters) - 1 - depth
            size = unpooled.shape[-2:]
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = self.decoder_between[stage](x)
            x = decoder[stage](torch.cat((unpooled, x), dim=1)) * decoded
        return x


def _make_attention_stages(pairs: list[tuple[int, int]]) -> nn.ModuleList:
    return nn.ModuleList(_make_attention(*pair) for pair in pairs)


def _make_attention(inputs: int, width: int) -> nn.Sequential:
    """Return two 1x1 convolutions whose output is a mask between 0 and 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel_size=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, kernel_size=1),
        nn.BatchNorm2d(width),
        nn.Sigmoid(),
    )
