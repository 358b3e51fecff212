"""Tables as CSV: every text comes back, whatever characters it holds."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.formats.csv_tables import hash_table, read_csv, to_csv, write_table

CONTROLS = "\r\n\x00\x0b\x0c\x1a\x1c\x1d\x1e\x85\u2028\u2029\ufeff\ue000,;\t\"' ab\u00e9"
TEXTS = st.text(st.sampled_from(CONTROLS) | st.characters(codec="utf-8"), max_size=8)
ENDS = {"unix": "\n", "dos": "\r\n", "old mac": "\r"}
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.medium
@shared_folder
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_texts_come_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    table = pd.DataFrame(rows, columns=["one", "two"])
    for columns in (["one", "two"], ["one"]):
        write_table(tmp_path / "t.csv", table[columns])
        found = read_csv(tmp_path / "t.csv", columns)
        assert found.to_numpy().tolist() == table[columns].to_numpy().tolist()


@shared_folder
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.sampled_from(list(ENDS)))
def test_quoted_texts_of_any_writer_come_back(
    tmp_path: Path, rows: list[tuple[str, str]], system: str
) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator=ENDS[system])
    writer.writerows([("one", "two"), *rows])
    (tmp_path / "t.csv").write_bytes(written.getvalue().encode())
    assert read_csv(tmp_path / "t.csv", ["one"]).to_numpy().tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_carriage_return_without_quotes_ends_no_row(tmp_path: Path, end: str) -> None:
    """Python before 3.11.9 and 3.12.3 writes it so."""
    rows = ["id,text", "0,first line\rsecond line", "1,next", "2,\rx", '3,"y\r\nz\r"']
    (tmp_path / "t.csv").write_bytes((end.join(rows) + end).encode())
    texts = read_csv(tmp_path / "t.csv", ["text"])["text"].tolist()
    assert texts == ["first line\rsecond line", "next", "\rx", "y\r\nz\r"]


def test_a_table_of_the_glue_benchmark_has_rows_of_lines(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b'one\ttwo\n"a\tb\rc\x00\xe2\x80\xa8\nd\t"e\n')
    found = read_csv(tmp_path / "t.tsv", ["one"], separator="\t")
    assert found.to_numpy().tolist() == [['"a', "b\rc\x00\u2028"], ["d", '"e']]


def test_the_form_of_a_table_is_fixed() -> None:
    """Names of caches and trials' keys depend on it."""
    table = pd.DataFrame(
        {"id": [1, 2], "text": ["a\rb", 'say "no", or\nso'], "blank": ["", "\x85"]}
    )
    assert to_csv(table) == 'id,text,blank\n1,"a\rb",\n2,"say ""no"", or\nso",\x85\n'
    plain = table.assign(text=["a b", "c, \u00e9"])
    assert to_csv(plain) == plain.to_csv(index=False, lineterminator="\n")
    assert hash_table(plain) != hash_table(table)
