"""The published code's pickled features: read, and nothing else is."""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import datasets
from common.errors import UserError
from core.models.pretrained.tokenizer import find_tokenizer_mismatch
from datasets.formats.glue_features import read_features
from datasets.groups.multinli import FEATURES
from datasets.storage.ragged_arrays import RaggedTexts


def feature_class(monkeypatch: pytest.MonkeyPatch, module: str) -> Any:
    """Return a class as the old example scripts had it, importable while it is pickled."""

    class InputFeatures:
        def __init__(self, ids: list[int], second: int, label: int, longest: int) -> None:
            padding = [0] * (longest - len(ids))
            self.input_ids = ids + padding
            self.input_mask = [1] * len(ids) + padding
            self.segment_ids = [int(i >= second) for i in range(len(ids))] + padding
            self.label_id = label

    InputFeatures.__module__ = module
    InputFeatures.__qualname__ = "InputFeatures"
    place = types.ModuleType(module)
    place.InputFeatures = InputFeatures  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module, place)
    return InputFeatures


ROWS = [
    ([101, 7592, 102, 2053, 102], 3, 2),
    ([101, 102, 5, 6, 7, 8, 102], 2, 0),
    ([101, 102], 2, 1),
]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("module", ["utils_glue", "transformers_data_utils"])
def test_features_of_any_module_and_both_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, module: str
) -> None:
    kind = feature_class(monkeypatch, module)
    path = tmp_path / "cached"
    features = [kind(*row, 128) for row in ROWS]
    torch.save(features, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, module)
    tokens, labels = read_features(path)
    assert labels.tolist() == [2, 0, 1]
    assert tokens.lengths.tolist() == [5, 7, 2]
    assert tokens.second_starts.tolist() == [3, 2, 2]
    assert tokens.flat.tolist() == [i for ids, _, _ in ROWS for i in ids]


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("zipped", [False, True])
def test_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "cached"
    torch.save([Evil(tmp_path / "mark")], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"cached: no list of features: it names \w+\.mkdir"):
        read_features(path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [np.zeros(3)],
        [],
        {"a": 1},
        [[1, 2]],
        pytest.param([types.SimpleNamespace(input_ids=[1])], id="namespace"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "cached"
    torch.save(content, path)
    with pytest.raises(UserError, match="cached: "):
        read_features(path)


def test_malformed_features_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = feature_class(monkeypatch, "utils_glue")
    path = tmp_path / "cached"

    def refused(match: str, change: Any) -> None:
        features = [kind(*row, 16) for row in ROWS]
        change(features[1])
        torch.save(features, path)
        with pytest.raises(UserError, match=match):
            read_features(path)

    refused("feature 1: without label_id", lambda f: f.__dict__.pop("label_id"))
    refused("different lengths", lambda f: f.input_ids.append(0))
    refused("integers", lambda f: f.input_ids.__setitem__(0, 1.5))
    refused("feature 1: input_ids: expected", lambda f: f.input_ids.__setitem__(0, 30_522))
    refused("feature 1: input_ids: expected", lambda f: f.input_ids.__setitem__(0, -1))
    refused("are not at the end", lambda f: f.input_mask.__setitem__(0, 0))
    refused("are not at the end", lambda f: f.segment_ids.__setitem__(0, 1))
    torch.save([kind(*row, 16) for row in ROWS], path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="cached: no list of features"):
        read_features(path)
    with pytest.raises(UserError, match="nowhere: missing"):
        read_features(tmp_path / "nowhere")


def lay_out(folder: Path, monkeypatch: pytest.MonkeyPatch, splits: list[int]) -> pd.DataFrame:
    """Write features in three files and the published split; return the split's table."""
    kind = feature_class(monkeypatch, "utils_glue")
    generator = np.random.default_rng(0)
    labels = [i % 3 for i in range(len(splits))]
    negated = [i // 3 % 2 for i in range(len(splits))]
    features = []
    for label in labels:
        ids = [101, *generator.integers(1000, 2000, generator.integers(2, 20)).tolist(), 102]
        features.append(kind(ids, len(ids) // 2, label, 128))
    glue = folder / "glue_data" / "MNLI"
    glue.mkdir(parents=True)
    for name, part in zip(FEATURES, (features[:20], features[20:30], features[30:]), strict=True):
        torch.save(part, glue / name, _use_new_zipfile_serialization=False)
    (folder / "data").mkdir()
    table = pd.DataFrame({"gold_label": labels, "sentence2_has_negation": negated, "split": splits})
    table.to_csv(folder / "data" / "metadata_random.csv")
    return table


def test_multinli_from_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = [i // 6 % 3 for i in range(54)]
    table = lay_out(tmp_path / "multinli", monkeypatch, splits)
    benchmark = datasets.load_benchmark.__wrapped__("multinli", tmp_path)  # no vocabulary is needed
    for number, name in enumerate(("train", "validation", "test")):
        rows = table[table["split"] == number]
        group = (2 * rows["gold_label"] + rows["sentence2_has_negation"]).tolist()
        found = benchmark.splits[name].group
        assert found is not None
        assert found.tolist() == group
        texts = benchmark.splits[name].inputs
        assert isinstance(texts, RaggedTexts)
        batch = texts[torch.arange(len(texts))]
        assert batch.ids[:, 0].tolist() == [101] * len(rows)
        assert (batch.ids.gather(1, (texts.lengths - 1).unsqueeze(1)) == 102).all()
    config = tmp_path / "config.json"  # of a model, whose vocabulary need not be here either
    for words, right in ((30_522, True), (28_996, False)):
        config.write_text(json.dumps({"model_type": "bert", "vocab_size": words}))
        assert (find_tokenizer_mismatch(str(tmp_path), benchmark) is None) == right


def test_labels_that_differ_from_the_features_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lay_out(tmp_path / "multinli", monkeypatch, [i // 6 % 3 for i in range(54)])
    table.loc[7, "gold_label"] = 2
    table.to_csv(tmp_path / "multinli" / "data" / "metadata_random.csv")
    benchmark = datasets.load_benchmark.__wrapped__("multinli", tmp_path)
    with pytest.raises(UserError, match=r"row 8: y is 2, but pair 7 .* has 1"):
        _ = benchmark.splits
