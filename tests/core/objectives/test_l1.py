"""The L1 penalty of texts: the same in any company, and the published one where it is asked for."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import datasets
from common.hyperparameters import Hyperparameters
from core.batch import Batch, Output
from core.environment import detect_environment
from core.models.bert import Bert
from core.objectives.base import Representation, Step
from core.objectives.end_task import EndTask
from core.objectives.l1 import L1
from core.objectives.reconstruction import Reconstruction
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from datasets.storage.padding import lengthen_texts
from datasets.storage.ragged_arrays import TextBatch
from datasets.storage.texts import tokenize_texts
from tests.core.objectives.test_auxiliary import make_bert, make_texts
from tests.support import real_data
from tests.test_every_dataset import civilcomments

LENGTHS = [3, 17, 40]


def select(texts: TextBatch, row: int) -> TextBatch:
    """Return one text alone, without padding."""
    length = int(texts.attention_mask[row].sum())
    return TextBatch(*(values[row : row + 1, :length] for values in texts))


def make_step(model: Bert, texts: TextBatch, **fields: Any) -> Step:
    """Return a step with a forward pass of the end task."""
    batch = Batch(texts, {"y": torch.zeros(len(texts.ids), dtype=torch.int64)}, None)
    step = Step(model, batch, lambda: model(batch.inputs), lambda count: batch, **fields)
    EndTask().compute_losses(step)
    return step


def compute_l1(step: Step) -> Tensor:
    values = L1().compute_losses(step).values
    assert isinstance(values, Tensor)
    return values


def test_a_text_has_the_same_penalty_in_any_company() -> None:
    model, texts = make_bert(), make_texts(LENGTHS)
    alone = [compute_l1(make_step(model, select(texts, row))) for row in range(3)]
    for members in ([0, 1], [0, 2], [0, 1, 2]):
        together = TextBatch(*(values[members] for values in texts))
        mean = torch.stack([alone[row] for row in members]).mean()
        assert compute_l1(make_step(model, together)).item() == pytest.approx(mean.item())


def test_the_mean_is_over_real_tokens_and_scaled() -> None:
    model, texts = make_bert(), make_texts(LENGTHS)
    hidden = model.encode(texts).detach()
    of_texts = [hidden[row, :length].abs().mean() for row, length in enumerate(LENGTHS)]
    expected = 0.25 * torch.stack(of_texts).mean().item()
    step = make_step(model, texts, token_share=0.25)
    assert compute_l1(step).item() == pytest.approx(expected)


@pytest.mark.deviation("l1-tokens")
def test_padded_batches_have_the_published_penalty() -> None:
    """The norm of all positions, padding included, by their number: System 1's formula."""
    model, texts = make_bert(), make_texts(LENGTHS)
    padded = TextBatch(*(lengthen_texts(values, 64) for values in texts))
    step = make_step(model, padded, token_share=0.25, is_padded=True)
    hidden = model.encode(padded)
    assert hidden.shape[1] == 64
    expected = torch.linalg.vector_norm(hidden, 1) / hidden.numel()
    assert compute_l1(step).item() == pytest.approx(expected.item())
    (recorded,) = step.hidden
    assert isinstance(recorded, Representation)
    torch.testing.assert_close(model.encode(texts), hidden[:, : max(LENGTHS)])


@pytest.mark.parametrize("batches", [1, 3])
def test_auxiliary_batches_are_averaged(batches: int) -> None:
    """As with ``mt_grad_acc``: the mean of the losses, and of their penalties."""
    model, texts = make_bert(), make_texts(LENGTHS)
    drawn: list[TextBatch] = []

    def draw(count: int) -> Batch:
        drawn.append(make_texts(LENGTHS[:count], seed=len(drawn)))
        return Batch(drawn[-1], {"y": torch.zeros(count, dtype=torch.int64)}, None)

    step = make_step(model, texts)
    step.draw_batch = draw
    objective = Reconstruction(batch_size=2, batches=batches)
    torch.manual_seed(0)
    found = objective.compute_losses(step)
    torch.manual_seed(0)
    alone = [objective.compute_loss(model, Batch(t, {}, None)) for t in drawn]
    assert isinstance(found.values, Tensor)
    assert len(drawn) == batches
    assert found.counts.tolist() == [2 * batches]
    assert found.values.item() == pytest.approx(sum(v.item() for v, _ in alone) / batches)
    first = compute_l1(make_step(model, texts)).item()
    means = [
        (hidden.abs().mean(2) * t.attention_mask).sum(1) / t.attention_mask.sum(1)
        for (_, hidden), t in zip(alone, drawn, strict=True)
    ]
    expected = first + sum(mean.mean().item() for mean in means) / batches
    assert compute_l1(step).item() == pytest.approx(expected)


@pytest.mark.medium
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "read", "positions", "share"),
    [
        (
            "civilcomments",
            lambda: (real_data.comments()["comment_text"].tolist(), None),
            220,
            0.228,
        ),
        ("multinli", lambda: real_pairs(), 128, 0.312),
    ],
)
def test_the_scale_keeps_the_pressure_on_the_mean_token(
    dataset: str, read: Callable[[], Any], positions: int, share: float
) -> None:
    """The scale, on real texts: the mean length by the padded length.

    A token of a text with n tokens weighs scale / n in ours, 1 / positions in the published mean;
    averaged over all tokens these are equal.
    """
    vocabulary = real_data.piece("bert_vocab", "vocab.txt")
    assert getattr(type(datasets.load_benchmark(dataset)), "max_tokens") == positions  # noqa: B009
    first, second = read()
    lengths = tokenize_texts(vocabulary, first, second, positions, "").lengths
    assert lengths.mean() / positions == pytest.approx(share, abs=5e-4)
    weights = share / lengths
    assert (weights * lengths).sum() / lengths.sum() == pytest.approx(1 / positions, rel=2e-3)


def real_pairs() -> tuple[list[str], list[str]]:
    """Return both sentences of the real training pairs."""
    table = pd.read_csv(real_data.piece("multinli", "train.tsv.gz"), sep="\t", quoting=3)
    table = table.fillna("")
    return table["sentence1"].tolist(), table["sentence2"].tolist()


@pytest.mark.medium
@pytest.mark.real_data
def test_a_run_pads_and_scales_as_its_config_says(tmp_path: Any) -> None:
    civilcomments(tmp_path)
    benchmark = datasets.load_benchmark("civilcomments", tmp_path)
    lengths = benchmark.splits["train"].inputs.lengths  # type: ignore[attr-defined]
    assert benchmark.token_share == pytest.approx(float(lengths.double().mean()) / 220)
    resolved = resolve_method(load_method("erm_mt_l1"), benchmark)
    seen: dict[int, set[int]] = {}
    for pad_to in (0, 220):
        values: Hyperparameters = {
            "epochs": 1,
            "model": "tiny_bert",
            "batch_size": 8,
            "pad_to": pad_to,
        }
        key = resolved.make_key(values, 0, detect_environment(gpu=False))
        run = Run(key, benchmark)
        widths = seen.setdefault(pad_to, set())
        encode = run.model.encode

        def record(
            inputs: TextBatch, *args: Any, _e: Any = encode, _w: Any = widths, **more: Any
        ) -> Any:
            _w.add(inputs.ids.shape[1])
            return _e(inputs, *args, **more)

        run.model.encode = record  # type: ignore[assignment]
        run._take_steps(run.context.locate_epoch(0))
    assert seen[220] == {220}
    assert max(seen[0]) <= int(lengths.max())
    assert len(seen[0]) > 1


def test_plain_tensors_are_representations_too() -> None:
    output = Output(torch.zeros(2, 2), torch.full((2, 3), -2.0))
    step = Step(make_bert(), Batch(torch.zeros(2), {"y": torch.zeros(2)}, None), lambda: output,
                lambda count: Batch(torch.zeros(2), {"y": torch.zeros(2)}, None))  # fmt: skip
    step.hidden.append(torch.ones(4, 5))
    assert compute_l1(step).item() == 1
