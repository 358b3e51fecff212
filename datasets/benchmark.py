"""Benchmarks: splits, metrics and a default training config.

There are three kinds: :mod:`datasets.groups.base` (classification, judged by the worst group),
:mod:`datasets.multitask.base` (several tasks, compared with single-task models) and
:mod:`datasets.environments.base` (reinforcement learning).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from common.hyperparameters import Hyperparameter, Scalar
from datasets.data_card import DataCard
from datasets.training_config import JOINED_SPLIT, TrainingConfig

SPLITS = ("train", "validation", "test")

Outputs = Tensor | Mapping[str, Tensor]  # of a model: logits, or an entry per task


class Inputs(Protocol):
    """The inputs of a split: a tensor, or ragged arrays (:mod:`datasets.storage.ragged_arrays`)."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: Tensor) -> Any:
        """Return the inputs of the examples ``index``, ``(b,)`` int64, as one batch."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that all inputs take."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the inputs on a device."""
        ...


@dataclass(frozen=True)
class Split:
    """One split.

    Args:
        inputs: Model inputs, an entry per example.
        targets: The targets by task: tensors ``(n, ...)``. Classification has one,
            ``y``, ``(n,)`` int64.
        group: Group numbers ``n_attributes * y + a``, ``(n,)`` int64; None where unknown.
    """

    inputs: Inputs
    targets: Mapping[str, Tensor]
    group: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(next(iter(self.targets.values())))

    @property
    def y(self) -> Tensor:
        """The labels of classification, ``(n,)`` int64."""
        return self.targets["y"]

    def list_groups(self) -> set[int]:
        """Return the numbers of the groups that have examples."""
        return set() if self.group is None else set(self.group.unique().tolist())

    @property
    def nbytes(self) -> int:
        """The bytes that inputs and targets take."""
        return self.inputs.nbytes + sum(target.nbytes for target in self.targets.values())

    def to(self, device: torch.device) -> "Split":
        """Return the split with everything on ``device``."""
        group = None if self.group is None else self.group.to(device)
        targets = {name: target.to(device) for name, target in self.targets.items()}
        return Split(self.inputs.to(device), targets, group)


class Meter(ABC):
    """Accumulates the metrics of a split, batch by batch."""

    @abstractmethod
    def update(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Add a batch.

        Args:
            index: The examples of the split that these are, ``(b,)`` int64 on the host.
            outputs: The model's outputs for them, float32.
            targets: Their targets, on the same device.
        """

    @abstractmethod
    def compute_metrics(self) -> dict[str, Any]:
        """Return the metrics of all batches."""

    @abstractmethod
    def collect_predictions(self) -> dict[str, Tensor]:
        """Return the columns to export, with an entry per example, in order, on the host."""


class Benchmark(ABC):
    """A data set with its splits, metrics and default training config.

    A subclass in a file of ``datasets/groups``, ``datasets/multitask`` or ``datasets/environments``
    that has a ``name`` is found by it.
    """

    name: str
    version: ClassVar[str]  # raised whenever splits, labels or metrics change
    training_config: ClassVar[TrainingConfig]
    search_space: ClassVar[Mapping[str, Hyperparameter]]  # of the hyperparameters that fit the data
    default_selection_rule: ClassVar[str]  # the selection rule used by default
    published_rule: ClassVar[str | None] = None  # the selection rule of the published protocol
    reported_metrics: ClassVar[tuple[str, ...]]  # the metrics of a table, the main one first
    higher_is_better: Mapping[str, bool]  # of the metrics that rules may name
    as_percent: ClassVar[bool] = False  # whether metrics are shares that tables print in percent
    provides: ClassVar[frozenset[str]]  # properties that methods may need, e.g. "train_groups"
    card: ClassVar[DataCard]
    modality: ClassVar[str] = ""  # "images" or "text", where augmentations may differ
    image_size: ClassVar[int | None] = None  # height and width where the benchmark sets them
    has_image_files: bool = False  # whether inputs are images of many sizes
    token_share: float = 1.0  # of texts: mean training length by the published padded length
    # Of own data's file: domains, values of the training config, sizes of inputs, and the file.
    own_ranges: Mapping[str, Hyperparameter] = MappingProxyType({})
    own_protocol: Mapping[str, Scalar] = MappingProxyType({})
    own_sizes: Mapping[str, int] = MappingProxyType({})
    own_file: str = ""
    encoder: ClassVar[str | None] = None  # the default model of methods that need hidden states

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root

    @property
    def reference(self) -> str:
        """The name by which a command on any machine finds the data: a path where that is one."""
        return self.name

    @property
    def published_sizes(self) -> Mapping[str, int]:
        """The data card's number of examples by split; empty where unknown."""
        card: DataCard | None = getattr(self, "card", None)
        return {} if card is None else card.sizes

    @property
    def key_version(self) -> str:
        """The part of a trial's key that depends on the benchmark beyond its name."""
        return self.version

    @abstractmethod
    def load_splits(self) -> dict[str, Split]:
        """Read all splits, by the names in :data:`SPLITS`."""

    @abstractmethod
    def make_meter(self, split: str) -> Meter:
        """Return a meter for one evaluation of ``split``."""

    @property
    @abstractmethod
    def output_sizes(self) -> Mapping[str, int]:
        """The number of outputs by task: classes of classification (task ``y``), or channels."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks; empty where there is one only."""
        return ()

    def list_ids(self, split: str) -> Sequence[str | int] | None:
        """Return the examples' names in the data set's own files, in order; None without any."""
        return None

    def list_filenames(self, split: str) -> Sequence[str] | None:
        """Return the examples' files, as the data set's table names them; None without any."""
        return None

    def list_class_names(self) -> Sequence[str]:
        """Return the names of the classes; none where classes are not judged."""
        return ()

    def list_group_names(self, split: str) -> Sequence[str]:
        """Return the names of a split's groups by number; none for data sets without groups."""
        return ()

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits, read once per process."""
        return self.load_splits()

    @property
    def train_split(self) -> Split:
        """The training split."""
        return self.splits["train"]

    @property
    def validation_split(self) -> Split:
        """The validation split."""
        return self.splits["validation"]

    def configure(self, config: TrainingConfig) -> "Benchmark":
        """Return the benchmark as a training config asks for it: itself by default."""
        return self

    @property
    def published_training_split(self) -> str:
        """The ``training_split`` of the published protocol."""
        joins = type(self).join_training_splits is not Benchmark.join_training_splits
        return JOINED_SPLIT if joins else "train"

    def check_requirements(self) -> None:  # noqa: B027  (most need none)
        """Refuse a machine that lacks a library that training on the benchmark needs.

        Raises:
            UserError: If one is missing.
        """

    def join_training_splits(self) -> Split | None:
        """Return training and validation split as one, where the published protocol trains on it.

        None by default.
        """
        return None

    @cached_property
    def data_hash(self) -> str:
        """The content hash of all splits, which results carry as provenance."""
        digest = hashlib.sha256()
        for name in SPLITS:
            split = self.splits[name]
            for tensor in (split.inputs, *split.targets.values(), split.group):
                if isinstance(tensor, Tensor):
                    digest.update(str((name, tuple(tensor.shape), tensor.dtype)).encode())
                    digest.update(tensor.contiguous().numpy().tobytes())
                elif tensor is not None:
                    raise TypeError(f"{self.name}: ragged inputs need a data_hash of their own")
        return digest.hexdigest()[:16]
