"""Folders of other projects are found under the names and in the layouts that those use."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import datasets
from datasets import describe, prepare
from datasets.on_disk import OnDisk
from tests.support import molecule_files
from tests.support.comment_files import write_original
from tests.support.dense_files import write_dense
from tests.support.image_files import write_birds, write_faces, write_pairs

BIRDS = "waterbird_complete95_forest2water2"


def load(name: str, root: Path) -> OnDisk:
    benchmark = datasets.load_benchmark.__wrapped__(name, root)
    assert isinstance(benchmark, OnDisk)
    return benchmark


def write_frames(root: Path) -> None:
    write_dense(root, "cityscapes", train=4, val=2)


def write_rooms(root: Path) -> None:
    write_dense(root, "nyuv2", train=4, val=2)


def write_molecules(root: Path) -> None:
    pytest.importorskip("rdkit", reason="rdkit is not installed (requirements-qm9.txt)")
    molecule_files.write(root, 30)


def write_comments(root: Path) -> None:
    write_original(root)


# Data set, a writer of its own layout, what of it is moved, and where it is found then.
FOUND: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("waterbirds", write_birds, f"waterbirds/{BIRDS}", "waterbirds_v1.0"),
    ("waterbirds", write_birds, f"waterbirds/{BIRDS}", f"cub/data/{BIRDS}"),
    ("waterbirds", write_birds, f"waterbirds/{BIRDS}", f"cub/{BIRDS}"),
    ("waterbirds", write_birds, f"waterbirds/{BIRDS}", BIRDS),
    ("waterbirds", write_birds, f"waterbirds/{BIRDS}", "new"),  # then into waterbirds itself
    ("civilcomments", write_comments, "civilcomments", "civilcomments_v1.0"),
    ("civilcomments", write_comments, "civilcomments", "jigsaw/data"),
    ("civilcomments_fine", write_comments, "civilcomments", "civilcomments_v1.0"),
    ("celeba", write_faces, "celeba", "celebA_v1.0"),
    ("celeba", write_faces, "celeba", "celebA/data"),
    ("celeba40", write_faces, "celeba", "celebA_v1.0"),
    ("celeba40", write_faces, "celeba", "celebA/data"),
    ("multinli", write_pairs, "multinli/multinli_1.0", "multinli_1.0"),
    ("multinli", write_pairs, "multinli/multinli_1.0", "multinli/data/multinli_1.0"),
    ("cityscapes", write_frames, "cityscapes", "cityscapes2"),
    ("nyuv2", write_rooms, "nyuv2", "NYUv2"),
    ("qm9", write_molecules, "qm9", "QM9"),
]


@pytest.mark.parametrize("has_empty_folder", [False, True])
@pytest.mark.parametrize(("name", "write", "source", "target"), FOUND)
def test_folders_of_other_projects(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    write: Callable[[Path], object],
    source: str,
    target: str,
    has_empty_folder: bool,
) -> None:
    made, root = tmp_path / "made", tmp_path / "data"
    write(made)
    place = root / ("waterbirds" if target == "new" else target)
    place.parent.mkdir(parents=True, exist_ok=True)
    (made / source).rename(place)
    if has_empty_folder:
        (root / load(name, root).folder_name).mkdir(exist_ok=True)
    options = [name, "--data-root", str(root), "--no-cache"]
    assert prepare.main(options) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    folder = load(name, root).folder
    assert said.out == f"{name}: complete ({folder})\n"
    assert said.err == ""
    assert place.is_relative_to(folder)
    assert prepare.main([*options[:3], "--check"]) == 0
    assert {path.name for path in root.iterdir() if not path.name.startswith(".")} == {
        place.relative_to(root).parts[0],
        *({load(name, root).folder_name} if has_empty_folder else ()),
    }


def test_of_two_folders_the_one_that_is_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_birds(tmp_path)
    other = tmp_path / "waterbirds_v1.0"
    shutil.copytree(tmp_path / "waterbirds" / BIRDS, other)
    line = f"{tmp_path / 'waterbirds'} and {other} hold the data: {tmp_path / 'waterbirds'} is read"
    for check in ([], ["--check"]):
        assert prepare.main(["waterbirds", "--data-root", str(tmp_path), *check]) == 0
        assert capsys.readouterr().err == f"waterbirds: {line}\n"
    assert describe.main(["waterbirds", "--data-root", str(tmp_path)]) == 0
    assert "is read" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "waterbirds" / BIRDS)
    assert load("waterbirds", tmp_path).folder == other


@pytest.mark.parametrize("name", ["celeba", "celeba40"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("parts", [("", "", ""), ("Img", "Anno", "Eval")])
def test_celeba_as_on_kaggle(
    tmp_path: Path, name: str, end: str, is_nested: bool, parts: tuple[str, str, str]
) -> None:
    write_faces(tmp_path / "own")
    write_faces(tmp_path)
    folder = tmp_path / "celeba"
    attributes, partition = folder / "list_attr_celeba.txt", folder / "list_eval_partition.txt"
    table = pd.read_csv(attributes, sep=r"\s+", skiprows=1)
    table.rename_axis("image_id").to_csv(attributes.with_suffix(".csv"), lineterminator=end)
    rows = [line.split() for line in partition.read_text().splitlines()]
    splits = pd.DataFrame(rows, columns=["image_id", "partition"])
    splits.to_csv(partition.with_suffix(".csv"), index=False, lineterminator=end)
    attributes.unlink()
    partition.unlink()
    moved = ("img_align_celeba", "list_attr_celeba.csv", "list_eval_partition.csv")
    for part, file in zip(parts, moved, strict=True):
        (folder / part).mkdir(exist_ok=True)
        (folder / file).rename(folder / part / file)
    if is_nested:
        images = folder / parts[0] / "img_align_celeba"
        images.rename(folder / "inner")
        images.mkdir()
        (folder / "inner").rename(images / "img_align_celeba")
    expected, found = load(name, tmp_path / "own"), load(name, tmp_path)
    assert found.find_problems() == found.verify_files() == found.list_notices() == []
    assert found.data_hash == expected.data_hash


def save_again(text: str, how: str) -> str:
    """Return a table as spreadsheets or pandas save it."""
    header, *rows = [line.split(",") for line in text.splitlines()]
    match how:
        case "blank column":
            lines = [[*row, ""] for row in (header, *rows)]
        case "named blank column":
            lines = [[*header, "Unnamed: 9"], *([*row, ""] for row in rows)]
        case "blank first column":
            lines = [["", *row] for row in (header, *rows)]
        case "blank cells after rows":
            lines = [header, *([*row, "", ""] for row in rows)]
        case "index":
            lines = [["", *header], *([str(i), *row] for i, row in enumerate(rows))]
        case "two indices":
            lines = [["Unnamed: 0", "index", *header], *(["0", "1", *row] for row in rows)]
        case "other order":
            lines = [[*row[1:], row[0]] for row in (header, *rows)]
        case "last row":
            lines = [header, *rows, [""] * len(header)]
        case "blank lines":
            lines = [[], header, *(line for row in rows for line in ([], row)), []]
        case "floats":
            lines = [header, *([row[0], *(f"{cell}.0" for cell in row[1:])] for row in rows)]
        case "quotes":
            lines = [[f'"{cell}"' for cell in row] for row in (header, *rows)]
        case "zeros":
            lines = [header, *([cell.replace("-1", "0") for cell in row] for row in rows)]
        case _:
            raise ValueError(how)
    return "".join(",".join(line) + "\r\n" for line in lines)


def write_kaggle_lists(root: Path) -> tuple[Path, Path]:
    """Write CelebA with its lists as on Kaggle; return their paths."""
    write_faces(root)
    attributes = root / "celeba" / "list_attr_celeba.txt"
    partition = root / "celeba" / "list_eval_partition.txt"
    rows = [line.split() for line in attributes.read_text().splitlines()[1:]]
    cells = [["image_id", *rows[0]], *rows[1:]]
    attributes.with_suffix(".csv").write_text("".join(",".join(row) + "\n" for row in cells))
    splits = partition.read_text().replace(" ", ",")
    partition.with_suffix(".csv").write_text("image_id,partition\n" + splits)
    attributes.unlink()
    partition.unlink()
    return attributes.with_suffix(".csv"), partition.with_suffix(".csv")


@pytest.mark.parametrize(
    "how",
    ["blank column", "named blank column", "blank first column", "blank cells after rows", "index",
     "two indices", "other order", "last row", "blank lines", "floats", "quotes", "zeros"],
)  # fmt: skip
def test_lists_that_spreadsheets_or_pandas_saved(tmp_path: Path, how: str) -> None:
    write_faces(tmp_path / "own")
    for path in write_kaggle_lists(tmp_path):
        path.write_bytes(save_again(path.read_text(), how).encode())
    for name in ("celeba", "celeba40"):
        expected, found = load(name, tmp_path / "own"), load(name, tmp_path)
        assert found.find_problems() == found.verify_files() == []
        assert found.data_hash == expected.data_hash


@pytest.mark.parametrize("is_attributes", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",", ";", "columns are separated by semicolons, expected commas"),
        (",", "\t", "columns are separated by tabs, expected commas"),
        ("\n000003.jpg,", "\n\n000003.jpg,1,", "line 5: "),
        ("\n000003.jpg,", '\n"000003.jpg,', "a quote is wrong, or opened and never closed"),
    ],
)
def test_lists_that_are_not_understood(
    tmp_path: Path, is_attributes: bool, old: str, new: str, message: str
) -> None:
    path = write_kaggle_lists(tmp_path)[not is_attributes]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    for name in ("celeba", "celeba40"):
        found = load(name, tmp_path)
        told = " ".join(found.find_problems() or found.verify_files())
        assert f"{path}: " in told
        assert message in told


def test_zeros_beside_minus_ones_are_refused(tmp_path: Path) -> None:
    path, _ = write_kaggle_lists(tmp_path)
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("-1", "0")
    path.write_text("\n".join(lines))
    told = " ".join(load("celeba40", tmp_path).find_problems())
    assert "list_attr_celeba.csv: line 4: " in told
    assert "received '0', expected 1 or -1 (or 1 and 0 in the whole list)" in told


def test_lists_in_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_faces(tmp_path)
    folder = tmp_path / "celeba"
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,7\n")
    for name in ("celeba", "celeba40"):
        assert prepare.main([name, "--data-root", str(tmp_path), "--no-cache"]) == 0
        error = capsys.readouterr().err
        assert f"are both there: {folder / 'list_eval_partition.txt'} is read" in error
    (folder / "list_eval_partition.txt").unlink()
    (folder / "metadata_celeba.csv").unlink()
    for name in ("celeba", "celeba40"):
        problems = load(name, tmp_path).find_problems()
        assert "list_eval_partition.csv: line 2: received '000001.jpg 7'" in problems[0]
    (folder / "list_eval_partition.csv").unlink()
    for name in ("celeba", "celeba40"):
        (problem,) = load(name, tmp_path).find_problems()
        assert problem.endswith(
            "txt: missing; so is list_eval_partition.csv, the list's form on Kaggle"
        )
