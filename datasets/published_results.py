"""Published results: rows of tables in the literature, to print beside one's own.

A file ``datasets/published/<data set>.yaml`` lists tables with their source and protocol. A line of
a table is a method and its values as printed: a number, ``number+-deviation``, or ``-``. The entry
``not_compared`` names published values that are in no table, with the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.hyperparameters import Hyperparameters
from common.yaml_files import read_yaml_file

FOLDER = Path(__file__).parent / "published"
SUMMARY_COLUMNS = ("delta_m", "mean_rank")  # end each line of a data set with tasks
BASELINE = "STL"  # single-task models: what delta-m compares with, not a method to rank


@dataclass(frozen=True)
class PublishedValue:
    """A published metric.

    Args:
        mean: Its mean over seeds, in the data set's unit.
        std: Their standard deviation; None where not published.
        decimals: The decimals with which the mean was published, in the data set's unit.
        std_decimals: Those of the standard deviation.
    """

    mean: float
    std: float | None = None
    decimals: int = 0
    std_decimals: int = 0


@dataclass(frozen=True)
class PublishedRow:
    """A method's row in the literature.

    Args:
        method: The method, as printed there.
        source: Where the row was published.
        protocol: How it was trained and selected.
        metrics: The values of its test metrics, with ``delta_m`` where the data set has tasks.
        note: An addition to the protocol for this method; empty without one.
        trained_with: Hyperparameters that the row had, where the published values are others.
    """

    method: str
    source: str
    protocol: str
    metrics: Mapping[str, PublishedValue]
    note: str = ""
    trained_with: Hyperparameters = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether it is the single-task baseline."""
        return self.method == BASELINE


def list_published() -> list[str]:
    """Return the names of the data sets with published rows, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_published_rows(dataset: str) -> list[PublishedRow]:
    """Return the published rows of a data set; none if there is no file.

    Raises:
        UserError: If the file is malformed.
    """
    if dataset not in list_published():
        return []
    return [row for table in _read_tables(dataset) for row in table.decode_rows()]


def read_printed_tables(dataset: str) -> list[dict[str, list[str]]]:
    """Return the values of each table as printed, by method."""
    return [table.split_lines() for table in _read_tables(dataset)]


def read_not_compared(dataset: str) -> str:
    """Return the reason why values published for a data set do not compare; empty without one."""
    if dataset not in list_published():
        return ""
    return str(read_yaml_file(FOLDER / f"{dataset}.yaml").get("not_compared", ""))


@dataclass(frozen=True)
class _Table:
    """A table of the literature.

    Args:
        columns: The metrics of a line's first values, which those of ``SUMMARY_COLUMNS`` follow.
        percent: The metrics that are printed in percent.
        source: Where it was published.
        protocol: How its methods were trained and selected.
        rows: Its lines.
        summary_only: Whether a line has the values of ``SUMMARY_COLUMNS`` alone.
        notes: Additions to the protocol of single methods.
        trained_with: Hyperparameters of single methods, where the published values are others.
    """

    columns: Sequence[str]
    percent: Sequence[str]
    source: str
    protocol: str
    rows: str
    summary_only: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    trained_with: Mapping[str, Hyperparameters] = field(default_factory=dict)

    def split_lines(self) -> dict[str, list[str]]:
        """Return the values as printed, by method."""
        lines = [line.split() for line in self.rows.strip().splitlines()]
        return {method: values for method, *values in lines}

    def decode_rows(self) -> Iterator[PublishedRow]:
        """Yield the row of each method."""
        columns = [] if self.summary_only else self.columns
        for method, values in self.split_lines().items():
            names = [*columns, *SUMMARY_COLUMNS[: len(values) - len(columns)]]
            metrics = {
                name: _decode_value(text, 100 if name in self.percent else 1)
                for name, text in zip(names, values, strict=True)
                if name != "mean_rank" and text != "-"  # a rank holds among its table's rows only
            }
            note = self.notes.get(method, "")
            protocol = f"{self.protocol}; {method}: {note}" if note else self.protocol
            trained_with = self.trained_with.get(method, {})
            yield PublishedRow(method, self.source, protocol, metrics, note, trained_with)


def _read_tables(dataset: str) -> list[_Table]:
    return _make_tables(**read_yaml_file(FOLDER / f"{dataset}.yaml"))


def _make_tables(
    columns: Sequence[str],
    percent: Sequence[str],
    tables: Sequence[Mapping[str, Any]],
    not_compared: str = "",  # of values that are in no table: read_not_compared
) -> list[_Table]:
    return [_Table(columns, percent, **table) for table in tables]


def _decode_value(text: str, unit: int) -> PublishedValue:
    mean, sign, deviation = text.partition("+-")
    value, decimals = _decode_number(mean, unit)
    if not sign:
        return PublishedValue(value, decimals=decimals)
    std, std_decimals = _decode_number(deviation, unit)
    return PublishedValue(value, std, decimals, std_decimals)


def _decode_number(text: str, unit: int) -> tuple[float, int]:
    """Return a printed number in the data set's unit, with its decimals there."""
    exact = Decimal(text)
    decimals = max(0, -int(exact.as_tuple().exponent)) + (len(str(unit)) - 1)
    return float(exact / unit), decimals  # a quotient of decimals, so that 39.29% is 0.3929
