"""Random scale, crop and flip of images with dense targets."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from core.augmentations.base import Augmentation
from core.batch import Batch
from core.models.base import ImageSpec

SCALES = (1.0, 1.2, 1.5)
FLIP_SHARE = 0.5
# The dimensions of a batch of each target.
TARGET_DIMENSIONS = {"segmentation": 3, "depth": 4, "normals": 4}


class Crops(NamedTuple):
    """The random crops of a batch, on the host: ``(b,)`` each.

    Args:
        scale: Index into :data:`SCALES`, int64.
        top: First row of the crop, int64.
        left: First column of the crop, int64.
        flip: Whether the crop is mirrored, bool.
    """

    scale: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


class _SourcePixels(NamedTuple):
    """The source pixels along one axis, ``(b, n)`` each, on the device.

    Args:
        nearest: Index of the nearest pixel.
        low: Index of the pixel before.
        high: Index of the pixel after.
        share: Interpolation weight of ``high``.
    """

    nearest: Tensor
    low: Tensor
    high: Tensor
    share: Tensor


class ScaleCropFlip(Augmentation):
    """Crops each image at a random position, resizes the crop to the image's size, may mirror it.

    A crop's sides are the image's divided by 1, 1.2 or 1.5, with equal probability. Depths are
    divided by the scale too, because objects appear nearer; mirrored normals change the sign of
    ``x``. Images and normals are interpolated bilinearly with corners aligned. Labels and depths
    take the nearest pixel, so that undefined ones stay undefined. As in the code of Nash-MTL, FAMO
    and FairGrad.
    """

    def describe_draws(self) -> dict[str, object]:
        """Return the scales, and the share of mirrored images."""
        return {"scales": list(SCALES), "flip": FLIP_SHARE}

    def transform_training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return the batch with each image and its targets cropped, resized and mirrored.

        Raises:
            UserError: If inputs or targets are not those of dense prediction.
        """
        inputs = batch.inputs
        expected = TARGET_DIMENSIONS
        wrong = [task for task, t in batch.targets.items() if expected.get(task) != t.ndim]
        if not isinstance(inputs, Tensor) or inputs.ndim != 4 or wrong:
            raise UserError(
                "augmentation 'scale_crop_flip' takes images with the targets "
                f"{', '.join(expected)} only; received {', '.join(batch.targets)}"
            )
        crops = draw_crops(len(inputs), (int(inputs.shape[-2]), int(inputs.shape[-1])))
        inputs, targets = apply_crops(inputs, batch.targets, crops)
        return batch._replace(inputs=inputs, targets=targets)


def draw_crops(examples: int, size: tuple[int, int]) -> Crops:
    """Draw the crops of a batch of images, in one call of the random generator.

    Args:
        examples: The number of images.
        size: Height and width of the images.
    """
    uniform = torch.rand(examples, 4, dtype=torch.float64)
    scale = (uniform[:, 0] * len(SCALES)).long()
    top, left = (
        (uniform[:, 1 + axis] * (n - _compute_crop_lengths(n)[scale] + 1)).long()
        for axis, n in enumerate(size)
    )
    return Crops(scale, top, left, uniform[:, 3] < FLIP_SHARE)


def apply_crops(
    images: Tensor, targets: Mapping[str, Tensor], crops: Crops
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return images and targets, each cropped, resized and mirrored."""
    height, width = int(images.shape[-2]), int(images.shape[-1])
    rows = _locate_pixels(
        height, crops.scale, crops.top, torch.zeros_like(crops.flip), images.device
    )
    columns = _locate_pixels(width, crops.scale, crops.left, crops.flip, images.device)
    found: dict[str, Tensor] = {}
    for task, target in targets.items():
        if task == "segmentation":
            found[task] = _gather_pixels(
                target.unsqueeze(1), rows.nearest, columns.nearest
            ).squeeze(1)
        elif task == "depth":
            scale = torch.tensor(SCALES)[crops.scale].view(-1, 1, 1, 1)
            found[task] = _gather_pixels(target, rows.nearest, columns.nearest) / scale.to(target)
        else:
            sign = torch.ones(len(target), 3, 1, 1)
            sign[crops.flip, 0] = -1
            found[task] = _interpolate_pixels(target, rows, columns) * sign.to(target)
    return _interpolate_pixels(images, rows, columns), found


def _compute_crop_lengths(size: int) -> Tensor:
    """Return the length of a crop's side by scale, ``(scales,)`` int64."""
    return torch.tensor([max(int(size / scale), 1) for scale in SCALES])


def _locate_pixels(
    size: int, scale: Tensor, start: Tensor, flip: Tensor, device: torch.device
) -> _SourcePixels:
    """Return the source pixels of crops along one axis.

    Args:
        size: Length of the axis in pixels.
        scale: Index into :data:`SCALES`, ``(b,)``.
        start: First pixel of the crop, ``(b,)``.
        flip: Whether the axis is mirrored, ``(b,)``.
        device: Device of the result.
    """
    length = _compute_crop_lengths(size)[scale].unsqueeze(1)
    place = torch.arange(size).expand(len(scale), size)
    place = torch.where(flip.unsqueeze(1), size - 1 - place, place)
    # In single precision, as torch does: where a product is a whole number, rounding decides.
    ratio = length.float() / size
    nearest = (place.float() * ratio).long().minimum(length - 1)
    exact = place.double() * ((length - 1).double() / max(size - 1, 1))
    low = exact.long().minimum(length - 1)
    high = (low + 1).minimum(length - 1)
    start = start.unsqueeze(1)
    found = _SourcePixels(start + nearest, start + low, start + high, (exact - low).float())
    return _SourcePixels(*(part.to(device, non_blocking=True) for part in found))


def _gather_pixels(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels ``(b, c, h, w)`` of ``x`` at rows ``(b, h)`` and columns ``(b, w)``."""
    flat = (rows.unsqueeze(2) * x.shape[-1] + columns.unsqueeze(1)).flatten(1)
    index = flat.unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, index).view_as(x)


def _interpolate_pixels(x: Tensor, rows: _SourcePixels, columns: _SourcePixels) -> Tensor:
    """Return ``x`` interpolated bilinearly at the source pixels, ``(b, c, h, w)``."""
    across, down = columns.share[:, None, None, :], rows.share[:, None, :, None]
    top, bottom = (
        _gather_pixels(x, line, columns.low).lerp(_gather_pixels(x, line, columns.high), across)
        for line in (rows.low, rows.high)
    )
    return top.lerp(bottom, down)
