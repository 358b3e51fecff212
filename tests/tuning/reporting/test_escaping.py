"""No text from data or YAML breaks out of a table, in any of its forms."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuning.reporting.layout.columns import Column
from tuning.reporting.layout.escaping import escape_markdown, protect_formula
from tuning.reporting.layout.latex import escape_latex, format_latex
from tuning.reporting.layout.printed_table import (
    PrintedTable,
    format_table_as_markdown,
    format_terminal,
)
from tuning.reporting.layout.table_files import write_csv

NAMES = [
    "<script>alert(1)</script>", "a & b_c %d #1 $x$ {y} ~ ^ \\input{z}", "=cmd|' /C calc'!A0",
    "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\u202egnp.exe", "two\nlines\n\nmore", "a|b", "[x](y)",
    "**bold**", "`code`", "&lt;", "\x1b[31mred", "*", "[8]", "\uff1d1", "a\u2028b", "_x_",
]  # fmt: skip
TEXTS = st.sampled_from(NAMES) | st.text(max_size=20) | st.text("<>&_%=+-@|\\`*[](){}\n$#~^ ab1.")


@settings(max_examples=40)
@given(TEXTS)
def test_csv_cells_are_no_formulas_and_numbers_stay(text: str) -> None:
    shown = protect_formula(text)
    assert shown in (text, f"'{text}")
    if shown.lstrip(" ").startswith(tuple("=+-@\t\r\n")):
        float(shown)  # a number, or this raises
    if text and re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
        assert shown == text


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS.filter(lambda text: "\x00" not in text and text.isprintable()))
def test_csv_files_hold_the_text_and_the_numbers(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({text: [text], "n": [-0.5]}))
    head, row = csv.reader(io.StringIO((tmp_path / "t.csv").read_text(encoding="utf-8")))
    assert head[0].removeprefix("'") == row[0].removeprefix("'") == text.removeprefix("'")
    assert row[1] == "-0.5"


@settings(max_examples=40)
@given(TEXTS)
def test_markdown_shows_text_as_it_is(text: str) -> None:
    shown = escape_markdown(text)
    assert not re.search(r"(?<!\\)(\\\\)*[|`*]", shown)
    assert not re.search(r"(?<!\\)(\\\\)*<[A-Za-z/!?]", shown.replace("<U+", ""))
    assert not re.search(r"[\x00-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    assert len(shown.splitlines()) <= 1


@settings(max_examples=40)
@given(TEXTS)
def test_latex_has_no_command_of_the_text(text: str) -> None:
    shown = escape_latex(text)
    bare = re.sub(
        r"\\text(backslash|asciitilde|asciicircum)\{\}|\\[{}$&%#_]|\$(<|>|\||\\pm|\\ge|\\le)\$"
        r"|\\dots\{\}|\{[\[*]\}", "", shown,
    )  # fmt: skip
    assert not re.search(r"[\\{}$&%#_~^<>\n\r]", bare)
    assert not re.search(r"[\x00-\x1f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize("name", NAMES)
def test_tables_keep_their_form(name: str) -> None:
    columns = (
        Column(("test", name), ("1.0 ± 0.1", "2.0 ± 0.1"), True, frozenset({1}), frozenset({0})),
        Column(("", "hyperparameters"), (name, "x=1")),
    )
    table = PrintedTable(name, name, "method", (name, "erm"), columns, (), (name,))
    rows = [row for row in format_table_as_markdown(table).splitlines() if row.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {3, 4}  # one part or two
    assert r"| 1.0 ± 0.1\* " in rows[2]
    assert "| **2.0 ± 0.1** " in rows[3]
    latex = [line for line in format_latex(table).splitlines() if line.endswith("tabularnewline")]
    assert len(re.findall(r"(?<!\\)&", "".join(latex))) == 4  # in one tabular, or in two
    assert not any(line.startswith(("[", "*")) for line in latex)
    lines = format_terminal(table, 120)
    assert "1.0 ± 0.1*" in lines[3]
    assert "2.0 ± 0.1^" in lines[4]
    assert not re.search(r"[\x00-\x1f\u202a-\u202e]", "".join(lines))
