"""Your own folder, and what is refused in any common table."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import datasets
from common.errors import UserError
from datasets import describe, prepare
from datasets.formats.csv_tables import SPLIT_NUMBERS, read_table
from datasets.groups.base import GroupBenchmark
from datasets.storage.ragged_arrays import RaggedImages, RaggedTexts
from tests.support import real_data


def load(root: Path) -> Any:
    return datasets.load_benchmark.__wrapped__("folder", root)


def rows(name: Callable[[int], str], count: int = 24) -> pd.DataFrame:
    numbers = range(count)
    return pd.DataFrame(
        {
            "id": [f"x{i}" for i in numbers],
            "filename": [name(i) for i in numbers],
            "split": [i // 4 % 3 for i in numbers],
            "y": [i % 2 for i in numbers],
            "a": [i // 2 % 2 for i in numbers],
        }
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "pictures").mkdir(parents=True)
    generator = np.random.default_rng(0)
    table = rows(lambda i: f"pictures/{i}.png")
    for i, name in enumerate(table["filename"]):
        pixels = generator.integers(0, 256, (5 + i % 3, 4 + i % 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    Image.open(folder / "pictures/0.png").convert("L").save(folder / "pictures/0.png")
    table.to_csv(folder / "metadata.csv", index=False)
    return tmp_path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    real_data.vocabulary(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    table = rows(str)
    table["text"] = [f"NA, {'word ' * i}the \u00e9nd\u2028{i}" for i in range(len(table))]
    table.to_csv(folder / "mine.csv", index=False)
    return tmp_path


def change(root: Path, edit: Callable[[pd.DataFrame], Any], folder: str = "folder") -> None:
    """Edit the table, in place or by what ``edit`` returns."""
    path = next((root / folder).glob("*.csv"))
    table = pd.read_csv(path, dtype=str, na_filter=False)
    edited = edit(table)
    (table if edited is None else edited).to_csv(path, index=False)


def put(column: str, row: int, value: str) -> Callable[[pd.DataFrame], object]:
    return lambda table: table.loc.__setitem__((row, column), value)


def test_images(images: Path) -> None:
    benchmark = load(images)
    assert benchmark.modality == "images"
    assert benchmark.provides >= GroupBenchmark.provides | {"images"}
    assert "text" not in benchmark.provides
    assert benchmark.groups.names == tuple(f"y = {y}, a = {a}" for y in (0, 1) for a in (0, 1))
    assert "vit" in benchmark.training_config.model
    for number, name in enumerate(("train", "validation", "test")):
        table = rows(lambda i: f"pictures/{i}.png")
        table = table[table["split"] == number]
        split = benchmark.splits[name]
        assert split.group.tolist() == (2 * table["y"] + table["a"]).tolist()
        assert isinstance(split.inputs, RaggedImages)
        for i, file in enumerate(table["filename"]):
            expected = np.asarray(Image.open(images / "folder" / file).convert("RGB"))
            found = split.inputs[torch.tensor([i])].pixels[0].permute(1, 2, 0).numpy()
            assert np.array_equal(found, expected)


@pytest.mark.real_data
def test_texts_in_the_table(texts: Path) -> None:
    change(texts, lambda t: t.insert(5, "y_name", t["y"].map({"0": "calm", "1": "angry"})))
    benchmark = load(texts)
    assert benchmark.modality == "text"
    assert "text" in benchmark.provides
    assert benchmark.groups.classes == ("calm", "angry")
    assert benchmark.training_config.model == "bert-base-uncased"
    ragged = benchmark.splits["train"].inputs
    assert isinstance(ragged, RaggedTexts)
    words = (texts / "bert-base-uncased/vocab.txt").read_text(encoding="utf-8").split("\n")
    batch = ragged[torch.tensor([1])]
    pieces = [words[i] for i in batch.ids[0].tolist()]
    assert pieces == ["[CLS]", "na", ",", "word", "the", "end", "1", "[SEP]"]
    assert not batch.segments.any()


@pytest.mark.real_data
def test_texts_in_files(texts: Path) -> None:
    expected = load(texts).splits["test"].inputs
    folder = texts / "folder"
    table = pd.read_csv(folder / "mine.csv", dtype=str, na_filter=False)
    for i, text in enumerate(table.pop("text")):
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    table["filename"] += ".txt"
    table.to_csv(folder / "mine.csv", index=False)
    found = load(texts).splits["test"].inputs
    assert torch.equal(found.flat, expected.flat)
    assert torch.equal(found.lengths, expected.lengths)
    (folder / "3.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"3.txt: line 1: not UTF-8 \(byte 0xe9\)"):
        _ = load(texts).splits
    (folder / "3.txt").write_text(" \n")
    (folder / "4.txt").unlink()
    assert load(texts).find_problems() == [
        f"{folder / 'mine.csv'}: row 4 (id x3): {folder / '3.txt'}: empty text",
        f"{folder / 'mine.csv'}: row 5 (id x4): {folder / '4.txt'}: missing",
    ]


@pytest.mark.real_data
def test_texts_in_the_table_need_no_names_of_files(texts: Path) -> None:
    expected = load(texts).splits["test"].inputs
    for edit in (put("filename", 2, ""), lambda t: t.drop(columns="filename")):
        change(texts, edit)
        assert torch.equal(load(texts).splits["test"].inputs.flat, expected.flat)


@pytest.mark.real_data
def test_another_tokenizer(texts: Path) -> None:
    (texts / "folder" / "tokenizer").mkdir()
    marks = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nword\nthe\n"
    (texts / "folder" / "tokenizer" / "vocab.txt").write_text(marks)
    ids = load(texts).splits["train"].inputs[torch.tensor([2])].ids[0].tolist()
    assert ids == [2, 1, 1, 5, 5, 6, 1, 1, 3]


@pytest.mark.real_data
def test_a_missing_vocabulary_says_what_to_do(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = texts / "bert-base-uncased" / "vocab.txt"
    vocabulary.write_bytes(vocabulary.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"vocab.txt: [0-9,]+ words, expected the 30,522 of 'bert"):
        _ = load(texts).splits
    vocabulary.unlink()
    monkeypatch.setattr("datasets.storage.texts.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match=r"vocab.txt: missing.*download the file vocab.txt"):
        _ = load(texts).splits


def test_a_damaged_image_is_named_and_fixed(images: Path) -> None:
    path = images / "folder" / "pictures" / "5.png"
    whole = path.read_bytes()
    benchmark = load(images)
    for content, reason in (
        (whole[: len(whole) // 2], "damaged image"),
        (b"", "no image"),
        (b"text", "no image"),
        (None, "missing"),
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=f"pictures/5.png: {reason}"):
            _ = load(images).splits
        assert any(
            "5.png" in line for line in load(images).find_problems() + load(images).verify_files()
        )
    path.write_bytes(whole)
    assert benchmark.find_problems() == []
    assert len(benchmark.splits["train"]) == 8


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused(images: Path, mode: str) -> None:
    name = "5.png" if mode == "I;16" else "5.tif"
    deep = Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16))
    (deep if mode == "I;16" else deep.convert(mode)).save(images / "folder" / "pictures" / name)
    table = images / "folder" / "metadata.csv"
    table.write_text(table.read_text().replace("pictures/5.png", f"pictures/{name}"))
    with pytest.raises(UserError, match=f"pictures/{name}: pixels of mode {mode}"):
        _ = load(images).splits


def test_a_changed_image_is_read_anew(images: Path) -> None:
    first = load(images).data_hash
    assert load(images).data_hash == first
    Image.new("RGB", (3, 3), "red").save(images / "folder" / "pictures" / "1.png")
    assert load(images).data_hash != first


@pytest.mark.deviation("blank-texts")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.rename(columns={"y": "why"}), r"missing column y.*--columns COLUMN=label"),
        (lambda t: t.drop(columns="filename"), r"missing column filename or text .*id, split, y"),
        (
            lambda t: t.drop(columns=["y", "filename"]),
            r"(?s)missing column y .*\n.*missing column filename or text",
        ),
        (lambda t: t.drop(columns="split"), r"missing column split; .*--split 0.7/0.1/0.2"),
        (
            lambda t: t.assign(label="1").drop(columns="y").assign(target="0"),
            "label, target: which",
        ),
        (put("split", 2, "3"), r"row 3 \(id x2\): split: received '3', expected 0, 1 or 2"),
        (put("split", 2, ""), "split: received ''.*draw a split with datasets.prepare --split 0.7"),
        (lambda t: t.assign(split=[str(i % 3 + 1) for i in range(len(t))]), "subtract 1 from each"),
        (lambda t: t.assign(split="True"), r"received 'True', expected 0, 1 or 2 [^?]*$"),
        (lambda t: t.rename(columns={"id": "y"}), "two columns are called 'y'; rename or remove"),
        (put("filename", 1, "http://a.b/1.png"), "expected a name inside .*; download the files"),
        (put("y", 1, "-1"), "no example of group y = -1, a = 0"),
        (put("y", 1, "cat"), r"row 2 \(id x1\): y: received 'cat', expected a number as in"),
        (put("y", 1, "1.5"), r"y: received '1.5', expected classes: whole numbers, or words"),
        (put("y", 1, "NaN"), r"row 2 \(id x1\): y: received 'NaN', expected a value: fill it in"),
        (put("a", 1, ""), r"row 2 \(id x1\): a: received '', expected a value"),
        (put("y", 5, "7"), "class y = 7 has no row in training"),
        (put("a", 1, "3"), "no example of group y = 1, a = 3"),
        (lambda t: t.assign(y="1"), "column y: one class, expected at least two"),
        (lambda t: t.assign(y=t.id), "column y: 24 different values in 24 rows, expected classes"),
        (put("id", 1, "x0"), r"row 2 \(id x0\): id: received 'x0', expected unique ids"),
        (put("filename", 1, "../../secret.png"), r"row 2: filename: received '../../secret.png'"),
        (put("filename", 1, "/etc/passwd"), "expected a name inside"),
        (put("filename", 1, "nowhere.png"), r"row 2 \(id x1\): .*/nowhere.png: missing$"),
        (put("filename", 1, "pictures/1.PNG"), r"1.PNG: missing \(did you mean '1.png'\?\)"),
        (put("filename", 1, "pictures/1"), r"pictures/1: missing \(did you mean '1.png'\?\)"),
        (lambda t: t.drop(t.index[t["split"] == "1"]), r"no row of split 1"),
        (lambda t: t.drop(t.index), "no rows"),
        (
            lambda t: t.drop(t.index[(t["split"] == "1") & (t["a"] == "1")]),
            r"validation has no example of group y = 0, a = 1; y = 1, a = 1",
        ),
        (
            lambda t: t.insert(5, "a_name", [str(i % 3) for i in range(len(t))]),
            r"a '0' goes with a_name '0', '1', '2'|a \S+ goes with a_name",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_named(
    images: Path, edit: Callable[[pd.DataFrame], Any], message: str
) -> None:
    change(images, edit)
    with pytest.raises(UserError, match=message):
        _ = load(images).splits


def test_a_group_without_validation_is_told_early(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(images, lambda t: t.drop(t.index[(t["split"] == "1") & (t["a"] == "1")]))
    for told, code in ((prepare.main, 1), (describe.main, 0)):
        assert told(["folder", "--data-root", str(images)]) == code
        captured = capsys.readouterr()
        text = " ".join((captured.out + captured.err).split())
        assert "metadata.csv: validation has no example of group y = 0, a = 1" in text


def test_a_folder_with_the_name_of_an_image_is_named(images: Path) -> None:
    path = images / "folder" / "pictures" / "3.png"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"3.png: cannot be read \(Is a directory\)"):
        _ = load(images).splits
    assert load(images).verify_files() == [f"{path}: cannot be read (Is a directory)"]


def test_a_file_in_place_of_the_folder_of_images(images: Path) -> None:
    shutil.rmtree(images / "folder" / "pictures")
    (images / "folder" / "pictures").write_text("no folder")
    with pytest.raises(UserError, match=r"pictures/0.png: missing"):
        _ = load(images).splits


@pytest.mark.parametrize("name", ["waterbirds", "civilcomments", "multinli", "folder"])
def test_a_missing_folder_comes_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / name}: missing; put"):
        _ = datasets.load_benchmark.__wrapped__(name, tmp_path).splits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "metadata.csv: empty, expected the columns id, filename, split, y, a"),
        (b"\xff\xfe\x00", "not UTF-8 but UTF-16; save it as CSV"),
        (b"PK\x03\x04\x00", r"this is a spreadsheet under another name; save it as CSV \(UTF-8\)"),
        (
            b"id,filename,split,y,a\n1,b,0,0,0\n2,c\xe9,1,0,0\n",
            r"line 3: not UTF-8 \(byte 0xe9\); save it as",
        ),
        (b'id,filename,split,y,a\n1,"b,0,0,0\n', "metadata.csv: line 2: a quote"),
        (b"id,filename,split,y,a\n1,b,0,0,0,9,9\n", "metadata.csv: line 2: 7 fields, expected 5"),
        (b'id,filename,split,y,a\n1,"b\n",0,0,0\n2,c,0,0,0,9\n', "line 4: 6 fields"),
        (b"id,filename,split,y,a\n1,b,trian,0,0\n", "did you mean 'training'"),
        (b"id,filename,split,y,a\n1,b\n", "metadata.csv: row 1"),
    ],
)
def test_what_is_no_table(images: Path, content: bytes, message: str) -> None:
    (images / "folder" / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        _ = load(images).splits


def test_blank_lines_at_the_end_are_no_rows(images: Path) -> None:
    path = images / "folder" / "metadata.csv"
    before = load(images).table
    path.write_text(path.read_text() + "\n\r\n\n")
    pd.testing.assert_frame_equal(load(images).table, before)


def test_a_cache_damaged_at_equal_size_is_found_and_rebuilt(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = load(images).splits["train"].inputs.flat.clone()
    (pixels,) = (images / ".cache" / "folder").glob("*/train_pixels.npy")
    content = bytearray(pixels.read_bytes())
    content[-4:] = bytes(255 - byte for byte in content[-4:])
    pixels.write_bytes(content)
    assert prepare.main(["folder", "--data-root", str(images), "--check"]) == 1
    assert "train_pixels.npy: checksum differs" in capsys.readouterr().err
    assert prepare.main(["folder", "--data-root", str(images)]) == 0
    assert torch.equal(load(images).splits["train"].inputs.flat, expected)
    assert prepare.main(["folder", "--data-root", str(images), "--check"]) == 0


def test_two_tables(images: Path) -> None:
    folder = images / "folder"
    (folder / "metadata.csv").rename(folder / "one.csv")
    (folder / "two.csv").write_text("a")
    with pytest.raises(UserError, match=r"one.csv, two.csv: which one"):
        _ = load(images).splits


def test_names_of_splits_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{i},f,{name},{i % 2},0" for i, name in enumerate(SPLIT_NUMBERS)]
    path.write_bytes(b"\xef\xbb\xbfid, filename,split,y,a\r\n" + "\r\n".join(lines).encode())
    assert read_table(path)["split"].tolist() == list(SPLIT_NUMBERS.values())


def test_hidden_tables_are_none(images: Path) -> None:
    folder = images / "folder"
    (folder / "metadata.csv").rename(folder / "mine.csv")
    (folder / "._mine.csv").write_bytes(b"\0\5\26\7")
    (folder / ".~lock.mine.csv").write_text("id")
    assert load(images).table_path == folder / "mine.csv"
    assert load(images).find_problems() == []


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_names_with_accents_are_found_in_either_form(
    images: Path, table: Literal["NFC", "NFD"], disk: Literal["NFC", "NFD"]
) -> None:
    folder, name = images / "folder", "p\u00eccturs/\u00e9 \u017c.png"
    path = folder / unicodedata.normalize(disk, name)
    path.parent.mkdir()
    (folder / "pictures/5.png").rename(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    change(images, put("filename", 5, unicodedata.normalize(table, name)))
    benchmark = load(images)
    assert benchmark.find_problems() == benchmark.verify_files() == []
    found = benchmark.splits["validation"].inputs[torch.tensor([1])].pixels[0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    path.unlink()
    assert len(load(images).find_problems()) == 1


def test_of_two_files_the_one_is_taken_that_the_table_names(images: Path) -> None:
    folder, one, two = images / "folder", "\u00e9.png", "e\u0301.png"
    (folder / "pictures/5.png").rename(folder / one)
    (folder / "pictures/6.png").rename(folder / two)
    change(images, lambda t: t.assign(filename=[*t.filename[:5], one, two, *t.filename[7:]]))
    assert load(images).list_source_files()[5:7] == [folder / one, folder / two]
