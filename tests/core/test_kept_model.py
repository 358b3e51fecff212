"""Models that a study keeps, and the predictions that they make for new files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import datasets
from common.errors import UserError
from core import predict
from core.environment import detect_environment
from core.kept_model import load_model, save_model
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from datasets.own.new_table import read_new_table
from tests.support import real_data
from tests.support.image_files import write_birds

ROWS = range(24)


def write_images(folder: Path) -> list[str]:
    """Write images of several sizes, one turned by its EXIF tag; return their names."""
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    for row in ROWS:
        pixels = generator.integers(0, 256, (5 + row % 3, 4 + row % 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png", exif=exif if row == 8 else None)
    return [f"{row}.png" for row in ROWS]


def write_texts(folder: Path) -> list[str]:
    """Write texts; return their names."""
    for row in ROWS:
        (folder / f"{row}.txt").write_text(f"the end of {'many words ' * (row % 4)}{row}\n")
    return [f"{row}.txt" for row in ROWS]


def write_own_data(root: Path, kind: str) -> list[Path]:
    """Write own data ``folder:mine``; return the files of the test split."""
    folder = root / "mine"
    folder.mkdir()
    names = write_images(folder) if kind == "images" else write_texts(folder)
    table = pd.DataFrame({
        "filename": names,
        "split": [("train", "validation", "test")[row // 4 % 3] for row in ROWS],
        "y": [("cat", "dog")[row % 2] for row in ROWS],
        "a": [row // 2 % 2 for row in ROWS],
    })  # fmt: skip
    table.to_csv(folder / "metadata.csv", index=False)
    if kind == "texts":
        real_data.vocabulary(root)
    return [folder / name for name in table.filename[table.split == "test"]]


def train(root: Path, dataset: str, method: str, **values: str | int) -> Run:
    benchmark = datasets.load_benchmark(dataset, root)
    resolved = resolve_method(load_method(method), benchmark)
    key = resolved.make_key({"epochs": 1, **values}, 0, detect_environment(gpu=False))
    run = Run(key, benchmark)
    run.train_epoch()
    return run


@pytest.mark.parametrize("kind", ["images", "texts"])
@pytest.mark.parametrize("method", ["erm", "erm_mt_l1"])
def test_files_of_the_test_split_get_the_predictions_of_the_run(
    kind: str, method: str, tmp_path: Path
) -> None:
    paths = write_own_data(tmp_path, kind)
    run = train(
        tmp_path, "folder:mine", method, model="tiny_vit" if kind == "images" else "tiny_bert"
    )
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    found = load_model(tmp_path, tmp_path).predict_files(paths)
    expected = run.evaluate_split("test").collect_predictions()
    assert list(found.columns) == ["file", "prediction", "p(cat)", "p(dog)"]
    assert found.prediction.tolist() == [["cat", "dog"][y] for y in expected["prediction"]]
    logits = torch.stack([expected["logit_0"], expected["logit_1"]], dim=1)
    torch.testing.assert_close(
        torch.tensor(found[["p(cat)", "p(dog)"]].to_numpy()), logits.softmax(dim=1)
    )


def test_the_command_prints_and_writes_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_birds(tmp_path)
    run = train(tmp_path, "waterbirds", "rwg", model="tiny_vit")
    kept = tmp_path / "model.safetensors"
    save_model(run.model, run.key, run.benchmark, kept)
    images = sorted(map(str, tmp_path.rglob("*.png")))
    given = [str(kept), *images, "--data-root", str(tmp_path)]
    assert predict.main(given) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("file,prediction,p(")
    assert len(printed.splitlines()) == len(images) + 1
    assert predict.main([*given, "--out", str(tmp_path / "found.csv")]) == 0
    assert (tmp_path / "found.csv").read_text() == printed


def test_mistakes_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file, *_) = write_own_data(tmp_path, "images")
    run = train(tmp_path, "folder:mine", "erm", model="tiny_vit")
    kept, digits = tmp_path / "model.safetensors", tmp_path / "digits.safetensors"
    save_model(run.model, run.key, run.benchmark, kept)
    run = train(tmp_path, "colored_digits", "erm")
    save_model(run.model, run.key, run.benchmark, digits)
    bare, other = tmp_path / "bare.safetensors", tmp_path / "other.safetensors"
    text = tmp_path / "text.png"
    save_file({"weight": torch.zeros(1)}, bare)
    save_file({"weight": torch.zeros(1)}, other, metadata={"trial": '{"key": {"x": 1}}'})
    text.write_text("no image")
    capsys.readouterr()
    for model, image, message in [
        (kept, tmp_path / "none.png", "none.png: no such file"),
        (kept, text, "text.png"),
        (tmp_path / "none", file, "none: missing"),
        (text, file, "no safetensors file"),
        (bare, file, "names no trial"),
        (other, file, "written by another version of Evenhand"),
        (digits, file, "trained on colored_digits, which has no files"),
    ]:
        assert predict.main([str(model), str(image), "--data-root", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


def test_a_changed_table_leaves_the_model_its_classes(tmp_path: Path) -> None:
    files = write_own_data(tmp_path, "images")
    run = train(tmp_path, "folder:mine", "erm", model="tiny_vit")
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    expected = load_model(tmp_path, tmp_path).predict_files(files)
    other = Path(shutil.copytree(tmp_path / "mine", tmp_path / "other" / "mine")).parent
    table = other / "mine" / "metadata.csv"
    rows = table.read_text().replace("cat", "ape").splitlines()
    table.write_text("\n".join([*rows, rows[1].replace("ape", "cow").replace("0.png", "1.png")]))
    model = load_model(tmp_path, other)
    assert model.classes == ("cat", "dog")
    pd.testing.assert_frame_equal(model.predict_files(files), expected)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_table_is_evaluated_as_the_test_split(kind: str, tmp_path: Path) -> None:
    files = write_own_data(tmp_path, kind)
    name = "tiny_vit" if kind == "images" else "tiny_bert"
    run = train(tmp_path, "folder:mine", "erm", model=name)
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    model = load_model(tmp_path, tmp_path)
    table = pd.read_csv(tmp_path / "mine" / "metadata.csv").query("split == 'test'")
    new = tmp_path / "new" / "labels.csv"
    new.parent.mkdir()
    if kind == "texts":  # in the table
        written = table.assign(text=[file.read_text() for file in files])
        table = written.drop(columns="filename")
    else:
        for file in files:
            shutil.copy(file, new.parent)
    table.drop(columns="split").sample(frac=1, random_state=0).to_csv(new, index=False)
    found = model.evaluate_table(new).set_index("group")
    metrics = run.evaluate_split("test").compute_metrics()
    assert found.accuracy["average"] == metrics["average_accuracy"]
    assert found.accuracy["worst group"] == metrics["worst_group_accuracy"]
    groups = run.benchmark.list_group_names("test")
    assert [found.accuracy[group] for group in groups] == metrics["group_accuracy"]
    rows = model.predict_table(new.parent)
    assert list(rows.columns) == [
        "file" if kind == "images" else "id", "label", "group", "prediction", "p(cat)", "p(dog)",
    ]  # fmt: skip
    assert (rows.label == rows.prediction).mean() == metrics["average_accuracy"]


def test_tables_of_new_files_are_taken_as_people_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_data(tmp_path, "images")
    run = train(tmp_path, "folder:mine", "erm", model="tiny_vit")
    kept = tmp_path / "model.safetensors"
    save_model(run.model, run.key, run.benchmark, kept)
    new = tmp_path / "mine" / "new.csv"
    options = [str(new), "--data-root", str(tmp_path)]
    capsys.readouterr()

    def predict_rows(text: str, *more: str) -> str:
        new.write_text(text)
        code = predict.main([str(kept), *options, *more])
        said = capsys.readouterr()
        assert said.err.count("\n") == code // 2
        return said.out if code == 0 else said.err

    bare = predict_rows("image\n0.png\n1.png\n")
    assert bare.startswith("file,prediction,p(cat),p(dog)\n0.png,")
    same = predict_rows("image;label\n0.png;cat\n1.png;dog\n", "--evaluate")
    assert same.startswith("group,examples,accuracy\ncat,1,")
    numbered = predict_rows("image,label\n0.png,0\n1.png,1\n", "--evaluate")
    assert numbered == same
    named = predict_rows(
        "path,animal,place\n0.png,cat,sea\n1.png,dog,sea\n", "--evaluate", "--columns", "animal=y"
    )
    assert named.startswith('group,examples,accuracy\n"cat, sea",1,')
    for text, message in [
        ("image,label\n0.png,cta\n", "row 1: label: received 'cta' (did you mean 'cat'?)"),
        ("image\n0.png\n", "no column of labels"),
        ("image,label\n40.png,cat\n", "40.png: missing"),
        ("label\ncat\n", "no column of images; the file has label; name one with --columns"),
        ("image,label\n", "no rows"),
    ]:
        assert message in predict_rows(text, "--evaluate")
    assert predict.main([str(kept), str(tmp_path / "mine" / "0.png"), "--evaluate"]) == 2
    assert "expected one table" in capsys.readouterr().err


def test_labels_are_classes_by_name_value_or_number(tmp_path: Path) -> None:
    table = tmp_path / "new.csv"

    def read_labels(classes: tuple[str, ...], column: str, *values: str) -> list[int] | None:
        rows = [f"{number},{value}" for number, value in enumerate(values)]
        table.write_text("\n".join([f"text,{column}", *rows]))
        return read_new_table(table, classes, False, {}, {}).labels

    assert read_labels(("cat", "dog"), "label", "dog", "cat") == [1, 0]
    assert read_labels(("cat", "dog"), "label", "1", "0.0") == [1, 0]
    assert read_labels(("label = 1", "label = 2"), "label", "1", "2") == [0, 1]
    assert read_labels(("label = 1", "label = 2"), "y", "2", "1.0") == [1, 0]
    with pytest.raises(UserError, match="row 1: label: received '0'"):  # a value, not a number
        read_labels(("label = 1", "label = 2"), "label", "0", "1")
