"""The record of one epoch: how it is reported, stored and sent between processes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """The result of one epoch of a run.

    Args:
        epoch: Number within the run, from 1.
        stage: Number of the stage, from 0.
        stage_epoch: Number within the stage, from 0.
        eligible: Whether selection may choose this epoch.
        final: Whether it is the run's last epoch.
        losses: Mean over the epoch's examples of each loss that the stage descends, by name.
        lr: Learning rate at the start of the epoch.
        steps: Optimization steps.
        validation: The benchmark's metrics on the validation split.
        flagged: Steps so far whose weights had no exact solution; only of weightings that read
            the Gram matrix.
        microbatch: Examples per forward pass, where batches are split.
        weights: Mean, lowest and highest weight of each loss over the epoch's steps, by name and
            ``mean``, ``min`` and ``max``; only of several losses.
        conflicts: ``negative_cosines``, the share of pairs of task gradients whose cosine is
            negative (None without two gradients), and ``norms``, each gradient's mean norm; only
            where the steps compute task gradients one by one.
        training_batches: The benchmark's metrics of the steps' own predictions, as published code
            of dense tasks reports them: of augmented examples, during training.
        training: The benchmark's metrics on the training split after the epoch, on request.
        devices: GPUs that the run took, or CPUs without one; a share where trials share a GPU.
        seconds: Wall time, evaluation included.
    """

    epoch: int
    stage: int
    stage_epoch: int
    eligible: bool
    final: bool
    losses: Mapping[str, float]
    lr: float
    steps: int
    validation: Mapping[str, Any]
    flagged: int | None = None
    microbatch: int | None = None
    weights: Mapping[str, Mapping[str, float]] | None = None
    conflicts: Mapping[str, Any] | None = None
    training_batches: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    devices: float = 1.0
    seconds: float

    @property
    def device_seconds(self) -> float:
        """Wall time multiplied by the devices."""
        return self.seconds * self.devices

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data, ready for JSON, without fields that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the row that :meth:`as_dict` encoded.

        Raises:
            ValueError: If a field is missing or unknown.
        """
        if not REQUIRED <= data.keys() <= FIELDS:
            unknown, missing = sorted(data.keys() - FIELDS), sorted(REQUIRED - data.keys())
            raise ValueError(f"epoch row: unknown fields {unknown}, missing fields {missing}")
        return cls(**data)


OPTIONAL = frozenset(
    {"flagged", "microbatch", "weights", "conflicts", "training_batches", "training"}
)
FIELDS = frozenset(field.name for field in fields(EpochRow))
REQUIRED = FIELDS - OPTIONAL
