"""A run as a confirmation seed of a study trains it: patience, a chosen epoch, its test metrics."""

import copy

from core.constant_prediction import measure_constant_predictions
from core.make_run import AnyRun, make_run
from core.training.epoch_row import EpochRow
from core.training.run_state import EpochState
from core.training.selection import (
    Metrics,
    Patience,
    Rule,
    Score,
    make_selection_row,
    score_epoch,
)


class SelectedRun:
    """Trains a run to its end and chooses one of its epochs by a rule.

    Args:
        run: The run.
        rule: The rule; one that reads the test split has it measured after every epoch.
    """

    def __init__(self, run: AnyRun, rule: Rule) -> None:
        self.run = run
        self.rule = rule
        self.rows: list[EpochRow] = []
        self._audit: list[Metrics] = []
        constants = measure_constant_predictions(run.benchmark, [rule])
        patience = run.key.training_config.patience
        self._progress = Patience(patience, rule, constants.get(rule.name))
        self._has_stalled = False
        self._best_state: EpochState | None = None

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done, or the patience is at its end."""
        return self._has_stalled or self.run.epochs_done >= self.run.total_epochs

    @property
    def best(self) -> Score | None:
        """The score of the chosen epoch; None before one may be chosen."""
        return self._progress.best

    def train_epoch(self) -> EpochRow:
        """Train the next epoch and validate."""
        row = self.run.train_epoch(observe=self._audit_epoch)
        self.rows.append(row)
        seen = make_selection_row(self.rule, self.rows, self._audit, len(self.rows) - 1)
        before = self.best
        self._has_stalled = self._progress.add_score(score_epoch(self.rule, [seen]), row.eligible)
        if self.best is not before:
            self._best_state = copy.deepcopy(self.run.make_state())
        return row

    def _audit_epoch(self) -> None:
        if self.rule.oracle:
            meter = self.run.evaluate_split("test", batch_averaged=self.rule.window > 0)
            self._audit.append(meter.compute_metrics())

    def measure_test(self) -> Metrics | None:
        """Return the test metrics of the chosen epoch; None where none was chosen."""
        if self.best is None or self._best_state is None:
            return None
        if self.rule.window:
            index = self.best.epoch - 1
            return make_selection_row(self.rule, self.rows, self._audit, index).test
        run = make_run(self.run.key, self.run.benchmark)
        run.load_state(self._best_state)
        return run.evaluate_split("test").compute_metrics()
