"""Tables over methods and data sets, made from the methods' summaries under a lock."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from common.files import atomic_write, write_text
from datasets.multitask.ranks import mean_ranks
from tuning.records.json_files import read_json

COLUMNS = 13  # a printed table shows at most so many metrics; the CSV shows all


def locked(results: Path) -> FileLock:
    """Return the lock under which exports of a results folder are written."""
    results.mkdir(parents=True, exist_ok=True)
    return FileLock(results / ".lock")


def write_tables(results: Path) -> None:
    """Write all tables of a results folder anew from what its methods' folders hold.

    Args:
        results: The folder.
    """
    summaries = [
        summary
        for path in sorted(results.glob("*/*/summary.json"))
        if (summary := read_json(path)) is not None
    ]
    for dataset in sorted({summary["dataset"] for summary in summaries}):
        chosen = [summary for summary in summaries if summary["dataset"] == dataset]
        _write(
            results / dataset / "table",
            _ranked([_plain(summary) for summary in chosen], chosen, lambda rank: rank),
            _ranked([_printed(s) for s in chosen], chosen, lambda rank: f"{rank:.2f}"),
            _notes(chosen),
            f"{dataset}: metrics of the confirmation seeds",
        )
    if summaries:
        _write(
            results / "best_configs",
            [_config_row(summary, _mean) for summary in summaries],
            [_config_row(s, partial(_figure, summary=s)) for s in summaries],
            [],
            "Best configurations",
        )


def _value(summary: Mapping[str, Any], name: str, what: str) -> float | None:
    found: float | None = summary["metrics"].get(name, {}).get(what)
    return found


def _plain(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's row with raw numbers, for the CSV."""
    row = {"method": summary["method"], "selection": summary["rule"], "oracle": summary["oracle"]}
    for metric in dict.fromkeys([*summary["reported_metrics"], *summary["higher_is_better"]]):
        for split in ("validation", "test"):
            for what in ("mean", "std", "low", "high"):
                row[f"{split}_{metric}_{what}"] = _value(summary, f"{split}_{metric}", what)
    names = ("seeds", "search", "trials", "epochs_per_trial", "epochs", "device", "device_hours")
    row |= {name: summary[name] for name in names}
    row["baseline"] = (summary["baseline"] or {}).get("name")
    row["gradients"] = summary["gradients"]
    row["complete"] = summary["complete"]
    row["needs"] = " ".join(summary["needs"])
    return row


def _ranked(
    rows: list[dict[str, Any]],
    summaries: Sequence[Mapping[str, Any]],
    show: Callable[[float], Any],
) -> list[dict[str, Any]]:
    """Add the mean rank over the tasks' test metrics to the rows of a data set with tasks."""
    if summaries[0]["as_percent"]:
        return rows
    own = ("delta_m", "worst_task_delta")
    higher = {n: up for n, up in summaries[0]["higher_is_better"].items() if n not in own}
    metrics = {
        s["method"]: {name: s["metrics"][f"test_{name}"]["mean"] for name in higher}
        for s in summaries
        if all(f"test_{name}" in s["metrics"] for name in higher)
    }
    ranks = mean_ranks(metrics, higher)
    for row in rows:
        rank = ranks.get(row["method"])
        row["mean rank"] = "-" if rank is None else show(rank)
    return rows


def _number(value: float, percent: bool, digits: int = 4) -> str:
    return f"{100 * value:.1f}" if percent else f"{value:.{digits}g}"


def _figure(figure: Mapping[str, Any] | None, summary: Mapping[str, Any]) -> str:
    if not figure:
        return "-"
    percent = summary["as_percent"]
    deviation = "" if figure["std"] is None else f" ± {_number(figure['std'], percent, 2)}"
    return _number(figure["mean"], percent) + deviation


def _mean(figure: Mapping[str, Any] | None) -> float | None:
    return figure["mean"] if figure else None


def _interval(figure: Mapping[str, Any] | None, summary: Mapping[str, Any]) -> str:
    if not figure or figure["low"] is None:
        return "-"
    ends = [_number(figure[end], summary["as_percent"]) for end in ("low", "high")]
    return f"[{ends[0]}, {ends[1]}]"


def _printed(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return a method's row as a paper would print it."""
    metrics = summary["metrics"]
    row = {"method": summary["method"], "selection": summary["rule"].replace("_", " ")}
    for index, metric in enumerate(summary["reported_metrics"]):
        words = metric.replace("_accuracy", "").replace("_", " ")
        row[f"val. {words}"] = _figure(metrics.get(f"validation_{metric}"), summary)
        row[f"test {words}"] = _figure(metrics.get(f"test_{metric}"), summary)
        if index == 0:
            row["95% interval"] = _interval(metrics.get(f"test_{metric}"), summary)
    if not summary["as_percent"] and len(summary["higher_is_better"]) <= COLUMNS:
        for metric in summary["higher_is_better"]:
            if metric not in summary["reported_metrics"]:
                words = metric.replace("_", " ")
                row[f"test {words}"] = _figure(metrics.get(f"test_{metric}"), summary)
    row |= {
        "seeds": str(summary["seeds"]),
        "trials": str(summary["trials"]),
        "epochs": str(summary["epochs"]),
        "device-hours": f"{summary['device_hours']:.2g}",
    }
    if summary["as_percent"]:
        row["train groups"] = _labels(summary["needs"])
    return row


def _labels(needs: Sequence[str]) -> str:
    """Return whether a method trains on group labels, of training or of validation."""
    if "train_groups" in needs:
        return "yes"
    return "validation's" if "validation_groups" in needs else "no"


def _notes(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    percent = summaries[0]["as_percent"]
    notes = [
        f"Mean ± standard deviation over the confirmation seeds{', in percent' * percent}; the "
        "interval is "
        "Student's 95% interval of the mean of the metric before it. Epochs and device-hours are "
        "those of search and confirmation."
    ]
    baselines = {str(s["baseline"]): s["baseline"] for s in summaries if s["baseline"]}
    notes += [
        f"Delta m: mean change in percent against the single-task baseline '{found['name']}', "
        f"version {found['version']} ({found['source']}); below 0 is better. The mean rank is "
        "among the methods of this table, over all test metrics."
        for found in baselines.values()
    ]
    if any(found["batch_averaged"] for found in baselines.values()):
        notes.append(
            "Depth and normal errors of that baseline are means over batches, as published; those "
            "of the rows are of the whole split, but for rows of published_last10."
        )
    if len(baselines) > 1:
        notes.append("Rows with different baselines do not compare.")
    published = [s["method"] for s in summaries if s["rule"].startswith("published_")]
    if published:
        notes.append(
            "Mean over the last ten epochs' TEST metrics, averaged over batches as in the "
            f"published code, without selection: {', '.join(published)}."
        )
    rough = [s["method"] for s in summaries if s["gradients"] == "representation"]
    if rough:
        notes.append(f"Approximate gradients (representation): {', '.join(rough)}.")
    if len({_budget(summary) for summary in summaries}) > 1:
        each = "; ".join(f"{summary['method']}: {_budget(summary)}" for summary in summaries)
        notes.append(f"Budgets differ: {each}.")
    oracles = [s["method"] for s in summaries if s["oracle"] and s["method"] not in published]
    if oracles:
        notes.append(
            f"Chosen on the TEST split, so no honest estimate of new data: {', '.join(oracles)}."
        )
    partial = [s["method"] for s in summaries if not s["complete"]]
    if partial:
        notes.append(f"Unfinished, or with failed seeds: {', '.join(partial)}.")
    return notes


def _budget(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['search']} and {summary['scheduler']}, {summary['trials']} trials of "
        f"{summary['epochs_per_trial']} epochs on {summary['search_seeds']} training seeds, "
        f"{summary['seeds']} confirmation seeds"
    )


def _config_row(summary: Mapping[str, Any], show: Callable[[Any], object]) -> dict[str, Any]:
    metric = summary["reported_metrics"][0]
    figure = summary["metrics"].get(f"test_{metric}")
    values = ", ".join(f"{name}={_short(v)}" for name, v in summary["hyperparameters"].items())
    return {
        "dataset": summary["dataset"],
        "method": summary["method"],
        "selection": summary["rule"],
        f"test {metric.replace('_', ' ')}": show(figure),
        "hyperparameters": values,
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(
    path: Path,
    plain: list[dict[str, Any]],
    printed: list[dict[str, str]],
    notes: list[str],
    title: str,
) -> None:
    """Write ``path.csv``, ``path.md`` and ``path.tex``."""
    with atomic_write(path.with_suffix(".csv")) as new:
        pd.DataFrame(plain).to_csv(new, index=False)
    text = [f"# {title}", "", *markdown(printed), "", *(f"{note}\n" for note in notes)]
    write_text(path.with_suffix(".md"), "\n".join(text).rstrip() + "\n")
    frame = pd.DataFrame(printed).map(lambda cell: str(cell).replace("±", "$\\pm$"))
    frame = frame.map(_tex).rename(columns=_tex)
    caption = " ".join([f"{title}.", *notes])
    latex = frame.to_latex(index=False, escape=False, caption=_tex(caption.replace("±", "$\\pm$")))
    write_text(path.with_suffix(".tex"), latex)


def markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a Markdown table; numbers stand to the right."""
    heads = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(head, "-")) for head in heads] for row in rows]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *cells]
    return [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]


def _tex(text: str) -> str:
    for character in "%_#&":
        text = text.replace(character, "\\" + character)
    return text
