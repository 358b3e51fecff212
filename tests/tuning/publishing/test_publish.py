"""A published model and its archive: another person finds the same, or what differs."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import datasets
from common.files import hash_file, write_text
from core.kept_model import save_model
from tests.core.test_kept_model import train
from tests.support.summaries import make_summary_of
from tuning.cli.main import main
from tuning.publishing.model_card import escape_markdown
from tuning.reporting.intervals import compute_statistics
from tuning.reporting.summary import write_summary

WHERE = ["--method", "erm", "--dataset", "colored_digits"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a method with two seeds, of which the first one's model is kept."""
    root = tmp_path_factory.mktemp("publish")
    folder = root / "results" / "colored_digits" / "erm"
    folder.mkdir(parents=True)
    run = train(root, "colored_digits", "erm")
    save_model(run.model, run.key, run.benchmark, folder / "model.safetensors")
    metrics = run.evaluate_split("test").compute_metrics()
    scalars = {f"test_{n}": v for n, v in metrics.items() if isinstance(v, float)}
    table = pd.DataFrame([{"seed": seed, **scalars} for seed in (0, 1)])
    table.loc[1, list(scalars)] += 0.01
    table.to_csv(folder / "seeds.csv", index=False)
    summary = make_summary_of(datasets.load_benchmark("colored_digits"), "erm")
    statistics = {name: compute_statistics(table[name].tolist()) for name in scalars}
    write_summary(folder, replace(summary, metrics=statistics, seeds=2))
    write_text(folder / "best_config.yaml", "command: tune\ncommand_of_one_seed: train\n")
    return root / "results"


@pytest.fixture
def archive(results: Path, tmp_path: Path) -> Path:
    """The archive of a published model."""
    assert main(["publish", str(results), *WHERE, "--to", str(tmp_path / "published")]) == 0
    return tmp_path / "published" / "evenhand.zip"


def verify(archive: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", str(archive)])
    found = capsys.readouterr()
    return code, found.out + found.err


def test_an_archive_verifies(
    results: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = verify(archive, capsys)
    assert code == 0
    assert [line.split(":")[0] for line in text.splitlines()] == ["ok"] * 4
    folder = archive.parent
    kept = results / "colored_digits" / "erm" / "model.safetensors"
    assert hash_file(folder / "model.safetensors") == hash_file(kept)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name in datasets.load_benchmark("colored_digits").list_group_names("test"):
        assert escape_markdown(name) in card
    for part in ("license:", "## Intended use", "## Provenance", "commit", "CC BY 4.0"):
        assert part in card
    assert main(["publish", str(results), *WHERE, "--to", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err


def change_model(folder: Path) -> None:
    """Put another model in the place of the published one."""
    run = train(folder, "colored_digits", "rwg")
    save_model(run.model, run.key, run.benchmark, folder / "model.safetensors")


def change_seeds(folder: Path) -> None:
    """Raise a seed's worst group."""
    table = pd.read_csv(folder / "seeds.csv")
    values = table.test_worst_group_accuracy.tolist()
    table["test_worst_group_accuracy"] = [values[0], values[1] + 0.1]
    table.to_csv(folder / "seeds.csv", index=False)


@pytest.mark.parametrize(
    ("change", "hashes", "line"),
    [
        (change_seeds, False, "differs: hashes of 4 files: differ: seeds.csv"),
        (change_seeds, True, "differs: means and deviations of 2 seeds"),
        (change_model, True, "differs: the model's"),
    ],
)
def test_what_differs_is_said(
    change: Callable[[Path], None],
    hashes: bool,
    line: str,
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "extracted"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    change(folder)
    if hashes:  # as one who forges a row would
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {name: hash_file(folder / name) for name in manifest["files"]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    changed = shutil.make_archive(str(tmp_path / "changed"), "zip", folder)
    code, text = verify(Path(changed), capsys)
    assert code == 1
    assert line in text


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../out.txt": "x"}, "would lie outside the folder"),
        ({"manifest.json": "[]"}, "no archive of python tune.py publish"),
        ({"manifest.json": '{"version": 1}'}, "no archive of python tune.py publish"),
        ({"a.txt": "x"}, "no archive of python tune.py publish"),
    ],
)
def test_other_archives_are_refused(
    members: dict[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    code, text = verify(path, capsys)
    assert code == 2
    assert words in text
    assert len(text.splitlines()) == 1


def test_a_study_without_a_model_is_told_how_to_keep_one(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "results"
    shutil.copytree(results, copied)
    (copied / "colored_digits" / "erm" / "model.safetensors").unlink()
    target = ["--to", str(tmp_path / "to")]
    assert main(["publish", str(copied), *WHERE, *target]) == 2
    assert "--keep-models" in capsys.readouterr().err
    for arguments, words in (
        (["--method", "emr", "--dataset", "colored_digits"], "did you mean 'erm'"),
        (["--method", "erm", "--dataset", "colored_digit"], "did you mean 'colored_digits'"),
    ):
        assert main(["publish", str(copied), *arguments, *target]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_names_of_the_data_stay_text_in_a_card() -> None:
    escaped = escape_markdown("<script>|`*_[x](y)\u202e\nend")
    assert escaped == r"&lt;script&gt;\|\`\*\_\[x\]\(y\)end"
