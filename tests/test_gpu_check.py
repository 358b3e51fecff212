"""A rehearsal of the check of a GPU, small and on a CPU: python -m benchmarks.gpu."""

from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import LIMIT_SECONDS, PARTS, SECONDS, TOGETHER, describe_verdict
from benchmarks.gpu.compare_runs import compare_run
from benchmarks.gpu.report import Report

pytestmark = pytest.mark.usefixtures("one_thread")

# These start processes of their own.
WITH_PROCESSES = {"a", "e", "h", "k"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as in the command
@pytest.mark.parametrize("part", sorted(set(PARTS) - WITH_PROCESSES))
def test_each_part_runs_on_a_cpu(part: str, tmp_path: Path) -> None:
    report = Report(part, "cpu", True, tmp_path / "found.json")
    PARTS[part](report)
    assert [v["text"] for v in report.verdicts if v["verdict"] == "WRONG"] == []
    assert report.lines
    assert (tmp_path / "found.json").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_run_on_a_cpu_equals_itself() -> None:
    found = compare_run("erm", "colored_digits", "cpu")
    assert found["failed"] == {}
    assert found["again"]
    assert found["resumed"]
    assert found["shipped"] == found["early strict"] == 0


def test_all_parts_end_within_the_time() -> None:
    assert set(LIMIT_SECONDS) == set(PARTS)
    alone = sum(seconds for part, seconds in LIMIT_SECONDS.items() if part not in TOGETHER)
    assert alone + max(LIMIT_SECONDS[part] for part in TOGETHER) <= SECONDS
    assert SECONDS < 480


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "right: not judged"),
        (["right", "slow"], "right: yes (1 of 1 checks)"),
        (["right", "WRONG"], "right: no (1 of 2 checks)"),
        (["right", "unfinished"], "right: yes (1 of 1 checks, 1 unfinished)"),
    ],
)
def test_the_verdict_counts_checks(words: list[str], expected: str) -> None:
    verdicts = [{"verdict": word} for word in words]
    assert describe_verdict(verdicts, "right", "WRONG") == expected
