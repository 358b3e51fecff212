"""What every objective is."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from core.batch import Batch, Output
from datasets.benchmark import Benchmark


class Losses(NamedTuple):
    """The losses of one step.

    Args:
        values: One entry per loss, ``(k,)``; 0 where a loss has no example in the batch.
        counts: How many examples each averages, ``(k,)``; 0 where there is none.
    """

    values: Tensor
    counts: Tensor


class Objective(ABC):
    """One or several losses of a batch."""

    needs: ClassVar[frozenset[str]] = frozenset()  # of the benchmark, such as "train_groups"

    @abstractmethod
    def names(self, benchmark: Benchmark) -> list[str]:
        """Return the names of the losses, which are the same in every step."""

    @abstractmethod
    def losses(self, batch: Batch, output: Output) -> Losses:
        """Return the losses of a batch, in the order of :meth:`names`."""
