"""Predictions carry the names that a data set's own files give its examples."""

from pathlib import Path

import pandas as pd
import pytest

import datasets
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from datasets.benchmark import Benchmark
from datasets.on_disk import OnDisk
from datasets.training_config import JOINED_SPLIT
from tests.support import dense_files
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import RunOptions, RunWork, TrialWork


@pytest.mark.parametrize("dataset", datasets.list_benchmarks())
def test_every_data_set_with_files_names_its_examples(dataset: str, tmp_path: Path) -> None:
    kind = type(datasets.load_benchmark(dataset, str(tmp_path)))
    assert kind.list_ids is not Benchmark.list_ids or not issubclass(kind, OnDisk)


@pytest.mark.parametrize("split", ["train", JOINED_SPLIT])
def test_frames_are_named_by_folder_and_number(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENHAND_CACHE", str(tmp_path / "cache"))
    dense_files.write_dense(tmp_path, "nyuv2")
    benchmark = datasets.load_benchmark("nyuv2", str(tmp_path))
    values: Hyperparameters = {"model": "segnet_small", "epochs": 1, "training_split": split}
    resolved = resolve_method(load_method("ls"), benchmark)
    key = resolved.make_key(values, 0, detect_environment(gpu=False))
    options = RunOptions("published_last10", True, True, False, str(tmp_path), report_training=True)
    runner = TrialRunner(TrialWork((RunWork(str(tmp_path / "run"), key),), options))
    assert runner.train_epoch().status == "completed"
    found = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    names = found.groupby("split").id.apply(list)
    validation = {f"train/{n}" for n in benchmark.split_train_frames()[1]}  # type: ignore[attr-defined]
    everything = {f"train/{n}" for n in range(12)}
    assert set(names["validation"]) == validation
    assert set(names["test"]) == {f"val/{n}" for n in range(3)}
    joined = split == JOINED_SPLIT
    assert set(names["train"]) == (everything if joined else everything - validation)
    assert len(names["train"]) == len(set(names["train"]))
    # A frame of both has the same error in each, so that the names are of the right rows.
    errors = found.set_index(["split", "id"]).error_depth
    for name in validation & set(names["train"]):
        assert errors["train", name] == pytest.approx(errors["validation", name], rel=1e-5)
