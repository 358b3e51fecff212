"""Studies that a budget or a signal ends keep what they have and say how to resume."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import ROOT, clean_environment, run_tune
from tests.tuning.study.test_study import read


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
    trials = read(results, "erm", "trials.csv")
    assert 0 < len(trials) < 200
    assert trials.seconds.sum() >= 0.0005 * 3600


def test_a_budget_leaves_confirmed_winners(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--method", "erm", "rwg", "--dataset", "colored_digits", "--trials", "500",
                 "--epochs", "4", "--seeds", "3", "--results", results]  # fmt: skip
    done = run_tune([*arguments, "--max-device-hours", "0.006"])
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_keep_all_and_say_how_to_resume(number: signal.Signals, tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--method", "erm", "--dataset", "colored_digits", "--trials", "100",
                 "--seeds", "1", "--search", "random", "--results", str(results)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "tune.py", *arguments], cwd=ROOT, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not list(tmp_path.rglob("end.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err == ""
    assert f"python tune.py {' '.join(arguments)} --resume" in out
    trials = read(results, "erm", "trials.csv")
    assert set(trials.status) & {"completed", "pruned"}
    done = run_tune([*arguments[:4], "--trials", str(len(trials)), *arguments[6:], "--resume"])
    assert done.ran_to_end, done.err
    assert len(read(results, "erm", "trials.csv")) == len(trials)
