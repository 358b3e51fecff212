"""A rehearsal of the check of a GPU, small and on a CPU: python -m benchmarks.gpu."""

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import (
    ALONE_SECONDS,
    PARTS,
    SECONDS,
    TOGETHER,
    TOGETHER_SECONDS,
    PartProcess,
    Schedule,
    describe_verdict,
)
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
    assert sorted([*TOGETHER, *ALONE_SECONDS]) == sorted(PARTS)
    assert TOGETHER_SECONDS + sum(ALONE_SECONDS.values()) <= SECONDS < 480


def test_a_part_that_ends_before_it_begins_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    part = PartProcess("d", tmp_path, argparse.Namespace(device="cpu", quick=True))
    part.process.wait()
    part.begin(60)
    assert part.finish()["verdicts"] == [
        {"part": "d", "verdict": "WRONG", "text": "ended with code 1"}
    ]


def test_parts_share_the_time_that_is_left() -> None:
    schedule = Schedule(["m", "a", "d", "e"], 1000)
    assert (schedule.together, schedule.alone) == (["a", "e"], ["d", "m"])
    every = TOGETHER_SECONDS + ALONE_SECONDS["d"] + ALONE_SECONDS["m"]
    assert schedule.take_limit() == pytest.approx(1000 * TOGETHER_SECONDS / every, abs=5)
    half = ALONE_SECONDS["d"] / (ALONE_SECONDS["d"] + ALONE_SECONDS["m"])
    assert schedule.take_limit() == pytest.approx(1000 * half, abs=5)  # no time has passed
    assert schedule.take_limit() == pytest.approx(1000, abs=5)


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
