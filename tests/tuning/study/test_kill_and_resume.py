"""A study that is killed at any moment and resumed exports what an undisturbed one does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import (
    PATIENCE,
    ROOT,
    CommandResult,
    clean_environment,
    list_descendants,
    ran_to_end,
    run_tune,
    run_tune_and_kill,
)
from tests.support.undisturbed import STUDY, exported
from tests.support.undisturbed import undisturbed as undisturbed

pytestmark = pytest.mark.study

KILLS = int(os.environ.get("EVENHAND_KILLS", "2"))  # moments to try; 10 for the record


def recorded(records: Path) -> dict[str, dict[str, Any]]:
    """Return, per run, whether it has ended and the seconds that each recorded epoch took."""
    found = {}
    for folder in records.glob("colored_digits/*/runs/*"):
        for name in ("end.json", "rows.json"):
            with suppress(FileNotFoundError):  # or gone at this moment: the run has ended
                data = json.loads((folder / name).read_text())
                rows = data["rows"] if name == "end.json" else data
                found[folder.name] = {
                    "ended": name == "end.json",
                    "seconds": [row["seconds"] for row in rows],
                }
                break
    return found


def epochs(runs: dict[str, dict[str, Any]]) -> int:
    """Return how many epochs are recorded."""
    return sum(len(run["seconds"]) for run in runs.values())


@pytest.mark.slow
def test_a_study_killed_several_times_exports_the_same(undisturbed: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    records = tmp_path / "results.records"
    chance = random.Random(0)
    everything = epochs(recorded(undisturbed.with_name("results.records")))
    before: list[dict[str, dict[str, Any]]] = []
    for number in range(KILLS):
        low, high = (0.05 + 0.75 * (number + end) / KILLS for end in (0, 1))
        share = chance.uniform(low, high)  # of what the study trains

        def has_trained(count: float = share * everything) -> bool:
            return epochs(recorded(records)) >= count

        killed = run_tune_and_kill(
            [*STUDY, "--results", results, *(["--resume"] if before else [])],
            once=has_trained,
            after=chance.uniform(0, 0.3),
        )
        assert killed
        before.append(recorded(records))
        ended = sum(run["ended"] for run in before[-1].values())
        print(f"killed at {share:.0%}: {len(before[-1])} runs begun, {ended} ended")
    done: CommandResult = run_tune([*STUDY, "--results", results, "--resume"])
    assert done.ran_to_end, done.err
    assert exported(results, "erm", "jtt") == exported(undisturbed, "erm", "jtt")
    after = recorded(records)
    assert all(run["ended"] for run in after.values())
    for key, run in (item for runs in before for item in runs.items()):
        # An epoch that was not trained again keeps the seconds that it took.
        kept = len(run["seconds"]) if run["ended"] else len(run["seconds"]) - 1
        assert after[key]["seconds"][:kept] == run["seconds"][:kept]


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_its_epoch(undisturbed: Path, tmp_path: Path) -> None:
    """The worker processes of a running study are killed; the numbers stay the same."""
    results = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "tune.py", *STUDY, "--results", str(results)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environment(),
    )  # fmt: skip
    killed = 0
    while process.poll() is None and killed < 2:
        time.sleep(0.2)
        if not list((tmp_path / "killed.records").rglob("last.pt")):
            continue
        for child in list_descendants(process.pid):
            if b"Trainable" in (Path("/proc") / str(child) / "cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                killed += 1
                time.sleep(3)
                break
    out, err = process.communicate(timeout=PATIENCE)
    assert ran_to_end(process.returncode, err), out + err
    assert killed
    assert exported(results, "erm", "jtt") == exported(undisturbed, "erm", "jtt")
