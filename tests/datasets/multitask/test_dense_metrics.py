"""Metrics of dense prediction against slow references in numpy, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from datasets.multitask.dense_metrics import Depth, Normals, Segmentation
from datasets.multitask.metrics import Accumulator

SIZE = (4, 5)
CLASSES = 4


def batches(n: int, seed: int) -> list[Tensor]:
    """Cut ``n`` rows into batches of unequal sizes."""
    cuts = np.random.default_rng(seed).integers(1, 4, n).cumsum()
    return [torch.from_numpy(part) for part in np.split(np.arange(n), cuts[cuts < n])]


def fed(accumulator: Accumulator, output: Tensor, target: Tensor, seed: int) -> Tensor:
    """Feed all rows in unequal batches; return the errors of the examples."""
    parts = batches(len(output), seed)
    return torch.cat([accumulator.update(output[rows], target[rows]) for rows in parts])


def segmentation(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, CLASSES, *SIZE, generator=generator)
    # Up to two classes are absent from the labels.
    label = torch.randint(-1, CLASSES - seed % 3, (n, *SIZE), generator=generator).to(torch.int8)
    return logits, label


@pytest.mark.deviation("mean-iou")
@given(n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_segmentation_agrees_with_counting_pixels(n: int, seed: int) -> None:
    logits, label = segmentation(n, seed)
    label[0, 0, 0] = 0  # at least one pixel is labeled
    accumulator = Segmentation(CLASSES)
    errors = fed(accumulator, logits, label, seed)
    pairs = [
        (int(label[i, r, c]), int(logits[i, :, r, c].argmax()), i)
        for i in range(n) for r in range(SIZE[0]) for c in range(SIZE[1])
        if label[i, r, c] != -1
    ]  # fmt: skip
    ious = []
    for k in range(CLASSES):
        hits = sum(true == k == guess for true, guess, _ in pairs)
        either = sum(k in (true, guess) for true, guess, _ in pairs)
        if either:
            ious.append(hits / either)
    accuracy = sum(true == guess for true, guess, _ in pairs) / len(pairs)
    assert accumulator.compute_metrics() == pytest.approx(
        {"segmentation_miou": np.mean(ious), "segmentation_pixel_accuracy": accuracy}
    )
    for i in range(n):
        own = [true != guess for true, guess, example in pairs if example == i]
        assert float(errors[i]) == pytest.approx(np.mean(own) if own else math.nan, nan_ok=True)


def test_undefined_labels_do_not_count() -> None:
    logits, label = segmentation(3, 0)
    label[1] = -1
    with_undefined, without = Segmentation(CLASSES), Segmentation(CLASSES)
    with_undefined.update(logits, label)
    without.update(logits[[0, 2]], label[[0, 2]])
    assert with_undefined.compute_metrics() == without.compute_metrics()


def depths(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, 1, *SIZE, generator=generator)
    target = torch.rand(n, 1, *SIZE, generator=generator) * 5 + 0.01
    target *= torch.rand(target.shape, generator=generator) > 0.3
    target[0, 0, 0, 0] = 1.0
    return output, target


@given(n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_depth_agrees_with_counting_pixels(n: int, seed: int) -> None:
    output, target = depths(n, seed)
    accumulator = Depth()
    errors = fed(accumulator, output, target, seed)
    guesses, truths = output.double().flatten().tolist(), target.double().flatten().tolist()
    valid = [(g, t) for g, t in zip(guesses, truths, strict=True) if t != 0]
    assert accumulator.compute_metrics() == pytest.approx(
        {
            "depth_absolute_error": np.mean([abs(g - t) for g, t in valid]),
            "depth_relative_error": np.mean([abs(g - t) / t for g, t in valid]),
        },
        rel=1e-6,
    )
    for i in range(n):
        own = (output[i] - target[i]).abs()[target[i] != 0]
        assert float(errors[i]) == pytest.approx(float(own.mean()), nan_ok=True)


def normals(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, 3, *SIZE, generator=generator)
    # Near the truth, so that every limit has angles on both sides.
    target = output + 0.4 * torch.randn(output.shape, generator=generator)
    output, target = (torch.nn.functional.normalize(x, dim=1) for x in (output, target))
    target *= torch.rand(n, 1, *SIZE, generator=generator) > 0.3
    target[0, :, 0, 0] = torch.tensor([1.0, -1.0, 0.0]) / math.sqrt(2)  # its sum is 0
    return output, target


@pytest.mark.deviation("valid-normals")
@given(n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_normals_agree_with_counting_pixels(n: int, seed: int) -> None:
    output, target = normals(n, seed)
    accumulator = Normals()
    errors = fed(accumulator, output, target, seed)
    angles: list[float] = []
    for i in range(n):
        guess, true = (x[i].double().flatten(1).T.numpy() for x in (output, target))
        own = [
            math.degrees(math.acos(max(-1.0, min(1.0, float(g @ t)))))
            for g, t in zip(guess, true, strict=True)
            if t.any()
        ]
        assert float(errors[i]) == pytest.approx(np.mean(own) if own else math.nan, nan_ok=True)
        angles += own
    expected = {"normals_mean_angle": np.mean(angles), "normals_median_angle": np.median(angles)}
    for name, limit in (("11", 11.25), ("22", 22.5), ("30", 30.0)):
        expected[f"normals_within_{name}"] = np.mean([angle < limit for angle in angles])
    assert accumulator.compute_metrics() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_nothing_valid_is_not_a_number() -> None:
    found: dict[str, float] = {}
    for accumulator, channels in ((Depth(), 1), (Normals(), 3)):
        zeros = torch.zeros(2, channels, *SIZE)
        assert accumulator.update(zeros + 1, zeros).isnan().all()
        found |= accumulator.compute_metrics()
    assert all(math.isnan(value) for value in found.values())
    assert len(found) == 7


def test_perfect_predictions() -> None:
    _, label = segmentation(3, 0)
    perfect = Segmentation(CLASSES)
    one_hot = torch.nn.functional.one_hot(label.long().clamp(min=0), CLASSES)
    perfect.update(one_hot.movedim(-1, 1).float(), label)
    assert set(perfect.compute_metrics().values()) == {1.0}
    _, target = depths(3, 0)
    depth = Depth()
    depth.update(target, target)
    assert set(depth.compute_metrics().values()) == {0.0}
    _, direction = normals(3, 0)
    normal = Normals()
    normal.update(direction, direction)
    values = normal.compute_metrics()
    assert values["normals_mean_angle"] < 0.05  # single precision
    assert values["normals_within_11"] == 1.0
