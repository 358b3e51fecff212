"""Tables as files."""

from pathlib import Path

import pandas as pd

from tuning.reporting.table_files import write_csv


def test_cells_with_line_breaks_are_quoted_on_every_python(tmp_path: Path) -> None:
    table = pd.DataFrame({"trial": [0, 1, 2], "reason": ["100%\rfailed", "two\nlines", "none"]})
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_bytes() == (
        b'trial,reason\n0,"100%\rfailed"\n1,"two\nlines"\n2,none\n'
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)
