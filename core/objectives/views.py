"""The views of images that auxiliary objectives learn from."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from core.augmentations.none import demanded
from core.image_ops import (
    color_jitter,
    crop_resize,
    gaussian_blur,
    grayscale,
    normalize,
    random_boxes,
    uniform,
)
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch

SCALE = (0.67, 1.0)
RATIO = (3 / 4, 4 / 3)
STRENGTH = (0.8, 0.8, 0.8, 0.2)  # of jitter: brightness, contrast, saturation, hue
JITTERED, GRAY = 0.8, 0.2  # shares of images
SIGMA = (0.1, 2.0)  # pixels


def masking_view(inputs: Any, image: ImageSpec | None) -> Tensor:
    """Return the images of masked image modelling, normalised, ``(b, c, h, w)``.

    Random crops of 67% to 100%, half of them mirrored. Images that are given as a tensor are taken
    as they are: there is little to crop from 8x8 pixels, and mirrored digits are none.
    """
    if not isinstance(inputs, ImageBatch):
        whole: Tensor = inputs
        return whole
    image = demanded(image)
    return normalize(_crops(inputs, image.size), image)


def contrastive_view(inputs: Any, image: ImageSpec | None) -> Tensor:
    """Return one random view of each image for contrastive learning, ``(b, c, h, w)``.

    As in SimCLR (Chen et al., ICML 2020): crops, mirrored images, changed colours, some without
    colours, blur. The order of the colour changes is drawn once per batch, their strengths for
    each image. The blur's filter is a tenth of the image wide, and odd: the 38 pixels of Kulkarni
    et al. (TMLR 2024) for 384 become 39, as an even filter has no centre.

    Images that are given as a tensor are moved by at most one pixel up or down and left or right,
    with 0 beyond the border, and made up to a fifth brighter or darker.
    """
    if not isinstance(inputs, ImageBatch):
        return _moved(inputs)
    image = demanded(image)
    views = _crops(inputs, image.size)
    draws = uniform(len(views), 7, device=views.device).float()
    order = torch.randperm(4).tolist()
    views = color_jitter(views, _factors(draws[:, :5]), order)
    colourless = (draws[:, 5] < GRAY).view(-1, 1, 1, 1)
    views = torch.where(colourless, grayscale(views), views)
    sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * draws[:, 6]
    return normalize(gaussian_blur(views, (image.size // 10) | 1, sigma), image)


def _crops(inputs: ImageBatch, size: int) -> Tensor:
    boxes = random_boxes(inputs.sizes, SCALE, RATIO)
    flip = uniform(len(boxes), device=boxes.device) < 0.5
    return crop_resize(inputs, boxes, size, flip)


def _factors(draws: Tensor) -> Tensor:
    """Return the factors of :func:`core.image_ops.color_jitter`, of ``(b, 5)`` random numbers."""
    columns = [strength * (2 * draws[:, i] - 1) for i, strength in enumerate(STRENGTH)]
    changes = torch.stack(columns, dim=1) * (draws[:, 4:] < JITTERED)
    changes[:, :3] += 1
    return changes


def _moved(inputs: Tensor) -> Tensor:
    b, _, height, width = inputs.shape
    device = inputs.device
    draws = uniform(b, 3, device=device)
    down, right = (draws[:, :2] * 3).long().unbind(1)  # 0, 1, 2: where the window starts
    rows = (torch.arange(height, device=device) + down.unsqueeze(1)).view(b, 1, height, 1)
    columns = (torch.arange(width, device=device) + right.unsqueeze(1)).view(b, 1, 1, width)
    padded = pad(inputs, (1, 1, 1, 1))
    example = torch.arange(b, device=device).view(b, 1, 1, 1)
    channel = torch.arange(inputs.shape[1], device=device).view(1, -1, 1, 1)
    brightness = (0.8 + 0.4 * draws[:, 2]).to(inputs.dtype).view(b, 1, 1, 1)
    return padded[example, channel, rows, columns] * brightness
