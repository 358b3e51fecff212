"""Small random models of each family, trained by the command on a small folder of data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as kinds

from core.__main__ import main
from tests.core.models.pretrained.test_families import PER_PATCH, POOLED, TEXTS, save

METHODS = ["erm", "erm_l1", "erm_mt", "erm_mt_l1", "erm_mt2", "dro", "dfr"]
HIDDEN = {"erm_mt", "erm_mt_l1", "erm_mt2"}  # need hidden states per token or patch


def write_tokenizer(folder: Path, mask: str) -> None:
    """Write a tokenizer of 60 words with a mask token."""
    words = ["<s>", "<pad>", "</s>", "<unk>", mask, *(f"w{i}" for i in range(55))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer: Any = Tokenizer(kinds.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    tokenizer.add_special_tokens(words[:5])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_data(folder: Path, column: str) -> None:
    """Write 48 examples of four groups in three splits: images or texts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"id,split,y,a,{column}"]
    for i in range(48):
        if column == "filename":
            pixels = np.random.RandomState(i).randint(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            cell = f"{i}.png"
        else:
            cell = " ".join(f"w{(i * 7 + j) % 55}" for j in range(4 + i % 5))
        rows.append(f"{i},{i // 4 % 3},{i % 2},{i // 2 % 2},{cell}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def run(method: str, model: Path | str, root: Path, *options: str) -> int:
    """Train a method for one epoch by the command; return its exit code."""
    given = ["--dataset", "folder", "--data-root", str(root), "--epochs", "1"]
    given += ["--set", f"model={model}", "--set", "batch_size=8"]
    return main(["--method", method, *given, *options])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", sorted(TEXTS))
def test_texts(
    family: str, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, root = tmp_path / "model", tmp_path / "data"
    save(model, *TEXTS[family], head="ForMaskedLM")
    mask = "<mask>" if family == "roberta" else "[MASK]"
    for folder in (model, root / "folder" / "tokenizer"):
        write_tokenizer(folder, mask)
    write_data(root / "folder", "text")
    capsys.readouterr()  # bars of saving
    code = run(method, model, root)
    printed = capsys.readouterr()
    if method == "erm_mt2":
        assert code == 2
        assert "causal language modeling, which is for models of type bert" in printed.err
    else:
        assert code == 0, printed.err
        assert ("reconstruction" in printed.out) == (method in HIDDEN)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", sorted({**PER_PATCH, **POOLED}))
def test_images(
    family: str, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, root = tmp_path / "model", tmp_path / "data"
    save(model, *{**PER_PATCH, **POOLED}[family])
    write_data(root / "folder", "filename")
    capsys.readouterr()  # bars of saving
    code = run(method, model, root)
    printed = capsys.readouterr()
    if family in POOLED and method in HIDDEN:
        assert code == 2
        assert len(printed.err.strip().splitlines()) == 1
        assert "hidden states per" in printed.err
    else:
        assert code == 0, printed.err
