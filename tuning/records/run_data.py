"""The typed content of a training run's JSON files, with one encoder and decoder each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from common.hyperparameters import Hyperparameters
from core.recipe.trial_key import TrialKey
from core.training.epoch_row import EpochRow
from tuning.records.decoding import (
    check_field_types,
    check_type,
    decode_fields,
    decode_optional,
    require_object,
)
from tuning.records.version import RECORD_VERSION

Metrics = Mapping[str, float | list[float | None] | None]  # of one split


class Phase(StrEnum):
    """The role of a run in its study."""

    SEARCH = "search"
    FINALIST = "finalist"  # a further training seed of one of the search's best trials
    CONFIRM = "confirm"


class TrialStatus(StrEnum):
    """Where a trial stands, or how it or one of its runs ended."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  # until it is promoted; never recorded
    UNFINISHED = "unfinished"  # waiting, running or paused, as far as records show
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def has_ended(self) -> bool:
        """Whether it says how a trial ended."""
        return self not in UNENDED


UNENDED = (
    TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.PAUSED, TrialStatus.UNFINISHED,
)  # fmt: skip


@dataclass(frozen=True)
class RunDescription:
    """The content of ``run.json``: a run's key and its role in the study.

    Args:
        phase: Its role.
        number: Number of the trial, or the confirmation seed.
        hyperparameters: Values that the searcher proposed.
        effective: Values of all active hyperparameters, and of all else that the run was given.
        key: The key of the run.
        commit: Commit of the code that started the run; None outside a checkout.
    """

    phase: Phase
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
            return decode_fields(cls, data, phase=Phase, key=TrialKey.from_dict)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Confirmation:
    """The result of a confirmation seed.

    Args:
        epoch: The epoch that the selection rule chose.
        validation: Metrics of the validation split at that epoch.
        test: Metrics of the test split at that epoch.
    """

    epoch: int
    validation: Metrics
    test: Metrics


@dataclass(frozen=True)
class RunEnd:
    """The content of ``end.json``: how a run ended.

    Args:
        status: How it ended.
        reason: Why it failed; for a run that succeeded on a whole GPU, why it did not fit into a
            share.
        rows: All epochs.
        host: Host of the process that trained the last epoch; empty if that process crashed.
        process: Number of that process.
        retried_whole_gpu: Whether the run took a whole GPU after a share was too small.
        confirmation: The result, of a confirmation seed that succeeded.
    """

    status: TrialStatus
    reason: str
    rows: Sequence[EpochRow]
    host: str = ""
    process: int = 0
    retried_whole_gpu: bool = False
    confirmation: Confirmation | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``end.json``."""
        return {**asdict(self), "rows": [row.as_dict() for row in self.rows]}

    def check_lengths(self) -> None:
        """Check that a metric has as many entries, or is a number, in every epoch and split.

        Raises:
            ValueError: If it has not.
        """
        result = self.confirmation
        splits = [row.validation for row in self.rows]
        splits += [] if result is None else [result.validation, result.test]
        lengths: dict[str, int] = {}
        for metrics in splits:
            for name, value in metrics.items():
                length = len(value) if isinstance(value, list) else 0
                if value is not None and lengths.setdefault(name, length) != length:
                    raise ValueError(f"{name}: received {length} and {lengths[name]} entries")

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the end that :meth:`as_dict` encoded; None for anything else."""
        try:
            end = decode_fields(
                cls,
                data,
                status=TrialStatus,
                rows=decode_rows,
                confirmation=decode_optional(Confirmation),
            )
            end.check_lengths()
            return end
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Args:
        status: ``failed`` if one of its runs failed.
        reason: Why, or why it took a whole GPU.
        retried_whole_gpu: Whether it took a whole GPU after a share was too small.
    """

    status: TrialStatus
    reason: str
    retried_whole_gpu: bool


def combine_ends(ends: Sequence[RunEnd | None]) -> TrialEnd | None:
    """Return how a trial ended from the ends of its runs; None while one has not ended.

    Args:
        ends: The end of each run; at least one.
    """
    ended = [end for end in ends if end is not None]
    if len(ended) < len(ends):
        return None
    statuses = [end.status for end in ended]
    return TrialEnd(
        TrialStatus.FAILED if TrialStatus.FAILED in statuses else statuses[0],
        next((end.reason for end in ended if end.reason), ""),
        any(end.retried_whole_gpu for end in ended),
    )


def decode_rows(data: object) -> tuple[EpochRow, ...]:
    """Return the rows of epochs from a JSON list.

    Raises:
        TypeError: If the data is no list of objects, or if a field has another type.
        ValueError: If a field is missing or unknown.
    """
    if not isinstance(data, list):
        raise TypeError(f"expected a JSON list, received {type(data).__name__}")
    return tuple(map(_decode_row, data))


def _decode_row(data: object) -> EpochRow:
    found = require_object(data)
    check_field_types(EpochRow, found)
    row = EpochRow.from_dict(found)
    for metrics in (row.validation, row.training_batches, row.training):
        check_type({} if metrics is None else metrics, Metrics)
    return row


def describe_whole_gpu_retry(oom_reason: str) -> str:
    """Return the reason of a run that succeeded on a whole GPU after a share was too small."""
    return f"ran again on a whole GPU after {oom_reason}"
