"""Results beside the published ones, cell by cell: the difference, its t-test, and a verdict."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy.special import stdtr  # scipy.stats takes long to import

from common.files import write_text
from common.hyperparameters import Hyperparameters, format_scalar
from common.text import format_count
from core.recipe.method_files import load_method
from datasets.benchmark import Benchmark
from datasets.published_results import PublishedRow, PublishedValue, read_published_rows
from tuning.reporting.intervals import EQUAL
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.layout.table_files import write_csv
from tuning.reporting.summary import Summary

FILE_NAME = "reproduction"
AGREES, DIFFERS = 0.05, 0.01  # p-values, two-sided
NAMES = {"imtl-g": "imtl"}  # methods here of published names; the others are found by spelling


@dataclass(frozen=True)
class ComparedCell:
    """A metric of a method, measured here and published.

    Args:
        method: The method.
        metric: The metric of the test split.
        published: The published value.
        published_seeds: Its seeds; 0 where unknown.
        measured: The mean measured here; None where there is no result.
        std: Its standard deviation over seeds; None for one seed.
        seeds: Its seeds.
        higher_is_better: The metric's direction.
        has_same_training: Whether it was trained with the hyperparameters of the published row,
            where these are not the published ones.
    """

    method: str
    metric: str
    published: PublishedValue
    published_seeds: int
    measured: float | None
    std: float | None
    seeds: int
    higher_is_better: bool
    has_same_training: bool = True

    @property
    def standard_error(self) -> float | None:
        """The standard error of the difference; None where deviations are unknown.

        Published means without a deviation are given ours; a mean of unknown seeds counts as one
        run. The rounding of the printed mean is a part.
        """
        variances = self._variances
        return None if variances is None else math.sqrt(sum(variances))

    @property
    def standard_errors(self) -> float | None:
        """The difference, ours less theirs, in standard errors."""
        error = self.standard_error
        if self.measured is None or not error:
            return None
        return (self.measured - self.published.mean) / error

    @property
    def degrees_of_freedom(self) -> float | None:
        """Those of the standard error (Welch, Biometrika 1947); None where it is unknown.

        Ours alone count where theirs have no deviation or an unknown number of seeds. The rounding
        is known.
        """
        variances = self._variances
        if variances is None:
            return None
        ours, theirs, _ = variances
        if self.published.std is None:
            uncertain = (ours + theirs) ** 2 / (self.seeds - 1)
        else:
            uncertain = ours**2 / (self.seeds - 1)
            if self.published_seeds > 1:
                uncertain += theirs**2 / (self.published_seeds - 1)
        return sum(variances) ** 2 / uncertain

    @property
    def p_value(self) -> float | None:
        """The p-value of the two-sided t-test of equal means; None where deviations are unknown."""
        found, freedom = self.standard_errors, self.degrees_of_freedom
        if found is None or freedom is None:
            return None
        return 2 * float(stdtr(freedom, -abs(found)))

    @property
    def _has_equal_seeds(self) -> bool:
        largest = abs(self.measured or 0.0)
        return self.seeds > 1 and self.std is not None and self.std <= EQUAL * largest

    @property
    def _variances(self) -> tuple[float, float, float] | None:
        """The variances of both means and of the rounding; None where ours is unknown.

        A few equal seeds do not make the mean certain: their variance is unknown too.
        """
        if self.std is None or self.seeds < 2 or self._has_equal_seeds:
            return None
        theirs = self.std if self.published.std is None else self.published.std
        rounding = 10.0**-self.published.decimals / math.sqrt(12)
        return (
            self.std**2 / self.seeds, theirs**2 / max(1, self.published_seeds), rounding**2
        )  # fmt: skip

    @property
    def verdict(self) -> str:
        """Whether the published value was found again."""
        if self.measured is None:
            return "not measured"
        if not self.has_same_training:
            return "not compared: other training"
        found, p_value = self.standard_errors, self.p_value
        if found is None or p_value is None:
            return (
                f"no standard deviation ({'equal seeds' if self._has_equal_seeds else 'one seed'})"
            )
        if p_value >= AGREES:
            return "agrees"
        side = "better" if (found > 0) == self.higher_is_better else "worse"
        return side if p_value < DIFFERS else f"perhaps {side}"


def compare_with_published(dataset: str, summaries: Sequence[Summary]) -> list[ComparedCell]:
    """Return a cell for each published metric of each method.

    Args:
        dataset: The data set.
        summaries: Summaries of results, of any data sets.
    """
    measured = {summary.method: summary for summary in summaries if summary.dataset == dataset}
    directions = {n: h for s in measured.values() for n, h in s.higher_is_better.items()}
    cells = []
    for row in read_published_rows(dataset):
        method = find_method(row.method)
        summary = measured.get(method)
        if summary is None or row.is_baseline:
            continue
        for metric, value in row.metrics.items():
            found = summary.metrics.get(f"test_{metric}")
            cells.append(
                ComparedCell(
                    method,
                    metric,
                    value,
                    count_seeds(row),
                    None if found is None else found.mean,
                    None if found is None else found.std,
                    0 if found is None else found.n,
                    directions.get(metric, metric != "delta_m"),
                    row.trained_with.items() <= summary.hyperparameters.items(),
                )
            )
    return cells


def find_method(published: str) -> str:
    """Return the name that a published method has here, such as ``nashmtl`` for Nash-MTL."""
    lower = published.lower()
    return NAMES.get(lower, re.sub(r"[^a-z0-9_]", "", lower))


def count_seeds(row: PublishedRow) -> int:
    """Return the number of seeds that a row's protocol states; 0 where it states none."""
    found = re.search(r"(\d+) (?:seeds|runs)", row.protocol)
    return int(found[1]) if found else 0


def list_row_notes(dataset: str, methods: Collection[str]) -> list[str]:
    """Return the notes on the published rows of methods, such as how their training differed."""
    rows = read_published_rows(dataset)
    found = {find_method(row.method): row.note for row in rows if row.note}
    return [f"{method}: {note}." for method, note in found.items() if method in methods]


def find_published_values(dataset: str, method: str) -> Hyperparameters:
    """Return the hyperparameters of a method's published row, else its published ones."""
    values = {**load_method(method).published.get(dataset, {})}
    for row in read_published_rows(dataset):
        if find_method(row.method) == method:
            values |= row.trained_with
    return values


def describe_deviations(summary: Summary, benchmark: Benchmark) -> list[str]:
    """Return a sentence for each way in which a result came about otherwise than published.

    Args:
        summary: The result.
        benchmark: Its data set.
    """
    method, rule = summary.method, benchmark.published_rule or benchmark.default_selection_rule
    published = find_published_values(benchmark.name, method)
    changed = list(_list_changes(summary.hyperparameters, published))
    split = benchmark.published_training_split
    sentences = [f"{method} was trained with {', '.join(changed)}."] if changed else []
    if summary.training_split not in ("", split):
        sentences.append(f"{method} was trained on {summary.training_split} (published {split}).")
    if summary.rule != rule:
        sentences.append(f"{method} was selected by {summary.rule} (published {rule}).")
    if summary.oracle:
        as_published = ", as published" if summary.rule == rule else ""
        sentences.append(f"{method} was selected on the test split{as_published}.")
    if not summary.complete:
        sentences.append(f"{method} is not complete: {format_count(summary.seeds, 'seed')} so far.")
    return sentences


def _list_changes(found: Hyperparameters, published: Hyperparameters) -> Iterator[str]:
    """Yield the values that differ; the training split is no hyperparameter of the papers."""
    for name in sorted({*found, *published} - {"training_split"}):
        if name not in found:
            yield f"the default of {name} (published {format_scalar(published[name])})"
        elif name not in published:
            yield f"{name} {format_scalar(found[name])} (not published)"
        elif found[name] != published[name]:
            values = format_scalar(found[name]), format_scalar(published[name])
            yield f"{name} {values[0]} (published {values[1]})"


def write_reproduction(
    results: Path, dataset: str, cells: Sequence[ComparedCell], notes: Sequence[str]
) -> list[str]:
    """Write ``<results>/<dataset>/reproduction.{md,csv}``; return the lines of the former."""
    lines = [*format_markdown([_make_row(cell) for cell in cells]), "", *_count(cells), *notes]
    folder = results / dataset
    write_text(folder / f"{FILE_NAME}.md", "\n".join(lines) + "\n")
    rows = [
        {
            "method": cell.method,
            "metric": cell.metric,
            "published": cell.published.mean,
            "published_std": cell.published.std,
            "published_seeds": cell.published_seeds,
            "measured": cell.measured,
            "measured_std": cell.std,
            "measured_seeds": cell.seeds,
            "standard_errors": cell.standard_errors,
            "degrees_of_freedom": cell.degrees_of_freedom,
            "p": cell.p_value,
            "verdict": cell.verdict,
        }
        for cell in cells
    ]
    write_csv(folder / f"{FILE_NAME}.csv", pd.DataFrame(rows))
    return lines


def _make_row(cell: ComparedCell) -> Mapping[str, str]:
    decimals = cell.published.decimals
    errors, p_value = cell.standard_errors, cell.p_value
    return {
        "method": cell.method,
        "metric": cell.metric,
        "published": _format_mean(cell.published.mean, cell.published.std, decimals),
        "measured": _format_mean(cell.measured, cell.std, decimals),
        "seeds": str(cell.seeds),
        "standard errors": "" if errors is None else f"{errors:+.1f}",
        "p": "" if p_value is None else f"{p_value:.3f}",
        "verdict": cell.verdict,
    }


def _format_mean(mean: float | None, std: float | None, decimals: int) -> str:
    if mean is None:
        return ""
    return f"{mean:.{decimals}f}" + ("" if std is None else f" ± {std:.{decimals}f}")


def _count(cells: Sequence[ComparedCell]) -> Iterator[str]:
    agreeing = sum(cell.verdict == "agrees" for cell in cells)
    judged = sum(cell.p_value is not None and cell.has_same_training for cell in cells)
    yield (
        f"{agreeing} of {judged} cells agree: a two-sided t-test finds no difference at the level "
        f"{AGREES:g}; they differ below p = {DIFFERS:g}. Published means without a deviation are "
        "given the one measured here."
    )
