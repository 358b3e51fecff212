"""Finalists: the best trials of a search, trained on further seeds before one of them wins."""

import math
from collections.abc import Mapping, Sequence

from core.training.selection import Rule, Score, rank_trial
from tuning.records.run_data import Phase, TrialStatus
from tuning.search.finalist_race import PreferredTrial, Race, run_race
from tuning.search.trial import Trial
from tuning.search.trial_records import SEARCH_SEED, TrialRecords
from tuning.selection import Candidate, compute_margin, find_default


class FinalistRuns:
    """The further runs of a search's best trials.

    Args:
        records: Creates the runs.
        rule: The selection rule.
        count: Finalists; with one there is no race.
    """

    def __init__(self, records: TrialRecords, rule: Rule, count: int) -> None:
        self.records = records
        self.rule = rule
        self.count = count
        self.runs: dict[int, list[Trial]] = {}  # of each finalist, by further seed

    def list_trials(self) -> list[Trial]:
        """Return all further runs."""
        return [run for runs in self.runs.values() for run in runs]

    def start_runs(self, finalists: Sequence[Trial]) -> None:
        """Create the runs that the race needs now.

        Args:
            finalists: The best trials of the search, the best one first.
        """
        by_number = {trial.number: trial for trial in finalists}
        while (race := self.find_race(finalists)) is not None and not race.is_decided:
            new = [number for number in race.left if len(self.runs.get(number, [])) <= race.seeds]
            if not new:
                return
            for number in new:
                run = self._make_run(by_number[number])
                run.load_end(self.rule)
                self._add_run(run)

    def load_ended_runs(self, finalists: Sequence[Trial]) -> None:
        """Load the runs that ended in an earlier session; start none.

        Args:
            finalists: The best trials of the search.
        """
        for finalist in finalists:
            recorded = self.records.further_seeds.get(finalist.number, set())
            while self._choose_seed(finalist) in recorded:
                run = self._make_run(finalist)
                if not run.load_end(self.rule):
                    break
                self._add_run(run)

    def find_race(self, finalists: Sequence[Candidate]) -> Race | None:
        """Return the state of the race as far as runs have ended; None without finalists.

        Args:
            finalists: The best trials of the search, the best one first.
        """
        return find_race(self.rule, finalists, self.runs) if self.count > 1 else None

    def _choose_seed(self, finalist: Trial) -> int:
        """Return the next further seed of a finalist."""
        return SEARCH_SEED + self.records.search_seeds + len(self.runs.get(finalist.number, ()))

    def _make_run(self, finalist: Trial) -> Trial:
        seed = self._choose_seed(finalist)
        values = finalist.hyperparameters
        return self.records.create_trial(Phase.FINALIST, finalist.number, values, seed)

    def _add_run(self, run: Trial) -> None:
        if run.is_finished:
            run.clean_up()
        self.runs.setdefault(run.number, []).append(run)


def find_race(
    rule: Rule, finalists: Sequence[Candidate], runs: Mapping[int, Sequence[Candidate]]
) -> Race | None:
    """Return the state of a race as far as runs have ended; None without finalists.

    Args:
        rule: The selection rule.
        finalists: The best trials of the search, the best one first.
        runs: The further runs of each, by its number.
    """
    if not finalists:
        return None
    values = {number: list_values(rule, found) for number, found in runs.items()}
    default = find_default(finalists, rule)
    score = None if default is None else rank_trial(rule, default.scores)
    preferred = None
    if default is not None and score is not None:
        preferred = PreferredTrial(default.number, compute_margin(rule, score))
    return run_race([trial.number for trial in finalists], values, preferred)


def list_values(rule: Rule, runs: Sequence[Candidate]) -> list[float]:
    """Return the values of the runs that have ended, until the first that has not."""
    values: list[float] = []
    for run in runs:
        if not run.status.has_ended:
            break
        values.append(read_value(rule, run.scores, run.status))
    return values


def read_value(rule: Rule, scores: Sequence[Score | None], status: TrialStatus) -> float:
    """Return the value of a run that has ended; minus infinity for one that failed."""
    score = rank_trial(rule, scores)
    return -math.inf if score is None or status == TrialStatus.FAILED else score.value
