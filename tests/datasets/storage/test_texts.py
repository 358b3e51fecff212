"""Texts: the case of a tokenizer is told by its model's folder or name."""

from pathlib import Path

import pytest

from datasets.storage.texts import hash_tokenizer


@pytest.mark.parametrize(
    ("place", "is_cased"),
    [
        ("bert-base-uncased", False),
        ("bert-base-cased", True),
        ("models--bert-base-cased/snapshots/0a1b", True),
        ("models--bert-base-uncased/snapshots/0a1b", False),
        ("study-cased/bert-base-uncased", False),
        ("study-cased/folder/tokenizer", False),
    ],
)
def test_the_case_is_that_of_the_model(place: str, is_cased: bool, tmp_path: Path) -> None:
    hashes = []
    for folder in ("bert-base-cased" if is_cased else "bert-base-uncased", place):
        file = tmp_path / folder / "vocab.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[PAD]\n[UNK]\nword\n")
        hashes.append(hash_tokenizer(file))
    assert hashes[0] == hashes[1]
