"""Scores of recorded runs: reads the metrics that a selection rule needs."""

from collections.abc import Sequence

from core.training.epoch_row import EpochRow
from core.training.selection import Rule, Score, SelectionRow, make_selection_row, score_curves
from tuning.records.run_record import RunRecord


def read_selection_rows(rule: Rule, run: RunRecord, rows: Sequence[EpochRow]) -> list[SelectionRow]:
    """Return the rows of a run with all metrics that a rule reads.

    Only a rule that reads the test split opens the audited test metrics.
    """
    if not rule.oracle:
        return [SelectionRow(row) for row in rows]
    audit = run.read_audit()
    audited = rows[: len(audit)]
    return [make_selection_row(rule, audited, audit, index) for index in range(len(audited))]


def score_records(rule: Rule, runs: Sequence[RunRecord]) -> list[Score | None]:
    """Return the score of each epoch that the records of all training seeds contain."""
    return score_curves(rule, [read_selection_rows(rule, run, run.read_rows()) for run in runs])
