"""Batched image operations agree with torchvision on single images."""

import colorsys
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torch import Tensor

import core.torchvision_compat  # noqa: F401
from common.errors import UserError
from core import image_ops as images
from core.augmentations.none import NoAugmentation
from core.augmentations.random_resized_crop import RandomResizedCrop
from core.batch import Batch
from core.models.base import ImageSpec
from datasets.storage.ragged_arrays import ImageBatch, TextBatch

from torchvision.transforms import v2  # isort: skip
from torchvision.transforms.v2 import functional as reference  # isort: skip

SPEC = ImageSpec(16, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
RATIO = (3 / 4, 4 / 3)


def make_photographs(
    sizes: list[tuple[int, int]], seed: int = 0
) -> tuple[list[Tensor], ImageBatch]:
    """Return random images one by one, and the same as a padded batch."""
    generator = torch.Generator().manual_seed(seed)
    single = [
        torch.randint(0, 256, (3, h, w), generator=generator, dtype=torch.uint8) for h, w in sizes
    ]
    pixels = torch.zeros(
        len(sizes), 3, max(h for h, _ in sizes), max(w for _, w in sizes), dtype=torch.uint8
    )
    for image, target in zip(single, pixels, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    return single, ImageBatch(pixels, torch.tensor(sizes))


def crop_one_image(image: Tensor, box: list[int], size: int) -> Tensor:
    top, left, height, width = box
    result: Tensor = reference.resized_crop(
        image.float() / 255, top, left, height, width, [size, size], antialias=True
    )
    return result


@st.composite
def draw_cases(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[list[int]], list[bool]]:
    sizes = draw(
        st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=4)
    )
    boxes = []
    for height, width in sizes:
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        box = [draw(st.integers(1, height - top)), draw(st.integers(1, width - left))]
        boxes.append([top, left, *box])
    return sizes, boxes, [draw(st.booleans()) for _ in sizes]


@settings(max_examples=60, deadline=None)
@given(draw_cases(), st.integers(1, 40))
def test_crop_and_resize_agrees_with_torchvision(
    case: tuple[list[tuple[int, int]], list[list[int]], list[bool]], size: int
) -> None:
    sizes, boxes, flips = case
    single, batch = make_photographs(sizes)
    found = images.crop_and_resize(batch, torch.tensor(boxes), size, torch.tensor(flips))
    for image, box, flip, result in zip(single, boxes, flips, found, strict=True):
        expected = crop_one_image(image, box, size)
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_crop_and_resize_is_accurate_on_large_images() -> None:
    single, batch = make_photographs([(500, 731), (613, 400)])
    boxes = [[11, 301, 480, 430], [300, 0, 300, 399]]
    found = images.crop_and_resize(batch, torch.tensor(boxes), 96)
    for image, box, result in zip(single, boxes, found, strict=True):
        torch.testing.assert_close(result, crop_one_image(image, box, 96), atol=1e-5, rtol=0)


def test_crop_and_resize_does_not_depend_on_autocast_or_layout() -> None:
    _, batch = make_photographs([(20, 30), (31, 12)])
    boxes = images.make_whole_boxes(batch)
    plain = images.crop_and_resize(batch, boxes, 16)
    last = ImageBatch(batch.pixels.contiguous(memory_format=torch.channels_last), batch.sizes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert images.crop_and_resize(last, boxes, 16).equal(plain)


def draw_reference_boxes(
    draws: Tensor, sizes: list[tuple[int, int]], scale: tuple[float, float]
) -> list:  # type: ignore[type-arg]
    """Apply RandomResizedCrop's algorithm image by image to given random numbers."""
    boxes = []
    for (height, width), u in zip(sizes, draws.tolist(), strict=True):
        for attempt in range(10):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * u[attempt])
            low, high = math.log(RATIO[0]), math.log(RATIO[1])
            aspect = math.exp(low + (high - low) * u[10 + attempt])
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                boxes.append([int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w])
                break
        else:
            if width / height < RATIO[0]:
                w, h = width, round(width / RATIO[0])
            elif width / height > RATIO[1]:
                w, h = round(height * RATIO[1]), height
            else:
                w, h = width, height
            boxes.append([(height - h) // 2, (width - w) // 2, h, w])
    return boxes


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 300)), min_size=1, max_size=8),
    st.sampled_from([(0.05, 1.0), (0.67, 1.0)]),
    st.integers(0, 1000),
)
def test_boxes_follow_the_algorithm(
    sizes: list[tuple[int, int]], scale: tuple[float, float], seed: int
) -> None:
    torch.manual_seed(seed)
    draws = torch.rand((len(sizes), 22), dtype=torch.float64)
    torch.manual_seed(seed)
    assert images.draw_boxes(torch.tensor(sizes), scale, RATIO).tolist() == draw_reference_boxes(
        draws, sizes, scale
    )


@pytest.mark.parametrize(("height", "width"), [(40, 60), (30, 90)])
def test_boxes_have_torchvisions_distribution(height: int, width: int) -> None:
    torch.manual_seed(0)
    n = 3000
    found = images.draw_boxes(torch.tensor([[height, width]] * n), (0.05, 1.0), RATIO)
    crop = v2.RandomResizedCrop(16, scale=(0.05, 1.0), ratio=RATIO)
    image = torch.zeros(3, height, width)
    drawn = [crop.make_params([image]) for _ in range(n)]
    for column, key in enumerate(("top", "left", "height", "width")):
        theirs = [float(one[key]) for one in drawn]
        assert ks_2samp(found[:, column].tolist(), theirs).pvalue > 1e-3, key


def turn_reference_hue(image: Tensor, turn: float) -> Tensor:
    """Turn the hue pixel by pixel in float64; torchvision rounds to float32."""
    result = torch.empty_like(image)
    for y, x in itertools.product(range(image.shape[1]), range(image.shape[2])):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
        turned = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
        result[:, y, x] = torch.tensor(turned, dtype=image.dtype)
    return result


COLORS: list[Callable[[Tensor, float], Tensor]] = [
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    turn_reference_hue,
]


@pytest.mark.deviation("jitter")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0.2, 1.8)] * 3, st.floats(-0.5, 0.5)), min_size=1, max_size=4),
    st.permutations(range(4)),
    st.booleans(),
)
@example([(1.0, 1.5, 1.625, 0.5)], [0, 2, 3, 1], False)  # which float32 would change
def test_color_jitter_agrees_with_torchvision(
    factors: list[tuple[float, ...]], order: list[int], gray: bool
) -> None:
    torch.manual_seed(len(factors))
    batch = torch.rand(len(factors), 3, 9, 7, dtype=torch.float64)
    batch[:, :, 0, 0] = 0.5  # no hue
    batch[:, :, 1, 1] = 0.0  # no saturation
    batch = images.convert_to_grayscale(batch).expand_as(batch) if gray else batch
    found = images.jitter_colors(batch, torch.tensor(factors, dtype=torch.float64), order)
    for image, numbers, result in zip(batch, factors, found, strict=True):
        for change in order:
            image = COLORS[change](image, numbers[change])
        torch.testing.assert_close(result, image, atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 0.5), st.integers(0, 99))
def test_hue_agrees_with_torchvision(turn: float, seed: int) -> None:
    torch.manual_seed(seed)
    batch = torch.rand(1, 3, 9, 7, dtype=torch.float64)
    factors = torch.tensor([[1.0, 1.0, 1.0, turn]], dtype=torch.float64)
    found = images.jitter_colors(batch, factors, range(4))
    # Torchvision rounds to float32 several times, even for float64.
    torch.testing.assert_close(found, reference.adjust_hue(batch, turn), atol=2e-6, rtol=0)


def test_color_jitter_with_neutral_factors_is_identity() -> None:
    batch = torch.rand(2, 3, 8, 8)
    factors = torch.tensor([[1.0, 1, 1, 0]] * 2)
    torch.testing.assert_close(images.jitter_colors(batch, factors, [3, 1, 0, 2]), batch)


def test_grayscale_agrees_with_torchvision() -> None:
    batch = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(
        images.convert_to_grayscale(batch), reference.rgb_to_grayscale(batch)
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 30), st.integers(0, 10), st.lists(st.floats(0.1, 3.0), min_size=1, max_size=3)
)
def test_blur_agrees_with_torchvision(n: int, half: int, sigmas: list[float]) -> None:
    kernel = 2 * min(half, n - 1) + 1
    torch.manual_seed(n)
    batch = torch.rand(len(sigmas), 3, n, n)
    found = images.blur_images(batch, kernel, torch.tensor(sigmas))
    for image, sigma, result in zip(batch, sigmas, found, strict=True):
        expected = reference.gaussian_blur(image, [kernel, kernel], [sigma, sigma])
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [38, 2 * 16 + 1])
def test_blur_refuses_even_and_too_large_kernels(kernel: int) -> None:
    with pytest.raises(ValueError, match=f"kernel: received {kernel}, expected an odd number"):
        images.blur_images(torch.rand(1, 3, 16, 16), kernel, torch.ones(1))


def test_normalize_agrees_with_torchvision() -> None:
    batch = torch.rand(2, 3, 8, 8)
    expected = reference.normalize(batch, list(SPEC.mean), list(SPEC.std))
    torch.testing.assert_close(images.normalize_images(batch, SPEC), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 3), st.floats(0.05, 0.95), st.integers(1, 5),
    st.integers(0, 99),
)  # fmt: skip
def test_masks_hide_their_share_of_whole_blocks(
    grid: int, block: int, share: float, count: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mask = images.draw_patch_masks(count, grid, block, share, torch.device("cpu"))
    size = block if grid % block == 0 else 1
    blocks = mask.view(count, grid // size, size, grid // size, size)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    hidden = blocks[:, :, 0, :, 0].flatten(1).sum(dim=1).tolist()
    assert hidden == [math.ceil(share * (grid // size) ** 2)] * count


def test_every_block_is_hidden_equally_often() -> None:
    torch.manual_seed(0)
    mask = images.draw_patch_masks(4000, 4, 2, 0.6, torch.device("cpu")).float()
    torch.testing.assert_close(mask.mean(dim=0), torch.full((16,), 0.75), atol=0.03, rtol=0)


def test_evaluation_resizes_whole_images() -> None:
    single, batch = make_photographs([(20, 30), (31, 12)])
    found = NoAugmentation().transform_evaluation(batch, SPEC)
    for image, result in zip(single, found, strict=True):
        expected = reference.resize(image, [16, 16], antialias=True).float() / 255  # whole levels
        expected = reference.normalize(expected, list(SPEC.mean), list(SPEC.std))
        torch.testing.assert_close(result, expected, atol=5e-5, rtol=0)
    assert RandomResizedCrop().transform_evaluation(batch, SPEC).equal(found)
    again = NoAugmentation().transform_training(Batch(batch, {"y": torch.zeros(2)}, None), SPEC)
    assert again.inputs.equal(found)


def test_training_crops_are_random_and_repeatable() -> None:
    _, batch = make_photographs([(20, 30)] * 3)
    given_batch = Batch(batch, {"y": torch.arange(3)}, torch.arange(3))
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(RandomResizedCrop().transform_training(given_batch, SPEC))
    assert runs[0].inputs.shape == (3, 3, 16, 16)
    assert runs[0].inputs.equal(runs[1].inputs)
    assert not runs[0].inputs.equal(runs[2].inputs)
    assert runs[0].y is given_batch.y


@pytest.mark.parametrize("augmentation", [NoAugmentation(), RandomResizedCrop()])
def test_texts_and_tensors_pass_unchanged(
    augmentation: NoAugmentation | RandomResizedCrop,
) -> None:
    ids = torch.ones(2, 5, dtype=torch.int64)
    for inputs in (TextBatch(ids, ids.bool(), ids), torch.rand(2, 2, 8, 8)):
        batch = Batch(inputs, {"y": torch.zeros(2)}, None)
        assert augmentation.transform_training(batch, None).inputs is inputs
        assert augmentation.transform_evaluation(inputs, None) is inputs


@pytest.mark.parametrize("augmentation", [NoAugmentation(), RandomResizedCrop()])
def test_photographs_need_a_model_for_images_of_any_size(
    augmentation: NoAugmentation | RandomResizedCrop,
) -> None:
    _, batch = make_photographs([(20, 30)])
    with pytest.raises(UserError, match="photographs of many sizes"):
        augmentation.transform_training(Batch(batch, {"y": torch.zeros(1)}, None), None)


@pytest.mark.deviation("resize")
@pytest.mark.parametrize("device", ["cpu"])
def test_crop_and_normalize_differs_by_rounding_only(device: str) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (5, 3, 40, 60), generator=generator, dtype=torch.uint8)
    batch = ImageBatch(pixels.to(device), torch.tensor([[40, 60]] * 5))
    boxes = torch.tensor(
        [[0, 0, 40, 60], [3, 5, 20, 9], [1, 2, 7, 50], [30, 2, 9, 9], [0, 1, 1, 1]]
    )
    flip = torch.tensor([False, True, False, True, False])
    spec = ImageSpec(24, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    found = images.crop_and_normalize(batch, boxes.double(), 24, spec, flip)
    expected = images.normalize_images(
        images.crop_and_resize(batch, boxes.double(), 24, flip), spec
    )
    assert found.shape == expected.shape == (5, 3, 24, 24)
    levels = (found - expected).abs() * torch.tensor(spec.std).view(3, 1, 1) * 255
    assert levels.max() < 1.01  # two roundings, one per axis
    assert levels.mean() < 0.5
