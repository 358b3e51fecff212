"""Batched image operations on the device: crop, resize, color jitter, blur, patch masks.

Every operation is one computation for the whole batch, with separate parameters for each image. On
CPUs crops are resized one by one with torch's integer resampling, which is 10 times faster; on
other devices resizing and blurring are products with one matrix per image and axis. Random numbers
come from torch's global CPU generator, so that they do not depend on the device.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch

_GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R BT.601, the weights that torchvision uses


def draw_uniform(*shape: int, device: torch.device) -> Tensor:
    """Draw numbers in [0, 1), float64, on the host and move them to ``device``."""
    return torch.rand(shape, dtype=torch.float64).to(device, non_blocking=True)


def make_whole_boxes(batch: ImageBatch) -> Tensor:
    """Return the boxes of the whole images, ``(b, 4)``: top, left, height, width."""
    return torch.cat([torch.zeros_like(batch.sizes), batch.sizes], dim=1).double()


def draw_boxes(sizes: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Draw the boxes of ``torchvision.transforms.RandomResizedCrop``.

    The box is the first of ten draws of area and aspect ratio that fits into the image, at a random
    position. If none fits, it is the largest centered box with an aspect ratio within ``ratio``.

    Args:
        sizes: Height and width of each image, ``(b, 2)`` int64.
        scale: Lowest and highest share of the image's area.
        ratio: Lowest and highest width over height.

    Returns:
        Top, left, height, width: ``(b, 4)`` float64, whole numbers.
    """
    draws = draw_uniform(len(sizes), 22, device=sizes.device)
    height, width = sizes.double().unbind(1)
    area = (scale[0] + (scale[1] - scale[0]) * draws[:, :10]) * (height * width).unsqueeze(1)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[:, 10:20])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (h > 0) & (w <= width.unsqueeze(1)) & (h <= height.unsqueeze(1))
    first = fits.int().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)
    top = (draws[:, 20] * (height - h + 1)).floor()
    left = (draws[:, 21] * (width - w + 1)).floor()
    chosen = torch.stack([top, left, h, w], dim=1)
    w, h = torch.minimum(width, (height * ratio[1]).round()), height
    h = torch.where(width / height < ratio[0], (width / ratio[0]).round(), h)
    top, left = ((height - h) / 2).floor(), ((width - w) / 2).floor()
    fallback = torch.stack([top, left, h, w], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), chosen, fallback)


def crop_and_resize(
    batch: ImageBatch, boxes: Tensor, size: int, flip: Tensor | None = None
) -> Tensor:
    """Crop each image and resize the crop, bilinear with antialiasing.

    The same as ``torchvision.transforms.v2.functional.resized_crop(..., antialias=True)`` of the
    float image: a triangle filter as wide as the downscaling factor, at least one pixel.

    Args:
        batch: The images.
        boxes: Top, left, height, width of each crop: ``(b, 4)``, whole numbers.
        size: Height and width of the result.
        flip: Which results are mirrored left to right, ``(b,)`` bool.

    Returns:
        ``(b, 3, size, size)`` float32 in [0, 1].
    """
    b, channels, height, width = batch.pixels.shape
    top, left, h, w = boxes.double().unbind(1)
    with torch.autocast(batch.pixels.device.type, enabled=False):
        rows = _make_resampling_matrix(top, h, size, height, None) / 255.0
        columns = _make_resampling_matrix(left, w, size, width, flip)
        # Ragged arrays store channels last; as rows of (width x channels) they need no copy.
        pixels = batch.pixels.permute(0, 2, 3, 1).reshape(b, height, width * channels).float()
        narrow = (rows @ pixels).view(b, size, width, channels).permute(0, 3, 1, 2)
        return narrow @ columns.transpose(1, 2).unsqueeze(1)


def crop_and_normalize(
    batch: ImageBatch, boxes: Tensor, size: int, spec: ImageSpec, flip: Tensor | None = None
) -> Tensor:
    """Crop, resize and normalize images, ``(b, 3, size, size)`` float32.

    Equals :func:`crop_and_resize` followed by :func:`normalize_images`, and takes their arguments.
    On CPUs pixels are rounded to 256 levels before normalization, as by Pillow.
    """
    if batch.sizes.device.type != "cpu" or not len(batch.sizes):
        return normalize_images(crop_and_resize(batch, boxes, size, flip), spec)
    images = batch.split_images()
    channels = images[0].shape[0]
    factor, shift = _make_row_map(spec, size)
    result = torch.empty(len(boxes), size, size, channels)
    flips = [False] * len(boxes) if flip is None else flip.tolist()
    for i, (top, left, h, w) in enumerate(boxes.int().tolist()):
        box = images[i][:, top : top + h, left : left + w].unsqueeze(0)
        box = box.contiguous(memory_format=torch.channels_last)
        small = interpolate(box, (size, size), mode="bilinear", antialias=True)
        small = small.flip(3) if flips[i] else small
        rows = result[i].view(size, size * channels)  # of width x channels, to be fast
        rows.copy_(small.permute(0, 2, 3, 1).reshape(size, size * channels))
        torch.addcmul(shift, rows, factor, out=rows)
    return result.permute(0, 3, 1, 2)


@cache
def _make_row_map(spec: ImageSpec, size: int) -> tuple[Tensor, Tensor]:
    """Return factor and offset that normalize a row of pixels, ``(size * channels,)`` each."""
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    return (1 / (255 * std)).repeat(size), (-mean / std).repeat(size)


def _make_resampling_matrix(
    start: Tensor, length: Tensor, size: int, pixels: int, flip: Tensor | None
) -> Tensor:
    """Return the weights of the pixels in each result, ``(b, size, pixels)`` float32."""
    device = start.device
    place = torch.arange(size, device=device, dtype=torch.float64).expand(len(start), size)
    if flip is not None:
        place = torch.where(flip.unsqueeze(1), size - 1 - place, place)
    step = (length / size).unsqueeze(1)
    center = start.unsqueeze(1) + (place + 0.5) * step
    # Whole pixels and the rest apart: float32 would lose digits of the sum in large images.
    whole_pixels = center.floor()
    rest = (center - whole_pixels - 0.5).float().unsqueeze(2)
    pixel = torch.arange(pixels, device=device, dtype=torch.float32)
    distance = (pixel - whole_pixels.float().unsqueeze(2) - rest).abs_()
    weight = distance.div_(-step.clamp(min=1).float().unsqueeze(2)).add_(1).clamp_(min=0)
    first, last = start.float().view(-1, 1, 1), (start + length).float().view(-1, 1, 1)
    weight.mul_((pixel >= first) & (pixel < last))
    return weight.div_(weight.sum(dim=2, keepdim=True))


def normalize_images(images: Tensor, spec: ImageSpec) -> Tensor:
    """Return ``(images - mean) / std`` by channel, of ``(b, c, h, w)``."""
    mean, std = _move_mean_and_std(spec, images.device, images.dtype)
    return (images - mean) / std


@cache  # otherwise every batch would wait for a transfer of six numbers to the device
def _move_mean_and_std(
    spec: ImageSpec, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(spec.mean, dtype=dtype, device=device).view(-1, 1, 1)
    return mean, torch.tensor(spec.std, dtype=dtype, device=device).view(-1, 1, 1)


def convert_to_grayscale(images: Tensor) -> Tensor:
    """Return the brightness ``(b, 1, h, w)`` of color images ``(b, 3, h, w)``."""
    red, green, blue = images.unbind(1)
    return (_GRAY_WEIGHTS[0] * red + _GRAY_WEIGHTS[1] * green + _GRAY_WEIGHTS[2] * blue).unsqueeze(
        1
    )


def jitter_colors(images: Tensor, factors: Tensor, order: Sequence[int]) -> Tensor:
    """Change brightness, contrast, saturation and hue, as torchvision's functions do.

    Args:
        images: ``(b, 3, h, w)`` in [0, 1].
        factors: The four factors of each image, ``(b, 4)``; (1, 1, 1, 0) changes nothing.
        order: The order of the four changes, the same for the whole batch.
    """
    factors = factors.to(images.dtype).view(-1, 4, 1, 1, 1)
    for change in order:
        factor = factors[:, change]
        if change == 3:
            images = _turn_hue(images, factor.squeeze(1))
            continue
        other = torch.zeros_like(images[:, :1])
        if change == 1:
            other = convert_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
        elif change == 2:
            other = convert_to_grayscale(images)
        images = (factor * images + (1 - factor) * other).clamp(0, 1)
    return images


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Add ``turn`` (b, 1, 1), a fraction of the color circle, to the hue of HSV."""
    value, low = images.amax(dim=1), images.amin(dim=1)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1.0, chroma)
    red, green, blue = images.unbind(1)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sextant = sextant + 6 * turn
    shifts = torch.tensor([5.0, 3.0, 1.0], dtype=images.dtype).to(images.device, non_blocking=True)
    k = (shifts.view(1, 3, 1, 1) + sextant.unsqueeze(1)) % 6
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    return value.unsqueeze(1) - chroma.unsqueeze(1) * share


def blur_images(images: Tensor, kernel: int, sigma: Tensor) -> Tensor:
    """Blur each image with its own standard deviation; borders are reflected.

    Args:
        images: ``(b, c, n, n)``.
        kernel: Width of the kernel in pixels, odd, less than ``2 n``.
        sigma: Standard deviations in pixels, ``(b,)``.

    Raises:
        ValueError: If the kernel is even or too large.
    """
    n = images.shape[-1]
    if kernel % 2 == 0 or kernel >= 2 * n:
        raise ValueError(f"kernel: received {kernel}, expected an odd number below {2 * n}")
    sigma = sigma.to(images.dtype).view(-1, 1, 1)
    i = torch.arange(n, device=images.device)
    difference, total = (i.unsqueeze(1) - i).abs(), i.unsqueeze(1) + i

    def compute_weight(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / sigma) ** 2) * (distance <= kernel // 2)

    # A pixel counts once at its own position, and once at each reflection at a border.
    matrix = compute_weight(difference) + compute_weight(total) * (i > 0)
    matrix = matrix + compute_weight(2 * (n - 1) - total) * (i < n - 1)
    matrix = matrix / matrix.sum(dim=2, keepdim=True)
    with torch.autocast(images.device.type, enabled=False):
        return matrix.unsqueeze(1) @ images @ matrix.transpose(1, 2).unsqueeze(1)


def draw_patch_masks(
    count: int, grid: int, block: int, share: float, device: torch.device
) -> Tensor:
    """Draw masks of patches, block by block as in SimMIM.

    Args:
        count: The number of masks.
        grid: Patches along each side.
        block: Patches along each side of a block; if it does not divide ``grid``, blocks are single
            patches.
        share: The share of blocks that are masked, rounded up to whole blocks.
        device: Device of the masks.

    Returns:
        ``(count, grid ** 2)`` bool, row by row; True is masked.
    """
    if grid % block:
        block = 1
    side = grid // block
    hidden = math.ceil(share * side**2)
    rank = draw_uniform(count, side**2, device=device).argsort(dim=1).argsort(dim=1)
    mask = (rank < hidden).view(count, side, side)
    return mask.repeat_interleave(block, 1).repeat_interleave(block, 2).flatten(1)
