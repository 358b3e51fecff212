"""Trained models that transformers loads: the same predictions from the same files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import core.torchvision_compat  # noqa: F401
from core.hub_model import write_hub_model
from core.kept_model import load_model, save_model
from tests.core.test_kept_model import train, write_own_data

# isort: split
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    ViTForImageClassification,
    ViTImageProcessor,
)


@pytest.mark.parametrize("method", ["erm", "erm_mt_l1"])
def test_a_text_classifier_is_a_bert_of_transformers(method: str, tmp_path: Path) -> None:
    paths = write_own_data(tmp_path, "texts")
    run = train(tmp_path, "folder:mine", method, model="tiny_bert")
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    kept = load_model(tmp_path / "model.safetensors", tmp_path)
    (tmp_path / "hub").mkdir()
    found = write_hub_model(kept.model, kept.benchmark, tmp_path / "hub")
    assert found == "BertForSequenceClassification"
    model = BertForSequenceClassification.from_pretrained(tmp_path / "hub").train(False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hub")
    texts = [path.read_text(encoding="utf-8") for path in paths]
    encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        logits = model(**encoded).logits
    expected = kept.predict_files(paths)[["p(cat)", "p(dog)"]].to_numpy()
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-5)
    assert model.config.id2label == {0: "cat", 1: "dog"}


def test_an_image_classifier_is_a_vit_of_transformers(tmp_path: Path) -> None:
    paths = write_own_data(tmp_path, "images")
    for number, path in enumerate(paths):  # of the model's size, so that nothing is resized
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    run = train(tmp_path, "folder:mine", "erm", model="tiny_vit")
    save_model(run.model, run.key, run.benchmark, tmp_path / "model.safetensors")
    kept = load_model(tmp_path / "model.safetensors", tmp_path)
    (tmp_path / "hub").mkdir()
    assert write_hub_model(kept.model, kept.benchmark, tmp_path / "hub") == (
        "ViTForImageClassification"
    )
    model = ViTForImageClassification.from_pretrained(tmp_path / "hub").train(False)
    processor = ViTImageProcessor.from_pretrained(tmp_path / "hub")
    images = [Image.open(path).convert("RGB") for path in paths]
    with torch.no_grad():
        logits = model(**processor(images, return_tensors="pt")).logits
    expected = kept.predict_files(paths)[["p(cat)", "p(dog)"]].to_numpy()
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-4)


def test_other_architectures_are_not_theirs(tmp_path: Path) -> None:
    run = train(tmp_path, "colored_digits", "erm")
    assert write_hub_model(run.model, run.benchmark, tmp_path) is None
    assert not list(tmp_path.iterdir())
