"""The base of SegNet and its variants with task attention: encoder, decoder and heads.

SegNet (Badrinarayanan et al., TPAMI 2017) as in the code of MTAN (Liu et al., CVPR 2019),
with which Nash-MTL, FAMO and FairGrad were evaluated.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from core.models.base import Model


class Maps(NamedTuple):
    """The feature maps of encoder and decoder.

    Args:
        first: After the first block of each encoder stage, finest stage first.
        last: After the last block of each encoder stage, finest stage first.
        unpooled: Before each decoder stage, coarsest stage first.
        decoded: After each decoder stage, coarsest stage first.
    """

    first: list[Tensor]
    last: list[Tensor]
    unpooled: list[Tensor]
    decoded: list[Tensor]


class SegNetBase(Model):
    """Five encoder stages with max pooling, and five decoder stages that unpool by its indices.

    Parameters with ``pred`` in their name belong to the task heads; all others are shared. Images
    are taken without resizing, of any size from 32x32.

    Args:
        outputs: Channels by task. Predictions of the task ``normals`` are scaled to unit length.
    """

    has_fixed_kernels = True
    filters: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 512)  # by stage, finest first
    convolutions: ClassVar[int] = 1  # in each block of encoder and decoder

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__()
        wide, before, deep = self.filters, (3, *self.filters[:-1]), self.convolutions
        narrow = (wide[0], *wide[:-1])  # decoder stage s goes from wide[s] to narrow[s] channels
        self.encoder_first = nn.ModuleList(
            make_conv_block(a, b, deep) for a, b in zip(before, wide, strict=True)
        )
        self.encoder_rest = nn.ModuleList(
            _make_further_blocks(width, i >= 2, deep) for i, width in enumerate(wide)
        )
        self.decoder_first = nn.ModuleList(
            make_conv_block(a, b, deep) for a, b in zip(wide, narrow, strict=True)
        )
        self.decoder_rest = nn.ModuleList(
            _make_further_blocks(width, i >= 2, deep) for i, width in enumerate(narrow)
        )
        self.pred = nn.ModuleDict({task: _make_head(wide[0], n) for task, n in outputs.items()})

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the prediction layers by task."""
        return dict(self.pred.items())

    def compute_maps(self, images: Tensor) -> Maps:
        """Compute the feature maps of images ``(b, 3, h, w)``.

        Raises:
            UserError: If the images are smaller than 32x32.
        """
        if min(images.shape[-2:]) < 2 ** len(self.filters):
            height, width = images.shape[-2:]
            raise UserError(
                f"SegNet halves images {len(self.filters)} times: {height}x{width} pixels, "
                "expected at least 32x32"
            )
        maps, x = Maps([], [], [], []), images
        pooled: list[tuple[Tensor, torch.Size]] = []
        for first, rest in zip(self.encoder_first, self.encoder_rest, strict=True):
            maps.first.append(first(x))
            maps.last.append(rest(maps.first[-1]))
            x, index = functional.max_pool2d(maps.last[-1], 2, return_indices=True)
            pooled.append((index, maps.last[-1].shape))
        for stage in reversed(range(len(self.filters))):
            maps.unpooled.append(unpool_maxima(x, *pooled[stage]))
            x = self.decoder_rest[stage](self.decoder_first[stage](maps.unpooled[-1]))
            maps.decoded.append(x)
        return maps

    def predict_tasks(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict each task from its features, ``(b, channels, h, w)``."""
        outputs = {task: head(features[task]) for task, head in self.pred.items()}
        if "normals" in outputs:
            normals = outputs["normals"]
            # Half precision would change lengths by 0.4%, and small angles by degrees.
            precise = torch.promote_types(normals.dtype, torch.float32)
            outputs["normals"] = functional.normalize(normals.to(precise), dim=1)
        return outputs

    def initialize_weights(self) -> None:
        """Initialize convolutions as in the published code: Xavier normal weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one


def make_conv_block(inputs: int, outputs: int, convolutions: int = 1) -> nn.Sequential:
    """Return 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [
            nn.Conv2d(outputs if number else inputs, outputs, kernel_size=3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def unpool_maxima(x: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    """Return a tensor of zeros with the entries of ``x`` at the indices of max pooling.

    Equals :func:`torch.nn.functional.max_unpool2d`, which has no deterministic version on GPUs,
    although windows that do not overlap cannot collide.
    """
    zeros = x.new_zeros(shape).flatten(2)
    return zeros.scatter(2, index.flatten(2), x.flatten(2)).view(shape)


def _make_further_blocks(width: int, two: bool, convolutions: int) -> nn.Sequential:
    """Return a stage's blocks after the first: one at the two finest stages, two at the others."""
    return nn.Sequential(
        *(make_conv_block(width, width, convolutions) for _ in range(2 if two else 1))
    )


def _make_head(width: int, outputs: int) -> nn.Sequential:
    """Return a prediction layer: a 3x3 and a 1x1 convolution, without a nonlinearity."""
    return nn.Sequential(
        nn.Conv2d(width, width, kernel_size=3, padding=1), nn.Conv2d(width, outputs, kernel_size=1)
    )
