"""Training on all frames, and the selection rules of the published protocols."""

from pathlib import Path

import pandas as pd
import pytest
import torch

import datasets
from common.errors import ValidationErrors
from common.hyperparameters import Hyperparameters
from core.__main__ import main as train
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training import selection
from core.training.run import Run
from datasets.multitask.celeba40 import ATTRIBUTES
from datasets.multitask.dense import DenseBenchmark
from tests.core.training.test_run import start
from tests.support import dense_files
from tests.support.command import run_tune
from tuning.cli.main import main
from tuning.options import Options
from tuning.study.checks import choose_rule

ALL = "training_split=train_and_validation"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("nyuv2", "cityscapes"):
        dense_files.write_dense(folder, name)
    return folder


@pytest.mark.medium
@pytest.mark.deviation("held-out-frames")
@pytest.mark.parametrize("name", ["nyuv2", "cityscapes"])
def test_all_frames_train_where_the_config_says_so(name: str, root: Path) -> None:
    benchmark = datasets.load_benchmark(name, root)
    assert isinstance(benchmark, DenseBenchmark)
    small = "segnet_small" if name == "nyuv2" else "segnet_mtan_small"
    values: Hyperparameters = {"epochs": 1, "model": small, "batch_size": 1, "augmentation": "none"}
    resolved = resolve_method(load_method("ls"), benchmark)
    environment = detect_environment(gpu=False)
    plain = Run(resolved.make_key(values, 0, environment), benchmark)
    whole = Run(
        resolved.make_key({**values, "training_split": "train_and_validation"}, 0, environment),
        benchmark,
    )
    held_out = len(benchmark.splits["validation"])
    assert len(whole.context.train) == benchmark.frames["train"]
    assert len(plain.context.train) == benchmark.frames["train"] - held_out
    assert whole.stage_state.steps_per_epoch == benchmark.frames["train"]
    images = whole.context.train.inputs
    assert isinstance(images, torch.Tensor)
    validation = benchmark.splits["validation"].inputs
    assert isinstance(validation, torch.Tensor)
    assert torch.equal(images[-held_out:], validation)
    own = benchmark.splits["train"].inputs
    assert isinstance(own, torch.Tensor)
    assert images.data_ptr() == own.data_ptr()  # no copy
    assert whole.train_epoch().validation.keys() == plain.train_epoch().validation.keys()
    assert whole.key.digest != plain.key.digest
    assert "training_split" not in str(plain.key.as_dict())


@pytest.mark.parametrize("dataset", ["two_digits", "imbalanced_tasks", "qm9", "celeba40"])
def test_data_with_a_validation_split_keep_it_out(dataset: str) -> None:
    resolved = resolve_method(load_method("ls"), datasets.load_benchmark(dataset))
    with pytest.raises(ValidationErrors, match="has a validation split of its own"):
        resolved.make_key(
            {"training_split": "train_and_validation"}, 0, detect_environment(gpu=False)
        )
    with pytest.raises(ValidationErrors, match="has a validation split of its own"):
        start("erm", "colored_digits", training_split="train_and_validation")


@pytest.mark.parametrize(
    "given",
    [
        ["--set", ALL],
        ["--set", ALL, "--audit-test", "--select", "oracle_test_delta_m"],
        ["--set", "training_split=choice:train,train_and_validation"],
    ],
)
def test_all_frames_need_the_published_rule(
    given: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--method", "ls", "--dataset", "nyuv2", "--data-root", str(root), "--plan"]
    results = ["--results", str(tmp_path / "results")]
    assert main([*command, *results, *given]) == 2
    message = capsys.readouterr().err
    assert "it needs --audit-test --select published_last10" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["nyuv2", "--set", ALL], "reads: it needs --select published_last10"),
        (["nyuv2", "--select", "validation_mean_f1"], "does not report mean_f1; compatible rules"),
        (["celeba40", "--select", "published_last10"], "has another rule, validation_mean_f1"),
    ],
)
def test_a_single_run_selects_by_the_same_rules(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["--method", "ls", "--dataset", *given]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.medium
def test_a_study_on_all_frames_says_so_in_every_table(root: Path, tmp_path: Path) -> None:
    done = run_tune(["--method", "ls", "--dataset", "nyuv2", "--data-root", root, "--results",
                 tmp_path / "results", "--epochs", "1", "--protocol", "published", "--seeds", "1",
                 "--set", "model=segnet_small"])  # fmt: skip
    assert done.code == 0, done.err
    folder = tmp_path / "results" / "nyuv2"
    table = (folder / "table.md").read_text()
    assert "Trained on all training frames" in table
    assert "published last10, trained on all frames" in table
    for path in (folder / "table.csv", tmp_path / "results" / "best_configs.csv"):
        (label,) = pd.read_csv(path)["selection"]
        assert label == "published_last10, trained on all frames"
    assert "trained on all frames" in (folder / "table.tex").read_text()
    assert (
        "training_split: train_and_validation" in (folder / "ls" / "best_config.yaml").read_text()
    )


@pytest.mark.deviation("task-selection")
@pytest.mark.parametrize(
    ("dataset", "rule"), [("celeba40", "validation_mean_f1"), ("qm9", "validation_delta_m")]
)
def test_last10_is_refused_where_another_rule_was_published(
    dataset: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "ls", "--dataset", dataset, "--audit-test", "--plan"]
    assert main([*given, "--select", "published_last10"]) == 2
    assert f"'{dataset}' has another rule, {rule}" in capsys.readouterr().err
    assert datasets.load_benchmark(dataset).published_rule == rule


@pytest.mark.parametrize("dataset", ["nyuv2", "cityscapes", "two_digits"])
def test_last10_is_offered_where_it_was_published_or_nothing_was(dataset: str) -> None:
    options = Options(methods=("ls",), dataset=dataset, select="published_last10", audit_test=True)
    assert choose_rule(options, datasets.load_benchmark(dataset)).window == 10


def test_every_published_rule_is_a_rule() -> None:
    named = {datasets.load_benchmark(name).published_rule for name in datasets.list_benchmarks()}
    assert named - {None} <= set(selection.RULES)


def test_mean_f1_is_the_mean_over_attributes() -> None:
    benchmark = datasets.load_benchmark("celeba40")
    values = {f"f1_{name}": index / 100 for index, name in enumerate(ATTRIBUTES)}
    found = benchmark.add_deltas(values)  # type: ignore[attr-defined]
    assert found["mean_f1"] == pytest.approx(sum(range(40)) / 4000)
    assert benchmark.higher_is_better["mean_f1"]
    assert "mean_f1" in benchmark.reported_metrics
    rule = selection.get_rule("validation_mean_f1")
    assert (rule.split, rule.oracle, rule.lower_is_better) == ("validation", False, False)
