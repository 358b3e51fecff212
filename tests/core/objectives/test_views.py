"""Views of images agree with torchvision's views of single images."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import core.torchvision_compat  # noqa: F401
from core import image_ops as images
from core.models.base import ImageSpec
from core.objectives import views
from datasets.storage.ragged_arrays import ImageBatch

from torchvision.transforms.v2 import functional as reference  # isort: skip


def make_photographs(count: int = 4) -> ImageBatch:
    generator = torch.Generator().manual_seed(count)
    sizes = torch.randint(20, 50, (count, 2), generator=generator)
    pixels = torch.randint(0, 256, (count, 3, 50, 50), generator=generator, dtype=torch.uint8)
    inside = (torch.arange(50).view(1, 50, 1) < sizes[:, 0].view(-1, 1, 1)) & (
        torch.arange(50).view(1, 1, 50) < sizes[:, 1].view(-1, 1, 1)
    )
    return ImageBatch(pixels * inside.unsqueeze(1), sizes)


SPEC = ImageSpec(40, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))


def crop_one_image(image: Tensor, box: list[float], flip: bool) -> Tensor:
    top, left, height, width = (int(v) for v in box)
    found: Tensor = reference.resized_crop(
        image.float() / 255, top, left, height, width, [40, 40], antialias=True
    )
    return found.flip(-1) if flip else found


@pytest.mark.deviation("simclr-views")
@pytest.mark.parametrize("seed", range(3))
def test_contrastive_views_agree_with_torchvision(seed: int) -> None:
    batch = make_photographs()
    torch.manual_seed(seed)
    found = views.make_contrastive_view(batch, SPEC)
    torch.manual_seed(seed)
    boxes = images.draw_boxes(batch.sizes, (0.67, 1.0), (3 / 4, 4 / 3)).tolist()
    flips = (torch.rand(4, dtype=torch.float64) < 0.5).tolist()
    draws = torch.rand((4, 7), dtype=torch.float64).float()
    order = torch.randperm(4).tolist()
    for i, u in enumerate(draws.tolist()):
        height, width = batch.sizes[i].tolist()
        image = crop_one_image(batch.pixels[i, :, :height, :width], boxes[i], flips[i])
        changes: list[Callable[[Tensor], Tensor]] = [
            lambda x, u=u: reference.adjust_brightness(x, 0.2 + 1.6 * u[0]),  # type: ignore[misc]
            lambda x, u=u: reference.adjust_contrast(x, 0.2 + 1.6 * u[1]),  # type: ignore[misc]
            lambda x, u=u: reference.adjust_saturation(x, 0.2 + 1.6 * u[2]),  # type: ignore[misc]
            lambda x, u=u: reference.adjust_hue(x, -0.2 + 0.4 * u[3]),  # type: ignore[misc]
        ]
        for change in order:
            image = changes[change](image) if u[4] < 0.8 else image
        image = reference.rgb_to_grayscale(image, 3) if u[5] < 0.2 else image
        image = reference.gaussian_blur(image, [5, 5], [0.1 + 1.9 * u[6]] * 2)
        image = reference.normalize(image, list(SPEC.mean), list(SPEC.std))
        torch.testing.assert_close(found[i], image, atol=1e-4, rtol=0)


def test_masking_views_agree_with_torchvision() -> None:
    batch = make_photographs()
    torch.manual_seed(0)
    found = views.make_masking_view(batch, SPEC)
    torch.manual_seed(0)
    boxes = images.draw_boxes(batch.sizes, (0.67, 1.0), (3 / 4, 4 / 3)).tolist()
    flips = (torch.rand(4, dtype=torch.float64) < 0.5).tolist()
    for i in range(4):
        height, width = batch.sizes[i].tolist()
        image = crop_one_image(batch.pixels[i, :, :height, :width], boxes[i], flips[i])
        image = reference.normalize(image, list(SPEC.mean), list(SPEC.std))
        torch.testing.assert_close(found[i], image, atol=5e-5, rtol=0)


def test_tensors_are_shifted_by_a_pixel_and_change_brightness() -> None:
    pictures = torch.rand(200, 2, 8, 8)
    torch.manual_seed(0)
    found = views.make_contrastive_view(pictures, None)
    shifts = set()
    for image, view in zip(pictures, found, strict=True):
        fits = []
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                moved = torch.zeros_like(image)
                moved[:, max(-down, 0) : 8 - max(down, 0), max(-right, 0) : 8 - max(right, 0)] = (
                    image[:, max(down, 0) : 8 + min(down, 0), max(right, 0) : 8 + min(right, 0)]
                )
                factor = (view * moved).sum() / moved.square().sum()
                if torch.allclose(view, factor * moved, atol=1e-5) and 0.8 <= factor <= 1.2:
                    fits.append((down, right))
        assert len(fits) == 1
        shifts.update(fits)
    assert len(shifts) == 9
    assert views.make_masking_view(pictures, None) is pictures
