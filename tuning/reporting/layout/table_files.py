"""Tables as files: CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from common.files import write_text
from tuning.reporting.layout.escaping import protect_formula
from tuning.reporting.layout.latex import format_latex
from tuning.reporting.layout.printed_table import PrintedTable, format_table_as_markdown

# A number that has so few significant digits when it is rounded to so many is that number: then
# the rest is an error of floating point, as in 0.1 + 0.2 = 0.30000000000000004.
SHORT_DIGITS, ROUNDED_DIGITS = 10, 12


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, with quotes around cells that hold a line break.

    Texts that a spreadsheet would take for a formula get an apostrophe in front.
    """
    # With this end of rows, Python before 3.11.9 and 3.12.3 quotes carriage returns too.
    safe = table.map(_make_cell).rename(columns=lambda name: protect_formula(str(name)))
    text = str(safe.to_csv(index=False, lineterminator="\r\n"))
    write_text(path, text.replace("\r\n", "\n"))


def _make_cell(value: object) -> object:
    """Return a cell: a number without an error of floating point, or a text that is no formula."""
    if isinstance(value, str):
        return protect_formula(value)
    if not isinstance(value, float):
        return value
    short = float(f"{value:.{SHORT_DIGITS}g}")
    return short if short == float(f"{value:.{ROUNDED_DIGITS}g}") else value


def write_table(path: Path, values: Sequence[Mapping[str, object]], table: PrintedTable) -> None:
    """Write ``path.csv``, ``path.md`` and ``path.tex``.

    Args:
        path: The path without its suffix.
        values: The rows of the CSV file.
        table: The other files.
    """
    write_csv(path.with_suffix(".csv"), pd.DataFrame(values))
    write_text(path.with_suffix(".md"), format_table_as_markdown(table))
    write_text(path.with_suffix(".tex"), format_latex(table))
