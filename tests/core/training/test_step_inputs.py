"""Inputs that are drawn before a step against those that are drawn within it."""

from typing import Any

import pytest
import torch

from benchmarks.gpu.small_runs import make_run
from core.batch import Batch
from core.objectives.base import Step
from core.objectives.end_task import EndTask
from core.objectives.l1 import L1
from core.objectives.reconstruction import Reconstruction
from core.training.context import EpochPosition
from core.training.step_inputs import LENGTH_MULTIPLE, TrainingInputs, draw_ahead
from tests.core.objectives.test_auxiliary import make_bert, make_texts


def make_batch(inputs: Any) -> Batch:
    size = len(inputs[0]) if isinstance(inputs, tuple) else 4
    return Batch(inputs, {"y": torch.zeros(size, dtype=torch.int64)}, None)


def compute_losses(model: Any, inputs: TrainingInputs, other: Batch) -> torch.Tensor:
    """Return the losses of the end task, the auxiliary objective and the norm."""
    batch = inputs.batch
    step = Step(model, batch, lambda: model(batch.inputs), lambda _: other, drawn=inputs.drawn)
    objectives = (EndTask(), Reconstruction(batches=2), L1())
    return torch.stack([_sum(objective.compute_losses(step).values) for objective in objectives])


def _sum(values: Any) -> torch.Tensor:
    return torch.as_tensor(values).sum()


@pytest.mark.parametrize("longest", [0, 20, 999])
def test_texts_drawn_ahead_and_padded_have_the_same_losses(longest: int) -> None:
    model = make_bert()
    batch, other = make_batch(make_texts([3, 17])), make_batch(make_texts([9, 5], seed=1))
    torch.manual_seed(0)
    expected = compute_losses(model, TrainingInputs(batch, {}), other)
    torch.manual_seed(0)
    inputs = draw_ahead(
        [EndTask(), Reconstruction(batches=2)], model, batch, lambda _: other, longest
    )
    before = torch.get_rng_state()
    found = compute_losses(model, inputs, other)
    assert torch.equal(before, torch.get_rng_state())  # a graph could not draw
    torch.testing.assert_close(found, expected)
    lengths = {0: (17, 9), 20: (20, 16), 999: (2 * LENGTH_MULTIPLE, LENGTH_MULTIPLE)}[longest]
    (first, second) = inputs.drawn["reconstruction"]
    assert inputs.batch.inputs.ids.shape[1] == lengths[0]
    for examples in (first, second):
        assert examples.random is not None
        assert examples.batch.inputs.ids.shape[1] == examples.random.shape[2] == lengths[1]


def test_without_auxiliary_objectives_no_text_is_padded() -> None:
    batch = make_batch(make_texts([3, 17]))
    inputs = draw_ahead([EndTask(), L1()], make_bert(), batch, lambda _: batch, 999)
    assert inputs.batch is batch
    assert not inputs.drawn


class ExhaustedGraphs:
    """Graphs whose memory, until it is freed, leaves too little for the first steps."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def compute_gradients(self, inputs: Any, compute: Any) -> Any:
        if self.failures:
            raise torch.OutOfMemoryError
        return compute(inputs)

    def free(self) -> bool:
        self.failures -= 1
        return True


def test_steps_repeated_after_graphs_are_freed_keep_their_drawn_examples() -> None:
    found = []
    for failures in (0, 2):
        run = make_run("erm_mt_l1", "colored_digits", "cpu", epochs=1)
        trainer, parts = run.prepare_epoch(EpochPosition(0, 0))
        graphs = ExhaustedGraphs(failures)
        trainer._graphs = graphs  # type: ignore[assignment]
        run.model.train()
        for rows, batch in run.context.loader.load_batches("train", parts[:2]):
            trainer.take_step(rows, batch)
        assert graphs.failures == 0
        found.append((trainer.mean_losses(), torch.get_rng_state().tolist()))
    assert found[0] == found[1]
