"""Random scale, crop and flip of images with dense targets."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from core.augmentations.base import Augmentation
from core.batch import Batch
from core.models.base import ImageSpec

SCALES = (1.0, 1.2, 1.5)
DENSE = {"segmentation": 3, "depth": 4, "normals": 4}  # the dimensions of a batch of each


class Draws(NamedTuple):
    """What is drawn for a batch, on the host: ``(b,)`` each.

    Args:
        scale: Which of :data:`SCALES`, int64.
        top: First row of the crop, int64.
        left: First column of the crop, int64.
        flip: Whether the result is mirrored, bool.
    """

    scale: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


class _Line(NamedTuple):
    """Where the pixels of a row or column come from, ``(b, n)`` each, on the device."""

    nearest: Tensor
    low: Tensor
    high: Tensor
    share: Tensor  # of high


class ScaleCropFlip(Augmentation):
    """Each image is cropped at a random place, enlarged to its old size, and mirrored or not.

    A crop's sides are the image's divided by 1, 1.2 or 1.5, each as likely. Depths are divided by
    the scale too, since things come nearer; mirrored normals change the sign of ``x``. Images and
    normals are interpolated bilinearly with corners aligned, labels and depths take the nearest
    pixel, which leaves undefined ones undefined: as in the code of Nash-MTL, FAMO and FairGrad.
    """

    def training(self, batch: Batch, image: ImageSpec | None) -> Batch:
        """Return a batch of the same shapes; inputs ``(b, 3, h, w)``, targets as in ``DENSE``.

        Raises:
            UserError: If inputs or targets are none of dense prediction.
        """
        inputs = batch.inputs
        wrong = [task for task, t in batch.targets.items() if DENSE.get(task) != t.ndim]
        if not isinstance(inputs, Tensor) or inputs.ndim != 4 or wrong:
            raise UserError(
                "augmentation 'scale_crop_flip' takes images with the targets "
                f"{', '.join(DENSE)} only; received {', '.join(batch.targets)}"
            )
        draws = draw(len(inputs), (int(inputs.shape[-2]), int(inputs.shape[-1])))
        inputs, targets = transform(inputs, batch.targets, draws)
        return batch._replace(inputs=inputs, targets=targets)


def draw(examples: int, size: tuple[int, int]) -> Draws:
    """Draw for a batch of images of a height and width; one call of the random generator."""
    uniform = torch.rand(examples, 4, dtype=torch.float64)
    scale = (uniform[:, 0] * len(SCALES)).long()
    top, left = (
        (uniform[:, 1 + axis] * (n - _crops(n)[scale] + 1)).long() for axis, n in enumerate(size)
    )
    return Draws(scale, top, left, uniform[:, 3] < 0.5)


def transform(
    images: Tensor, targets: dict[str, Tensor] | Any, draws: Draws
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return images and targets, each cropped, enlarged and mirrored as drawn."""
    height, width = int(images.shape[-2]), int(images.shape[-1])
    rows = _line(height, draws.scale, draws.top, torch.zeros_like(draws.flip), images.device)
    columns = _line(width, draws.scale, draws.left, draws.flip, images.device)
    found: dict[str, Tensor] = {}
    for task, target in targets.items():
        if task == "segmentation":
            found[task] = _take(target.unsqueeze(1), rows.nearest, columns.nearest).squeeze(1)
        elif task == "depth":
            scale = torch.tensor(SCALES)[draws.scale].view(-1, 1, 1, 1)
            found[task] = _take(target, rows.nearest, columns.nearest) / scale.to(target)
        else:
            sign = torch.ones(len(target), 3, 1, 1)
            sign[draws.flip, 0] = -1
            found[task] = _bilinear(target, rows, columns) * sign.to(target)
    return _bilinear(images, rows, columns), found


def _crops(size: int) -> Tensor:
    """Return the crop's length by scale for an image's side, ``(scales,)`` int64."""
    return torch.tensor([max(int(size / scale), 1) for scale in SCALES])


def _line(size: int, scale: Tensor, start: Tensor, flip: Tensor, device: torch.device) -> _Line:
    """Return where the pixels along one side come from."""
    length = _crops(size)[scale].unsqueeze(1)
    place = torch.arange(size).expand(len(scale), size)
    place = torch.where(flip.unsqueeze(1), size - 1 - place, place)
    # In single precision, as torch does: where a product is a whole number, rounding decides.
    ratio = length.float() / size
    nearest = (place.float() * ratio).long().minimum(length - 1)
    exact = place.double() * ((length - 1).double() / max(size - 1, 1))
    low = exact.long().minimum(length - 1)
    high = (low + 1).minimum(length - 1)
    start = start.unsqueeze(1)
    found = _Line(start + nearest, start + low, start + high, (exact - low).float())
    return _Line(*(part.to(device, non_blocking=True) for part in found))


def _take(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels ``(b, c, h, w)`` of ``x`` at rows ``(b, h)`` and columns ``(b, w)``."""
    flat = (rows.unsqueeze(2) * x.shape[-1] + columns.unsqueeze(1)).flatten(1)
    index = flat.unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, index).view_as(x)


def _bilinear(x: Tensor, rows: _Line, columns: _Line) -> Tensor:
    """Return ``x`` interpolated between the pixels around each place."""
    across, down = columns.share[:, None, None, :], rows.share[:, None, :, None]
    top, bottom = (
        _take(x, line, columns.low).lerp(_take(x, line, columns.high), across)
        for line in (rows.low, rows.high)
    )
    return top.lerp(bottom, down)
