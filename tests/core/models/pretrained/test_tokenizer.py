"""Models whose vocabulary differs from the data's are refused."""

import json
from pathlib import Path

import pytest

import datasets
from core.models.pretrained.tokenizer import find_tokenizer_mismatch
from datasets.benchmark import Benchmark

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "fox", "elan"]
TABLE = "id,filename,split,y,a,text\n" + "".join(f"{i},{i},{i % 3},{i % 2},0,x\n" for i in range(6))


def write_folder(path: Path, words: list[str], **tokenizer: object) -> Path:
    """Write the vocabulary and the configuration files of a model."""
    path.mkdir(parents=True)
    (path / "vocab.txt").write_text("\n".join(words))
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Benchmark:
    write_folder(tmp_path / "folder" / "tokenizer", WORDS)
    (tmp_path / "folder" / "metadata.csv").write_text(TABLE)
    benchmark: Benchmark = datasets.load_benchmark.__wrapped__("folder", tmp_path)
    return benchmark


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (WORDS, {}, None),
        (WORDS, {"do_lower_case": True}, None),
        (WORDS, {"do_lower_case": False}, "one lowercases letters"),
        ([*WORDS[:5], *WORDS[:4:-1]], {}, "'elan' has ID 5 in one and 9 in the other"),
        ([*WORDS, "more"], {}, "vocabulary sizes differ: 11 and 10"),
    ],
)
def test_vocabulary_must_match_the_data(
    words: list[str], options: dict[str, object], message: str | None,
    texts: Benchmark, tmp_path: Path,
) -> None:  # fmt: skip
    model = write_folder(tmp_path / "model", words, **options)
    found = find_tokenizer_mismatch(str(model), texts)
    if message is None:
        assert found is None
    else:
        assert found is not None
        assert message in found
        assert f"model: received '{model}'" in found
        assert str(tmp_path / "folder" / "tokenizer") in found


@pytest.mark.parametrize(("size", "right"), [(10, True), (12, True), (9, False)])
def test_sizes_are_compared_without_a_vocabulary(
    size: int, right: bool, texts: Benchmark, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": size}))
    found = find_tokenizer_mismatch(str(model), texts)
    assert (found is None) == right
    assert right or "its vocabulary has 9 tokens" in str(found)


def test_image_models_are_refused_for_texts(texts: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    found = find_tokenizer_mismatch(str(tmp_path), texts)
    assert found == f"model: received '{tmp_path}', of type 'vit'; expected one that reads texts"


def test_data_without_texts_match_every_model(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "model", WORDS[:6])
    assert find_tokenizer_mismatch(str(model), datasets.load_benchmark("colored_digits")) is None
    assert find_tokenizer_mismatch("tiny_bert", datasets.load_benchmark("colored_digits")) is None
