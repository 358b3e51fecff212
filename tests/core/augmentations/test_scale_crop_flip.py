"""The batched augmentation agrees with torch's interpolation of single images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from common.errors import UserError
from core.augmentations.scale_crop_flip import SCALES, Crops, ScaleCropFlip, apply_crops, draw_crops
from core.batch import Batch


def make_batch(n: int, size: tuple[int, int], seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, *size, generator=generator)
    depth = torch.rand(n, 1, *size, generator=generator) * 5
    return images, {
        "segmentation": torch.randint(-1, 13, (n, *size), generator=generator).to(torch.int8),
        "depth": depth * (depth > 1),
        "normals": functional.normalize(torch.randn(n, 3, *size, generator=generator), dim=1),
    }


def crop_one_image(x: Tensor, kind: str, scale: float, top: int, left: int, flip: bool) -> Tensor:
    """Crop, resize and mirror one image ``(c, h, w)`` as the published loaders do."""
    height, width = x.shape[-2:]
    crop = x[None, :, top : top + int(height / scale), left : left + int(width / scale)].float()
    if kind in ("segmentation", "depth"):
        found = functional.interpolate(crop, size=(height, width), mode="nearest")
    else:
        found = functional.interpolate(
            crop, size=(height, width), mode="bilinear", align_corners=True
        )
    found = found[0] / scale if kind == "depth" else found[0]
    if flip:
        found = found.flip(-1)
        if kind == "normals":
            found[0] = -found[0]
    return found


@pytest.mark.deviation("dense-augmentation")
@given(
    n=st.integers(1, 4),
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None)
def test_batch_agrees_with_single_images(n: int, height: int, width: int, seed: int) -> None:
    images, targets = make_batch(n, (height, width), seed)
    torch.manual_seed(seed)
    draws = draw_crops(n, (height, width))
    found_images, found = apply_crops(images, targets, draws)
    assert found_images.shape == images.shape
    for i in range(n):
        place = (SCALES[draws.scale[i]], int(draws.top[i]), int(draws.left[i]), bool(draws.flip[i]))
        torch.testing.assert_close(found_images[i], crop_one_image(images[i], "image", *place))
        for task, target in targets.items():
            x = target[i].unsqueeze(0) if task == "segmentation" else target[i]
            expected = crop_one_image(x, task, *place).view_as(target[i]).to(target.dtype)
            assert found[task].dtype == target.dtype
            if task == "segmentation":
                assert torch.equal(found[task][i], expected)
            else:
                torch.testing.assert_close(found[task][i], expected)


@given(size=st.integers(2, 400), seed=st.integers(0, 10**6))
def test_crops_lie_inside(size: int, seed: int) -> None:
    torch.manual_seed(seed)
    draws = draw_crops(50, (size, 3 * size))
    for scale, top, left in zip(draws.scale, draws.top, draws.left, strict=True):
        assert 0 <= top <= size - int(size / SCALES[scale])
        assert 0 <= left <= 3 * size - int(3 * size / SCALES[scale])


def test_scales_positions_and_flips_are_uniform() -> None:
    torch.manual_seed(0)
    draws = draw_crops(30_000, (6, 12))
    for values, count in ((draws.scale, 3), (draws.flip.long(), 2)):
        shares = torch.bincount(values, minlength=count) / len(values)
        torch.testing.assert_close(shares, torch.full((count,), 1 / count), atol=0.02, rtol=0)
    positions = draws.left[draws.scale == 2]  # crops of 8 of 12 columns: 5 positions
    shares = torch.bincount(positions) / len(positions)
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.02, rtol=0)


def test_unit_scale_without_flip_is_identity() -> None:
    images, targets = make_batch(2, (33, 47), 0)
    zero = torch.zeros(2, dtype=torch.int64)
    found_images, found = apply_crops(images, targets, Crops(zero, zero, zero, zero.bool()))
    assert torch.equal(found_images, images)
    assert all(torch.equal(found[task], target) for task, target in targets.items())


def test_mirroring_twice_restores() -> None:
    images, targets = make_batch(2, (32, 48), 0)
    zero = torch.zeros(2, dtype=torch.int64)
    draws = Crops(zero, zero, zero, torch.tensor([True, False]))
    found_images, found = apply_crops(*apply_crops(images, targets, draws), draws)
    torch.testing.assert_close(found_images, images)
    for task, target in targets.items():
        torch.testing.assert_close(found[task], target)


def test_missing_depths_stay_missing() -> None:
    images, targets = make_batch(8, (32, 48), 0)
    targets["depth"][:, :, :, :30] = 0
    torch.manual_seed(0)
    found = ScaleCropFlip().transform_training(Batch(images, targets, None), None).targets
    values = found["depth"].unique()
    allowed = torch.cat([targets["depth"].unique() / scale for scale in SCALES])
    assert torch.isin(values, allowed).all()  # no interpolation between 0 and a depth
    assert set(found["segmentation"].unique().tolist()) <= set(range(-1, 13))


def test_crops_do_not_depend_on_tasks() -> None:
    images, targets = make_batch(4, (32, 48), 0)
    found = []
    for tasks in (("depth",), ("segmentation", "depth", "normals")):
        torch.manual_seed(3)
        part = Batch(images, {task: targets[task] for task in tasks}, None)
        found.append(ScaleCropFlip().transform_training(part, None))
    assert torch.equal(found[0].inputs, found[1].inputs)
    assert torch.equal(found[0].targets["depth"], found[1].targets["depth"])


def test_other_benchmarks_are_refused() -> None:
    y = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UserError, match=r"scale_crop_flip.*segmentation, depth, normals.*y"):
        ScaleCropFlip().transform_training(Batch(torch.rand(2, 3, 32, 32), {"y": y}, None), None)


def test_evaluation_changes_nothing() -> None:
    images, _ = make_batch(2, (32, 48), 0)
    assert ScaleCropFlip().transform_evaluation(images, None) is images
