"""Columns of printed tables: numbers with one precision per column, the best row, and its ties."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tuning.reporting.intervals import SeedStatistics
from tuning.reporting.statistics.paired import find_indistinguishable

DELTAS = ("delta_m", "worst_task_delta")  # signed changes, in percent of the baseline
SIGNIFICANT_DIGITS = 4  # of the median of a column
MAX_DECIMALS = 6
MAX_LENGTH = 9  # of a number; longer ones take an exponent


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Args:
        head: Its head in two lines; the first may be empty.
        cells: A cell per row; ``-`` where there is none.
        higher_is_better: Its direction; None for a column that compares nothing.
        best: The rows with the best value.
        tied: The rows that a test does not distinguish from the best.
        is_name: Whether the head is a name of the data set's, which stays as it is.
    """

    head: tuple[str, str]
    cells: tuple[str, ...]
    higher_is_better: bool | None = None
    best: frozenset[int] = field(default_factory=frozenset)
    tied: frozenset[int] = field(default_factory=frozenset)
    is_name: bool = False

    @property
    def title(self) -> str:
        """The head in one line."""
        return " ".join(filter(None, self.head))


@dataclass(frozen=True)
class NumberFormat:
    """The form of a column's numbers.

    Args:
        factor: Multiplies them: 100 for shares in percent.
        decimals: Digits after the point.
        sign: ``+`` where positive numbers have a sign.
        unit: Follows a cell.
    """

    factor: float
    decimals: int
    sign: str = ""
    unit: str = ""

    def format_number(self, value: float, sign: str = "") -> str:
        """Return a number without its unit."""
        text = f"{self.factor * value:{sign}.{self.decimals}f}"
        return text if len(text) <= MAX_LENGTH else f"{self.factor * value:{sign}.2e}"

    def format_mean(self, found: SeedStatistics | None) -> str:
        """Return mean ± standard deviation, or a dash."""
        if found is None:
            return "-"
        deviation = "" if found.std is None else f" ± {self.format_number(found.std)}"
        return self.format_number(found.mean, self.sign) + deviation + self.unit

    def format_interval(self, found: SeedStatistics | None) -> str:
        """Return the interval of the mean, or a dash."""
        if found is None or found.low is None or found.high is None:
            return "-"
        low, high = (self.format_number(end, self.sign) for end in (found.low, found.high))
        return f"[{low}, {high}]"


def choose_format(
    metric: str, as_percent: bool, column: Sequence[SeedStatistics | None]
) -> NumberFormat:
    """Return the form of a metric's numbers, one for the column: the median decides."""
    if as_percent:
        return NumberFormat(100, 1)
    if metric in DELTAS:
        return NumberFormat(1, 1, "+", "%")
    sizes = [abs(one.mean) for one in column if one is not None and math.isfinite(one.mean)]
    median = statistics.median(sizes) if sizes else 0.0
    magnitude = math.floor(math.log10(median)) if median else 0
    return NumberFormat(1, min(MAX_DECIMALS, max(0, SIGNIFICANT_DIGITS - 1 - magnitude)))


def find_best(
    column: Sequence[SeedStatistics | None], higher_is_better: bool, compared: Sequence[bool]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the rows with the best mean, and those that are not distinguishable from them.

    Seeds are the same for all rows, so that the test is the paired t-test, one-sided, corrected for
    the number of other rows. Rows with fewer than three seeds in common with the best are not
    tested, and not among them; a note below the table names those.

    Args:
        column: The statistics of each row.
        higher_is_better: The direction of the metric.
        compared: Whether each row takes part.
    """
    sign = 1 if higher_is_better else -1
    found = {
        row: one
        for row, one in enumerate(column)
        if one is not None and compared[row] and math.isfinite(one.mean)
    }
    if len(found) < 2:
        return frozenset(), frozenset()
    top = max(sign * one.mean for one in found.values())
    best = frozenset(row for row, one in found.items() if sign * one.mean == top)
    return best, find_indistinguishable(found, best, higher_is_better)


def name_metric(metric: str) -> str:
    """Return a metric's name in words."""
    words = metric.removesuffix("_accuracy") if metric in SHORT_METRICS else metric
    return words.replace("_", " ")


SHORT_METRICS = ("worst_group_accuracy", "average_accuracy")


def split_words(text: str) -> tuple[str, str]:
    """Return a head's words in two lines of similar length; one word is the second."""
    words = text.split()
    cuts = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(len(words))]
    return min(cuts, key=lambda lines: max(map(len, lines)), default=("", ""))


def pack_columns(
    columns: Sequence[Column],
    measure: Callable[[Column], float],
    first: float,
    limit: float,
    balanced: bool = False,
) -> list[list[Column]]:
    """Return columns in parts that fit beside the first column of a table.

    Args:
        columns: The columns.
        measure: Returns the width of a column with the gap before it.
        first: Width of the first column.
        limit: Width of the table.
        balanced: Whether the parts have about as many columns each, where these fit.
    """
    parts: list[list[Column]] = []
    used = limit + 1
    for column in columns:
        width = measure(column)
        if used + width > limit:
            parts.append([])
            used = first
        parts[-1].append(column)
        used += width
    if not balanced:
        return parts
    size = math.ceil(len(columns) / max(1, len(parts)))
    equal = [list(part) for part in _batch_columns(columns, size)]
    fits = all(first + sum(map(measure, part)) <= limit for part in equal)
    return equal if fits else parts


def _batch_columns(columns: Sequence[Column], size: int) -> Iterator[Sequence[Column]]:
    """Yield columns in parts of the same size; the last may be smaller."""
    for start in range(0, len(columns), max(1, size)):
        yield columns[start : start + size]
