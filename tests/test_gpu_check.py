"""A rehearsal of the check of a GPU, small and on a CPU: python -m benchmarks.gpu."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import host_waits, weightings
from benchmarks.gpu.__main__ import (
    ALONE_SECONDS,
    PARTS,
    SECONDS,
    TOGETHER,
    TOGETHER_SECONDS,
    PartProcess,
    Schedule,
    describe_verdict,
    run_parts,
    summarize,
    write_findings,
)
from benchmarks.gpu.compare_runs import _judge_runs, compare_run
from benchmarks.gpu.matrix_peak import find_peak
from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT
from core.training.steps import Trainer
from core.weighting import solve_alpha_fair_on_device

# These start processes of their own, or take a minute.
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


def test_a_step_that_reads_a_number_of_the_device_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clip_gradients(trainer: Trainer) -> None:
        next(p.grad for p in trainer.shared if p.grad is not None).norm().item()

    monkeypatch.setattr(host_waits, "list_pairs", lambda _: [("erm", "colored_digits")])
    good, bad = (Report("b", "cpu", True, tmp_path / f"{i}.json") for i in range(2))
    host_waits.find_host_waits(good)
    monkeypatch.setattr(Trainer, "_clip_gradients", clip_gradients)
    host_waits.find_host_waits(bad)
    assert [v["verdict"] for v in good.verdicts] == ["right"]
    assert [v["verdict"] for v in bad.verdicts] == ["WRONG"]
    assert ".norm().item()" in bad.verdicts[0]["text"]


def test_waits_are_allowed_in_named_functions_only() -> None:
    for file, names in host_waits.INTENDED_WAITS.items():
        text = (ROOT / file).read_text()
        for name in names:
            assert f"def {name}(" in text
            assert host_waits.is_intended(f"{file}:31 {name}: line  <- core/a.py:2 f")
        assert not host_waits.is_intended(f"{file}:31 setup: line  <- core/a.py:2 solve_weights")
    assert not host_waits.is_intended("core/training/steps.py:31 solve_weights: line  <- a.py:2 f")


def test_a_solver_that_differs_from_the_hosts_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solve(gram: Tensor, alpha: float) -> Any:
        found = solve_alpha_fair_on_device(gram, alpha)
        return found._replace(weights=found.weights * (1 + 1e-5))

    grams = [("K 2", torch.tensor([[2.0, -1.0], [-1.0, 3.0]], dtype=torch.float64))]
    monkeypatch.setattr(weightings, "_make_grams", lambda _: iter(grams))
    monkeypatch.setattr(weightings, "solve_alpha_fair_on_device", solve)
    report = Report("c", "cpu", True, tmp_path / "found.json")
    weightings._check_solver(report)
    assert {v["verdict"] for v in report.verdicts} == {"WRONG"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", None),
    ],
)
def test_the_peak_is_that_of_the_card(name: str, expected: float | None) -> None:
    assert find_peak(name) == expected


def test_an_interrupted_check_says_which_parts_did_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)

    def interrupt(part: PartProcess) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(PartProcess, "finish", interrupt)
    found: list[dict[str, Any]] = []
    given = argparse.Namespace(device="cpu", quick=True, seconds=60)
    assert not run_parts(given, ["d", "f", "i", "m"], found.append)
    assert [
        (part["part"], v["verdict"], v["text"]) for part in found for v in part["verdicts"]
    ] == [
        ("d", "unfinished", "was interrupted"),
        ("f", "unfinished", "had not begun"),
        ("i", "unfinished", "had not begun"),
        ("m", "unfinished", "had not begun"),
    ]
    write_findings(tmp_path, "made up", "torch", found, summarize(found, 0.0))
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("## made up, ")
    assert "right: not judged" in text
    assert "[d] unfinished was interrupted" in text


def test_nothing_is_right_of_runs_that_were_not_compared(tmp_path: Path) -> None:
    report = Report("a", "cpu", True, tmp_path / "found.json")
    _judge_runs(report, [])
    assert report.verdicts == []


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
