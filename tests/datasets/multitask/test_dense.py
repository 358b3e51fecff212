"""NYUv2 and Cityscapes: generated and real frames, splits, cache, refusal of bad files."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import datasets
from common.errors import UserError
from datasets.multitask.dense import DenseBenchmark
from tests.support.dense_files import CLASSES, FOLDERS, frame, write_dense, write_frame

REAL = Path(os.environ.get("EVENHAND_REAL_DATA") or "../shared/data")
NAMES = ("nyuv2", "cityscapes")
KEYS = {"label": "segmentation", "label_7": "segmentation", "depth": "depth", "normal": "normals"}


def load(name: str, root: Path) -> DenseBenchmark:
    benchmark = datasets.load_benchmark.__wrapped__(name, root)
    assert isinstance(benchmark, DenseBenchmark)
    return benchmark


def as_stored(folder: Path, split: str, name: str, index: int) -> torch.Tensor:
    """A file's values, channels first."""
    values = torch.from_numpy(np.load(folder / split / name / f"{index}.npy"))
    return values.movedim(-1, 0) if values.ndim == 3 else values


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_is_where_it_belongs(name: str, tmp_path: Path) -> None:
    folder = write_dense(tmp_path, name, train=23, val=4)
    benchmark = load(name, tmp_path)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    train, validation = benchmark.split_train_frames()
    assert len(validation) == 2
    assert sorted([*train, *validation]) == list(range(23))
    places = {"train": ("train", train), "validation": ("train", validation),
              "test": ("val", range(4))}  # fmt: skip
    for split, (part, frames) in places.items():
        data = benchmark.splits[split]
        assert len(data) == len(data.inputs) == len(frames)
        assert list(data.targets) == [task.name for task in benchmark.tasks]
        for row, index in enumerate(frames):
            assert isinstance(data.inputs, torch.Tensor)
            assert torch.equal(data.inputs[row], as_stored(folder, part, "image", index))
            for stored, key in KEYS.items():
                if stored in FOLDERS[name]:
                    expected = as_stored(folder, part, stored, index)
                    assert torch.equal(data.targets[key][row].to(expected.dtype), expected)


@pytest.mark.deviation("held-out-frames")
@pytest.mark.parametrize(("frames", "held"), [(2, 1), (9, 1), (20, 2), (795, 79), (2975, 297)])
def test_a_tenth_is_held_out(frames: int, held: int, tmp_path: Path) -> None:
    benchmark = load("nyuv2", tmp_path)
    benchmark.__dict__["frames"] = {"train": frames, "val": 1}
    train, validation = benchmark.split_train_frames()
    assert (len(train), len(validation)) == (frames - held, held)
    assert not set(train) & set(validation)
    again = load("cityscapes", tmp_path)
    again.__dict__["frames"] = {"train": frames, "val": 1}
    assert np.array_equal(again.split_train_frames()[1], validation)


def test_the_split_is_the_same_for_ever(tmp_path: Path) -> None:
    benchmark = load("nyuv2", tmp_path)
    benchmark.__dict__["frames"] = {"train": 795, "val": 1}
    assert benchmark.split_train_frames()[1][:5].tolist() == [1, 8, 14, 27, 31]


def test_the_second_time_no_frame_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_dense(tmp_path, "nyuv2")
    first = load("nyuv2", tmp_path)
    images = first.splits["train"].inputs[torch.arange(3)]
    opened = []
    original = np.load

    def watched(path: Any, **options: Any) -> Any:
        opened.append(Path(path))
        return original(path, **options)

    monkeypatch.setattr(np, "load", watched)
    second = load("nyuv2", tmp_path)
    assert torch.equal(second.splits["train"].inputs[torch.arange(3)], images)
    assert second.data_hash == first.data_hash
    assert not [path for path in opened if path.is_relative_to(folder)]


def test_another_frame_makes_another_cache(tmp_path: Path) -> None:
    folder = write_dense(tmp_path, "cityscapes")
    first = load("cityscapes", tmp_path).data_hash
    write_frame(folder / "val", 0, frame("cityscapes", (32, 48), seed=77))
    assert load("cityscapes", tmp_path).data_hash != first


def spoil(folder: Path, name: str, part: str, how: str) -> str:
    """Damage frame 1 of ``train``; return what the message must tell."""
    path = folder / "train" / part / "1.npy"
    values = np.load(path)
    if how == "missing":
        path.unlink()
        return "missing"
    if how == "size":
        np.save(path, values[:-1])
        return "x".join(map(str, values[:-1].shape)).replace("x", " x ")
    if how == "label":
        values[3, 5] = CLASSES[name]
        np.save(path, values)
        return f"label {CLASSES[name]} in row 3, column 5, expected .* 0 to {CLASSES[name] - 1}"
    if how == "fraction":
        values[3, 5] = 1.5
        np.save(path, values)
        return "label 1.5"
    if how == "below":
        values[0, 0] = -2
        np.save(path, values)
        return "label -2"
    if how == "zero":
        np.save(path, values * 0)
        return "all depths are 0"
    if how == "nan":
        values[2, 2] = np.nan
        np.save(path, values)
        return r"\d values? .*NaN"
    if how == "text":
        np.save(path, np.full(values.shape, "x"))
        return "<U1, expected numbers"
    if how == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        return "cannot be read as numbers"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:200])
        return "cannot be read as numbers"
    if how == "empty":
        path.write_bytes(b"")
        return "cannot be read as numbers"
    if how == "archive":
        with path.open("wb") as file:
            np.savez(file, values)
        return "expected numbers"
    assert how == "bytes"
    np.save(path, (255 * values).astype(np.uint8))
    return r"values from \d+ to 255, expected from 0 to 1"


SPOILED = [
    *[(part, how) for part in ("image", "label", "label_7", "depth", "normal")
      for how in ("missing", "size", "nan", "text", "pickle", "truncated", "empty", "archive")],
    *[(part, how) for part in ("label", "label_7") for how in ("label", "fraction", "below")],
    ("depth", "zero"), ("image", "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part", "how"), [(n, p, how) for n in NAMES for p, how in SPOILED if p in FOLDERS[n]]
)
def test_bad_files_are_refused_by_name(name: str, part: str, how: str, tmp_path: Path) -> None:
    folder = write_dense(tmp_path, name, train=3, val=1)
    told = spoil(folder, name, part, how)
    path = folder / "train" / part / "1.npy"
    with pytest.raises(UserError, match=told) as refused:
        _ = load(name, tmp_path).splits
    assert str(path) in str(refused.value)
    benchmark = load(name, tmp_path)
    found = benchmark.find_problems() + benchmark.verify_files()
    assert any(str(path) in sentence for sentence in found)
    caches = tmp_path / ".cache" / name
    assert not [entry for entry in caches.glob("*") if entry.is_dir()]  # nothing half-written


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    told = r"nyuv2: missing; put .* train and val .* image, label, depth, normal .*mtan"
    with pytest.raises(UserError, match=told):
        _ = load("nyuv2", tmp_path).splits
    folder = write_dense(tmp_path, "cityscapes")
    shutil.rmtree(folder / "val" / "depth")
    assert load("cityscapes", tmp_path).find_problems() == [
        f"{folder / 'val' / 'depth'}: no such folder"
    ]


def test_an_image_that_is_missing_at_the_end_is_noticed(tmp_path: Path) -> None:
    folder = write_dense(tmp_path, "cityscapes", val=3)
    (folder / "val" / "image" / "2.npy").unlink()
    assert load("cityscapes", tmp_path).find_problems() == [
        f"{folder / 'val' / 'image' / '2.npy'}: missing; label_7 has 3 files"
    ]


def test_labels_of_another_size_than_the_image_are_refused(tmp_path: Path) -> None:
    folder = write_dense(tmp_path, "nyuv2", train=2, val=2)
    np.save(folder / "val" / "depth" / "0.npy", np.ones(7))
    np.save(folder / "val" / "label" / "1.npy", np.zeros((32, 48, 1)))
    assert [sentence.split(": ")[1] for sentence in load("nyuv2", tmp_path).find_problems()] == [
        "7, expected 32 x 48 x 1", "32 x 48 x 1, expected 32 x 48"
    ]  # fmt: skip


def test_one_training_frame_is_too_few(tmp_path: Path) -> None:
    write_dense(tmp_path, "nyuv2", train=1)
    with pytest.raises(UserError, match=r"image: 1 files, expected .* at least 2"):
        _ = load("nyuv2", tmp_path).splits


def test_all_frames_have_one_size(tmp_path: Path) -> None:
    folder = write_dense(tmp_path, "nyuv2", train=3, val=1)
    write_frame(folder / "train", 2, frame("nyuv2", (64, 48), seed=2))
    (sentence,) = load("nyuv2", tmp_path).find_problems()
    assert "image/2.npy: 64 x 48 x 3, expected 32 x 48 x 3" in sentence.replace(os.sep, "/")
    write_frame(folder / "train", 2, frame("nyuv2", (32, 48), seed=2))
    write_frame(folder / "val", 0, frame("nyuv2", (64, 48), seed=2))
    (sentence,) = load("nyuv2", tmp_path).find_problems()
    assert "val/image/0.npy: 64 x 48 x 3, expected 32 x 48 x 3" in sentence.replace(os.sep, "/")


@pytest.mark.parametrize("name", NAMES)
def test_metrics_of_a_split(name: str, tmp_path: Path) -> None:
    write_dense(tmp_path, name)
    benchmark = load(name, tmp_path)
    data = benchmark.splits["test"]
    outputs = {
        key: torch.nn.functional.one_hot(t.long().clamp(min=0), CLASSES[name]).movedim(3, 1).float()
        if key == "segmentation"
        else t
        for key, t in data.targets.items()
    }
    for batch_averaged in (False, True):
        meter = benchmark.make_meter("test", batch_averaged=batch_averaged)
        meter.update(torch.arange(len(data)), outputs, data.targets)
        found = meter.compute_metrics()
        assert set(found) == {"delta_m", "worst_task_delta", *benchmark.task_metrics}
        assert found["segmentation_miou"] == found["segmentation_pixel_accuracy"] == 1
        assert found["depth_absolute_error"] == found["depth_relative_error"] == 0
        assert found["delta_m"] < -50
        assert len(meter.collect_predictions()["error_depth"]) == len(data)


@pytest.mark.deviation("batch-means")
def test_batch_averages_are_the_published_means(tmp_path: Path) -> None:
    """Depth and normals: means over batches of 2 of each batch's own metric, medians too."""
    write_dense(tmp_path, "nyuv2", val=5)
    benchmark = load("nyuv2", tmp_path)
    data = benchmark.splits["test"]
    torch.manual_seed(0)
    outputs = {"segmentation": torch.randn(5, 13, 32, 48), "depth": torch.rand(5, 1, 32, 48) * 4}
    outputs["normals"] = torch.nn.functional.normalize(torch.randn(5, 3, 32, 48), dim=1)
    meter = benchmark.make_meter("test", batch_averaged=True)
    meter.update(torch.arange(4), {k: v[:4] for k, v in outputs.items()},
              {k: v[:4] for k, v in data.targets.items()})  # fmt: skip
    meter.update(torch.tensor([4]), {k: v[4:] for k, v in outputs.items()},
              {k: v[4:] for k, v in data.targets.items()})  # fmt: skip
    found = meter.compute_metrics()
    medians, errors = [], []
    for rows in ([0, 1], [2, 3], [4]):
        true, guess = data.targets["normals"][rows], outputs["normals"][rows]
        cosine = (true * guess).sum(1)[true.abs().sum(1) > 0].clamp(-1, 1)
        medians.append(np.median(np.degrees(np.arccos(cosine.numpy()))))
        depth = data.targets["depth"][rows]
        errors.append(float((outputs["depth"][rows] - depth).abs()[depth != 0].mean()))
    assert found["normals_median_angle"] == pytest.approx(np.mean(medians), rel=1e-5)
    assert found["depth_absolute_error"] == pytest.approx(np.mean(errors), rel=1e-5)


def link_real(root: Path, name: str, frames: dict[str, int]) -> Path:
    """Lay out real frames, and generated parts where the real ones lack, at the real size."""
    real = REAL / name / "mtan_format"
    if not real.is_dir():
        pytest.skip(f"no real {name} in {REAL} (EVENHAND_REAL_DATA)")
    folder = root / name
    for split, count in frames.items():
        size = np.load(real / split / "image" / "0.npy").shape[:2]
        for index in range(count):
            parts = frame(name, (size[0], size[1]), seed=index)
            for part in FOLDERS[name]:
                stored = real / split / part / f"{index}.npy"
                if stored.is_file():
                    parts[part] = np.load(stored)
            write_frame(folder / split, index, parts)
    return folder


@pytest.mark.real_data
def test_real_nyuv2_frames(tmp_path: Path) -> None:
    folder = link_real(tmp_path, "nyuv2", {"train": 2, "val": 1})
    benchmark = load("nyuv2", tmp_path)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    test = benchmark.splits["test"]
    assert test.inputs[torch.tensor([0])].shape == (1, 3, 288, 384)
    label = test.targets["segmentation"][0]
    assert torch.equal(label.float(), as_stored(folder, "val", "label", 0))
    # Undefined pixels: no label for some, no depth and no normal for others.
    assert 0.5 < float((test.targets["depth"] != 0).float().mean()) < 0.8
    lengths = test.targets["normals"].norm(dim=1)
    assert torch.minimum(lengths, (lengths - 1).abs()).max() < 1e-3


@pytest.mark.real_data
def test_metrics_of_a_real_frame(tmp_path: Path) -> None:
    """A real frame at full size, against numpy: what predicting one value everywhere reaches."""
    folder = link_real(tmp_path, "nyuv2", {"train": 2, "val": 1})
    benchmark = load("nyuv2", tmp_path)
    shape = (1, 1, 288, 384)
    logits = torch.zeros(1, 13, 288, 384)
    logits[:, 4] = 1
    outputs = {"segmentation": logits, "depth": torch.full(shape, 2.5)}
    outputs["normals"] = torch.tensor([0.0, 0.6, 0.8]).view(1, 3, 1, 1).expand(1, 3, 288, 384)
    meter = benchmark.make_meter("test")
    meter.update(torch.tensor([0]), outputs, benchmark.splits["test"].targets)
    found = meter.compute_metrics()
    label, depth, normal = (
        as_stored(folder, "val", part, 0).double().numpy() for part in ("label", "depth", "normal")
    )
    share = (label == 4).sum() / (label >= 0).sum()
    valid = depth[depth != 0]
    normal = normal[:, (normal != 0).any(axis=0)]
    angles = np.degrees(np.arccos(np.clip(0.6 * normal[1] + 0.8 * normal[2], -1, 1)))
    expected = {
        "segmentation_pixel_accuracy": share,
        "segmentation_miou": share / len(np.unique(label[label >= 0])),
        "depth_absolute_error": np.abs(valid - 2.5).mean(),
        "depth_relative_error": (np.abs(valid - 2.5) / valid).mean(),
        "normals_mean_angle": angles.mean(),
        "normals_median_angle": np.median(angles),
        "normals_within_11": (angles < 11.25).mean(),
        "normals_within_22": (angles < 22.5).mean(),
        "normals_within_30": (angles < 30).mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.real_data
def test_real_cityscapes_frames(tmp_path: Path) -> None:
    link_real(tmp_path, "cityscapes", {"train": 6, "val": 2})
    benchmark = load("cityscapes", tmp_path)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    labels = torch.cat([s.targets["segmentation"].flatten() for s in benchmark.splits.values()])
    assert labels.unique().tolist() == [-1, *range(7)]
    assert benchmark.splits["train"].inputs[torch.tensor([0])].shape == (1, 3, 128, 256)


@pytest.mark.real_data
def test_real_cityscapes_without_depth_is_refused() -> None:
    if not (REAL / "cityscapes" / "mtan_format").is_dir():
        pytest.skip(f"no real cityscapes in {REAL} (EVENHAND_REAL_DATA)")
    benchmark = load("cityscapes", REAL)
    benchmark.__class__ = type(
        "Renamed", (type(benchmark),), {"folder_name": "cityscapes/mtan_format"}
    )
    assert {sentence.split(os.sep)[-1] for sentence in benchmark.find_problems()} == {
        "depth: no such folder"
    }


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    """macOS adds them to archives and to foreign disks."""
    folder = write_dense(tmp_path, "cityscapes", train=4, val=2)
    for path in list(folder.rglob("*.npy")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    benchmark = load("cityscapes", tmp_path)
    assert benchmark.frames == {"train": 4, "val": 2}
    assert benchmark.find_problems() == benchmark.verify_files() == []
