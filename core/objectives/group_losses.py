"""The task, group by group."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cross_entropy, one_hot

from core.batch import Batch, Output
from core.objectives.base import Losses, Objective
from datasets.benchmark import Benchmark, GroupBenchmark


@dataclass
class GroupLosses(Objective):
    """Mean cross-entropy of each group's examples: one loss per group of the benchmark."""

    needs: ClassVar[frozenset[str]] = frozenset({"train_groups"})

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["group_0", ...]``.

        Raises:
            TypeError: If the benchmark has no groups.
        """
        if not isinstance(benchmark, GroupBenchmark):
            raise TypeError(f"{benchmark.name} has no groups")
        self._groups = len(benchmark.groups)
        return [f"group_{group}" for group in range(self._groups)]

    def losses(self, batch: Batch, output: Output) -> Losses:
        """Return the groups' mean cross-entropies, ``(groups,)``; 0 for an absent group."""
        assert batch.group is not None  # methods that use this objective need train_groups
        each = cross_entropy(output.outputs, batch.y, reduction="none")
        # A product with the one-hot matrix, because index_add is not deterministic on CUDA.
        member = one_hot(batch.group, self._groups).to(each.dtype)
        counts = member.sum(dim=0)
        return Losses((each @ member) / counts.clamp(min=1), counts)
