"""The notes below a table: how to read its numbers, and which rows not to compare."""

from collections.abc import Sequence

from common.text import format_count
from tuning.records.export_context import BaselineSource
from tuning.reporting.intervals import MIN_SEEDS, format_confidence
from tuning.reporting.summary import Summary

TABLE_NOTE = (
    "Mean ± standard deviation over the confirmation seeds{unit}. The interval is the "
    "{confidence} confidence interval (Student's t, n - 1 degrees of freedom, n confirmation "
    "seeds) of the mean of the metric to its left, clipped to 0 and 100 where metrics are in "
    "percent; fewer than {min_seeds} seeds have none. Epochs and device-hours include search and "
    "confirmation."
)


def write_notes(summaries: Sequence[Summary]) -> list[str]:
    """Return the notes of a data set's table.

    Args:
        summaries: The summaries of its methods; at least one.
    """
    unit = ", in percent" if summaries[0].as_percent else ""
    notes = [TABLE_NOTE.format(unit=unit, confidence=format_confidence(), min_seeds=MIN_SEEDS)]
    notes += _describe_baselines(list({s.baseline: None for s in summaries if s.baseline}))
    published = [s.method for s in summaries if s.averaged_epochs]
    if published:
        notes.append(
            "Mean of the last ten epochs' TEST metrics, averaged over batches as in the published "
            f"code, without model selection: {', '.join(published)}."
        )
    trained_on_all = [s.method for s in summaries if s.is_trained_on_all]
    if trained_on_all:
        notes.append(
            "Trained on all training frames, those held out for validation included, as in the "
            f"published protocol: {', '.join(trained_on_all)}."
        )
    approximate = [s.method for s in summaries if s.gradients == "representation"]
    if approximate:
        notes.append(f"Approximate gradients (representation): {', '.join(approximate)}.")
    budgets = {s.method: _describe_budget(s) for s in summaries}
    if len(set(budgets.values())) > 1:
        listed = "; ".join(f"{method}: {budget}" for method, budget in budgets.items())
        notes.append(f"Budgets differ: {listed}.")
    oracles = [s.method for s in summaries if s.oracle and not s.averaged_epochs]
    if oracles:
        notes.append(
            "Selected on the TEST split, so the results are optimistically biased: "
            f"{', '.join(oracles)}."
        )
    incomplete = [s.method for s in summaries if not s.complete]
    if incomplete:
        notes.append(f"Unfinished, or with failed seeds: {', '.join(incomplete)}.")
    return notes


def _describe_baselines(baselines: Sequence[BaselineSource]) -> list[str]:
    notes = [
        f"Delta m: mean change in percent relative to the single-task baseline '{found.name}', "
        f"version {found.version} ({found.source}); negative is better. The mean rank is among the "
        "methods of this table, over all test metrics."
        for found in baselines
    ]
    if any(found.batch_averaged for found in baselines):
        notes.append(
            "Depth and normal errors of that baseline are means over batches, as published; those "
            "of the rows are means over the whole split, except for rows of published_last10."
        )
    if len(baselines) > 1:
        notes.append("Rows with different baselines are not comparable.")
    return notes


def _describe_budget(summary: Summary) -> str:
    return (
        f"{summary.search} and {summary.scheduler}, {format_count(summary.trials, 'trial')} of "
        f"{format_count(summary.epochs_per_trial, 'epoch')} on "
        f"{format_count(summary.search_seeds, 'training seed')}, "
        f"{format_count(summary.seeds, 'confirmation seed')}"
    )
