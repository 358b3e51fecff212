"""What holds for every benchmark that runs everywhere, and what is special to each."""

import json
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import datasets
from common.errors import UserError
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from datasets.benchmark import SPLITS, Inputs, Split
from datasets.groups.base import GroupBenchmark
from datasets.groups.colored_digits import ColoredDigits
from tests.conftest import EMBEDDED


@pytest.mark.parametrize("name", EMBEDDED)
def test_contract(name: str) -> None:
    benchmark = datasets.load_benchmark(name)
    assert benchmark.name == name
    assert set(benchmark.splits) == set(SPLITS)
    assert all(len(split) > 0 for split in benchmark.splits.values())
    assert set(benchmark.search_space) <= set(TRAINING_CONFIG_FIELDS)
    for hyperparameter_name, hyperparameter in benchmark.search_space.items():
        assert hyperparameter.find_broken_rule(hyperparameter.default) is None
        assert benchmark.training_config.as_dict()[hyperparameter_name] == hyperparameter.default
    assert benchmark.version


def metrics(benchmark: GroupBenchmark, split: str, logits: torch.Tensor) -> dict[str, Any]:
    """Evaluate in two batches that come in another order."""
    meter = benchmark.make_meter(split)
    rows = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))
    for part in rows.chunk(2):
        meter.update(part, logits[part], {})
    return meter.compute_metrics()


@pytest.mark.parametrize("name", EMBEDDED)
def test_perfect_and_useless_predictions(name: str) -> None:
    benchmark = datasets.load_benchmark(name)
    if not isinstance(benchmark, GroupBenchmark):
        pytest.skip("judged by tasks, not by groups")
    for split, data in benchmark.splits.items():
        right = torch.nn.functional.one_hot(data.y, len(benchmark.groups.classes)).float()
        found = metrics(benchmark, split, right)
        assert found["worst_group_accuracy"] == 1
        assert sum(found["group_count"]) == len(data)
        assert metrics(benchmark, split, -right)["average_accuracy"] == 0


@pytest.mark.medium
@pytest.mark.parametrize("name", EMBEDDED)
def test_data_are_the_same_in_another_process(name: str) -> None:
    assert hash_in_another_process()[name] == datasets.load_benchmark(name).data_hash


@cache
def hash_in_another_process() -> dict[str, str]:
    """Return the hashes of all built-in benchmarks, by name."""
    hashes = "{name: datasets.load_benchmark(name).data_hash for name in sys.argv[1:]}"
    code = f"import json, sys, datasets; print(json.dumps({hashes}))"
    other = subprocess.run(
        [sys.executable, "-c", code, *EMBEDDED], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(other.stdout)
    return found


def everything(inputs: Inputs) -> torch.Tensor:
    assert isinstance(inputs, torch.Tensor)
    return inputs


def test_all_digits_are_used_once() -> None:
    splits = datasets.load_benchmark("colored_digits").splits
    pixels = [everything(split.inputs) for split in splits.values()]
    seen = torch.cat([images.sum(dim=1).flatten(1) for images in pixels])
    images = torch.from_numpy(load_digits().data.astype(np.float32) / 16)
    assert len(seen) == len(images) == 1797
    assert torch.equal(seen.sort(dim=0).values, images.sort(dim=0).values)


def test_color_agrees_as_documented() -> None:
    splits = datasets.load_benchmark("colored_digits").splits
    for name, share in (("train", 0.95), ("validation", 0.5), ("test", 0.5)):
        split = splits[name]
        assert split.group is not None
        channel = split.group % 2
        assert torch.equal(split.group // 2, split.y)
        for label in (0, 1):
            members = split.y == label
            assert (channel[members] == label).double().mean().item() == pytest.approx(
                share, abs=0.01
            )
        empty = everything(split.inputs)[torch.arange(len(split)), 1 - channel]
        assert not empty.any()


def test_data_hash_is_pinned() -> None:
    # A changed hash means other data: raise the benchmark's version with it.
    benchmark = datasets.load_benchmark("colored_digits")
    assert (benchmark.version, benchmark.data_hash) == ("1", "271e962c18f33f86")


@pytest.mark.deviation("absent-groups")
def test_group_that_validation_lacks_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    class Lacking(ColoredDigits):
        def load_splits(self) -> dict[str, Split]:
            splits = super().load_splits()
            data = splits["validation"]
            assert data.group is not None
            kept = data.group != 1
            splits["validation"] = Split(data.inputs[kept], {"y": data.y[kept]}, data.group[kept])
            return splits

    with pytest.raises(UserError, match=r"digit < 5, channel 1.*worst-group accuracy"):
        _ = Lacking(tmp_path).splits  # type: ignore[arg-type]


def test_unknown_benchmark_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'colored_digits'"):
        datasets.load_benchmark("coloured_digits")
