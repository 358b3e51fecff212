"""Random views of images for auxiliary objectives."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from core.augmentations.none import require_image_spec
from core.image_ops import (
    blur_images,
    convert_to_grayscale,
    crop_and_resize,
    draw_boxes,
    draw_uniform,
    jitter_colors,
    normalize_images,
)
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch

AREA_SHARES = (0.67, 1.0)
ASPECT_RATIOS = (3 / 4, 4 / 3)
FLIP_SHARE = 0.5
JITTER_STRENGTHS = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue
JITTERED_SHARE, GRAY_SHARE = 0.8, 0.2  # of images
BLUR_SIGMA_PIXELS = (0.1, 2.0)  # lowest and highest


def make_masking_view(inputs: Tensor | ImageBatch, image: ImageSpec | None) -> Tensor:
    """Return the images for masked image modeling, normalized, ``(b, c, h, w)``.

    Random crops of 67% to 100% of the area, half of them mirrored. Images in a tensor are returned
    unchanged: 8x8 pixels are too few to crop, and a mirrored digit is not a digit.
    """
    if not isinstance(inputs, ImageBatch):
        return inputs
    image = require_image_spec(image)
    return normalize_images(_crop_images(inputs, image.size), image)


def make_contrastive_view(inputs: Tensor | ImageBatch, image: ImageSpec | None) -> Tensor:
    """Return one random view of each image for contrastive learning, ``(b, c, h, w)``.

    As in SimCLR (Chen et al., ICML 2020): random crops, mirroring, color jitter, grayscale, blur.
    The order of the color changes is drawn once per batch, their strengths for each image. The
    blur's kernel is that of :func:`compute_blur_width`.

    Images in a tensor are shifted by at most one pixel along each axis, padded with 0, and made up
    to a fifth brighter or darker.
    """
    if not isinstance(inputs, ImageBatch):
        return _shift_images(inputs)
    image = require_image_spec(image)
    views = _crop_images(inputs, image.size)
    draws = draw_uniform(len(views), 7, device=views.device).float()
    order = torch.randperm(4).tolist()
    views = jitter_colors(views, _make_jitter_factors(draws[:, :5]), order)
    is_gray = (draws[:, 5] < GRAY_SHARE).view(-1, 1, 1, 1)
    views = torch.where(is_gray, convert_to_grayscale(views), views)
    sigma = BLUR_SIGMA_PIXELS[0] + (BLUR_SIGMA_PIXELS[1] - BLUR_SIGMA_PIXELS[0]) * draws[:, 6]
    return normalize_images(blur_images(views, compute_blur_width(image.size), sigma), image)


def describe_masking_view() -> dict[str, object]:
    """Return the ends of what :func:`make_masking_view` draws of images of many sizes."""
    return {
        "crop_area": list(AREA_SHARES),
        "aspect_ratio": list(ASPECT_RATIOS),
        "flip": FLIP_SHARE,
    }


def describe_contrastive_view(size: int | None) -> dict[str, object]:
    """Return the ends of what :func:`make_contrastive_view` draws of images of many sizes.

    Args:
        size: Height and width of the views; None where they are unknown.
    """
    return {
        **describe_masking_view(),
        "color_jitter": list(JITTER_STRENGTHS),
        "jittered": JITTERED_SHARE,
        "gray": GRAY_SHARE,
        "blur_width": None if size is None else compute_blur_width(size),
        "blur_sigma": list(BLUR_SIGMA_PIXELS),
    }


def compute_blur_width(size: int) -> int:
    """Return the width of the blur's kernel: a tenth of the image's, made odd.

    39 for 384 pixels, as in the code of Kulkarni et al. (TMLR 2024), which makes 38 odd too.
    """
    return (size // 10) | 1


def _crop_images(inputs: ImageBatch, size: int) -> Tensor:
    """Return random crops, half of them mirrored, ``(b, 3, size, size)`` in [0, 1]."""
    boxes = draw_boxes(inputs.sizes, AREA_SHARES, ASPECT_RATIOS)
    flip = draw_uniform(len(boxes), device=boxes.device) < FLIP_SHARE
    return crop_and_resize(inputs, boxes, size, flip)


def _make_jitter_factors(draws: Tensor) -> Tensor:
    """Return the factors of :func:`core.image_ops.jitter_colors` from random numbers ``(b, 5)``."""
    columns = [strength * (2 * draws[:, i] - 1) for i, strength in enumerate(JITTER_STRENGTHS)]
    changes = torch.stack(columns, dim=1) * (draws[:, 4:] < JITTERED_SHARE)
    changes[:, :3] += 1
    return changes


def _shift_images(inputs: Tensor) -> Tensor:
    """Return images shifted by at most a pixel and made brighter or darker, ``(b, c, h, w)``."""
    b, _, height, width = inputs.shape
    device = inputs.device
    draws = draw_uniform(b, 3, device=device)
    down, right = (draws[:, :2] * 3).long().unbind(1)  # 0, 1, 2: where the window starts
    rows = (torch.arange(height, device=device) + down.unsqueeze(1)).view(b, 1, height, 1)
    columns = (torch.arange(width, device=device) + right.unsqueeze(1)).view(b, 1, 1, width)
    padded = pad(inputs, (1, 1, 1, 1))
    example = torch.arange(b, device=device).view(b, 1, 1, 1)
    channel = torch.arange(inputs.shape[1], device=device).view(1, -1, 1, 1)
    brightness = (0.8 + 0.4 * draws[:, 2]).to(inputs.dtype).view(b, 1, 1, 1)
    return padded[example, channel, rows, columns] * brightness
