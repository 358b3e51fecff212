"""A published model and its archive: another person finds the same, or what differs."""

import errno
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import datasets
from common.files import hash_file, write_text
from common.hyperparameters import Hyperparameters
from common.yaml_files import write_yaml
from core.kept_model import save_model
from tests.core.test_kept_model import train
from tests.support.summaries import make_summary_of
from tuning.cli import publish
from tuning.cli.main import main
from tuning.publishing.model_card import (
    PublishedModel,
    escape_markdown,
    find_base_model,
    write_model_card,
)
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
    test = run.evaluate_split("test")
    columns: dict[str, float] = {}
    for name, value in test.compute_metrics().items():
        named = enumerate(value) if isinstance(value, list) else ()
        columns |= {f"test_{name}[{n}]": v for n, v in named if v is not None}
        columns |= {f"test_{name}": value} if isinstance(value, float) else {}
    table = pd.DataFrame([{"seed": seed, "key": run.key.digest, **columns} for seed in (0, 1)])
    table[list(columns)] = table[list(columns)].astype(float)
    table.loc[1, list(columns)] += 0.01
    table.to_csv(folder / "seeds.csv", index=False)
    summary = make_summary_of(datasets.load_benchmark("colored_digits"), "erm")
    statistics = {name: compute_statistics(table[name].tolist()) for name in columns}
    values: Hyperparameters = {"lr": run.key.training_config.lr, "epochs": 1}
    write_summary(folder, replace(summary, metrics=statistics, seeds=2, hyperparameters=values))
    winner = {
        "method": "erm", "dataset": "colored_digits", "hyperparameters": dict(values),
        "command": "tune", "command_of_one_seed": "train", "recipe": run.key.recipe.as_dict(),
        "provenance": {"data_hash": run.benchmark.data_hash},
    }  # fmt: skip
    write_text(folder / "best_config.yaml", write_yaml(winner))
    outputs = {name: tensor.numpy() for name, tensor in test.collect_predictions().items()}
    (folder / "predictions").mkdir()
    pd.DataFrame({"split": "test", **outputs}).to_parquet(folder / "predictions/seed_0.parquet")
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
    assert [line.split(":")[0] for line in text.splitlines()] == ["ok"] * 6
    folder = archive.parent
    kept = results / "colored_digits" / "erm" / "model.safetensors"
    assert hash_file(folder / "model.safetensors") == hash_file(kept)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "search random, 1 trial, " in card
    for name in datasets.load_benchmark("colored_digits").list_group_names("test"):
        assert escape_markdown(name) in card
    for part in (
        "license: cc-by-4.0",
        "## Intended use",
        "## Provenance",
        "commit",
        "digits\\_cnn",
    ):
        assert part in card
    assert re.search(r"\| worst\\_group\\_accuracy +\| higher +\| +\d+\.\d\d% +\|", card)
    assert not {"core.predict", "**Warning:**", "base_model"} & {*re.findall(r"[\w.*:]+", card)}
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


def change_json(name: str, entry: str, value: object, folder: Path) -> None:
    """Replace an entry of a JSON file."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, entry: value}))


def change_statistic(name: str, value: object, folder: Path) -> None:
    """Claim another number of seeds or interval of a metric."""
    content = json.loads((folder / "summary.json").read_text())
    content["metrics"]["test_average_accuracy"][name] = value
    (folder / "summary.json").write_text(json.dumps(content))


def write_file(name: str, content: bytes, folder: Path) -> None:
    """Replace a file."""
    (folder / name).write_bytes(content)


def add_manifest(folder: Path) -> None:
    """Add a file of the manifest's name to a folder in it."""
    (folder / "x").mkdir()
    (folder / "x" / "manifest.json").write_text("{}")


def change_archive(archive: Path, change: Callable[[Path], None], hashes: bool) -> Path:
    """Return a changed copy of an archive; with hashes as one who forges a row would."""
    folder = archive.parent.parent / "extracted"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    change(folder)
    if hashes:
        manifest = json.loads((folder / "manifest.json").read_text())
        files = [name for name in manifest["files"] if (folder / name).is_file()]
        manifest["files"] = {name: hash_file(folder / name) for name in files}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return Path(shutil.make_archive(str(folder.parent / "changed"), "zip", folder))


@pytest.mark.parametrize(
    ("change", "hashes", "line"),
    [
        (change_seeds, False, "differs: hashes of 5 files: differ: seeds.csv"),
        (add_manifest, False, "differs: hashes of 6 files: differ: x/manifest.json"),
        (change_seeds, True, "differs: means and deviations of 2 seeds"),
        (
            partial(change_json, "summary.json", "method", "famo"),
            True,
            "differ: method (erm, famo)",
        ),
        (partial(change_json, "summary.json", "dataset", "waterbirds"), True, "differ: data set"),
        (partial(change_json, "summary.json", "seeds", 50), True, "number of seeds (2, 50)"),
        (partial(change_json, "summary.json", "hyperparameters", {"lr": 9.0}), True, "hyperparam"),
        (partial(change_json, "summary.json", "metrics", {}), True, "(not in the summary)"),
        (partial(change_json, "manifest.json", "method", "dro"), True, "differ: method (dro, erm)"),
        (
            partial(write_file, "predictions/seed_0.parquet", b"junk"),
            True,
            "0.parquet: not a table",
        ),
        (partial(change_statistic, "n", 50), True, "of 2 seeds: differ: test_average_accuracy"),
        (partial(change_statistic, "low", 0.5), True, "of 2 seeds: differ: test_average_accuracy"),
        (partial(change_statistic, "values", [0.1, 0.2]), True, "of 2 seeds: differ: test_average"),
        (change_model, True, "differs: the model's 7 metrics"),
    ],
)
def test_what_differs_is_said(
    change: Callable[[Path], None],
    hashes: bool,
    line: str,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = verify(change_archive(archive, change, hashes), capsys)
    assert code == 1
    assert line in text


def remove_seeds(folder: Path) -> None:
    """Remove the table of seeds."""
    (folder / "seeds.csv").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove_seeds, "seeds.csv: cannot be read"),
        (partial(write_file, "seeds.csv", b"a,b\n1,2\n"), "seeds.csv: no column 'seed'"),
        (partial(write_file, "seeds.csv", b""), "seeds.csv: no table"),
        (partial(write_file, "seeds.csv", b"\xff\xfe\x00\x80" * 30), "seeds.csv: no table"),
        (partial(write_file, "seeds.csv", b"seed,key,test_a\n0,k,abc\n"), "'test_a': expected num"),
        (partial(write_file, "best_config.yaml", b"method: erm\n"), "no entry 'dataset'"),
        (partial(change_json, "manifest.json", "metrics", {"a": "x"}), "a value of another type"),
        (partial(change_json, "manifest.json", "metrics", {"a": ["x"]}), "a value of another type"),
        (partial(change_json, "manifest.json", "seed", "0"), "manifest.json: no archive of"),
        (partial(change_json, "summary.json", "hyperparameters", [1]), "summary.json"),
    ],
)
def test_malformed_archives_are_one_line(
    change: Callable[[Path], None],
    words: str,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = change_archive(archive, change, hashes=True)
    code, text = verify(changed, capsys)
    assert code == 2
    assert words in text
    assert text.startswith(f"error: {changed}: ")
    assert len(text.splitlines()) == 1


def change_recorded_seed(folder: Path) -> None:
    """Record another value for the kept model's seed."""
    table = pd.read_csv(folder / "seeds.csv")
    table.loc[0, "test_worst_group_accuracy"] = 0.99
    table.to_csv(folder / "seeds.csv", index=False)


def change_recorded_data(folder: Path) -> None:
    """Record another hash of the data."""
    text = (folder / "best_config.yaml").read_text()
    write_text(folder / "best_config.yaml", text.replace("data_hash: ", "data_hash: other"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_recorded_seed, "test_worst_group_accuracy of seed 0 (0.99 recorded"),
        (change_recorded_data, "the data of colored_digits are those of the study: hash"),
        (partial(write_file, "best_config.yaml", b"method: erm\n"), "has no entry 'dataset'"),
    ],
)
def test_results_that_differ_from_the_model_are_not_published(
    change: Callable[[Path], None],
    words: str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copied = tmp_path / "results"
    shutil.copytree(results, copied)
    change(copied / "colored_digits" / "erm")
    assert main(["publish", str(copied), *WHERE, "--to", str(tmp_path / "to")]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert len(text.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_wrong_paths_are_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["publish", str(results), *WHERE, "--to", str(tmp_path / "file" / "x")]) == 2
    assert "file' is a file; choose another folder" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 2
    assert "is a folder; expected an archive" in capsys.readouterr().err


def fail(*_: object) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device", "x")


def test_a_full_disk_leaves_no_folder(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(publish, "write_archive", fail)
    assert main(["publish", str(results), *WHERE, "--to", str(tmp_path / "to")]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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


def test_a_card_warns_of_values_that_deceive() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    summary = replace(
        make_summary_of(benchmark, "erm"), oracle=True, complete=False, has_learned=False
    )
    model = PublishedModel(summary, 0, None, {}, "resnet50", "owner/name", [])
    card = write_model_card(model, benchmark)
    assert "base_model: owner/name" in card
    warnings = [line for line in card.splitlines() if line.startswith("**Warning:**")]
    for warning, words in zip(
        warnings, ("selects on the test split", "is not complete", "constant"), strict=True
    ):
        assert words in warning


@pytest.mark.parametrize(
    ("name", "from_scratch", "base"),
    [
        ("bert-base-uncased", False, "google-bert/bert-base-uncased"),
        ("bert-base-uncased", True, None),
        ("google/vit-base-patch16-224-in21k", False, "google/vit-base-patch16-224-in21k"),
        ("digits_cnn", False, None),
        ("torchvision/resnet18", False, None),
        ("/models/own", False, None),
    ],
)
def test_the_base_model_is_named_where_the_hub_has_it(
    name: str, from_scratch: bool, base: str | None
) -> None:
    assert find_base_model(name, from_scratch) == base


def test_names_of_the_data_stay_text_in_a_card() -> None:
    escaped = escape_markdown("<script>|`*_[x](y)\u202e\nend")
    assert escaped == r"&lt;script&gt;\|\`\*\_\[x\]\(y\)end"
