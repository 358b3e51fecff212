"""Messages between the study and its workers: a trial's work one way, a report per epoch back."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from core.recipe.trial_key import TrialKey
from core.training.selection import Score
from tuning.records.decoding import decode_fields

# Statuses of a trial that has not ended.
OUT_OF_MEMORY: Final = "out_of_memory"  # it runs again with a whole GPU
STORAGE_FAILED: Final = "storage_failed"  # its record could not be written


@dataclass(frozen=True)
class RunOptions:
    """Options of a study that apply to each of its runs, beyond the run's key.

    Args:
        rule: Name of the selection rule.
        confirm: Whether this is a confirmation seed, which reads the test split once at its end.
        audit: Whether the test metrics of every epoch are recorded, for oracle rules.
        report_training: Whether the training split is evaluated too.
        constant_metric: The rule's metric of a constant prediction; None where unknown. Patience
            counts once a trial is above it.
        keep_model: Whether a confirmation seed keeps the weights of its selected epoch.
        data_root: The folder of the data sets.
        baseline: The text of a baseline file; empty for the data set's own.
        dataset: The data set's name or path, where that is not its name in the key.
    """

    rule: str
    confirm: bool
    audit: bool
    keep_model: bool
    data_root: str
    baseline: str = ""
    report_training: bool = False
    constant_metric: float | None = None
    dataset: str = ""


@dataclass(frozen=True)
class RunWork:
    """One training run of a trial.

    Args:
        folder: Path or URL of its record.
        key: Its key.
    """

    folder: str
    key: TrialKey


@dataclass(frozen=True)
class TrialWork:
    """All that an actor needs to train a trial.

    Args:
        runs: A run per training seed.
        options: The study's options for all of them.
        gpu_share: The share of a GPU, or the number of GPUs, that the trial takes.
    """

    runs: tuple[RunWork, ...]
    options: RunOptions
    gpu_share: float = 0.0

    def to_json(self) -> str:
        """Encode the work."""
        runs = [{"folder": run.folder, "key": run.key.as_dict()} for run in self.runs]
        options = asdict(self.options)
        return json.dumps({"runs": runs, "options": options, "gpu_share": self.gpu_share})

    @classmethod
    def from_json(cls, text: str) -> "TrialWork":
        """Decode the work that :meth:`to_json` encoded."""
        return decode_fields(
            cls, json.loads(text), runs=_decode_runs, options=partial(decode_fields, RunOptions)
        )


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """A trial's report to the study after each epoch; the epoch's rows are in the records.

    Args:
        epoch: The epoch's number, from 1; 0 in the report of an error.
        seconds: The epoch's training time, summed over the training seeds.
        device_seconds: The same, multiplied by the devices that the trial took.
        score: The epoch's score, averaged over the seeds; None where it is not eligible.
        status: Empty while the trial continues; else how it ended, or :data:`OUT_OF_MEMORY` or
            :data:`STORAGE_FAILED`, which do not end it.
        reason: Why it failed.
    """

    epoch: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    score: Score | None = None
    status: str = ""
    reason: str = ""

    def to_json(self) -> str:
        """Encode the report."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EpochReport":
        """Decode the report that :meth:`to_json` encoded."""
        found = json.loads(text)
        score = found.pop("score")
        return cls(score=None if score is None else Score(**score), **found)


def _decode_runs(data: list[dict[str, Any]]) -> tuple[RunWork, ...]:
    return tuple(decode_fields(RunWork, run, key=TrialKey.from_dict) for run in data)
