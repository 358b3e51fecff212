"""A table as people read it, and its forms on a terminal and in Markdown; CSV files hold all."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuning.reporting.intervals import CONFIDENCE
from tuning.reporting.layout.columns import Column, pack_columns
from tuning.reporting.layout.escaping import escape_markdown, show_control_characters

TERMINAL_WIDTH = 80  # characters
MARKDOWN_WIDTH = 112
GAP = 2  # between columns of a terminal
MAX_NAME = 30  # of a row, on a terminal
BEST, TIED = "^", "*"  # behind a cell on a terminal


@dataclass(frozen=True)
class Details:
    """Further columns of the same rows.

    Args:
        title: Their heading.
        columns: The columns.
    """

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class PrintedTable:
    """A table that compares rows.

    Args:
        title: The title.
        label: The label of the LaTeX table, without its prefix.
        row_head: The head of the rows' names.
        names: The name of each row.
        columns: The columns, the most useful first: a narrow terminal drops the last ones.
        details: Further columns, which files have, terminals do not.
        notes: Paragraphs below the table.
        terminal_names: The names on a terminal; empty for the names, cut where they are long.
    """

    title: str
    label: str
    row_head: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    details: tuple[Details, ...] = field(default_factory=tuple)
    notes: tuple[str, ...] = field(default_factory=tuple)
    terminal_names: tuple[str, ...] = field(default_factory=tuple)


def format_terminal(
    table: PrintedTable, width: int = TERMINAL_WIDTH, all_columns: bool = False
) -> list[str]:
    """Return the lines of a table and its notes, none of them wider than a terminal.

    Args:
        table: The table.
        width: The width of the terminal in characters.
        all_columns: Whether columns that do not fit follow below; else they are dropped.
    """
    given = table.terminal_names or tuple(map(_shorten_name, table.names))
    names = list(map(show_control_characters, given))
    first = max(map(len, [table.row_head, *names]))
    parts = pack_columns(table.columns, lambda c: _measure_column(c) + GAP, first, width)
    shown = (parts or [[]])[: None if all_columns else 1]
    lines = [line for part in shown for line in [*_format_part(table.row_head, names, part), ""]]
    notes = [*explain_marks([c for part in shown for c in part], BEST, TIED), *table.notes]
    shown_notes = map(show_control_characters, notes)
    return [*lines, *(line for note in shown_notes for line in textwrap.wrap(note, width))]


def explain_marks(columns: Sequence[Column], best: str, tied: str) -> list[str]:
    """Return the note that explains the marks of columns; none without marks.

    Args:
        columns: The columns.
        best: How the best of a column is marked.
        tied: How those are marked that a test does not distinguish from it.
    """
    text = f"{best}: the best of a column." if any(column.best for column in columns) else ""
    if any(column.tied for column in columns):
        text += (
            f" {tied}: not distinguishable from it (one-sided paired t-test over seeds, p times "
            f"the number of other methods >= {1 - CONFIDENCE:.2g})."
        )
    return [text] if text else []


def _format_part(row_head: str, names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return the lines of a table with some of the columns, for a terminal."""
    heads = [
        ("", row_head),
        *(tuple(_shorten_name(show_control_characters(n)) for n in c.head) for c in columns),
    ]
    marked = [_mark_cells(column) for column in columns]
    rows = [[name, *(cells[i] for cells in marked)] for i, name in enumerate(names)]
    lines = [[head[i] for head in heads] for i in range(2)]
    widths = [max(map(len, cells)) for cells in zip(*lines, *rows, strict=True)]
    text = [
        "".join(
            cell.ljust(size) if i == 0 else " " * GAP + cell.rjust(size)
            for i, (cell, size) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [*lines, ["-" * size for size in widths], *rows]
    ]
    return list(filter(None, text))


def _mark_cells(column: Column) -> list[str]:
    """Return the cells of a column with their marks, for a terminal."""
    if not column.best and not column.tied:
        return list(map(show_control_characters, column.cells))
    marks = [BEST if i in column.best else TIED if i in column.tied else " "
             for i in range(len(column.cells))]  # fmt: skip
    return [
        show_control_characters(cell) + mark for cell, mark in zip(column.cells, marks, strict=True)
    ]


def _shorten_name(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def format_table_as_markdown(table: PrintedTable) -> str:
    """Return a table as a Markdown document: its columns in parts that are not too wide."""
    text = [f"# {escape_markdown(table.title)}", "", *_format_parts(table, table.columns)]
    columns = [*table.columns, *(column for part in table.details for column in part.columns)]
    notes = [*explain_marks(columns, "Bold", r"\*"), *map(escape_markdown, table.notes)]
    text += [line for note in notes for line in ("", note)]
    for part in table.details:
        text += ["", f"## {escape_markdown(part.title)}", "", *_format_parts(table, part.columns)]
    return "\n".join(text) + "\n"


def _format_parts(table: PrintedTable, columns: Sequence[Column]) -> list[str]:
    first = max(map(len, [table.row_head, *table.names])) + 4
    parts = pack_columns(columns, _measure_markdown, first, MARKDOWN_WIDTH, balanced=True)
    lines: list[str] = []
    for part in parts:
        marked = {escape_markdown(column.title): _bold_cells(column) for column in part}
        rows = [
            {table.row_head: escape_markdown(name)}
            | {title: cells[row] for title, cells in marked.items()}
            for row, name in enumerate(table.names)
            if any(column.cells[row] != "-" for column in part)
        ]
        lines += ["", *format_markdown(rows)] if lines else format_markdown(rows)
    return lines


def _bold_cells(column: Column) -> list[str]:
    """Return the cells of a column with their marks, for Markdown."""
    cells = list(map(escape_markdown, column.cells))
    return [
        f"**{cell}**" if i in column.best else rf"{cell}\*" if i in column.tied else cell
        for i, cell in enumerate(cells)
    ]


def _measure_markdown(column: Column) -> int:
    return max(map(len, [escape_markdown(column.title), *_bold_cells(column)])) + 3


def _measure_column(column: Column) -> int:
    heads = map(show_control_characters, column.head)
    return max(map(len, [*heads, *_mark_cells(column)]))


def format_markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a Markdown table."""
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
