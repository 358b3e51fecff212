"""What every objective is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torch import Tensor

from core.batch import Batch, Output
from core.models.base import Model
from datasets.benchmark import Benchmark, Split


class Losses(NamedTuple):
    """The losses of one step.

    Args:
        values: One entry per loss, ``(k,)``, or scalars, which is best where a weighting needs
            gradients one by one; 0 where a loss has no example in the batch.
        counts: How many examples each averages, ``(k,)``; 0 where there is none.
    """

    values: Tensor | list[Tensor]
    counts: Tensor


@dataclass
class Step:
    """What objectives see of one step.

    Args:
        model: The model.
        batch: The batch of the end task.
        forward: Computes the model's output for it.
        draw: Draws the next batch of so many training examples, for objectives with examples of
            their own, as the benchmark gives them (images not yet cropped).
        hidden: The representations of this step's forward passes so far.
        computed: The output, once it was asked for.
    """

    model: Model
    batch: Batch
    forward: Callable[[], Output]
    draw: Callable[[int], Batch]
    hidden: list[Tensor] = field(default_factory=list)
    computed: Output | None = None

    @property
    def output(self) -> Output:
        """The model's output for the batch of the end task."""
        if self.computed is None:
            self.computed = self.forward()
            self.hidden.append(self.computed.representation)
        return self.computed


class Objective(ABC):
    """One or several losses of a step."""

    needs: ClassVar[frozenset[str]] = frozenset()  # of benchmark and model, such as "train_groups"
    auxiliary: ClassVar[bool] = False  # whether it needs no labels, and can be pretrained on
    last: ClassVar[bool] = False  # whether it looks at what the others computed
    splits: ClassVar[bool] = False  # whether the mean over parts of a batch is the batch's value
    parts: ClassVar[frozenset[str]] = frozenset()  # of the model: "reconstruction", "projection"
    shares_head: ClassVar[bool] = False  # whether several of its losses are of one task head

    @abstractmethod
    def names(self, benchmark: Benchmark) -> list[str]:
        """Return the names of the losses, which are the same in every step."""

    def present(self, train: Split, rows: Tensor) -> Tensor | None:
        """Return which losses have examples, ``(k,)`` bool on the host; None if all have.

        Args:
            train: The training split.
            rows: The examples of the step, ``(b,)`` int64 on the host.
        """
        return None

    @abstractmethod
    def losses(self, step: Step) -> Losses:
        """Return the losses of a step, in the order of :meth:`list_benchmarks`."""
