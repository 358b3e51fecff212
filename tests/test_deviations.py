"""``docs/deviations.md``: a test holds each line, and each option that it names works."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tuning.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
MARK = "deviation"


class Line(NamedTuple):
    """A line of the document."""

    id: str
    ours: str
    theirs: str
    restore: str


class Case(NamedTuple):
    """What an option of a line is tried with."""

    method: str
    dataset: str = "colored_digits"


# Methods and data on which the options of a line mean something; ERM on digits elsewhere.
CASES = {
    "jtt-epochs": Case("jtt"),
    "jtt-errors": Case("jtt"),
    "stage-schedule": Case("jtt"),
    "auxiliary-batch": Case("erm_mt"),
    "l1-tokens": Case("erm_l1", "civilcomments_small"),
    "padding": Case("erm_l1", "civilcomments_small"),
    "erm-l1-batch": Case("erm_l1"),
    "dro-step": Case("dro"),
    "dfr-base": Case("dfr", "waterbirds"),
    "held-out-frames": Case("fairgrad", "nyuv2"),
    "qm9-scale": Case("fairgrad", "qm9"),
    "task-selection": Case("fairgrad", "celeba40"),
    "batch-means": Case("fairgrad", "nyuv2"),
    "normal-loss": Case("fairgrad", "two_digits"),
    "task-seeds": Case("fairgrad", "two_digits"),
    "step-length": Case("fairgrad", "two_digits"),
    "clipping": Case("fairgrad", "two_digits"),
    "published-baselines": Case("pcgrad", "two_digits"),
    "weighted-heads": Case("fairgrad", "two_digits"),
    "dwa-window": Case("dwa", "two_digits"),
    "sdmgrad": Case("sdmgrad", "two_digits"),
    "uw-rate": Case("uw", "two_digits"),
    "famo-gamma": Case("famo", "two_digits"),
    "fairgrad-alpha": Case("fairgrad", "two_digits"),
}


def read_lines(text: str = TEXT) -> list[Line]:
    """Return the lines of both tables."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return [Line(*row) for row in cells if row[0] != "id" and not row[0].startswith("---")]


def read_marks() -> Iterator[str]:
    """Yield the ids that tests are marked with, as the sources say."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if MARK not in (text := path.read_text(encoding="utf-8")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                for call in node.decorator_list:
                    if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(f".{MARK}"):
                        yield from (ast.literal_eval(argument) for argument in call.args)


def list_spans(pattern: str) -> list[tuple[str, str]]:
    """Return the code of the last column that matches a pattern, with the line's id."""
    return [
        (line.id, span)
        for line in read_lines()
        for span in re.findall(r"`([^`]+)`", line.restore)
        if re.match(pattern, span)
    ]


def test_every_line_has_an_id_of_its_own_and_four_cells() -> None:
    names = [line.id for line in read_lines()]
    assert len(names) > 60
    assert len(set(names)) == len(names)
    assert all(all(line) for line in read_lines())


def test_a_test_holds_every_line_and_every_mark_has_a_line() -> None:
    assert set(read_marks()) == {line.id for line in read_lines(TEXT)}


def test_a_new_line_is_read_whatever_its_cells_hold() -> None:
    last = TEXT.rstrip().splitlines()[-1]
    new = TEXT.replace(last, f"{last}\n| brand-new | `a` or b | c | `--seeds 3`, not restored |")
    assert new != TEXT
    added = {line.id for line in read_lines(new)} - set(read_marks())
    assert added == {"brand-new"}


@pytest.mark.medium
@pytest.mark.parametrize(("name", "options"), list_spans("--"))
def test_options_of_the_last_column_are_accepted(
    name: str,
    options: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuning.study.cost.TIMING_SECONDS", 0.0)  # times are not looked at
    method, dataset = CASES.get(name, Case("erm"))
    # Built-in data sets train an epoch; others are planned by their data card, in little time.
    given = ["--method", method, "--dataset", dataset, "--data-root", str(tmp_path / "none")]
    storage = ["--storage", str(tmp_path / "results")]
    assert main([*given, *storage, "--plan", *options.split()]) == 0, capsys.readouterr().err
    assert "trial" in capsys.readouterr().out
