"""A study that is killed at any moment and resumed exports what an undisturbed one does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.command import ROOT, Done, descendants, environment, tune, tune_killed
from tests.tuning.test_study import QUICK, read

KILLS = int(os.environ.get("EVENHAND_KILLS", "2"))  # moments to try; 10 for the record
STUDY = [
    "--method", "erm", "jtt", "--dataset", "colored_digits", "--search", "random",
    "--scheduler", "none", "--trials", "3", "--seeds", "3", "--epochs", "6", "--set", "T=2",
    "--set", "up=6",
]  # fmt: skip
TIMES = ["seconds", "device_hours"]


def exported(results: Path) -> dict[str, Any]:
    """Return all exported numbers that do not depend on the clock."""
    found: dict[str, Any] = {}
    for method in ("erm", "jtt"):
        folder = results / "colored_digits" / method
        best = yaml.safe_load((folder / "best_config.yaml").read_text())
        best.pop("provenance")
        found[method] = {
            "best": best,
            "trials": pd.read_csv(folder / "trials.csv").drop(columns=TIMES).to_dict("list"),
            "seeds": pd.read_csv(folder / "seeds.csv").drop(columns=TIMES).to_dict("list"),
        }
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def recorded(records: Path) -> dict[str, dict[str, Any]]:
    """Return, per run, whether it has ended and the seconds that each recorded round took."""
    found = {}
    for folder in records.glob("colored_digits/*/runs/*"):
        for name in ("end.json", "rows.json"):
            if (folder / name).exists():
                data = json.loads((folder / name).read_text())
                rows = data["rows"] if name == "end.json" else data
                found[folder.name] = {
                    "ended": name == "end.json",
                    "seconds": [row["seconds"] for row in rows],
                }
                break
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """The exports of a study that ran through, and how long it took."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    start = time.monotonic()
    done = tune([*STUDY, "--results", results])
    assert done.code == 0, done.err
    return exported(results), time.monotonic() - start


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_study_exports_the_same(
    number: int, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    records = tmp_path / "results.records"
    expected, duration = undisturbed
    moment = random.Random(number).uniform(0.5, 0.9) * duration  # the first half is start-up
    killed = tune_killed([*STUDY, "--results", results], after=moment)
    before = recorded(records)
    done: Done = tune([*STUDY, "--results", results, "--resume"])
    assert done.code == 0, done.err
    assert exported(results) == expected
    after = recorded(records)
    assert all(run["ended"] for run in after.values())
    for key, run in before.items():
        # A round that was not trained again keeps the seconds that it took.
        kept = len(run["seconds"]) if run["ended"] else len(run["seconds"]) - 1
        assert after[key]["seconds"][:kept] == run["seconds"][:kept]
    ended = sum(run["ended"] for run in before.values())
    print(f"kill at {moment:.1f} s: killed {killed}, {len(before)} runs begun, {ended} ended")


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_its_round(tmp_path: Path) -> None:
    """The worker processes of a running study are killed; the numbers stay the same."""
    arguments = ["--method", "jtt", *QUICK, "--search", "random", "--scheduler", "none",
                 "--set", "T=5", "--set", "up=20"]  # fmt: skip
    assert tune([*arguments, "--results", tmp_path / "quiet"]).code == 0
    results = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "tune.py", *arguments, "--results", str(results)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True,
    )  # fmt: skip
    killed = 0
    while process.poll() is None and killed < 2:
        time.sleep(0.2)
        if not list((tmp_path / "killed.records").rglob("last.pt")):
            continue
        for child in descendants(process.pid):
            if b"Trainable" in (Path("/proc") / str(child) / "cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                killed += 1
                time.sleep(3)
                break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert killed
    for name in ("trials.csv", "seeds.csv"):
        one, other = (
            read(tmp_path / folder, "jtt", name).drop(columns=TIMES)
            for folder in ("quiet", "killed")
        )
        pd.testing.assert_frame_equal(one, other)
