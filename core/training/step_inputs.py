"""The inputs of a step that a CUDA graph reads."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from core.batch import Batch
from core.models.base import Model
from core.objectives.auxiliary import Auxiliary
from core.objectives.base import DrawnExamples, Objective
from datasets.storage.padding import lengthen_texts
from datasets.storage.ragged_arrays import TextBatch

# With two batches of texts a step, each is padded to a multiple of this many positions, so that
# few pairs of lengths need a graph.
LENGTH_MULTIPLE = 16


class TrainingInputs(NamedTuple):
    """A batch, and the examples of auxiliary objectives that were drawn before the step.

    Args:
        batch: The batch of the end task.
        drawn: The examples by the name of the auxiliary loss.
    """

    batch: Batch
    drawn: Mapping[str, Sequence[DrawnExamples]]


def lengthen_batch(batch: Batch, length: int) -> Batch:
    """Return a batch whose texts have at least ``length`` positions; others as they are."""
    if not isinstance(batch.inputs, TextBatch):
        return batch
    longer = TextBatch(*(lengthen_texts(values, length) for values in batch.inputs))
    return batch._replace(inputs=longer)


def draw_ahead(
    objectives: Sequence[Objective],
    model: Model,
    batch: Batch,
    draw_batch: Callable[[int], Batch],
    longest: int,
) -> TrainingInputs:
    """Draw the examples of auxiliary objectives before the step, in the step's order.

    Args:
        objectives: The objectives, in the order in which they are computed.
        model: The model.
        batch: The batch of the end task.
        draw_batch: Draws the next batch of a number of training examples.
        longest: The length of the longest text, beyond which none is padded; 0 to pad none.
    """
    drawn = {
        objective.name: list(objective.draw_examples(model, draw_batch, batch.size))
        for objective in objectives
        if isinstance(objective, Auxiliary)
    }
    if not drawn:
        return TrainingInputs(batch, drawn)
    rounded = {
        name: [_round_length(examples, longest) for examples in found]
        for name, found in drawn.items()
    }
    return TrainingInputs(_round_length(DrawnExamples(batch), longest).batch, rounded)


def _round_length(examples: DrawnExamples, longest: int) -> DrawnExamples:
    """Pad texts, and the numbers of their tokens, to a multiple of :data:`LENGTH_MULTIPLE`."""
    batch, random = examples
    if not isinstance(batch.inputs, TextBatch):
        return examples
    length = -(-batch.inputs.ids.shape[1] // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    length = min(length, longest)
    longer = None if random is None else lengthen_texts(random, length)
    return DrawnExamples(lengthen_batch(batch, length), longer)
