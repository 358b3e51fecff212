"""Own tables as people have them: they give the data of the common table."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import datasets
from common.errors import UserError
from core import __main__ as core_command
from datasets import describe, prepare
from datasets.groups.folder import Folder
from datasets.own.splits import DrawnSplit, draw_splits, read_split_words
from tests.datasets.own.test_references import write_images

Edit = Callable[[pd.DataFrame], pd.DataFrame]
WORDS = {"0": "calm", "1": "angry"}


def load(root: Path, name: str = "birds") -> Folder:
    found = datasets.load_benchmark.__wrapped__(f"folder:{name}", root)
    assert isinstance(found, Folder)
    return found


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    write_images(tmp_path / "birds")
    return tmp_path


def read(birds: Path) -> pd.DataFrame:
    return pd.read_csv(birds / "birds" / "metadata.csv", dtype=str, na_filter=False)


def save(table: pd.DataFrame, birds: Path, name: str = "metadata.csv", **options: str) -> None:
    (birds / "birds" / "metadata.csv").unlink()
    path = birds / "birds" / name
    match path.suffix:
        case ".csv" | ".tsv":
            encoding = options.pop("encoding", "utf-8")
            table.to_csv(path, index=False, encoding=encoding, sep=options.get("sep", ","))
        case ".parquet":
            table.to_parquet(path)
        case _:
            table.to_json(path, orient="records", lines=True)


def check_same(expected: Folder, found: Folder) -> None:
    """Compare splits, inputs and groups."""
    assert found.find_problems() == found.verify_files() == found.list_warnings() == []
    for name in ("train", "validation", "test"):
        one, other = expected.splits[name], found.splits[name]
        assert one.group is not None
        assert other.group is not None
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.group, other.group)
        rows = torch.arange(len(one))
        assert torch.equal(one.inputs[rows].pixels, other.inputs[rows].pixels)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("metadata.tsv", {"sep": "\t"}),
        ("table.csv", {"sep": ";"}),
        ("metadata.csv", {"sep": "\t"}),
        ("metadata.csv", {"encoding": "utf-8-sig"}),
        ("metadata.parquet", {}),
        ("metadata.jsonl", {}),
    ],
)
def test_kinds_of_files(birds: Path, name: str, options: dict[str, str]) -> None:
    expected, table = load(birds), read(birds)
    _ = expected.splits
    numbers = table.astype({"split": int, "y": float, "a": int}) if "par" in name else table
    save(numbers, birds, name, **options)
    check_same(expected, load(birds))


def rename(column: "pd.Series[str]", words: str) -> "pd.Series[str]":
    """Return a column with words in place of 0, 1, ..."""
    return column.map({str(i): word for i, word in enumerate(words.split())})


EDITS: dict[str, Edit] = {
    "words": lambda t: t.assign(y=rename(t.y, "no yes"), a=rename(t.a, "A B")),
    "labels from 1": lambda t: t.assign(y=(t.y.astype(int) + 1).astype(str)),
    "minus one and one": lambda t: t.assign(a=rename(t.a, "-1 1")),
    "booleans": lambda t: t.assign(y=rename(t.y, "False True")),
    "no id": lambda t: t.drop(columns="id"),
    "names of Waterbirds": lambda t: t.rename(
        columns={"id": "img_id", "filename": "img_filename", "a": "place"}
    ),
    "usual names": lambda t: t.rename(
        columns={"filename": "Image Path", "split": "Partition", "y": "Label", "a": "Group"}
    ),
    "words of splits": lambda t: t.assign(split=rename(t.split, "Train DEV Eval")),
    "other words": lambda t: t.assign(split=rename(t.split, "training eval test")),
    "back-slashes": lambda t: t.assign(filename=".\\" + t.filename),
    "a comment beside an image": lambda t: t.assign(comment="blurred"),
    "spaces": lambda t: t.assign(y=" " + t.y + " "),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_tables_as_people_have_them(birds: Path, edit: Edit) -> None:
    expected = load(birds)
    _ = expected.splits
    save(edit(read(birds)), birds)
    check_same(expected, load(birds))


def test_names_are_kept(birds: Path) -> None:
    save(read(birds).assign(label=read(birds).y.map(WORDS)).drop(columns="y"), birds)
    assert load(birds).groups.names == (
        "angry, a = 0", "angry, a = 1", "calm, a = 0", "calm, a = 1",
    )  # fmt: skip
    save(read(birds).assign(label=[str(i % 2 == 1) for i in range(24)]), birds)
    assert load(birds).groups.classes == ("label = False", "label = True")
    save(read(birds).assign(label=[str(i % 2 + 1) for i in range(24)]), birds)
    assert load(birds).groups.classes == ("label = 1", "label = 2")
    (note,) = load(birds).list_notices()
    assert note.endswith("column label: the values 1, 2 are the classes 0 to 1")


def test_doubtful_rows_are_noted(birds: Path) -> None:
    table = read(birds)
    repeated = pd.concat([table, table[:1].assign(id="x", split="2")])
    save(repeated.assign(y=rename(repeated.y, "Cat cat")), birds)
    words, rows = load(birds).list_notices()
    assert words.endswith("column y: 'Cat' and 'cat' are different values")
    assert "1 file is in several splits (rows 1, 25)" in rows


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.json", r"a.json: expected a table .csv, .tsv, .parquet, .jsonl; save it as CSV"),
        ("a.csv.gz", "a.csv.gz: expected a table"),
        ("", "birds: no table; put a table metadata.csv .* or a folder of images per class"),
    ],
)
def test_folders_without_a_table_say_so(birds: Path, name: str, message: str) -> None:
    table = birds / "birds" / "metadata.csv"
    if name:
        table.rename(table.with_name(name))
    else:
        table.unlink()
    with pytest.raises(UserError, match=message):
        _ = load(birds).splits


def test_a_file_in_place_of_its_folder(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = birds / "birds" / "metadata.csv"
    assert prepare.main([str(path), "--data-root", str(birds)]) == 1
    assert f"a file, expected its folder: {path.parent}" in capsys.readouterr().err


def test_absolute_names_in_the_folder(birds: Path) -> None:
    expected = load(birds)
    _ = expected.splits
    save(read(birds).assign(filename=[f"{birds}/birds/{i}.png" for i in range(24)]), birds)
    check_same(expected, load(birds))


def test_numbers_of_groups_as_attributes(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the combinations have no example."""
    table = read(birds)
    save(
        table.assign(group=(2 * table.y.astype(int) + table.a.astype(int))).drop(columns="a"), birds
    )
    root = ["--data-root", str(birds)]
    assert prepare.main(["folder:birds", *root]) == 0
    assert describe.main(["folder:birds", *root]) == 0
    given = ["--method", "dro", "--dataset", "folder:birds", "--epochs", "1", *root]
    assert core_command.main([*given, "--set", "model=tiny_vit"]) == 0
    assert "worst_group_accuracy" in capsys.readouterr().out


def test_without_attributes_the_groups_are_the_classes(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read(birds).drop(columns=["a", "id"])
    save(table.assign(y=table.y.map(WORDS)), birds)
    root = ["--data-root", str(birds)]
    assert prepare.main(["folder:birds", *root]) == 0
    assert capsys.readouterr().err.count("the groups are the classes") == 1
    benchmark = load(birds)
    assert benchmark.groups.names == ("angry", "calm")
    assert benchmark.list_ids("train")[:2] == ["1", "2"]
    assert describe.main(["folder:birds", *root]) == 0
    assert "0 angry, 1 calm" in capsys.readouterr().out
    given = ["--method", "rwg", "--dataset", "folder:birds", "--epochs", "1", *root]
    assert core_command.main([*given, "--set", "model=tiny_vit"]) == 0
    assert "worst_group_accuracy" in capsys.readouterr().out


def test_columns_and_a_split_are_remembered(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read(birds).drop(columns="split")
    save(table.rename(columns={"filename": "photo", "y": "kind", "a": "where"}), birds)
    root = ["--data-root", str(birds), "--no-cache"]
    assert prepare.main(["folder:birds", *root]) == 1
    assert "missing column y" in capsys.readouterr().err
    mapped = ["--columns", "photo=path,kind=y", "--columns", "where=a"]
    assert prepare.main(["folder:birds", *root, *mapped]) == 2
    assert "--split 0.7/0.1/0.2" in capsys.readouterr().err
    assert not (birds / "birds" / "dataset.yaml").exists()
    drawn = ["--split", "0.5/0.25/0.25", "--seed", "3"]
    assert prepare.main(["folder:birds", *root, *mapped, *drawn]) == 0
    assert "columns, split kept in" in capsys.readouterr().out
    for again in (mapped, drawn, []):
        assert prepare.main(["folder:birds", *root, *again]) == 0
    assert "0.5/0.25/0.25 of each group, seed 3" in capsys.readouterr().err
    benchmark = load(birds)
    assert {s: benchmark.count_groups(s) for s in ("train", "validation", "test")} == {
        "train": [2] * 4, "validation": [2] * 4, "test": [2] * 4,
    }  # fmt: skip
    assert prepare.main(["folder:birds", *root, "--columns", "where=y"]) in (1, 2)
    assert prepare.main(["folder:birds", *root, "--split", "0.8/0.1/0.1"]) == 2
    assert "the file has other split already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--columns", "kind"], "expected COLUMN=NAME"),
        (["--columns", "kid=y"], "there is no column 'kid' (did you mean 'id'?)"),
        (["--columns", "y=id"], "received"),
        (["--columns", "a=labl"], "received a=labl (did you mean 'label'"),
        (["--split", "0.5/0.4"], "expected shares of training, validation and test"),
        (["--split", "0.8/0.2"], "the table has rows of validation already"),
        (["--split", "0.7/0.3/0"], "expected shares"),
        (["--split", "0.7/0.1/0.2"], "the table has a column 'split' already"),
        (["--seed", "1"], "--seed has no effect without --split"),
        (["--check", "--columns", "a=y"], "exclude each other"),
    ],
)
def test_wrong_choices_are_one_line(
    birds: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if given[1].endswith("=id"):
        message = "missing column y"
    assert prepare.main(["folder:birds", "--data-root", str(birds), *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (birds / "birds" / "dataset.yaml").exists()


def test_validation_is_drawn_from_training(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(birds)
    save(table.assign(split=table.split.map({"0": "train", "1": "train", "2": "test"})), birds)
    given = ["folder:birds", "--data-root", str(birds), "--no-cache"]
    assert prepare.main(given) == 1
    remedy = "draw it from the training rows with datasets.prepare --split 0.8/0.2"
    assert remedy in capsys.readouterr().err
    assert prepare.main([*given, "--split", "0.5/0.5"]) == 0
    assert "0.5/0.5 of the training rows of each group, seed 0" in capsys.readouterr().err
    found = load(birds)
    assert found.select_rows("test").id.tolist() == table.id[table.split == "2"].tolist()
    assert found.count_groups("train") == found.count_groups("validation")
    save(table.drop(columns="split"), birds)
    assert prepare.main(given) == 1
    assert "has no column split; expected three" in capsys.readouterr().err


def test_a_table_per_split(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected, table = load(birds), read(birds)
    _ = expected.splits
    (birds / "birds" / "metadata.csv").unlink()
    for number, name in enumerate(("train", "val", "test")):
        rows = table[table.split == str(number)].drop(columns="split")
        rows.assign(id=range(len(rows))).to_csv(birds / "birds" / f"{name}.csv", index=False)
    check_same(expected, load(birds))
    assert prepare.main(["folder:birds", "--data-root", str(birds), "--no-cache"]) == 0
    assert "the tables are the splits: test, train, val" in capsys.readouterr().err
    for name in ("train", "val", "test"):  # files in folders, named as the roles are
        path = birds / "birds" / f"{name}.csv"
        rows = pd.read_csv(path).assign(filename=lambda rows: "./" + rows.filename)
        rows.to_csv(path, index=False)
    assert prepare.main(["folder:birds", "--data-root", str(birds), "--no-cache"]) == 0
    assert "the tables are the splits: test, train, val" in capsys.readouterr().err
    texts = birds / "texts"
    texts.mkdir()
    for name in ("train", "val", "test"):
        lines = [f"{kind} {a},{kind},{a}" for kind in "xy" for a in (0, 1)]
        (texts / f"{name}.csv").write_text("\n".join(["text,y,a", *lines]))
    assert load(birds, "texts").find_problems() == []
    prepare.main(["folder:texts", "--data-root", str(birds), "--no-cache"])
    assert "the tables are the splits: test, train, val" in capsys.readouterr().err
    (birds / "birds" / "other.csv").write_text("x\n")
    (problem,) = load(birds).find_problems()
    assert "which one is the table?" in problem


@pytest.mark.parametrize("has_splits", [True, False])
def test_folders_of_classes(
    has_splits: bool, birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = read(birds), birds / "birds"
    splits = {"0": "train", "1": "valid", "2": "test"}
    for row in table.itertuples():
        parent = folder / splits[str(row.split)] if has_splits else folder
        place = parent / WORDS[str(row.y)]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / str(row.filename), place / f"{row.id}.png")
    (folder / "metadata.csv").unlink()
    given = ["folder:birds", "--data-root", str(birds), "--no-cache"]
    drawn = [] if has_splits else ["--split", "0.5/0.25/0.25"]
    if drawn:
        assert prepare.main(given) == 1
        assert "--split 0.7/0.1/0.2" in capsys.readouterr().err
    assert prepare.main([*given, *drawn]) == 0
    assert "the folders angry, calm are the classes" in capsys.readouterr().err
    found = load(birds)
    assert found.groups.names == ("angry", "calm")
    assert len(found.table) == len(table)
    if has_splits:
        for number, split in enumerate(("train", "validation", "test")):
            rows = table[table.split == str(number)]
            assert found.count_groups(split) == [(rows.y == y).sum() for y in "10"]


def test_files_inside_a_table_get_the_remedy(birds: Path) -> None:
    table, folder = read(birds), birds / "birds"
    files = [(folder / name).read_bytes() for name in table.filename]
    cells = pd.Series([{"bytes": data, "path": None} for data in files], dtype=object)
    save(table.drop(columns="filename").assign(image=cells), birds, "data.parquet")
    (problem,) = load(birds).find_problems()
    assert "column image holds files, expected their names" in problem
    assert "write(cell['bytes'])" in problem


def test_choices_are_for_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["waterbirds", "--data-root", str(tmp_path), "--split", "0.7/0.1/0.2"]
    assert prepare.main(given) == 2
    assert "are for own data" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [[3, 4, 50], [1000, 10, 7, 3]])
def test_drawn_splits_have_each_groups_shares(sizes: list[int], tmp_path: Path) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    ids = [f"x{i}" for i in range(len(groups))]
    table = pd.DataFrame({"id": ids, "y": groups.astype(str), "a": "0"})
    found = draw_splits(tmp_path, table, table.y, DrawnSplit((0.7, 0.1, 0.2), 5))
    for number, size in enumerate(sizes):
        counts = found[groups == number].value_counts()
        assert set(counts.index) == {"0", "1", "2"}
        for split, share in (("0", 0.7), ("1", 0.1), ("2", 0.2)):
            assert abs(counts[split] - share * size) <= 2
    turned = table.iloc[::-1].reset_index(drop=True)
    again = draw_splits(tmp_path, turned, turned.y, DrawnSplit((0.7, 0.1, 0.2), 5))
    assert again.tolist() == found.tolist()[::-1]
    other = draw_splits(tmp_path, table, table.y, DrawnSplit((0.7, 0.1, 0.2), 6))
    assert other.tolist() != found.tolist()
    with pytest.raises(UserError, match=r"group 0 has 2 rows, expected at least 3"):
        draw_splits(
            tmp_path, table.iloc[-2:].assign(y="0"), table.y * 0 + "0", DrawnSplit((1, 1, 1))
        )


def test_eval_is_the_split_that_no_other_word_names() -> None:
    for words, expected in (
        ("train eval test", "0 1 2"), ("train val EVAL", "0 1 2"), ("0.0 1.0 2", "0 1 2"),
        ("train eval", "0 1"), ("train dev test evaluation", "0 1 2 evaluation"),
    ):  # fmt: skip
        assert read_split_words(pd.Series(words.split())).tolist() == expected.split()


def test_a_spreadsheet_is_named(birds: Path) -> None:
    (birds / "birds" / "metadata.csv").rename(birds / "birds" / "mine.xlsx")
    (problem,) = load(birds).find_problems()
    assert problem.endswith("mine.xlsx: this is a spreadsheet; save it as CSV (UTF-8)")
