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
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(set(data) - known), sorted(known - set(data) - OPTIONAL)
        if unknown or missing:
            raise ValueError(f"epoch row: unknown fields {unknown}, missing fields {missing}")
        return cls(**data)


OPTIONAL = frozenset({"flagged", "microbatch"})
