"""Tables of the report: heads that sort, cells that are marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuning.reporting.layout.columns import Column

LONG_CELL = 45  # characters, from which a cell has several lines


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Args:
        text: Its text.
        css_class: Its classes in the page.
        first_order: The order that the first click sorts by: the best row comes first.
    """

    text: str
    css_class: str = ""
    first_order: str = "ascending"


@dataclass(frozen=True)
class Cell:
    """A cell.

    Args:
        text: Its text.
        css_class: Its classes in the page.
    """

    text: str
    css_class: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """A table of the page.

    Args:
        id: Its id.
        caption: Its caption.
        heads: The heads, the rows' names first.
        rows: The cells of each row.
    """

    id: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def has_details(self) -> bool:
        """Whether some columns are shown on demand."""
        return any("detail" in head.css_class for head in self.heads)


def make_column_table(
    table_id: str,
    caption: str,
    row_head: str,
    names: Sequence[str],
    columns: Sequence[Column],
    details: Sequence[Column] = (),
) -> HtmlTable:
    """Return a table of columns as other forms of tables have them.

    Args:
        table_id: Its id.
        caption: Its caption.
        row_head: The head of the rows' names.
        names: The name of each row.
        columns: The columns.
        details: Further columns, shown on demand.
    """
    placed = [(column, "") for column in columns] + [(column, "detail") for column in details]
    heads = [Head(row_head, "text")]
    heads += [
        Head(column.title, extra, "descending" if column.higher_is_better else "ascending")
        for column, extra in placed
    ]
    rows = [
        (Cell(name), *(_make_cell(column, row, extra) for column, extra in placed))
        for row, name in enumerate(names)
    ]
    return HtmlTable(table_id, caption, tuple(heads), tuple(rows))


def make_row_table(table_id: str, caption: str, rows: Sequence[Mapping[str, str]]) -> HtmlTable:
    """Return a table of rows by head, all of them texts.

    Args:
        table_id: Its id.
        caption: Its caption.
        rows: The rows; a missing cell is a dash.
    """
    heads = list(dict.fromkeys(name for row in rows for name in row))
    return HtmlTable(
        table_id, caption, tuple(Head(head, "text") for head in heads),
        tuple(tuple(_make_text_cell(row.get(head, "-")) for head in heads) for row in rows),
    )  # fmt: skip


def _make_text_cell(text: str) -> Cell:
    return Cell(text, "text long" if len(text) > LONG_CELL else "text")


def _make_cell(column: Column, row: int, extra: str) -> Cell:
    mark = "best" if row in column.best else "tied" if row in column.tied else ""
    return Cell(column.cells[row], " ".join(filter(None, (extra, mark))))
