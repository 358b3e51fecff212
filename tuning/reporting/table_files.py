"""Tables as files: CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from common.files import write_text


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, with quotes around cells that hold a line break."""
    # With this end of rows, Python before 3.11.9 and 3.12.3 quotes carriage returns too.
    text = str(table.to_csv(index=False, lineterminator="\r\n"))
    write_text(path, text.replace("\r\n", "\n"))


def write_table(
    path: Path,
    values: Sequence[Mapping[str, object]],
    printed: Sequence[Mapping[str, str]],
    notes: Sequence[str],
    title: str,
) -> None:
    """Write ``path.csv``, ``path.md`` and ``path.tex``.

    Args:
        path: The path without its suffix.
        values: The rows of the CSV file, with full precision.
        printed: The rows of the other files.
        notes: Paragraphs below the table, or its caption.
        title: The title.
    """
    write_csv(path.with_suffix(".csv"), pd.DataFrame(values))
    text = [f"# {title}", "", *format_markdown(printed), "", *(f"{note}\n" for note in notes)]
    write_text(path.with_suffix(".md"), "\n".join(text).rstrip() + "\n")
    frame = pd.DataFrame(printed).map(_escape_latex).rename(columns=_escape_latex)
    caption = _escape_latex(" ".join([f"{title}.", *notes]))
    latex = frame.to_latex(index=False, escape=False, caption=caption)
    write_text(path.with_suffix(".tex"), latex)


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


def _escape_latex(text: object) -> str:
    escaped = str(text).replace("±", "$\\pm$")
    for character in "%_#&":
        escaped = escaped.replace(character, "\\" + character)
    return escaped
