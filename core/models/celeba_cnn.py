"""The convolutional network for CelebA's 40 attributes (FAMO, Liu et al., NeurIPS 2023)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.batch import Output
from core.models.base import Model


class CelebACNN(Model):
    """Seven convolutions, two hidden layers, one linear unit per attribute.

    All layers but the heads have batch normalization instead of a bias. Pixels of type uint8 are
    scaled to [0, 1], as by ToTensor.

    Args:
        outputs: The attributes; each has one output.
    """

    has_fixed_kernels = True
    prefers_channels_last = True
    widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)  # by resolution, finest first

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__()
        width = self.widths[-1]
        self.convolutions = nn.Sequential(*_make_convolutions(self.widths))
        self.hidden = nn.Sequential(*_make_linear_block(width), *_make_linear_block(width))
        self._heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in outputs.items()})

    def forward(self, inputs: Tensor) -> Output:
        """Return logits ``(b,)`` by attribute for images ``(b, 3, 64, 64)``."""
        if inputs.dtype == torch.uint8:
            inputs = inputs.to(self._stack_head_weights()[0].dtype) / 255
        # The mean equals the original's adaptive pooling to 1x1.
        hidden = self.hidden(self.convolutions(inputs).mean(dim=(2, 3)))
        weight, bias = self._stack_head_weights()
        logits = functional.linear(hidden, weight, bias).unbind(dim=1)  # one product for all
        return Output(dict(zip(self._heads, logits, strict=True)), hidden, (hidden,))

    def _stack_head_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights and biases of all heads, ``(tasks, width)`` and ``(tasks,)``."""
        heads = list(self._heads.values())
        weight = torch.cat([head.weight for head in heads])  # type: ignore[misc]
        return weight, torch.cat([head.bias for head in heads])  # type: ignore[misc]

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the linear heads by attribute."""
        return dict(self._heads.items())


def _make_convolutions(widths: tuple[int, ...]) -> Iterator[nn.Module]:
    """Yield one convolution at the finest resolution, two at each other, with pooling between."""
    before = 3
    for resolution, width in enumerate(widths):
        if resolution:
            yield nn.MaxPool2d(2)
        for _ in range(2 if resolution else 1):
            yield nn.Conv2d(before, width, kernel_size=3, padding=1, bias=False)
            yield nn.BatchNorm2d(width)
            yield nn.ReLU(inplace=True)
            before = width


def _make_linear_block(width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)
