"""What a benchmark is: splits, metrics, and how it is trained by default.

Two kinds lie below: :mod:`datasets.groups.base` (classification judged by its worst group) and
:mod:`datasets.multitask.base` (several tasks judged against single-task models).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from common.errors import UserError
from common.hyperparameters import Hyperparameter, Scalar
from datasets.data_card import DataCard

SPLITS = ("train", "validation", "test")

Outputs = Tensor | Mapping[str, Tensor]  # of a model: logits, or an entry per task


@dataclass(frozen=True)
class TrainingConfig:
    """How a benchmark is trained by default; every field can be set like a hyperparameter.

    Args:
        model: A name of :mod:`core.models`, a public name of a pretrained model, or its folder.
        epochs: Epochs of the stage that selection looks at.
        lr: Learning rate.
        weight_decay: Decay of weights; biases and norms are not decayed.
        batch_size: Examples per step.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: Momentum of SGD.
        schedule: A schedule of :func:`transformers.get_scheduler` stepped per batch; ``step``
            (half the rate every 100 epochs) and ``plateau`` (0.7 of the rate after 5 epochs
            without a better selection value, not below 1e-5) are stepped per epoch.
        warmup: Share of a stage's steps in which the learning rate rises from 0.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        clip: Whether ``all`` parameters are clipped together, or the ``shared`` ones only.
        gradients: The way to the gradients of weightings by gradients (docs/weighting.md).
        weighted_heads: Whether these weightings weight the gradients of task heads too.
        augmentation: A name of :mod:`core.augmentations`, for training batches.
        microbatch: Examples per forward pass, where the recipe is exact when a batch is split; 0
            does not split.
        checkpointing: Whether activations are computed again in the backward pass.
        compile: Whether :func:`torch.compile` compiles the model.
        patience: Eligible epochs without a better selection value after which a trial stops; 0
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
    clip: str = "all"
    gradients: str = "exact"
    weighted_heads: bool = False
    augmentation: str = "none"
    microbatch: int = 0
    checkpointing: bool = False
    compile: bool = False
    patience: int = 0

    def as_dict(self) -> dict[str, Scalar]:
        """Return the values by field."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


_SWITCH = Hyperparameter("choice", (False, True), False)

# The rules for a value of each field: its kind, and the lowest and highest value.
# The model and the augmentation are checked where their names are known, in core.
TRAINING_CONFIG_RULES: Mapping[str, Hyperparameter] = {
    "epochs": Hyperparameter("integer", (1, 1_000_000), 1),
    "lr": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "weight_decay": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "batch_size": Hyperparameter("integer", (1, 1_000_000), 1),
    "optimizer": Hyperparameter("choice", ("sgd", "adam", "adamw"), "sgd"),
    "momentum": Hyperparameter("uniform", (0.0, 1.0), 0.0),
    "schedule": Hyperparameter(
        "choice", ("constant", "linear", "cosine_with_restarts", "step", "plateau"), "constant"
    ),
    "warmup": Hyperparameter("uniform", (0.0, 1.0), 0.0),
    "clip_norm": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "clip": Hyperparameter("choice", ("all", "shared"), "all"),
    "gradients": Hyperparameter(
        "choice", ("exact", "matrix_free", "representation", "auto"), "exact"
    ),
    "weighted_heads": _SWITCH,
    "microbatch": Hyperparameter("integer", (0, 1_000_000), 0),
    "checkpointing": _SWITCH,
    "compile": _SWITCH,
    "patience": Hyperparameter("integer", (0, 1_000_000), 0),
}


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
        targets: What is to be predicted, by task: tensors ``(n, ...)``. Classification has one,
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
    """Gathers what metrics are made of, batch by batch."""

    @abstractmethod
    def add(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Take in a batch of outputs.

        Args:
            index: Which examples of the split these are, ``(b,)`` int64 on the host.
            outputs: The model's outputs for them, float32.
            targets: Their targets, on the same device.
        """

    @abstractmethod
    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the whole split."""

    @abstractmethod
    def predictions(self) -> dict[str, Tensor]:
        """Return columns with an entry per example, in order, on the host: what is exported."""


class Benchmark(ABC):
    """What there is to learn. A subclass in a file of this folder is found by its file's name."""

    name: ClassVar[str]
    version: ClassVar[str]  # raised whenever splits, labels or metrics change
    training_config: ClassVar[TrainingConfig]
    search: ClassVar[Mapping[str, Hyperparameter]]  # of what belongs to the data
    selection_metric: ClassVar[str]  # the selection rule used by default
    reported_metrics: ClassVar[
        tuple[str, ...]
    ]  # the metrics of a table, the most telling one first
    higher_is_better: Mapping[
        str, bool
    ]  # of the metrics that rules may name: whether higher is better
    as_percent: ClassVar[bool] = False  # whether metrics are shares that tables print in percent
    provides: ClassVar[frozenset[str]]  # what methods may need, e.g. "train_groups"
    card: ClassVar[DataCard]  # what a reader should know of the data
    modality: ClassVar[str] = ""  # "images" or "text", where augmentations may differ
    encoder: ClassVar[str | None] = None  # the default model of methods that need hidden states

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root

    @property
    def key_version(self) -> str:
        """What a trial's key holds of the benchmark beyond its name."""
        return self.version

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """Read all splits, by the names in :data:`SPLITS`."""

    @abstractmethod
    def meter(self, split: str) -> Meter:
        """Return a meter for one evaluation of ``split``."""

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, int]:
        """The number of outputs by task: classes of classification (task ``y``), or channels."""

    def use_baseline(self, text: str) -> None:
        """Judge tasks against another baseline (:class:`datasets.multitask.base.Baseline`).

        Raises:
            UserError: If the benchmark has no baseline, or the text is none.
        """
        raise UserError(f"data set '{self.name}' is not judged against a baseline")

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
            for tensor in (split.inputs, *split.targets.values(), split.group):
                if isinstance(tensor, Tensor):
                    digest.update(str((name, tuple(tensor.shape), tensor.dtype)).encode())
                    digest.update(tensor.contiguous().numpy().tobytes())
                elif tensor is not None:
                    raise TypeError(f"{self.name}: inputs in a store need a data_hash of their own")
        return digest.hexdigest()[:16]
