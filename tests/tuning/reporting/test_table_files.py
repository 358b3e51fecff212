"""Tables as files."""

from pathlib import Path

import pandas as pd

from tuning.reporting.layout.table_files import write_csv


def test_cells_with_line_breaks_are_quoted_on_every_python(tmp_path: Path) -> None:
    table = pd.DataFrame({"trial": [0, 1, 2], "reason": ["100%\rfailed", "two\nlines", "none"]})
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_bytes() == (
        b'trial,reason\n0,"100%\rfailed"\n1,"two\nlines"\n2,none\n'
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)


def test_numbers_keep_their_digits_but_no_error_of_floating_point(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 0.5999999999999999, 1 / 3, 2.0, 1e-7, float("nan"), float("inf"), -0.1]
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": [*values, "x", True, 3]}))
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    expected = ["0.3", "0.6", "0.3333333333333333", "2.0", "1e-07", '""', "inf", "-0.1"]
    assert lines == [*expected, "x", "True", "3"]
