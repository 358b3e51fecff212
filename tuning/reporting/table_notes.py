"""The notes below a table: what its rows share, how to read it, and which rows not to compare."""

from collections.abc import Callable, Sequence

from common.text import format_count
from tuning.reporting.intervals import MIN_SEEDS, format_confidence
from tuning.reporting.layout.columns import choose_format, find_best, name_metric
from tuning.reporting.statistics.paired import find_untested
from tuning.reporting.statistics.search_spread import COLLAPSE, SearchConclusion
from tuning.reporting.summary import Summary


def write_notes(summaries: Sequence[Summary]) -> list[str]:
    """Return the notes of a data set's table.

    Args:
        summaries: The summaries of its methods; at least one.
    """
    data, *others, cost = list_facts(summaries)
    notes = [" ".join([*others, data, cost]), describe_numbers(summaries[0])]
    if any(summary.worst_groups for summary in summaries):
        notes.append(_describe_worst_groups(summaries))
    users = _describe_group_use(summaries)
    if users:
        notes.append(users)
    baselines = describe_baselines(summaries)
    if baselines:
        ranks = "The mean rank is among the methods of this table, over all test metrics."
        notes += [f"{baselines[0]} {ranks}", *baselines[1:]]
    return notes + list_warnings(summaries)


def list_facts(summaries: Sequence[Summary]) -> list[str]:
    """Return the facts that all methods of a data set share, or those of each."""
    return [
        _describe_fact("Data", summaries, lambda s: f"{s.dataset}, version {s.dataset_version}"),
        _describe_fact("Selected by", summaries, _describe_selection),
        _describe_fact("Budget", summaries, _describe_budget),
        _describe_cost(summaries),
    ]


def list_warnings(summaries: Sequence[Summary]) -> list[str]:
    """Return which methods of a data set are not to be compared with the others, and why."""
    notes: list[str] = []
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
    oracles = [s.method for s in summaries if s.oracle and not s.averaged_epochs]
    if oracles:
        notes.append(
            "Selected on the TEST split, so the results are optimistically biased: "
            f"{', '.join(oracles)}."
        )
    untested = _list_untested(summaries)
    if untested:
        notes.append(
            f"Not tested, for they have fewer than {MIN_SEEDS} seeds in common with the best of "
            f"the main test metric: {', '.join(untested)}."
        )
    unlearned = [s.method for s in summaries if not s.has_learned]
    if unlearned:
        notes.append(
            "Nothing learned: no trial is better on the metric of selection than a constant "
            f"prediction: {', '.join(unlearned)}."
        )
    cursed = [_describe_curse(s) for s in summaries if s.winner and s.winner.exceeds_seeds]
    if cursed:
        notes.append(
            "The best of many trials is partly luck: the winner's value in the search is better "
            f"than its fresh seeds explain (beyond their {format_confidence()} prediction "
            f"interval): {'; '.join(cursed)}."
        )
    collapsed = _describe_spreads(summaries, SearchConclusion.COLLAPSED)
    if collapsed:
        notes.append(
            "All configurations collapsed: no trial of the search is better than a constant "
            f"prediction by more than {100 * COLLAPSE:.0f} points, so that nothing was chosen: "
            f"{collapsed}."
        )
    equal = _describe_spreads(summaries, SearchConclusion.EQUAL)
    if equal:
        notes.append(
            "The search found no difference between configurations beyond noise, and its winner is "
            "no more than a standard deviation of seeds above the mean of all trials, so that, as "
            "far as they tell, a configuration drawn blindly would have served as well: "
            f"{equal}."
        )
    for is_raced, where in ((False, ""), (True, " on further training seeds")):
        kept = [s.method for s in summaries if s.keeps_default and bool(s.finalists) == is_raced]
        if kept:
            notes.append(
                "The default hyperparameters were kept because no trial was better by a standard "
                f"error{where}: {', '.join(kept)}."
            )
    incomplete = [s.method for s in summaries if not s.complete]
    if incomplete:
        notes.append(f"Unfinished, or with failed seeds: {', '.join(incomplete)}.")
    return notes


def _list_untested(summaries: Sequence[Summary]) -> list[str]:
    """Return the methods that no test compares with the best of the main test metric."""
    metric = summaries[0].reported_metrics[0]
    honest = any(not summary.oracle for summary in summaries)
    column = {
        row: found
        for row, summary in enumerate(summaries)
        if (found := summary.metrics.get(f"test_{metric}")) is not None
        and not (summary.oracle and honest)
    }
    listed = [column.get(row) for row in range(len(summaries))]
    higher = summaries[0].higher_is_better.get(metric, True)
    best, _ = find_best(listed, higher, [True] * len(listed))
    return [summaries[row].method for row in sorted(find_untested(column, best))] if best else []


def _describe_curse(summary: Summary) -> str:
    """Return a winner's value in the search, and those of its fresh seeds."""
    winner = summary.winner
    assert winner is not None
    form = choose_format(winner.metric, summary.as_percent, [])
    shown = ", ".join(
        f"{name} {form.format_number(value)}"
        for name, value in (
            ("search", winner.searched), ("validation", winner.validation), ("test", winner.test),
        )
        if value is not None
    )  # fmt: skip
    return f"{summary.method} ({name_metric(winner.metric)}: {shown})"


def _describe_spreads(summaries: Sequence[Summary], conclusion: SearchConclusion) -> str:
    """Return the methods whose search has a conclusion, with the deviations; empty if none has.

    Those that learned nothing have a note of their own.
    """
    found = []
    for summary in summaries:
        spread = summary.search_spread
        if spread is None or spread.conclusion != conclusion or not summary.has_learned:
            continue
        factor = 100 if summary.as_percent else 1
        parts = [
            f"{name} {factor * value:.2g}"
            for name, value in (
                (f"deviation of {format_count(spread.trials, 'trial')}", spread.deviation),
                (f"of {format_count(spread.seeds, 'seed')}", spread.noise),
                ("winner above the mean", spread.gain),
            )
            if value is not None
        ]
        found.append(f"{summary.method} ({', '.join(parts)})")
    return ", ".join(found)


def _describe_fact(
    label: str, summaries: Sequence[Summary], describe: Callable[[Summary], str]
) -> str:
    """Return a fact once where all rows share it, else with the methods of each."""
    methods: dict[str, list[str]] = {}
    for summary in summaries:
        methods.setdefault(describe(summary), []).append(summary.method)
    if len(methods) == 1:
        return f"{label}: {next(iter(methods))}."
    listed = "; ".join(f"{text} ({', '.join(names)})" for text, names in methods.items())
    return f"{label}: {listed}."


def _describe_selection(summary: Summary) -> str:
    return summary.selection_label.replace("_", " ")


def _describe_budget(summary: Summary) -> str:
    seeds = format_count(summary.seeds, "confirmation seed")
    epochs = format_count(summary.epochs_per_trial, "epoch")
    if summary.search == "published":
        return f"published hyperparameters, {seeds} of {epochs}"
    further = max(map(len, summary.finalists.values()), default=0)
    finalists = (
        f"{format_count(len(summary.finalists), 'finalist')} on up to "
        f"{format_count(further, 'further training seed')}, "
        if further
        else ""
    )
    several = "" if summary.search_seeds == 1 else f" on {summary.search_seeds} training seeds"
    return (
        f"{format_count(summary.trials, 'trial')} of {epochs}{several} ({summary.search}, "
        f"{summary.scheduler}), {finalists}{seeds}"
    )


def _describe_cost(summaries: Sequence[Summary]) -> str:
    hours = sum(summary.device_hours for summary in summaries)
    devices = " and ".join(dict.fromkeys(summary.device for summary in summaries))
    return f"Cost: {hours:.2g} device-hours on {devices}, search and confirmation of all rows."


def describe_numbers(first: Summary) -> str:
    """Return the form of a data set's numbers, and their intervals'."""
    unit, bounds = (", in percent", ", on the logit scale") if first.as_percent else ("", "")
    return (
        f"Mean ± standard deviation over confirmation seeds{unit}. The interval is the "
        f"{format_confidence()} confidence interval of the mean to its left (Student's t over "
        f"seeds{bounds}); fewer than {MIN_SEEDS} seeds, or equal values, have none."
    )


def _describe_worst_groups(summaries: Sequence[Summary]) -> str:
    methods: dict[str, list[str]] = {}
    for summary in summaries:
        for group, count in list(summary.worst_groups.items())[:1]:
            found = f"{summary.method} ({count} of {summary.seeds})"
            methods.setdefault(group, []).append(found)
    listed = "; ".join(f"{group}: {', '.join(names)}" for group, names in methods.items())
    return f"Most frequent worst group of the test split, and in how many seeds: {listed}."


def _describe_group_use(summaries: Sequence[Summary]) -> str:
    """Return which methods train on group labels; empty if none does."""
    training = [s.method for s in summaries if "train_groups" in s.needs]
    validation = [
        s.method for s in summaries if "validation_groups" in s.needs and s.method not in training
    ]
    parts = [f"of the training split: {', '.join(training)}"] if training else []
    parts += [f"of the validation split: {', '.join(validation)}"] if validation else []
    return f"Trained with group labels {'; '.join(parts)}." if parts else ""


def describe_baselines(summaries: Sequence[Summary]) -> list[str]:
    """Return what delta m is relative to; nothing for data sets without it."""
    baselines = list(dict.fromkeys(s.baseline for s in summaries if s.baseline))
    notes = [
        f"Delta m: mean change in percent relative to the single-task baseline '{found.name}', "
        f"version {found.version} ({found.source}); negative is better."
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
