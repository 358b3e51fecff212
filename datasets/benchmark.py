"""What a benchmark is: splits, groups, metrics, and how it is trained by default."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets import metrics
from datasets.errors import UserError
from datasets.knobs import Knob, Scalar

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is trained unless told otherwise; every field can be set as a knob.

    Args:
        model: A name of :mod:`core.models`.
        epochs: Epochs of the stage that selection looks at.
        lr: Learning rate.
        weight_decay: Decay of weights; biases and norms are not decayed.
        batch_size: Examples per step.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Momentum of SGD.
        schedule: A schedule of :func:`transformers.get_scheduler` stepped per batch.
        warmup: Share of a stage's steps in which the learning rate rises from 0.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        patience: Eligible rounds without a better selection value after which a trial stops; 0
            trains all of them.
    """

    model: str
    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float = 0.0
    patience: int = 0

    def settings(self) -> dict[str, Scalar]:
        """Return the protocol as a mapping from knob to value."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


# What a value given for a protocol field must obey: its kind, and the lowest and highest value.
PROTOCOL_RULES: Mapping[str, Knob] = {
    "epochs": Knob("integer", (1, 1_000_000), 1),
    "lr": Knob("uniform", (0.0, 1e30), 0.0),
    "weight_decay": Knob("uniform", (0.0, 1e30), 0.0),
    "batch_size": Knob("integer", (1, 1_000_000), 1),
    "optimizer": Knob("choice", ("sgd", "adamw"), "sgd"),
    "momentum": Knob("uniform", (0.0, 1.0), 0.0),
    "schedule": Knob("choice", ("constant", "linear", "cosine_with_restarts"), "constant"),
    "warmup": Knob("uniform", (0.0, 1.0), 0.0),
    "clip_norm": Knob("uniform", (0.0, 1e30), 0.0),
    "patience": Knob("integer", (0, 1_000_000), 0),
}


@dataclass(frozen=True)
class Split:
    """One split, as tensors with an entry per example.

    Args:
        inputs: Model inputs, ``(n, ...)``.
        y: Labels, ``(n,)`` int64.
        group: Group numbers ``n_attributes * y + a``, ``(n,)`` int64; None where unknown.
    """

    inputs: Tensor
    y: Tensor
    group: Tensor | None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.y)

    def to(self, device: torch.device) -> "Split":
        """Return the split with its tensors on ``device``."""
        group = None if self.group is None else self.group.to(device)
        return Split(self.inputs.to(device), self.y.to(device), group)


class Benchmark(ABC):
    """What there is to learn. A subclass in a file of this folder is found by its file's name."""

    name: ClassVar[str]
    version: ClassVar[str]  # raised whenever splits, labels or metrics change
    protocol: ClassVar[Protocol]
    search: ClassVar[Mapping[str, Knob]]  # of what belongs to the data
    selecting: ClassVar[str]  # the selection rule used by default
    reported: ClassVar[tuple[str, ...]]  # the metrics of a table, the most telling one first
    provides: ClassVar[frozenset[str]]  # what methods may need, e.g. "train_groups"

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """Read all splits, by the names in :data:`SPLITS`."""

    @abstractmethod
    def evaluate(self, split: str, outputs: Tensor) -> dict[str, Any]:
        """Return the metrics of ``split`` from the model's outputs for all its examples."""

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits, read once per process."""
        return self.load()

    @cached_property
    def data_hash(self) -> str:
        """Content hash of all splits, which results carry as provenance."""
        digest = hashlib.sha256()
        for name in SPLITS:
            split = self.splits[name]
            for tensor in (split.inputs, split.y, split.group):
                if tensor is not None:
                    digest.update(str((name, tuple(tensor.shape), tensor.dtype)).encode())
                    digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Groups:
    """Classes and attributes, and the groups that they make: ``n_attributes * y + a``."""

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Name the groups."""
        names = tuple(f"{y}, {a}" for y in self.classes for a in self.attributes)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.names)


class GroupBenchmark(Benchmark):
    """Classification that is judged by its worst group."""

    groups: ClassVar[Groups]
    selecting = "validation_worst_group_accuracy"
    reported = ("worst_group_accuracy", "average_accuracy")
    provides = frozenset({"train_groups", "validation_groups"})

    @property
    def outputs(self) -> int:
        """The number of the model's outputs: one logit per class."""
        return len(self.groups.classes)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits, read once per process and checked.

        Raises:
            UserError: If a group that training or test has is missing in validation.
        """
        splits = self.load()
        present = {
            name: set() if split.group is None else set(split.group.unique().tolist())
            for name, split in splits.items()
        }
        if splits["validation"].group is not None:
            missing = sorted((present["train"] | present["test"]) - present["validation"])
            if missing:
                names = "; ".join(self.groups.names[group] for group in missing)
                raise UserError(
                    f"{self.name}: validation has no example of group {names}, which training or "
                    "test has: the worst-group accuracy that selects would be undefined"
                )
        return splits

    @cached_property
    def training_shares(self) -> Tensor | None:
        """The groups' shares of the training split, ``(groups,)`` float64; None if unknown."""
        group = self.splits["train"].group
        if group is None:
            return None
        return torch.bincount(group, minlength=len(self.groups)).double() / len(group)

    def evaluate(self, split: str, outputs: Tensor) -> dict[str, Any]:
        """Return group metrics.

        Args:
            split: The split's name.
            outputs: Logits, ``(n, classes)``, for all its examples in order.

        Returns:
            The mapping of :func:`datasets.metrics.group_metrics`.
        """
        data = self.splits[split].to(outputs.device)
        correct = outputs.argmax(dim=1) == data.y
        return metrics.group_metrics(
            correct, data.y, data.group, len(self.groups.classes), len(self.groups),
            self.training_shares,
        )  # fmt: skip
