"""Auxiliary objectives agree with loops over single examples in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images
from torch import Tensor

import core.torchvision_compat  # noqa: F401
import datasets
from core import image_ops as images
from core import models
from core.batch import Batch, Output
from core.models.bert import Bert, make_random_bert
from core.models.vit import ViT, make_random_vit
from core.objectives import reconstruction
from core.objectives.base import Representation, Step
from core.objectives.contrastive_or_causal import (
    ContrastiveOrCausal,
    compute_causal_loss,
    compute_contrastive_loss,
    nt_xent,
)
from core.objectives.reconstruction import (
    Reconstruction,
    compute_masked_image_loss,
    compute_masked_language_loss,
)
from datasets.storage.ragged_arrays import ImageBatch, TextBatch

BOTH = frozenset({"reconstruction", "projection"})
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                         "num_attention_heads": 2, "initializer_range": 0.3}  # fmt: skip


def make_bert() -> Bert:
    torch.manual_seed(0)
    trunk = make_random_bert(vocab_size=300, max_position_embeddings=64, **SMALL)
    return Bert({"y": 2}, BOTH, trunk).double().eval()


def make_vit() -> ViT:
    torch.manual_seed(0)
    model = ViT(
        {"y": 2}, BOTH, make_random_vit(image_size=8, patch_size=2, num_channels=2, **SMALL), None
    )
    assert model.decoder is not None
    torch.nn.init.normal_(model.decoder.mask_token)
    return model.double().eval()


def get_linear(part: torch.nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return the matrix and the bias of the first layer of a part."""
    assert part is not None
    weight, bias = [p for name, p in part.named_parameters() if name != "mask_token"][:2]
    return weight.flatten(1), bias


def make_texts(lengths: list[int], seed: int = 0) -> TextBatch:
    """Return texts that start with [CLS] and end with [SEP]."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths).unsqueeze(1)
    place = torch.arange(max(lengths))
    ids = torch.randint(104, 300, (len(lengths), max(lengths)), generator=generator)
    ids = torch.where(place == length - 1, 102, ids).masked_fill(place == 0, 101)
    attention = place < length
    return TextBatch(ids * attention, attention, torch.zeros_like(ids))


def compute_nll(logits: list[float], label: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label]


@pytest.mark.parametrize("seed", range(3))
def test_masked_image_loss_agrees_with_loop(seed: int) -> None:
    model, pictures = make_vit(), torch.rand(3, 2, 8, 8, dtype=torch.float64)
    torch.manual_seed(seed)
    value, hidden = compute_masked_image_loss(model, pictures)
    torch.manual_seed(seed)
    masked = images.draw_patch_masks(3, 4, 2, 0.6, torch.device("cpu"))
    assert masked.sum(dim=1).tolist() == [12] * 3  # three of four blocks of 2x2 patches
    errors = []
    for i in range(3):
        states = model.encode(pictures[i : i + 1], masked=masked[i : i + 1])
        torch.testing.assert_close(states[0], hidden[i])
        weight, bias = get_linear(model.decoder)
        for patch in masked[i].nonzero().flatten().tolist():
            top, left = 2 * (patch // 4), 2 * (patch % 4)
            decoded = (weight @ states[0, 1 + patch] + bias).view(2, 2, 2)
            for c in range(2):
                for y in range(2):
                    for x in range(2):
                        pixel = pictures[i, c, top + y, left + x]
                        errors.append(abs((decoded[c, y, x] - pixel).item()))
    assert value.item() == pytest.approx(sum(errors) / len(errors), rel=1e-10)


def test_masked_image_loss_agrees_with_transformers() -> None:
    from transformers import ViTForMaskedImageModeling

    model, pictures = make_vit(), torch.rand(3, 2, 8, 8, dtype=torch.float64)
    assert model.decoder is not None
    model.trunk.config.encoder_stride = 2
    theirs: Any = ViTForMaskedImageModeling(model.trunk.config)
    theirs = theirs.double().eval()
    theirs.vit.load_state_dict(model.trunk.state_dict(), strict=False)
    theirs.vit.embeddings.mask_token.data.copy_(model.decoder.mask_token)
    theirs.decoder.load_state_dict(model.decoder.pixels.state_dict())
    torch.manual_seed(0)
    value, _ = compute_masked_image_loss(model, pictures)
    torch.manual_seed(0)
    masked = images.draw_patch_masks(3, 4, 2, 0.6, torch.device("cpu"))
    # Transformers adds 1e-5 to the number of pixels.
    assert value.item() == pytest.approx(
        theirs(pictures, bool_masked_pos=masked).loss.item(), rel=1e-6
    )


def mask_by_hand(
    batch: TextBatch, draws: Tensor, words: int
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return the corrupted texts and the positions to predict, token by token."""
    ids, chosen = batch.ids.clone(), []
    places = [
        (i, t)
        for i in range(len(ids))
        for t in range(ids.shape[1])
        if batch.attention_mask[i, t] and int(ids[i, t]) not in (0, 100, 101, 102, 103)
    ]
    lowest = min(places, key=lambda at: float(draws[0][at]), default=None)
    for at in places:
        if draws[0][at] <= 0.15 or at == lowest:
            chosen.append(at)
            if draws[1][at] < 0.8:
                ids[at] = 103
            elif draws[1][at] >= 0.9:
                ids[at] = int(draws[2][at] * words)
    return ids, chosen


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=6), st.integers(0, 9999))
def test_masked_language_loss_agrees_with_loop(lengths: list[int], seed: int) -> None:
    model, batch = make_bert(), make_texts(lengths, seed)
    torch.manual_seed(seed)
    value, hidden = compute_masked_language_loss(model, batch)
    torch.manual_seed(seed)
    draws = torch.rand((3, *batch.ids.shape), dtype=torch.float64)
    ids, chosen = mask_by_hand(batch, draws, 300)
    states = model.encode(batch._replace(ids=ids))
    torch.testing.assert_close(hidden, states)
    losses = [
        compute_nll(model.reconstruct(states[at]).tolist(), int(batch.ids[at])) for at in chosen
    ]
    expected = sum(losses) / len(losses) if losses else 0.0
    assert value.item() == pytest.approx(expected, rel=1e-9)


def capture_ids(model: Bert, run: Callable[[], object]) -> Tensor:
    """Return the token ids that the model received."""
    seen: list[Tensor] = []
    words = model.trunk.embeddings.word_embeddings
    hook = words.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    run()
    hook.remove()
    return seen[0]


def test_shares_of_masked_tokens() -> None:
    model, batch = make_bert(), make_texts([60] * 500)
    torch.manual_seed(0)
    seen = capture_ids(model, lambda: compute_masked_language_loss(model, batch))
    ordinary = batch.attention_mask & ~torch.isin(batch.ids, torch.tensor([0, 100, 101, 102, 103]))
    assert seen[~ordinary].equal(batch.ids[~ordinary])
    n = ordinary.sum().item()
    assert (seen[ordinary] == 103).sum().item() / n == pytest.approx(0.12, abs=0.006)
    other = (seen != batch.ids) & (seen != 103)
    assert other.sum().item() / n == pytest.approx(0.015 * 299 / 300, abs=0.003)
    assert seen[other].min() < 30 < 270 < seen[other].max()


@pytest.mark.deviation("mlm")
def test_at_least_one_token_is_masked_if_there_is_one() -> None:
    model, batch = make_bert(), make_texts([3])
    for seed in range(20):
        torch.manual_seed(seed)
        assert compute_masked_language_loss(model, batch)[0] > 0
    empty = make_texts([2, 2])
    value, hidden = compute_masked_language_loss(model, empty)
    assert value.item() == 0
    (value + hidden.sum() * 0).backward()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 99))
def test_causal_loss_agrees_with_loop(lengths: list[int], seed: int) -> None:
    model, batch = make_bert(), make_texts(lengths, seed)
    value, hidden = compute_causal_loss(model, batch)
    losses = []
    for i, length in enumerate(lengths):
        for t in range(length - 1):
            start = TextBatch(*(part[i : i + 1, : t + 1] for part in batch))
            last = model.encode(start, causal=True)[0, -1]  # without the tokens after it
            torch.testing.assert_close(hidden[i, t], last)
            losses.append(compute_nll(model.reconstruct(last).tolist(), int(batch.ids[i, t + 1])))
    expected = sum(losses) / len(losses) if losses else 0.0
    assert value.item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0.1, 2.0), st.integers(0, 99))
def test_nt_xent_agrees_with_loop(b: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * b, 5, generator=generator, dtype=torch.float64)

    def cosine(i: int, j: int) -> float:
        dot = sum(float(x * y) for x, y in zip(z[i], z[j], strict=True))
        return dot / (float(z[i].norm()) * float(z[j].norm()))

    losses = []
    for i in range(2 * b):
        positive = cosine(i, (i + b) % (2 * b)) / temperature
        every = sum(math.exp(cosine(i, j) / temperature) for j in range(2 * b) if j != i)
        losses.append(math.log(every) - positive)
    expected = sum(losses) / len(losses)
    assert nt_xent(z, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_contrastive_loss_uses_the_projected_class_token() -> None:
    model, pair = make_vit(), torch.rand(6, 2, 8, 8, dtype=torch.float64)
    value, hidden = compute_contrastive_loss(model, pair)
    weight, bias = get_linear(model.projection)
    projected = torch.nn.functional.gelu(hidden[:, 0] @ weight.T + bias)
    torch.testing.assert_close(value, nt_xent(projected, 1.0))


def make_step(name: str, inputs: Any, drawn: list[int]) -> Step:
    """Return a step that draws the first examples."""
    torch.manual_seed(0)
    model = models.build_model(name, {"y": 2}, BOTH)

    def draw(count: int) -> Batch:
        drawn.append(count)
        if isinstance(inputs, ImageBatch):
            part: Any = ImageBatch(inputs.source[:count], inputs.sizes[:count])
        elif isinstance(inputs, Tensor):
            part = inputs[:count]
        else:
            part = type(inputs)(*(value[:count] for value in inputs))
        return Batch(part, {"y": torch.zeros(count).long()}, None)

    def forward() -> Output:
        raise AssertionError("auxiliary objectives have examples of their own")

    batch = Batch(inputs, {"y": torch.zeros(4).long()}, None)
    return Step(model, batch, forward, draw)


def load_photographs() -> ImageBatch:
    """Return four different crops of scikit-learn's two photographs."""
    parts = [
        torch.from_numpy(image[:400, start : start + 300].copy()).permute(2, 0, 1)
        for image in load_sample_images().images
        for start in (0, 340)
    ]
    return ImageBatch(torch.stack(parts), torch.tensor([[400, 300]] * 4))


CASES = [
    (
        "digits_vit",
        datasets.load_benchmark("colored_digits").splits["train"].inputs[torch.arange(4)],
    ),
    ("tiny_vit", load_photographs()),
    ("tiny_bert", make_texts([4, 5, 6, 7])),
]


@pytest.mark.parametrize("kind", [Reconstruction, ContrastiveOrCausal])
@pytest.mark.parametrize(("name", "inputs"), CASES, ids=[name for name, _ in CASES])
@pytest.mark.parametrize("batch_size", [None, 0, 2])
def test_step_of_each_objective(
    kind: type[Reconstruction | ContrastiveOrCausal], name: str, inputs: Any, batch_size: int | None
) -> None:
    drawn: list[int] = []
    step = make_step(name, inputs, drawn)
    objective = kind(batch_size)
    losses = objective.compute_losses(step)
    count = batch_size or 4
    assert drawn == [count]
    assert len(objective.name_losses(datasets.load_benchmark("colored_digits"))) == 1
    assert isinstance(losses.values, Tensor)
    assert losses.values.shape == (1,)
    assert losses.counts.tolist() == [count]
    (recorded,) = step.hidden
    hidden = recorded.states if isinstance(recorded, Representation) else recorded
    views_each = 2 if kind is ContrastiveOrCausal and name != "tiny_bert" else 1
    assert len(hidden) == views_each * count
    losses.values.sum().backward()
    needed = {"reconstruction"} if kind is Reconstruction or name == "tiny_bert" else {"projection"}
    for head, module in step.model.get_task_heads().items():
        used = [p.grad is not None for p in module.parameters()]
        assert all(used) if head in needed else not any(used)


@pytest.mark.medium
@pytest.mark.parametrize("kind", [Reconstruction, ContrastiveOrCausal])
@pytest.mark.parametrize(("name", "inputs"), CASES, ids=[name for name, _ in CASES])
def test_initial_losses_match_chance_and_decrease(
    kind: type[Reconstruction | ContrastiveOrCausal], name: str, inputs: Any
) -> None:
    step = make_step(name, inputs, [])
    optimizer = torch.optim.Adam(step.model.parameters(), lr=1e-3)
    found = []
    for _ in range(50):
        values = kind().compute_losses(step).values
        assert isinstance(values, Tensor)
        optimizer.zero_grad()
        values.sum().backward()
        optimizer.step()
        found.append(values.item())
    if name == "tiny_bert":
        assert found[0] == pytest.approx(math.log(30522), abs=0.5)
    elif kind is ContrastiveOrCausal:
        assert found[0] == pytest.approx(math.log(7), abs=0.5)
    assert sum(found[-10:]) < 0.97 * sum(found[:10])


@pytest.mark.parametrize("kind", [Reconstruction, ContrastiveOrCausal])
@pytest.mark.parametrize(("name", "inputs"), CASES, ids=[name for name, _ in CASES])
def test_half_precision_agrees_with_single(
    kind: type[Reconstruction | ContrastiveOrCausal], name: str, inputs: Any
) -> None:
    values = []
    for half in (False, True):
        step = make_step(name, inputs, [])
        step.model.eval()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            values.append(kind().compute_losses(step).values)
    assert values[1].dtype == torch.float32  # type: ignore[union-attr]
    torch.testing.assert_close(values[0], values[1], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", [Reconstruction, ContrastiveOrCausal])
def test_negative_batch_size_is_refused(
    kind: type[Reconstruction | ContrastiveOrCausal],
) -> None:
    with pytest.raises(ValueError, match="batch_size -1"):
        kind(-1).name_losses(datasets.load_benchmark("colored_digits"))


def test_bound_on_masked_tokens_is_never_reached() -> None:
    torch.manual_seed(0)
    for n in (4, 50, 7000):
        bound = math.ceil(
            reconstruction.PREDICTED_SHARE * n
            + 6 * math.sqrt(n * reconstruction.PREDICTED_SHARE * 0.85)
        )
        drawn = (torch.rand(2000, n) <= reconstruction.PREDICTED_SHARE).sum(dim=1)
        assert drawn.max() <= bound
