"""A method's study as its records show it, also while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from common.hyperparameters import Hyperparameters
from core.recipe.trial_key import TrialKey
from core.training import selection
from core.training.epoch_row import EpochRow
from core.training.selection import Score, score_curves
from tuning.records.export_context import ExportContext
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import (
    Confirmation,
    Metrics,
    Phase,
    RunDescription,
    TrialStatus,
    combine_ends,
)
from tuning.records.run_record import RunRecord
from tuning.search.finalist_race import Race
from tuning.search.finalists import find_race
from tuning.search.recorded_scores import read_selection_rows
from tuning.search.time_left import TrialTimes
from tuning.selection import list_finalists, select_trial


@dataclass(frozen=True)
class RecordedTrial:
    """A trial of the search, or a confirmation seed.

    Args:
        number: Number of the trial, or the seed.
        proposed: Hyperparameters that the searcher proposed.
        hyperparameters: All active hyperparameters, and all else that the trial was given.
        key: The key of its first run; those of its other training seeds differ in the seed alone.
        keys: Digests of its runs, one per training seed.
        training_seeds: The seeds of its runs.
        status: How it ended, or ``unfinished``.
        reason: Why it failed, or why it took a whole GPU.
        curves: The epochs of each run.
        scores: The score of each epoch that all runs have.
        confirmation: The result of a confirmation seed.
        has_files: Whether predictions and weights in its record are those of that result.
        is_default: Whether it is the search's trial of the default hyperparameters.
    """

    number: int
    proposed: Hyperparameters
    hyperparameters: Hyperparameters
    key: TrialKey
    keys: tuple[str, ...]
    training_seeds: tuple[int, ...]
    status: TrialStatus
    reason: str
    curves: tuple[tuple[EpochRow, ...], ...]
    scores: tuple[Score | None, ...]
    confirmation: Confirmation | None = None
    has_files: bool = True
    is_default: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether all its runs have ended."""
        return self.status.has_ended

    @property
    def best(self) -> Score | None:
        """The score of the best epoch so far."""
        return selection.select_epoch(self.scores)

    @property
    def epochs(self) -> int:
        """Finished epochs, over all training seeds."""
        return sum(len(curve) for curve in self.curves)

    @property
    def seconds(self) -> float:
        """Seconds of these epochs."""
        return sum(row.seconds for curve in self.curves for row in curve)

    @property
    def times(self) -> TrialTimes:
        """The times of its epochs, summed over the training seeds."""
        seconds = [sum(row.seconds for row in rows) for rows in zip(*self.curves, strict=False)]
        stages = self.key.list_stage_epochs()
        return TrialTimes(stages, tuple(seconds), self.status, len(self.curves))

    @property
    def device_hours(self) -> float:
        """Hours of these epochs, multiplied by the devices that each took."""
        return sum(row.device_seconds for curve in self.curves for row in curve) / 3600


@dataclass(frozen=True)
class RecordedStudy:
    """A method's study as its records show it.

    Args:
        context: Further facts about the study.
        trials: The trials of the search, by number.
        recorded_seeds: All recorded confirmation seeds, of earlier winners too, by number.
        further_runs: The further training seeds of finalists, each a run of its own, in their order
            by the trial's number.
    """

    context: ExportContext
    trials: tuple[RecordedTrial, ...]
    recorded_seeds: tuple[RecordedTrial, ...]
    further_runs: Mapping[int, Sequence[RecordedTrial]] = field(default_factory=dict)

    @cached_property
    def rule(self) -> selection.Rule:
        """The selection rule."""
        return selection.get_rule(self.context.rule)

    @cached_property
    def winner(self) -> RecordedTrial | None:
        """The best trial, by further seeds where it has; None without a search."""
        race = self.find_race(self.context.finalists)
        found = (trial for trial in self.trials if race and trial.number == race.leader)
        return next(found, None)

    def find_race(self, finalists: int) -> Race | None:
        """Return the state of the race of so many finalists; None where no trial has a score."""
        return find_race(self.rule, self.list_finalists(finalists), self.further_runs)

    def list_finalists(self, finalists: int) -> list[RecordedTrial]:
        """Return the finalists, of so many at most.

        A trial that has not ended takes part where it has confirmation seeds: a budget ended its
        search, and it was the best.
        """
        return list_finalists(self._list_candidates(), self.rule, finalists)

    def _list_candidates(self) -> list[RecordedTrial]:
        confirmed = [seed.proposed for seed in self.recorded_seeds]
        return [t for t in self.trials if t.is_finished or t.proposed in confirmed]

    @property
    def keeps_default(self) -> bool:
        """Whether the rule preferred the default hyperparameters to a trial that is better."""
        if not self.rule.margin or self.winner is None:
            return False
        best = select_trial(self._list_candidates(), replace(self.rule, margin=0.0))
        return self.winner.is_default and best is not self.winner

    @property
    def all_trials(self) -> list[RecordedTrial]:
        """The trials, the further runs of finalists, and the winner's seeds."""
        return [*self.trials, *self.list_further_runs(), *self.seeds]

    def list_further_runs(self) -> list[RecordedTrial]:
        """Return the further training seeds of all finalists."""
        return [run for runs in self.further_runs.values() for run in runs]

    @property
    def winning_hyperparameters(self) -> Hyperparameters | None:
        """The proposed hyperparameters that the seeds confirm; None before there are any."""
        if self.context.search == "published":
            return self.context.published
        return None if self.winner is None else self.winner.proposed

    @property
    def winning_run(self) -> RecordedTrial | None:
        """A recorded seed or trial of the winner, whose key says what was trained; None without."""
        holders = (*self.seeds, *self.trials)
        winning = self.winning_hyperparameters
        return next((trial for trial in holders if trial.proposed == winning), None)

    @property
    def effective_hyperparameters(self) -> Hyperparameters:
        """All that the winner was given or proposed; empty before there is a winner."""
        found = self.winning_run
        return {} if found is None else found.hyperparameters

    @cached_property
    def are_trials_finished(self) -> bool:
        """Whether all trials of the search have finished."""
        started = len(self.trials) >= self.context.trials
        return started and all(trial.is_finished for trial in self.trials)

    @cached_property
    def is_search_finished(self) -> bool:
        """Whether all trials of the search have finished, and one of the finalists has won."""
        race = self.find_race(self.context.finalists)
        return self.are_trials_finished and (race is None or race.is_decided)

    @cached_property
    def seeds(self) -> tuple[RecordedTrial, ...]:
        """The winner's recorded seeds, those of a search that a budget ended early too."""
        winning = self.winning_hyperparameters
        return tuple(
            seed
            for seed in self.recorded_seeds
            if seed.number < self.context.seeds and seed.proposed == winning
        )

    @property
    def confirmed_seeds(self) -> tuple[RecordedTrial, ...]:
        """The winner's seeds that have a result."""
        return tuple(seed for seed in self.seeds if seed.confirmation is not None)

    @property
    def missing_seeds(self) -> list[int]:
        """The confirmation seeds without a result."""
        confirmed = {seed.number for seed in self.confirmed_seeds}
        return [seed for seed in range(self.context.seeds) if seed not in confirmed]

    @property
    def is_complete(self) -> bool:
        """Whether the search has finished and every confirmation seed has a result."""
        return self.is_search_finished and len(self.confirmed_seeds) == self.context.seeds

    @property
    def has_learned(self) -> bool:
        """Whether any trial or seed is better than a constant prediction, or none has ended yet."""
        runs = (*self.trials, *self.seeds)
        if not any(run.is_finished and run.best is not None for run in runs):
            return True
        constant = self.context.constant_metric
        return any(
            selection.exceeds_constant(self.rule, run.best, constant)
            for run in runs
            if run.best is not None
        )

    def sum_device_hours(self) -> float:
        """Return the device-hours of search and confirmation."""
        return sum(trial.device_hours for trial in self.all_trials)


def read_study(records: MethodRecords, rule: str | None = None) -> RecordedStudy | None:
    """Return the study in a method's records; None where there is none to export.

    Runs whose record is damaged, or of another version of the project, are left out;
    :func:`tuning.reporting.damage.find_damage.find_damaged_records` names them.

    Args:
        records: The records.
        rule: The rule that selects; None for the study's own. Another rule may choose another
            epoch of a seed, whose test metrics are known only with ``--audit-test``; without them
            the seed has no result.

    Raises:
        StorageError: If the records cannot be read.
    """
    context = records.read_context()
    if context is None:
        return None
    if rule is not None and rule != context.rule:
        command = replace(context.command, select=rule)
        constant = context.constant_metrics.get(rule)
        # The finalists of a rule with a margin are those of no other rule.
        margins = [selection.get_rule(name).margin for name in (rule, context.rule)]
        finalists = 1 if any(margins) else context.finalists
        context = replace(
            context, rule=rule, command=command, constant_metric=constant, finalists=finalists
        )
    searched: dict[int, list[tuple[RunRecord, RunDescription]]] = {}
    confirmed: list[tuple[RunRecord, RunDescription]] = []
    further: list[tuple[RunRecord, RunDescription]] = []
    for run, description in records.read_runs(skip_other_versions=True):
        if description.phase == Phase.SEARCH:
            searched.setdefault(description.number, []).append((run, description))
        elif description.phase == Phase.FINALIST:
            further.append((run, description))
        else:
            confirmed.append((run, description))
    trials = [_read_trial(context, runs) for _, runs in sorted(searched.items())]
    ordered = sorted(confirmed, key=lambda run: run[1].number)
    seeds = [_read_trial(context, [run], rule is not None) for run in ordered]
    runs: dict[int, list[RecordedTrial]] = {}
    for run, description in sorted(further, key=lambda one: one[1].key.seed):
        runs.setdefault(description.number, []).append(_read_trial(context, [(run, description)]))
    return RecordedStudy(context, tuple(trials), tuple(seeds), runs)


def _read_trial(
    context: ExportContext,
    runs: Sequence[tuple[RunRecord, RunDescription]],
    selects_again: bool = False,
) -> RecordedTrial:
    """Return a trial from the records of its runs.

    Args:
        context: The study.
        runs: The runs.
        selects_again: Whether the epoch of a confirmation is chosen again.
    """
    rule = selection.get_rule(context.rule)
    ordered = sorted(runs, key=lambda run: run[1].key.seed)
    first = ordered[0][1]
    records = [record for record, _ in ordered]
    recorded_ends = [record.read_end() for record in records]
    curves = [
        record.read_unfinished_rows() if end is None else end.rows
        for record, end in zip(records, recorded_ends, strict=True)
    ]
    seen = [
        read_selection_rows(rule, record, rows)
        if context.command.audit_test or not rule.oracle
        else []
        for record, rows in zip(records, curves, strict=True)
    ]
    end = combine_ends(recorded_ends)
    scores = tuple(score_curves(rule, seen))
    confirmation = next((end.confirmation for end in recorded_ends if end is not None), None)
    has_files = True
    if selects_again and confirmation is not None:
        best = selection.select_epoch(scores)
        if best is None or best.epoch != confirmation.epoch or rule.window:
            audit = records[0].read_audit() if context.command.audit_test else []
            confirmation = _read_audited(rule, best, curves[0], audit)
            has_files = False
    return RecordedTrial(
        number=first.number,
        proposed=first.hyperparameters,
        hyperparameters=first.effective,
        key=first.key,
        keys=tuple(record.name for record in records),
        training_seeds=tuple(description.key.seed for _, description in ordered),
        status=TrialStatus.UNFINISHED if end is None else end.status,
        reason="" if end is None else end.reason,
        curves=tuple(tuple(rows) for rows in curves),
        scores=scores,
        confirmation=confirmation,
        has_files=has_files,
        is_default=first.phase == Phase.SEARCH
        and first.hyperparameters == context.default_proposal,
    )


def _read_audited(
    rule: selection.Rule, best: Score | None, rows: Sequence[EpochRow], audit: Sequence[Metrics]
) -> Confirmation | None:
    """Return the result of an epoch from its audited test metrics; None where there are none."""
    if best is None or len(audit) < best.epoch:
        return None
    row = selection.make_selection_row(rule, rows, audit, best.epoch - 1)
    return Confirmation(best.epoch, row.epoch_row.validation, row.get_metrics("test"))
