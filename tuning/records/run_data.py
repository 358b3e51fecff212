"""The typed content of a training run's JSON files, with one encoder and decoder each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from common.hyperparameters import Hyperparameters
from core.recipe.trial_key import TrialKey
from core.training.epoch_row import EpochRow
from tuning.records.decoding import decode_fields, decode_optional, require_object
from tuning.records.version import RECORD_VERSION

Metrics = Mapping[str, float | list[float | None] | None]  # of one split


@dataclass(frozen=True)
class RunDescription:
    """The content of ``run.json``: a run's key and its role in the study.

    Args:
        phase: ``search`` or ``confirm``.
        number: Number of the trial, or the confirmation seed.
        hyperparameters: Values that the searcher proposed.
        effective: Values of all active hyperparameters, and of all else that the run was given.
        key: The key of the run.
        commit: Commit of the code that started the run; None outside a checkout.
    """

    phase: str
    number: int
    hyperparameters: Hyperparameters
    effective: Hyperparameters
    key: TrialKey
    commit: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``run.json``."""
        return {"record_version": RECORD_VERSION, **asdict(self), "key": self.key.as_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the description that :meth:`as_dict` encoded; None for anything else."""
        try:
            return decode_fields(cls, data, key=TrialKey.from_dict)
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Confirmation:
    """The result of a confirmation seed.

    Args:
        epoch: The epoch that the selection rule chose.
        value: The metric of the rule at that epoch.
        validation: Metrics of the validation split at that epoch.
        test: Metrics of the test split at that epoch.
    """

    epoch: int
    value: float | None
    validation: Metrics
    test: Metrics


@dataclass(frozen=True)
class RunEnd:
    """The content of ``end.json``: how a run ended.

    Args:
        status: ``completed``, ``stopped_early``, ``pruned`` or ``failed``.
        reason: Why it failed; for a run that succeeded on a whole GPU, why it did not fit into a
            share.
        rows: All epochs.
        host: Host of the process that trained the last epoch; empty if that process crashed.
        process: Number of that process.
        retried_whole_gpu: Whether the run took a whole GPU after a share was too small.
        confirmation: The result, of a confirmation seed that succeeded.
    """

    status: str
    reason: str
    rows: Sequence[EpochRow]
    host: str = ""
    process: int = 0
    retried_whole_gpu: bool = False
    confirmation: Confirmation | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``end.json``."""
        return {**asdict(self), "rows": [row.as_dict() for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the end that :meth:`as_dict` encoded; None for anything else."""
        try:
            return decode_fields(
                cls, data, rows=decode_rows, confirmation=decode_optional(Confirmation)
            )
        except (KeyError, TypeError, ValueError):
            return None


def decode_rows(data: object) -> tuple[EpochRow, ...]:
    """Return the rows of epochs from a JSON list.

    Raises:
        TypeError: If the data is no list of objects.
        ValueError: If a field is missing or unknown.
    """
    if not isinstance(data, list):
        raise TypeError(f"expected a JSON list, received {type(data).__name__}")
    return tuple(EpochRow.from_dict(require_object(row)) for row in data)


def describe_whole_gpu_retry(oom_reason: str) -> str:
    """Return the reason of a run that succeeded on a whole GPU after a share was too small."""
    return f"ran again on a whole GPU after {oom_reason}"
