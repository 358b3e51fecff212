"""Studies that a budget or a signal ends keep what they have and say how to resume."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import PATIENCE, ROOT, clean_environment, list_descendants, run_tune
from tests.tuning.study.test_study import read
from tuning.cli.main import main
from tuning.records.local_storage import LocalStorage
from tuning.reporting.status import read_statuses

pytestmark = pytest.mark.study


def test_budgets_stop_export_and_say_how_to_resume(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--method", "erm", "--dataset", "colored_digits", "--trials", "200",
                 "--results", results]  # fmt: skip
    done = run_tune([*arguments, "--max-device-hours", "0.0005"])
    assert done.code == 1, done.err
    assert "no result yet: erm" in done.out
    assert "--max-device-hours 0.0005 is used up; resume with (" in done.out
    resume = done.out.splitlines()[-1].split()
    assert "--resume" in resume
    assert resume[resume.index("--max-device-hours") + 1] == "0.001"
    assert 0 < len(read(results, "erm", "trials.csv")) < 200
    assert "Nothing learned" not in done.out  # in a few epochs
    (status,) = read_statuses(LocalStorage(tmp_path / "results.records"))
    assert status.study.sum_device_hours() >= 0.0005


def test_a_budget_leaves_confirmed_winners(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--method", "erm", "rwg", "--dataset", "colored_digits", "--trials", "500",
                 "--epochs", "4", "--seeds", "3", "--results", results]  # fmt: skip
    done = run_tune([*arguments, "--max-device-hours", "0.006"], parallel=True)
    assert done.ran_to_end, done.err + done.out
    assert "keep the rest of the budget for the confirmation seeds" in done.out
    assert done.out.splitlines()[-1].endswith("--max-device-hours 0.012 --resume")
    hours = 0.0
    for method in ("erm", "rwg"):
        trials, seeds = read(results, method, "trials.csv"), read(results, method, "seeds.csv")
        assert len(trials) < 500
        assert list(seeds.status) == ["completed"] * 3
        hours += trials.device_hours.sum() + seeds.device_hours.sum()
    assert hours < 0.009  # the budget, and the epochs that ran when it was used up


@pytest.mark.slow
def test_a_running_study_has_a_status_and_signals_keep_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    arguments = ["--method", "erm", "--dataset", "colored_digits", "--trials", "100",
                 "--seeds", "1", "--search", "random", "--results", str(results)]  # fmt: skip
    ended: set[Path] = set()
    for number, more in ((signal.SIGINT, []), (signal.SIGTERM, ["--resume"])):
        process = subprocess.Popen(
            [sys.executable, "tune.py", *arguments, *more], cwd=ROOT, env=clean_environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while len(list_ends(tmp_path)) <= len(ended) and time.monotonic() < deadline:
                time.sleep(0.2)
            if not more:
                with pause_training(process.pid):
                    check_running_study(process.pid, arguments, capsys)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 130, out + err
        assert err == ""
        assert f"python tune.py {' '.join(arguments)} --resume" in out
        trials = read(results, "erm", "trials.csv")
        assert set(trials.status) & {"completed", "pruned"}
        before, ended = ended, list_ends(tmp_path)
        assert before < ended
    done = run_tune([*arguments[:4], "--trials", str(len(trials)), *arguments[6:], "--resume"])
    assert done.ran_to_end, done.err
    assert len(read(results, "erm", "trials.csv")) == len(trials)


def list_ends(folder: Path) -> set[Path]:
    return set(folder.rglob("end.json"))


@contextmanager
def pause_training(study: int) -> Iterator[None]:
    """Let a study's training processes wait during the block."""
    titles = {n: Path(f"/proc/{n}/cmdline").read_bytes() for n in list_descendants(study)}
    names = (b"ray::ResourceTrainable", b"ray::TrialActor")  # at work, and between trials
    trainers = [process for process, title in titles.items() if title.startswith(names)]
    assert trainers, titles
    for process in trainers:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in trainers:
            os.kill(process, signal.SIGCONT)


def check_running_study(
    study: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Check the status of a study that a process runs, and that no other command can run it."""
    assert main(["status", "--results", arguments[-1]]) == 0
    text = capsys.readouterr().out
    assert f"run by process {study} on " in text
    assert "| searching" in text
    assert main([*arguments, "--resume"]) == 2
    refusal = capsys.readouterr().err
    assert "another command is running the study" in refusal
    assert f"process {study} on " in refusal
