"""The task, group by group."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark, Split
from datasets.groups.base import GroupBenchmark


@dataclass
class GroupLosses(Objective):
    """Mean cross-entropy of each group's examples: one loss per training group."""

    needs: ClassVar[frozenset[str]] = frozenset({"train_groups"})
    shares_head: ClassVar[bool] = True

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["group_0", ...]``.

        Raises:
            ValueError: If the benchmark has no groups.
        """
        if not isinstance(benchmark, GroupBenchmark):
            raise ValueError(f"{benchmark.name} has no groups")
        self._groups = len(benchmark.train_groups)
        return [f"group_{group}" for group in range(self._groups)]

    def present(self, train: Split, rows: Tensor) -> Tensor:
        """Return which groups are among the examples, ``(groups,)`` bool."""
        assert train.group is not None
        return train.group[rows].bincount(minlength=self._groups) > 0

    def losses(self, step: Step) -> Losses:
        """Return the groups' mean cross-entropies, ``(groups,)``; 0 for an absent group."""
        logits, group = step.output.outputs, step.batch.group
        assert group is not None  # methods that use this objective need train_groups
        assert isinstance(logits, Tensor)
        each = cross_entropy(logits, step.batch.y, reduction="none")
        # A product with the one-hot matrix, because index_add is not deterministic on CUDA.
        member = one_hot(group, self._groups).to(each.dtype)
        counts = member.sum(dim=0)
        return Losses((each @ member) / counts.clamp(min=1), counts)
