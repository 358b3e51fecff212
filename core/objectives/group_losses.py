"""The end task's loss by group."""

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
    loss_names: ClassVar[str] = r"group_\d+"
    shares_head: ClassVar[bool] = True
    has_fixed_kernels: ClassVar[bool] = True

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return ``["group_0", ...]``.

        Raises:
            ValueError: If the benchmark has no groups.
        """
        if not isinstance(benchmark, GroupBenchmark):
            raise ValueError(f"{benchmark.name} has no groups")
        self._groups = len(benchmark.train_groups)
        return [f"group_{group}" for group in range(self._groups)]

    def find_present(self, train: Split, rows: Tensor) -> Tensor:
        """Return a mask of the groups that have examples, ``(groups,)`` bool."""
        assert train.group is not None
        return train.group[rows].bincount(minlength=self._groups) > 0

    def compute_losses(self, step: Step) -> Losses:
        """Compute the groups' mean cross-entropies, ``(groups,)``; 0 for a missing group."""
        logits, group = step.output.outputs, step.batch.group
        assert group is not None  # methods that use this objective need train_groups
        assert isinstance(logits, Tensor)
        per_example = cross_entropy(logits, step.batch.y, reduction="none")
        # A product with the one-hot matrix, because index_add is not deterministic on CUDA.
        membership = one_hot(group, self._groups).to(per_example.dtype)
        counts = membership.sum(dim=0)
        return Losses((per_example @ membership) / counts.clamp(min=1), counts)
