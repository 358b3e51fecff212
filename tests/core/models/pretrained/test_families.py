"""Small random models of many families: saved to a folder, loaded as a user's are, and trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import core.torchvision_compat  # noqa: F401
from common.errors import UserError
from core import models
from core.models.image_backbone import ImageBackbone
from core.models.image_encoder import ImageEncoder
from core.models.pretrained import weights
from core.models.pretrained.backbones import remove_classifier
from core.models.text_encoder import TextEncoder
from core.objectives.reconstruction import compute_masked_image_loss, compute_masked_language_loss
from datasets.storage.ragged_arrays import TextBatch

import transformers  # isort: skip
from torchvision.models import ResNet18_Weights, get_model, resnet18  # isort: skip

RECONSTRUCTION = frozenset({"reconstruction"})
BOTH = frozenset({"reconstruction", "projection"})
SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 2}  # fmt: skip
PATCHES: dict[str, Any] = {"image_size": 32, "patch_size": 8}
WORDS = {"vocab_size": 60}
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("Roberta", {**WORDS, **SIZES, "max_position_embeddings": 20, "type_vocab_size": 1}),
    "deberta-v2": ("DebertaV2", {**WORDS, **SIZES}),
    "distilbert": (
        "DistilBert", {**WORDS, "dim": 16, "hidden_dim": 24, "n_layers": 1, "n_heads": 2},
    ),
    "electra": ("Electra", {**WORDS, **SIZES, "embedding_size": 8}),
    "modernbert": (
        "ModernBert",
        {**WORDS, **SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
         "cls_token_id": 1, "sep_token_id": 2},
    ),
    "albert": ("Albert", {**WORDS, **SIZES, "embedding_size": 8}),
}  # fmt: skip
# Whose pooler is always called, whose output has further fields, and without a range of weights.
ODD_TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "layoutlm": ("LayoutLM", {**WORDS, **SIZES}),
    "longformer": ("Longformer", {**WORDS, **SIZES, "attention_window": 16}),
    "xlm": ("XLM", {**WORDS, "emb_dim": 16, "n_layers": 1, "n_heads": 2}),
}
PER_PATCH: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": (
        "Dinov2",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, **PATCHES},
    ),
    "deit": ("DeiT", {**SIZES, **PATCHES}),
    "vit_mae": ("ViTMAE", {**SIZES, **PATCHES}),
    "clip_vision_model": ("CLIPVision", {**SIZES, **PATCHES}),
}
POOLED: dict[str, tuple[str, dict[str, Any]]] = {
    "swin": (
        "Swin",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
         "window_size": 4},
    ),
    "convnext": ("ConvNext", {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2}),
}  # fmt: skip


def save(folder: Path, name: str, config: dict[str, Any], head: str = "Model") -> Any:
    """Save a small model of a family with random weights; return it."""
    torch.manual_seed(0)
    made: Any = getattr(transformers, f"{name}Config")(**config)
    model: Any = getattr(transformers, f"{name}{head}")(made)
    for parameter in model.parameters():  # so that nothing is hidden by zeros
        parameter.data.normal_(std=0.2)
    model.eval().save_pretrained(folder)
    return model


def write_tokenizer(folder: Path, mask: str = "<mask>") -> None:
    tokens = [{"id": i, "content": word} for i, word in enumerate(["<s>", "<pad>", mask])]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))


def make_texts(lengths: list[int]) -> TextBatch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (len(lengths), max(lengths)), generator=generator)
    attention = torch.arange(max(lengths)) < torch.tensor(lengths).view(-1, 1)
    return TextBatch(ids.masked_fill(~attention, 0), attention, torch.zeros_like(ids))


@pytest.mark.parametrize("family", sorted({**TEXTS, **ODD_TEXTS}))
def test_text_families_load_and_reconstruct(family: str, tmp_path: Path) -> None:
    head = "WithLMHeadModel" if family == "xlm" else "ForMaskedLM"
    theirs = save(tmp_path, *{**TEXTS, **ODD_TEXTS}[family], head=head)
    write_tokenizer(tmp_path)
    assert models.check_model_name(str(tmp_path)) is None
    assert not models.lacks_hidden_states(str(tmp_path))
    model = models.build_model(str(tmp_path), {"y": 3}, RECONSTRUCTION).eval()
    assert isinstance(model, TextEncoder)
    batch = make_texts([9, 4, 7])
    with torch.no_grad():
        expected = theirs(
            input_ids=batch.ids.masked_fill(~batch.attention_mask, theirs.config.pad_token_id or 0),
            attention_mask=batch.attention_mask.long(),
        ).logits
        found = model.reconstruct(model.encode(batch))
    kept = batch.attention_mask
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-4, rtol=1e-4)
    # In other company, with more padding, a text has the same states.
    alone = TextBatch(*(part[1:2, :4] for part in batch))
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode(alone)[0], model.encode(batch)[1, :4], atol=1e-4, rtol=1e-4
        )
    assert model(batch).outputs.shape == (3, 3)
    assert model.mask_token_id == 2
    torch.manual_seed(0)
    loss, hidden = compute_masked_language_loss(model, batch)
    loss.backward()
    assert hidden.shape == (3, 9, 16)
    heads = {id(p) for head in model.get_task_heads().values() for p in head.parameters()}
    trunk = {id(p) for p in model.trunk.parameters()}
    assert not heads & trunk
    every = {id(p) for p in model.parameters()}
    assert heads | trunk == every


@pytest.mark.parametrize("family", sorted(TEXTS))
def test_text_families_without_token_head_classify(family: str, tmp_path: Path) -> None:
    save(tmp_path, *TEXTS[family])
    model = models.build_model(str(tmp_path), {"y": 2})
    model(make_texts([3, 5])).outputs.sum().backward()
    assert all(p.grad is not None for p in model.get_last_layer().parameters())
    with pytest.raises(UserError, match=r"tokenizer.json: missing; the method needs the mask"):
        models.build_model(str(tmp_path), {"y": 2}, RECONSTRUCTION)
    with pytest.raises(UserError, match="causal language modeling, which is for models of type"):
        models.build_model(str(tmp_path), {"y": 2}, frozenset({"projection"}))


def test_a_text_model_with_a_decoder_is_refused(tmp_path: Path) -> None:
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    save(tmp_path, "Bart", {**WORDS, **small, **heads, "d_model": 16})
    with pytest.raises(UserError, match="type 'bart' is an encoder with a decoder; expected an"):
        models.build_model(str(tmp_path), {"y": 2})


def test_too_long_texts_are_refused_where_positions_start_later(tmp_path: Path) -> None:
    save(tmp_path, *TEXTS["roberta"])
    model = models.build_model(str(tmp_path), {"y": 2})
    assert model(make_texts([18])).outputs.shape == (1, 2)
    with pytest.raises(UserError, match=r"has 19 tokens, .* most 18; .*text_length: 18"):
        model(make_texts([19]))


@pytest.mark.parametrize("family", sorted(PER_PATCH))
def test_image_families_with_patches_load_mask_and_project(family: str, tmp_path: Path) -> None:
    theirs = save(tmp_path, *PER_PATCH[family])
    model = models.build_model(str(tmp_path), {"y": 3}, BOTH).eval()
    assert isinstance(model, ImageEncoder)
    assert model.image is not None
    assert model.image.size == 32
    assert not models.lacks_hidden_states(str(tmp_path))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        hidden = model.encode(images)
        if family == "vit_mae":  # theirs hides and shuffles patches, whose class token stays
            theirs.config.mask_ratio = 0.0
        expected = theirs(images).last_hidden_state
        torch.testing.assert_close(hidden[:, 0], expected[:, 0], atol=1e-4, rtol=1e-4)
        if family != "vit_mae":
            torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
        # A masked patch does not matter, an open one does, and the decoder keeps their order.
        masked = torch.zeros(2, 16, dtype=torch.bool)
        masked[:, 5] = True
        changed = images.clone()
        changed[:, :, 8:16, 8:16] += 1  # patch 5
        torch.testing.assert_close(
            model.encode(changed, masked=masked), model.encode(images, masked=masked)
        )
        assert (model.encode(changed) - hidden).abs().max() > 1e-3
        assert model.reconstruct(hidden).shape == (2, 3, 32, 32)
        assert model.project(hidden[:, 0]).shape == (2, 16)
    loss, _ = compute_masked_image_loss(model, images)
    loss.backward()
    assert model.decoder is not None
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize("family", sorted(POOLED))
def test_image_families_without_patches_classify_and_refuse_the_rest(
    family: str, tmp_path: Path
) -> None:
    theirs = save(tmp_path, *POOLED[family])
    model = models.build_model(str(tmp_path), {"y": 2}).eval()
    assert isinstance(model, ImageBackbone)
    assert model.image is not None
    images = torch.rand(2, 3, model.image.size, model.image.size)
    torch.testing.assert_close(
        model(images).representation, theirs(images).pooler_output.flatten(1)
    )
    assert models.lacks_hidden_states(str(tmp_path))
    with pytest.raises(UserError, match=f"type '{family}' has no hidden states per patch"):
        models.build_model(str(tmp_path), {"y": 2}, RECONSTRUCTION)


def test_the_image_part_of_clip_is_loaded(tmp_path: Path) -> None:
    vision = {**SIZES, **PATCHES}
    text = {**WORDS, **SIZES, "max_position_embeddings": 20}
    save(tmp_path, "CLIP", {"vision_config": vision, "text_config": text, "projection_dim": 8})
    model = models.build_model(str(tmp_path), {"y": 2})
    assert isinstance(model, ImageEncoder)
    assert model(torch.rand(1, 3, 32, 32)).outputs.shape == (1, 2)


def test_other_types_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    (tmp_path / "model.safetensors").touch()
    rule = models.check_model_name(str(tmp_path))
    assert rule is not None
    assert "encodes texts or images, such as bert or vit, not 'whisper'" in rule


def test_torchvision_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    path = weights.get_torchvision_path(ResNet18_Weights.DEFAULT.url)
    path.parent.mkdir(parents=True)
    theirs = resnet18().eval()
    torch.save(theirs.state_dict(), path)
    name = "torchvision/resnet18"
    assert models.check_model_name(name) is None
    assert models.check_model_weights(name) is None
    assert models.lacks_hidden_states(name)
    model = models.build_model(name, {"y": 2}).eval()
    theirs.fc = torch.nn.Identity()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(images).representation, theirs(images))
    with pytest.raises(UserError, match="used by its pooled features; the method needs a model"):
        models.build_model(name, {"y": 2}, RECONSTRUCTION)
    rule = models.check_model_name("torchvision/resnet19")
    assert rule == "a model of torchvision (did you mean 'resnet18'?)"


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "efficientnet_b0", "vit_b_16", "swin_t", "densenet121", "vgg11",
             "mobilenet_v3_small", "regnet_y_400mf", "googlenet"],
)  # fmt: skip
def test_classifiers_of_torchvision_become_features(name: str) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    trunk = get_model(name, weights=None, **options).eval()
    if name == "googlenet":
        trunk.aux_logits = False
    width = remove_classifier(trunk, name)
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 224, 224)).shape == (1, width)
