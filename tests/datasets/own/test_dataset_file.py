"""The file ``dataset.yaml`` of own data: ranges to search and a training config."""

import re
from pathlib import Path

import pytest

import datasets
from common.errors import UserError
from core import __main__ as core_command
from core.recipe.method_files import load_method
from core.recipe.resolved_method import ResolvedMethod, resolve_method
from datasets.groups.folder import Folder
from datasets.own.dataset_file import PROTOCOL_KEYS, SIZES, read_dataset_file
from tests.datasets.own.test_references import write_images
from tuning.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "data_sets.md").read_text(encoding="utf-8")
(EXAMPLE,) = [b for b in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "protocol:" in b]


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    write_images(tmp_path / "birds")
    return tmp_path


def load(root: Path, text: str) -> Folder:
    (root / "birds" / "dataset.yaml").write_text(text)
    found = datasets.load_benchmark.__wrapped__("folder:birds", root)
    assert isinstance(found, Folder)
    return found


def resolve(root: Path, text: str, method: str = "erm") -> ResolvedMethod:
    return resolve_method(load_method(method), load(root, text))


@pytest.mark.medium
def test_the_example_of_the_guide(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = birds / "birds" / "metadata.csv"
    lines = [line.split(",") for line in table.read_text().replace("a", "where", 0).split("\n")]
    rows = [[row[1], row[3], row[4]] for row in lines]
    table.write_text("\n".join(",".join(row) for row in [["photo", "y", "where"], *rows[1:]]))
    benchmark = load(birds, EXAMPLE)
    assert benchmark.find_problems() == []
    root = ["--data-root", str(birds), "--dataset", "folder:birds"]
    assert core_command.main(["--method", "rwg", "--epochs", "1", *root]) == 0
    capsys.readouterr()
    given = ["--method", "erm", "dro", "--plan", "--results", str(birds / "results"), *root]
    assert main(given) == 0
    out = capsys.readouterr().out
    file = str(birds / "birds" / "dataset.yaml")
    for name, shown in (
        ("lr", "log_uniform:0.001:0.1"), ("batch_size", "choice:8,16"), ("eta", "log_uniform"),
        ("epochs", "fixed: 3"), ("patience", "fixed: 2"), ("model", "fixed: tiny_vit"),
        ("image_size", "fixed: 8"),
    ):  # fmt: skip
        (row,) = [line for line in out.splitlines() if line.startswith(f"| {name} ")]
        assert shown in row, row
        assert file in row, row


def test_ranges_replace_the_defaults(birds: Path) -> None:
    found = resolve(birds, "search: {lr: {log_uniform: [1e-4, 0.1]}, momentum: {choice: [0, 0.9]}}")
    assert found.hyperparameters["lr"].values == (1e-4, 1e-1)
    assert found.defaults["lr"] == 1e-3  # the training config's, which is in the range
    assert found.defaults["momentum"] == 0.9
    assert found.origins["lr"].endswith("birds/dataset.yaml")
    assert found.origins["weight_decay"] == "data set folder:birds"
    found = resolve(birds, "search: {lr: {log_uniform: [0.1, 1]}}")
    assert 0.1 <= float(found.defaults["lr"]) <= 1
    found = resolve(birds, "search: {lr: {uniform: [0.1, 1], default: 0.5}}\nprotocol: {lr: 0.2}")
    assert found.defaults["lr"] == 0.5
    found = resolve(birds, "search: {eta: {log_uniform: [0.1, 1]}}", "dro")
    assert found.hyperparameters["eta"].values == (0.1, 1)
    assert "eta" not in resolve(birds, "search: {eta: {log_uniform: [0.1, 1]}}").hyperparameters


def test_values_of_the_protocol_are_fixed_unless_searched(birds: Path) -> None:
    found = resolve(birds, "protocol: {lr: 1, batch_size: 4, epochs: 2}")
    assert "lr" not in found.hyperparameters
    assert found.training_config.lr == 1.0
    assert isinstance(found.training_config.lr, float)
    assert found.training_config.epochs == 2
    found = resolve(birds, "protocol: {batch_size: 4}\nsearch: {batch_size: {choice: [2, 4]}}")
    assert found.hyperparameters["batch_size"].default == 4


def test_sizes(birds: Path) -> None:
    assert load(birds, "").max_tokens == 220
    assert load(birds, "protocol: {text_length: 64}").max_tokens == 64
    assert {"epochs", "patience", "model", *SIZES} <= set(PROTOCOL_KEYS)


def test_every_key_is_in_the_guide() -> None:
    for key in ("columns", "split", "search", "protocol", *SIZES):
        assert f"`{key}`" in GUIDE, key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serach: {}", "unknown key 'serach' (did you mean 'search'?)"),
        ("protocol: {epoch: 3}", "protocol: unknown key 'epoch' (did you mean 'epochs'?)"),
        ("protocol: {epochs: 0}", "protocol.epochs: received 0, expected an integer from 1"),
        ("protocol: {epochs: many}", "protocol.epochs: received 'many', expected an integer"),
        ("protocol: {model: 3}", "protocol.model: received 3, expected a name"),
        ("protocol: {model: tiny_vitt}", "protocol.model: received 'tiny_vitt', expected"),
        ("protocol: {augmentation: flop}", "protocol.augmentation: received 'flop', expected"),
        ("protocol: [1]", "protocol: received [1], expected a mapping"),
        ("search: {lrr: {uniform: [0, 1]}}", "search: unknown hyperparameter 'lrr' (did you mean"),
        ("search: {lr: {uniform: [1, 0]}}", "search.lr: uniform: received [1, 0], a reversed"),
        ("search: {lr: 0.1}", "search.lr: received 0.1, expected a mapping"),
        ("split: {shares: [1]}", "split.shares: received [1], expected shares"),
        (
            "split: {shares: [0.7, 0.1, 0.2], sd: 1}",
            "split: unknown key 'sd' (did you mean 'seed'",
        ),
        ("columns: 3", "columns: received 3, expected a mapping"),
        ("a: [", "malformed YAML"),
        ("- 1", "received [1], expected a mapping"),
        ("search: {}\nsearch: {}", "duplicate key search"),
    ],
)
def test_mistakes_are_one_line(
    birds: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (birds / "birds" / "dataset.yaml").write_text(text)
    root = ["--data-root", str(birds), "--dataset", "folder:birds"]
    assert core_command.main(["--method", "erm", "--epochs", "1", *root]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "birds/dataset.yaml" in error
    assert error.count("\n") == 1
    assert main(["validate", str(birds / "birds" / "dataset.yaml")]) == 2
    assert message in capsys.readouterr().err


def test_a_valid_file(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(birds, "protocol: {epochs: 3}\nsearch: {eta: {uniform: [0, 1]}}")
    assert main(["validate", str(birds / "birds" / "dataset.yaml")]) == 0
    assert capsys.readouterr().out == "1 valid file\n"


def test_no_file_and_an_empty_one_are_the_same(birds: Path) -> None:
    before = read_dataset_file(birds / "birds")
    load(birds, "# nothing yet\n")
    assert read_dataset_file(birds / "birds") == before


def test_own_comments_stay(birds: Path) -> None:
    benchmark = load(birds, "# mine\nprotocol: {epochs: 3}")
    benchmark.remember_choices({"a": "place"}, None)
    text = (birds / "birds" / "dataset.yaml").read_text()
    assert text == "# mine\nprotocol: {epochs: 3}\ncolumns: {a: place}\n"
    with pytest.raises(UserError, match="the file has other columns already"):
        load(birds, text).remember_choices({"y": "label"}, None)
