"""The interface of objectives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from core.batch import Batch, Output
from core.models.base import Model
from datasets.benchmark import Benchmark, Split
from datasets.storage.ragged_arrays import TextBatch


class Representation(NamedTuple):
    """The last hidden states of a forward pass.

    Args:
        states: Per example, or per token or patch: ``(b, width)`` or ``(b, n, width)``.
        tokens: For texts: which states are those of tokens, not of padding, ``(b, n)`` bool.
        share: The share of this pass among those of its objective.
    """

    states: Tensor
    tokens: Tensor | None = None
    share: float = 1.0


class Losses(NamedTuple):
    """The losses of one step.

    Args:
        values: One entry per loss, ``(k,)``, or a list of scalars, which is faster if the weighting
            needs each loss's gradient; 0 for a loss without examples in the batch.
        counts: The number of examples that each loss averages, ``(k,)``.
    """

    values: Tensor | list[Tensor]
    counts: Tensor


class DrawnExamples(NamedTuple):
    """Examples of an auxiliary objective, with all that is drawn for them.

    Args:
        batch: The examples, as the model takes them.
        random: Random numbers or masks; None where the objective draws none ahead.
    """

    batch: Batch
    random: Tensor | None = None


@dataclass
class Step:
    """One training step, as objectives see it.

    Args:
        model: The model.
        batch: The batch of the end task.
        forward: Computes the model's output for the batch.
        draw_batch: Draws the next batch of a number of training examples, without augmentation,
            for objectives with examples of their own.
        hidden: The representations of this step's forward passes so far.
        cached_output: The output, once it has been computed.
        token_share: The mean length of a training text as a share of that to which the published
            code pads it, for objectives that average over tokens; 1 for other inputs.
        is_padded: Whether texts are padded as in the published code, so that padding counts.
        drawn: Examples that were drawn before the step, by the name of the auxiliary loss; others
            are drawn when they are needed.
    """

    model: Model
    batch: Batch
    forward: Callable[[], Output]
    draw_batch: Callable[[int], Batch]
    hidden: list[Tensor | Representation] = field(default_factory=list)
    cached_output: Output | None = None
    token_share: float = 1.0
    is_padded: bool = False
    drawn: Mapping[str, Sequence[DrawnExamples]] = field(default_factory=dict)

    @property
    def output(self) -> Output:
        """The model's output for the batch of the end task."""
        if self.cached_output is None:
            self.cached_output = self.forward()
            self.record_hidden(self.cached_output.representation, self.batch.inputs)
        return self.cached_output

    def record_hidden(self, states: Tensor, inputs: Any, share: float = 1.0) -> None:
        """Record the last hidden states of a forward pass.

        Args:
            states: The states.
            inputs: The inputs of the pass.
            share: The share of this pass among those of its objective.
        """
        tokens = inputs.attention_mask if isinstance(inputs, TextBatch) else None
        self.hidden.append(Representation(states, tokens, share))


class Objective(ABC):
    """One or several losses of a step."""

    # Requirements of benchmark and model, such as "train_groups".
    needs: ClassVar[frozenset[str]] = frozenset()
    # Whether it needs no labels, so that a model can be pretrained on it.
    is_auxiliary: ClassVar[bool] = False
    # Whether it is computed after the others, from their representations.
    is_computed_last: ClassVar[bool] = False
    # Whether the mean over parts of a batch is the batch's value.
    is_example_mean: ClassVar[bool] = False
    # Parts of the model that it needs: "reconstruction", "projection".
    model_parts: ClassVar[frozenset[str]] = frozenset()
    # Whether several of its losses belong to one task head.
    shares_head: ClassVar[bool] = False
    # Whether it runs the same operations for all batches of one shape, without data from the host
    # but its drawn examples, so that a CUDA graph can repeat them.
    has_fixed_kernels: ClassVar[bool] = False
    # Pattern of its losses' names, by which recipes are checked before a data set is known.
    loss_names: ClassVar[str] = ".*"

    @abstractmethod
    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return the names of the losses on a benchmark.

        Called before the first step; the names are the same in every step.
        """

    def describe_draws(self, modality: str, size: int | None) -> dict[str, object]:
        """Return what is drawn of further examples, and between which ends; nothing by default.

        Args:
            modality: ``images`` or ``text``.
            size: Height and width of images; None where they are unknown.
        """
        return {}

    @property
    def is_always_present(self) -> bool:
        """Whether each batch has examples of all its losses."""
        return type(self).find_present is Objective.find_present

    def find_present(self, train: Split, rows: Tensor) -> Tensor | None:
        """Return a mask of the losses that have examples, ``(k,)`` bool on the host; None for all.

        Args:
            train: The training split.
            rows: The examples of the step, ``(b,)`` int64 on the host.
        """
        return None

    @abstractmethod
    def compute_losses(self, step: Step) -> Losses:
        """Compute the losses of a step, in the order of :meth:`name_losses`."""
