"""Curves of recorded trials: the trials of an earlier study, as a simulated search replays them."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserError
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.training.selection import (
    Rule,
    Score,
    SelectionRow,
    get_rule,
    score_curves,
    select_epoch,
)
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, TrialStatus, combine_ends
from tuning.records.run_record import RunRecord
from tuning.records.storage import Storage
from tuning.search.recorded_scores import read_selection_rows

MAX_NAMED_RECORDS = 10  # in a message
MIN_CURVES = 5  # with fewer, a comparison says nothing


@dataclass(frozen=True)
class Curve:
    """A recorded trial.

    Args:
        hyperparameters: Its values.
        scores: The score of each epoch; None where it is not eligible.
        seconds: The time of each epoch.
        device_seconds: The same, multiplied by the devices that it took.
        true_value: The value of its best epoch on a training seed that the scores leave out; None
            where they leave out none.
    """

    hyperparameters: Hyperparameters
    scores: tuple[Score | None, ...]
    seconds: tuple[float, ...]
    device_seconds: tuple[float, ...]
    true_value: float | None = None

    @property
    def best(self) -> Score:
        """The score of the best epoch."""
        best = select_epoch(self.scores)
        assert best is not None  # a trial without any makes no curve
        return best


@dataclass(frozen=True)
class TrialEpochs:
    """The epochs of a trial that trained to its end.

    Args:
        hyperparameters: Its values.
        seeds: The epochs of each training seed, of which at least one is eligible.
    """

    hyperparameters: Hyperparameters
    seeds: Sequence[Sequence[SelectionRow]]


@dataclass(frozen=True)
class RecordedCurves:
    """The trials of an earlier study of one method.

    Args:
        name: Data set and method.
        space: The hyperparameters that it searched.
        rule: Its selection rule.
        curves: Its trials that trained to their end.
        skipped: The number of the others.
        left_out: The same trials without each of their training seeds in turn, by which the
            choices of a search can be judged; empty where they have one seed.
    """

    name: str
    space: Mapping[str, Hyperparameter]
    rule: Rule
    curves: Sequence[Curve]
    skipped: int
    left_out: Sequence[Sequence[Curve]] = ()

    @property
    def eligible_epochs(self) -> int:
        """The eligible epochs of the longest curve."""
        return max(sum(score is not None for score in curve.scores) for curve in self.curves)

    def leave_out(self, seed: int) -> "RecordedCurves":
        """Return the trials without a training seed, counted anew after the last; all with one."""
        if not self.left_out:
            return self
        return replace(self, curves=self.left_out[seed % len(self.left_out)])

    def find_nearest(self, values: Hyperparameters) -> Curve:
        """Return the recorded trial nearest to proposed hyperparameters."""
        return min(
            self.curves, key=lambda c: compute_distance(self.space, c.hyperparameters, values)
        )


def compute_distance(
    space: Mapping[str, Hyperparameter], one: Mapping[str, Scalar], other: Mapping[str, Scalar]
) -> float:
    """Return the squared distance of two points, each range scaled to a length of one."""
    total = 0.0
    for name, hyperparameter in space.items():
        a, b = one.get(name, hyperparameter.default), other.get(name, hyperparameter.default)
        if hyperparameter.kind == "choice":
            total += a != b
        else:
            low, high = hyperparameter.bounds
            if hyperparameter.is_log:
                low, high, a, b = (math.log(float(value)) for value in (low, high, a, b))
            total += ((float(a) - float(b)) / (high - low)) ** 2 if high > low else 0.0
    return total


def read_curves(folder: str | Path) -> RecordedCurves:
    """Return the trials in the records of one method.

    Args:
        folder: ``<storage>/<dataset>/<method>``, a folder or a URL.

    Raises:
        UserError: If there is no study, or too few trials trained to their end.
    """
    records = MethodRecords(folder)
    definition = records.read_definition()
    if definition is None:
        named = _name_records(_find_records_below(records.storage))
        raise UserError(
            f"--simulate: '{folder}' holds no study: expected one method's records, "
            f"<storage>/<dataset>/<method>, with its study.json{named}"
        )
    rule = get_rule(definition.select)
    runs: dict[int, list[RunRecord]] = {}
    for run, description in records.read_runs():
        if description.phase == Phase.SEARCH:
            runs.setdefault(description.number, []).append(run)
    trials = [trial for _, seeds in sorted(runs.items()) if (trial := _read_trial(rule, seeds))]
    curves = [make_curve(rule, trial) for trial in trials]
    if len(curves) < MIN_CURVES:
        raise UserError(
            f"--simulate: '{folder}' holds {len(curves)} trials that trained to their end, "
            f"expected at least {MIN_CURVES}: a study with --search random --scheduler none has "
            "many"
        )
    name = f"{definition.dataset}/{records.name}"
    seeds = min(len(trial.seeds) for trial in trials)
    left_out = [
        [make_curve(rule, trial, seed) for trial in trials]
        for seed in (range(seeds) if seeds > 1 else ())
    ]
    skipped = len(runs) - len(curves)
    return RecordedCurves(name, definition.space, rule, curves, skipped, left_out)


def _find_records_below(root: Storage) -> list[str]:
    """Return the methods' records below a storage's root, or below one of its data sets."""
    with suppress(OSError):  # a folder without read permission
        children = [root / name for name in root.list_names()]
        inner = [child / name for child in children for name in child.list_names()]
        return [str(found) for found in (*children, *inner) if found.exists("study.json")]
    return []


def _name_records(found: Sequence[str]) -> str:
    more = len(found) - MAX_NAMED_RECORDS
    rest = f" and {more} more" if more > 0 else ""
    return f"; below it are {', '.join(found[:MAX_NAMED_RECORDS])}{rest}" if found else ""


def _read_trial(rule: Rule, runs: Sequence[RunRecord]) -> TrialEpochs | None:
    """Return a trial's epochs; None if it was pruned, failed or has not ended."""
    end = combine_ends([run.read_end() for run in runs])
    if end is None or end.status not in (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY):
        return None
    seeds = [read_selection_rows(rule, run, run.read_rows()) for run in runs]
    description = runs[0].read_description()
    if description is None or any(select_epoch(score_curves(rule, [s])) is None for s in seeds):
        return None
    return TrialEpochs(dict(description.hyperparameters), seeds)


def make_curve(rule: Rule, trial: TrialEpochs, left_out: int | None = None) -> Curve:
    """Return the curve of a trial over its training seeds, or over all but one of them.

    Args:
        rule: The rule that scores epochs.
        trial: The trial's epochs.
        left_out: The place of the training seed to leave out; None for none.
    """
    used = [rows for seed, rows in enumerate(trial.seeds) if seed != left_out]
    epochs = [[row.epoch_row for row in rows] for rows in zip(*used, strict=False)]
    best = None
    if left_out is not None:
        best = select_epoch(score_curves(rule, [trial.seeds[left_out]]))
    return Curve(
        trial.hyperparameters,
        tuple(score_curves(rule, used)),
        seconds=tuple(sum(row.seconds for row in rows) for rows in epochs),
        device_seconds=tuple(sum(row.device_seconds for row in rows) for rows in epochs),
        true_value=None if best is None else best.value,
    )
