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


def test_other_classes_than_those_trained_on_are_refused(tmp_path: Path) -> None:
    write_own_data(tmp_path, "images")
    run = train(tmp_path, "folder:mine", "erm", model="tiny_vit")
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    other = Path(shutil.copytree(tmp_path / "mine", tmp_path / "other" / "mine")).parent
    table = other / "mine" / "metadata.csv"
    table.write_text(table.read_text().replace("cat", "ape"))
    with pytest.raises(UserError, match="its classes may be others"):
        load_model(tmp_path, other)
