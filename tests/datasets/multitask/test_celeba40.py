"""CelebA's 40 attributes: layouts, images, labels, refusal of bad files."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
from common.errors import UserError
from core.torchvision_compat import torchvision  # noqa: F401  # first, so that torchvision can be imported
from datasets.multitask.celeba40 import ATTRIBUTES, CelebA40

REAL = Path(os.environ.get("EVENHAND_REAL_DATA") or "../shared/data") / "celeba"
LAYOUTS = {"flat": ("", "", ""), "release": ("Img", "Anno", "Eval")}


def load(root: Path) -> CelebA40:
    benchmark = datasets.load_benchmark.__wrapped__("celeba40", root)
    assert isinstance(benchmark, CelebA40)
    return benchmark


def write_lists(
    folder: Path, names: list[str], labels: np.ndarray, splits: list[int], layout: str = "flat"
) -> tuple[Path, Path, Path]:
    """Write both lists; return the places of images, attributes and partition."""
    images, attributes, partition = (folder / part for part in LAYOUTS[layout])
    for place in (images / "img_align_celeba", attributes, partition):
        place.mkdir(parents=True, exist_ok=True)
    rows = [f"{name}  {' '.join(map(str, row))}" for name, row in zip(names, labels, strict=True)]
    attributes /= "list_attr_celeba.txt"
    attributes.write_text("\n".join([str(len(names)), " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    partition /= "list_eval_partition.txt"
    lines = [f"{name} {split}" for name, split in zip(names, splits, strict=True)]
    partition.write_text("\n".join(lines) + "\n")
    return images / "img_align_celeba", attributes, partition


def write_celeba(root: Path, n: int = 12, layout: str = "flat") -> tuple[Path, Path, Path]:
    """Write images of noise; half of them train."""
    random = np.random.default_rng(0)
    names = [f"{i + 1:06d}.jpg" for i in range(n)]
    labels = random.choice([-1, 1], (n, 40))
    splits = [0 if i % 2 else 1 + i // 2 % 2 for i in range(n)]
    places = write_lists(root / "celeba", names, labels, splits, layout)
    for name in names:
        pixels = random.integers(0, 256, (109, 89, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(places[0] / name, quality=95)
    return places


def check_against_files(benchmark: CelebA40, limit: int = 10) -> None:
    """Compare the first examples of each split with the files, as the published loader does."""
    from torchvision import transforms

    resize = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    files = benchmark.files
    table = [line.split() for line in files.attributes.read_text().splitlines()]
    labels = {row[0]: row[1:] for row in table[2:]}
    splits = [line.split() for line in files.partition.read_text().splitlines()]
    for number, split in enumerate(("train", "validation", "test")):
        names = [name for name, part in splits if part == str(number)]
        data = benchmark.splits[split]
        assert len(data) == len(data.inputs) == len(names)
        assert tuple(data.targets) == tuple(table[1]) == ATTRIBUTES
        rows = torch.arange(min(limit, len(names)))
        pixels = data.inputs[rows]
        assert pixels.dtype == torch.uint8
        for row in rows.tolist():
            with Image.open(files.images / names[row]) as image:
                expected = resize(image.convert("RGB"))
            assert torch.equal(pixels[row].float() / 255, expected)
            for attribute, value in zip(ATTRIBUTES, labels[names[row]], strict=True):
                assert int(data.targets[attribute][row]) == (value == "1")


@pytest.mark.deviation("celeba-bytes")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_labels(layout: str, tmp_path: Path) -> None:
    write_celeba(tmp_path, layout=layout)
    benchmark = load(tmp_path)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    check_against_files(benchmark)


def test_the_second_time_no_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path)
    first = load(tmp_path)
    images = first.splits["train"].inputs

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    second = load(tmp_path)
    rows = torch.arange(6)
    assert torch.equal(second.splits["train"].inputs[rows], images[rows])
    assert second.data_hash == first.data_hash


def spoil(places: tuple[Path, Path, Path], how: str) -> str:
    """Damage the data; return what the message must tell."""
    images, attributes, partition = places
    text = attributes.read_text()
    if how == "attribute":
        lines = text.splitlines()
        row = lines[4].split()
        row[1 + ATTRIBUTES.index("Bald")] = "0"
        attributes.write_text("\n".join([*lines[:4], " ".join(row), *lines[5:]]) + "\n")
        return "list_attr_celeba.txt: line 5: Bald: received '0', expected 1 or -1"
    if how == "name":
        attributes.write_text(text.replace("Wavy_Hair", "Wavy_Hare"))
        return r"list_attr_celeba.txt: line 2: no attribute Wavy_Hair \(did you mean 'Wavy_Hare'"
    if how == "short row":
        attributes.write_text(text.rstrip().rsplit(maxsplit=1)[0] + "\n")
        return "line 14: 40 fields"
    if how == "image":
        (images / "000003.jpg").unlink()
        return "000003.jpg: missing"
    if how == "damaged":
        path = images / "000003.jpg"
        path.write_bytes(path.read_bytes()[:300])
        return "000003.jpg: damaged image"
    if how == "no image":
        (images / "000003.jpg").write_text("hello")
        return "000003.jpg: no image"
    if how == "split":
        partition.write_text(partition.read_text().replace("000003.jpg 2", "000003.jpg 3"))
        return "line 3: received '000003.jpg 3'"
    if how == "no test":
        partition.write_text(partition.read_text().replace(" 2\n", " 1\n"))
        return r"list_eval_partition.txt: no image of split 2 \(test\)"
    if how == "outside":
        for path in (attributes, partition):
            path.write_text(path.read_text().replace("000003.jpg", "../../000003.jpg"))
        return "expected a name inside"
    assert how == "no partition"
    partition.unlink()
    return "list_eval_partition.txt: missing"


@pytest.mark.parametrize(
    "how",
    ["attribute", "name", "short row", "image", "damaged", "no image", "split", "no test",
     "outside", "no partition"],
)  # fmt: skip
def test_bad_files_are_refused_by_name(how: str, tmp_path: Path) -> None:
    told = spoil(write_celeba(tmp_path), how)
    with pytest.raises(UserError, match=told):
        _ = load(tmp_path).splits
    benchmark = load(tmp_path)
    assert len(benchmark.find_problems() + benchmark.verify_files()) == 1


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"celeba: missing; put .*mmlab"):
        _ = load(tmp_path).splits
    shutil.rmtree(write_celeba(tmp_path)[0])
    with pytest.raises(UserError, match="img_align_celeba: no such folder"):
        _ = load(tmp_path).splits


def test_forty_tasks_with_a_metric_each(tmp_path: Path) -> None:
    write_celeba(tmp_path, n=40)
    benchmark = load(tmp_path)
    assert len(benchmark.tasks) == 40
    assert set(benchmark.baseline.metrics) == {f"f1_{name}" for name in ATTRIBUTES}
    data = benchmark.splits["train"]
    meter = benchmark.make_meter("train")
    perfect = {name: target.float() * 2 - 1 for name, target in data.targets.items()}
    meter.update(torch.arange(len(data)), perfect, data.targets)
    found = meter.compute_metrics()
    assert all(found[f"f1_{name}"] == 1 for name in ATTRIBUTES)
    assert found["delta_m"] < 0


@pytest.mark.real_data
def test_real_images(tmp_path: Path) -> None:
    if not (REAL / "img_align_celeba").is_dir():
        pytest.skip(f"no real celeba in {REAL} (EVENHAND_REAL_DATA)")
    images = sorted((REAL / "img_align_celeba").iterdir())
    names = [path.name for path in images]
    lines = (REAL / "list_attr_celeba.txt").read_text().splitlines()
    labels = np.array([line.split()[1:] for line in lines[2 : 2 + len(names)]], dtype=int)
    # Officially all of these are training images.
    splits = [(0, 0, 1, 2)[i % 4] for i in range(len(names))]
    folder = write_lists(tmp_path / "celeba", names, labels, splits)[0]
    for path in images:
        shutil.copy(path, folder / path.name)
    benchmark = load(tmp_path)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    check_against_files(benchmark)
    male = torch.cat([split.targets["Male"] for split in benchmark.splits.values()])
    assert int(male.sum()) == int((labels[:, ATTRIBUTES.index("Male")] == 1).sum())


def test_names_with_accents_are_found_in_either_form(tmp_path: Path) -> None:
    images, attributes, partition = write_celeba(tmp_path)
    for path in (attributes, partition):
        path.write_text(path.read_text().replace("000003.jpg", "\u00e9.jpg"), encoding="utf-8")
    (images / "000003.jpg").rename(images / "e\u0301.jpg")
    benchmark = load(tmp_path)
    assert benchmark.find_problems() == []
    assert sum(len(split) for split in benchmark.splits.values()) == 12
