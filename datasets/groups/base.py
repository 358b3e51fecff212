"""Benchmarks that are judged by their worst group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from datasets.benchmark import SPLITS, Benchmark, Meter, Outputs, Split
from datasets.groups.metrics import compute_group_metrics


@dataclass(frozen=True)
class Groups:
    """Classes, attributes and their combinations: group ``n_attributes * y + a``."""

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Name the groups."""
        names = tuple(f"{y}, {a}" if a else y for y in self.classes for a in self.attributes)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.names)


def missing_groups_message(groups: Groups, missing: Sequence[int]) -> str:
    """Return the error message for groups without an example in validation."""
    names = "; ".join(groups.names[group] for group in missing)
    return (
        f"validation has no example of group {names}, which training or test has: the worst-group "
        "accuracy that selects would be undefined"
    )


class GroupBenchmark(Benchmark):
    """Classification that is judged by its worst group.

    Training may have other groups than evaluation (CivilComments: 4 and 16): then a benchmark sets
    ``separate_train_groups`` too.
    """

    groups: Groups  # of validation and test
    separate_train_groups: Groups | None = None  # of training, where they are others
    default_selection_rule = "validation_worst_group_accuracy"
    reported_metrics = ("worst_group_accuracy", "average_accuracy")
    higher_is_better = dict.fromkeys(
        ("worst_group_accuracy", "average_accuracy", "worst_class_accuracy",
         "training_weighted_accuracy"), True,
    )  # fmt: skip
    as_percent = True
    provides = frozenset({"classification", "train_groups", "validation_groups"})

    @property
    def output_sizes(self) -> dict[str, int]:
        """One logit per class."""
        return {"y": len(self.groups.classes)}

    @property
    def train_groups(self) -> Groups:
        """The groups of training."""
        return self.separate_train_groups or self.groups

    def list_class_names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.groups.classes

    def list_group_names(self, split: str) -> tuple[str, ...]:
        """Return the names of a split's groups by number."""
        return (self.train_groups if split == "train" else self.groups).names

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits, read once per process and checked.

        Raises:
            UserError: If a group that training or test has is missing in validation.
        """
        splits = self.load_splits()
        train, validation, test = (splits[name] for name in SPLITS)
        if validation.group is not None:
            needed = test.list_groups() | (
                set() if self.separate_train_groups else train.list_groups()
            )
            missing = sorted(needed - validation.list_groups())
            if missing:
                raise UserError(f"{self.name}: {missing_groups_message(self.groups, missing)}")
        return splits

    @cached_property
    def train_group_shares(self) -> Tensor | None:
        """The groups' shares of the training split, ``(groups,)`` float64; None if undefined."""
        group = self.train_split.group
        if group is None or self.separate_train_groups is not None:
            return None
        return torch.bincount(group, minlength=len(self.groups)).double() / len(group)

    def make_meter(self, split: str) -> "GroupMeter":
        """Return a meter of :func:`datasets.groups.metrics.compute_group_metrics`."""
        return GroupMeter(self, split)


class GroupMeter(Meter):
    """Collects the logits of a split's examples."""

    def __init__(self, benchmark: GroupBenchmark, split: str) -> None:
        self.benchmark = benchmark
        self.split = split
        self._index: list[Tensor] = []
        self._logits: list[Tensor] = []

    def update(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Add logits, ``(b, classes)``."""
        assert isinstance(outputs, Tensor)
        self._index.append(index)
        self._logits.append(outputs)

    @property
    def rows(self) -> Tensor:
        """The examples of all batches, ascending, ``(n,)`` int64 on the host."""
        return torch.cat(self._index).sort().values

    @property
    def logits(self) -> Tensor:
        """Their logits in that order, ``(n, classes)``."""
        logits = torch.cat(self._logits)
        return logits[torch.cat(self._index).argsort().to(logits.device)]

    def compute_correct(self) -> Tensor:
        """Return whether each example is classified correctly, ``(n,)`` bool."""
        logits = self.logits
        y = self.benchmark.splits[self.split].y[self.rows].to(logits.device)
        return logits.argmax(dim=1) == y

    def compute_metrics(self) -> dict[str, Any]:
        """Return group metrics of the examples of all batches."""
        data, rows = self.benchmark.splits[self.split], self.rows
        correct = self.compute_correct()
        device = correct.device
        groups = self.benchmark.groups
        shares = self.benchmark.train_group_shares
        if self.split == "train":
            groups = self.benchmark.train_groups
        group = None if data.group is None else data.group[rows].to(device)
        return compute_group_metrics(
            correct, data.y[rows].to(device), group, len(groups.classes), len(groups), shares
        )

    def collect_predictions(self) -> dict[str, Tensor]:
        """Return label, group, prediction and a logit per class."""
        data, rows, logits = self.benchmark.splits[self.split], self.rows, self.logits.cpu()
        group = {} if data.group is None else {"group": data.group[rows]}
        return {
            "index": rows,
            "y": data.y[rows],
            **group,
            "prediction": logits.argmax(dim=1),
            **{f"logit_{i}": logits[:, i] for i in range(logits.shape[1])},
        }
