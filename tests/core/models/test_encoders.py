"""Encoders agree with transformers' classes, and causal states ignore later tokens."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import core.torchvision_compat  # noqa: F401
from common.errors import UserError
from core import models
from core.models.base import Encoder, ImageSpec
from core.models.bert import Bert, make_random_bert
from core.models.resnet50 import ResNet50
from core.models.vit import ViT, make_random_vit
from datasets.storage.ragged_arrays import TextBatch

BOTH = frozenset({"reconstruction", "projection"})
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip


def make_bert(parts: frozenset[str] = frozenset()) -> Bert:
    """Return a small BERT in float64 without dropout and with large weights."""
    torch.manual_seed(0)
    trunk = make_random_bert(
        vocab_size=300, max_position_embeddings=16, initializer_range=0.3, **SMALL
    )
    return Bert({"y": 3}, parts, trunk).double().eval()


def make_vit(parts: frozenset[str] = frozenset(), image: ImageSpec | None = None) -> ViT:
    """Return a small ViT for images of 8 pixels in float64."""
    torch.manual_seed(0)
    trunk = make_random_vit(
        image_size=8, patch_size=2, num_channels=3, initializer_range=0.3, **SMALL
    )
    return ViT({"y": 3}, parts, trunk, image).double().eval()


def make_texts(lengths: list[int], seed: int = 0) -> TextBatch:
    generator = torch.Generator().manual_seed(seed)
    attention = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(104, 300, attention.shape, generator=generator) * attention
    segments = (torch.arange(max(lengths)) >= 2) & attention
    return TextBatch(ids, attention, segments.long())


def change_after(batch: TextBatch, place: int) -> TextBatch:
    ids = batch.ids.clone()
    ids[:, place] = 104 + (ids[:, place] + 7) % 190
    return batch._replace(ids=ids)


@pytest.mark.medium
@pytest.mark.deviation("causal")
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_causal_states_do_not_depend_on_later_tokens(lengths: list[int], seed: int) -> None:
    model, batch = make_bert(), make_texts(lengths, seed)
    causal, free = model.encode(batch, causal=True), model.encode(batch)
    for place in range(1, max(lengths)):
        other = change_after(batch, place)
        after = model.encode(other, causal=True)
        torch.testing.assert_close(after[:, :place], causal[:, :place], atol=1e-12, rtol=0)
        long = [i for i, length in enumerate(lengths) if length > place]
        assert ((after - causal)[long, place].abs().amax(dim=-1) > 1e-6).all()
        seen = (model.encode(other) - free)[long, :place].abs().amax(dim=-1)
        assert (seen > 1e-9).all()  # without causal masking every earlier state changes


@pytest.mark.medium
@pytest.mark.deviation("padding")
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.booleans())
def test_padding_changes_nothing(lengths: list[int], causal: bool) -> None:
    model, batch = make_bert(), make_texts(lengths)
    together = model.encode(batch, causal=causal)
    logits = model(batch).outputs
    for i, length in enumerate(lengths):
        alone = TextBatch(*(part[i : i + 1, :length] for part in batch))
        torch.testing.assert_close(model.encode(alone, causal=causal)[0], together[i, :length])
        torch.testing.assert_close(model(alone).outputs[0], logits[i])


def test_bert_agrees_with_transformers() -> None:
    from transformers import BertForSequenceClassification

    model, batch = make_bert(), make_texts([5, 9, 1])
    theirs: Any = BertForSequenceClassification(model.trunk.config)
    theirs = theirs.double().eval()
    theirs.classifier = torch.nn.Linear(16, 3).double()
    state = {f"bert.{name}": value for name, value in model.trunk.state_dict().items()}
    state |= {f"bert.pooler.{n}": v for n, v in model.classifier[0].state_dict().items()}
    state |= {f"classifier.{n}": v for n, v in model.get_last_layer().state_dict().items()}
    theirs.load_state_dict(state)
    expected = theirs(batch.ids, batch.attention_mask.long(), batch.segments).logits
    torch.testing.assert_close(model(batch).outputs, expected)


def test_causal_bert_agrees_with_transformers_decoder() -> None:
    from transformers import BertConfig, BertLMHeadModel

    model, batch = make_bert(BOTH), make_texts([5, 9, 1])
    config = BertConfig(**{**model.trunk.config.to_dict(), "is_decoder": True})
    theirs: Any = BertLMHeadModel(config)
    theirs = theirs.double().eval()
    theirs.bert.load_state_dict(model.trunk.state_dict())
    assert model.token_head is not None
    theirs.cls.predictions.transform.load_state_dict(model.token_head.transform.state_dict())
    torch.nn.init.normal_(model.token_head.bias)
    theirs.cls.predictions.bias.data.copy_(model.token_head.bias)
    expected = theirs(
        batch.ids, batch.attention_mask.long(), batch.segments, use_cache=False
    ).logits
    found = model.reconstruct(model.encode(batch, causal=True))
    torch.testing.assert_close(found[batch.attention_mask], expected[batch.attention_mask])


def test_too_long_texts_are_refused() -> None:
    with pytest.raises(UserError, match=r"has 17 tokens, .* most 16; .*text_length: 16"):
        make_bert().encode(make_texts([17]))


@pytest.mark.parametrize("size", [8, 12, 6])
def test_vit_agrees_with_transformers_interpolation(size: int) -> None:
    image = ImageSpec(size, (0.5,) * 3, (0.5,) * 3)
    model = make_vit(image=image)
    inputs = torch.randn(2, 3, size, size, dtype=torch.float64)
    expected = model.trunk(inputs, interpolate_pos_encoding=True).last_hidden_state
    output = model(inputs)
    torch.testing.assert_close(output.representation, expected, atol=1e-6, rtol=1e-6)
    logits = expected[:, 0] @ model.get_last_layer().weight.T
    torch.testing.assert_close(output.outputs, logits, atol=1e-6, rtol=1e-6)


def test_masked_patches_agree_with_transformers() -> None:
    from transformers import ViTForMaskedImageModeling

    model = make_vit(BOTH)
    assert model.decoder is not None
    torch.nn.init.normal_(model.decoder.mask_token)
    model.trunk.config.encoder_stride = 2
    theirs: Any = ViTForMaskedImageModeling(model.trunk.config)
    theirs = theirs.double().eval()
    state = {f"vit.{name}": value for name, value in model.trunk.state_dict().items()}
    state["vit.embeddings.mask_token"] = model.decoder.mask_token.view(1, 1, -1)
    state |= {f"decoder.{n}": v for n, v in model.decoder.pixels.state_dict().items()}
    theirs.load_state_dict(state)
    inputs = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    masked = torch.rand(2, 16) < 0.5
    expected = theirs(inputs, bool_masked_pos=masked).reconstruction
    found = model.reconstruct(model.encode(inputs, masked=masked))
    torch.testing.assert_close(found, expected)
    where = masked.view(2, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = inputs + where  # changes masked pixels only
    torch.testing.assert_close(model.encode(other, masked=masked), model.encode(inputs, masked))
    assert not model.encode(other).allclose(model.encode(inputs))


def make_inputs(model: Encoder) -> Tensor | TextBatch:
    if model.modality == "text":
        return make_texts([4, 6])
    return torch.rand(2, 3, 32, 32) if model.image else torch.rand(2, 2, 8, 8)


@pytest.mark.parametrize("name", models.list_encoders())
def test_only_requested_parts_are_built(name: str) -> None:
    plain = models.build_model(name, {"y": 2})
    assert set(plain.get_task_heads()) == {"y"}
    plain(make_inputs(plain)).outputs.sum().backward()  # type: ignore[arg-type]
    assert all(p.grad is not None for p in plain.parameters())
    full = models.build_model(name, {"y": 2}, BOTH)
    assert isinstance(full, Encoder)
    inputs = make_inputs(full)
    masked = torch.rand(2, 64 if full.image else 16) < 0.5
    hidden = full.encode(inputs, masked=masked)
    total = full.reconstruct(hidden).sum() + full(inputs).outputs.sum()
    if full.modality == "images":
        total = total + full.project(hidden[:, 0]).sum()
    total.backward()
    assert all(p.grad is not None for p in full.parameters())
    owned = {id(p) for head in full.get_task_heads().values() for p in head.parameters()}
    shared = {name for name, p in full.named_parameters() if id(p) not in owned}
    assert shared == {n for n, _ in plain.named_parameters() if n.startswith("trunk.")}


@pytest.mark.parametrize("name", models.list_encoders())
def test_missing_parts_raise(name: str) -> None:
    model = models.build_model(name, {"y": 2})
    assert isinstance(model, Encoder)
    hidden = torch.zeros(1, 17, 32)
    with pytest.raises(ValueError, match="without the part 'reconstruction'"):
        model.reconstruct(hidden)
    with pytest.raises(ValueError, match="projection"):
        model.project(hidden[:, 0])


@pytest.mark.parametrize("name", models.list_encoders())
def test_checkpointing_saves_memory_with_equal_gradients(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        model = models.build_model(name, {"y": 2}, checkpointing=checkpointing).train()
        kept: list[Tensor] = []

        def keep(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = model(make_inputs(model)).outputs  # type: ignore[arg-type]
        torch.manual_seed(2)
        outputs.square().sum().backward()
        gradients.append(([p.grad for p in model.parameters()], sum(t.numel() for t in kept)))
    assert gradients[1][1] < 0.7 * gradients[0][1]
    for plain, again in zip(gradients[0][0], gradients[1][0], strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("name", models.list_encoders())
def test_half_precision_stays_finite(name: str) -> None:
    model = models.build_model(name, {"y": 2}, BOTH)
    assert isinstance(model, Encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.encode(make_inputs(model))
        assert model.reconstruct(hidden).isfinite().all()
        assert model(make_inputs(model)).outputs.isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("name", ["tiny_vit"])
def test_compiled_models_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    plain = models.build_model(name, {"y": 2}).eval()
    compiled = models.build_model(name, {"y": 2}, compiled=True).eval()
    compiled.load_state_dict(plain.state_dict())
    inputs = make_inputs(plain)  # type: ignore[arg-type]
    expected = plain(inputs).outputs
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(compiled(inputs).outputs, expected, atol=1e-5, rtol=1e-4)


def test_seed_determines_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        parameters = models.build_model("digits_vit", {"y": 2}, BOTH).parameters()
        return torch.cat([p.flatten() for p in parameters])

    assert weights(0).equal(weights(0))
    assert not weights(0).equal(weights(1))


def test_resnet_agrees_with_torchvision() -> None:
    model = ResNet50({"y": 3}, pretrained=False).eval()
    inputs = torch.rand(1, 3, 64, 64)
    output = model(inputs)
    assert output.representation.shape == (1, 2048)
    torch.testing.assert_close(output.outputs, model.get_last_layer()(output.representation))
    assert model.image == ImageSpec(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "digits_vt"}, r"received 'digits_vt', expected .*did you mean 'digits_vit'"),
        ({"name": "digits_cnn", "parts": BOTH}, "received 'digits_cnn', expected one with hidden"),
        ({"name": "digits_cnn", "checkpointing": True}, "checkpointing: received true"),
        ({"name": "digits_vit", "outputs": {"a": 1, "b": 2}}, "tasks a, b"),
    ],
)
def test_unsupported_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build_model(**{"outputs": {"y": 2}, **options})  # type: ignore[arg-type]
