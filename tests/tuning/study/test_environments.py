"""A study of reinforcement learning, killed and resumed, exports what an undisturbed one does."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.command import run_tune, run_tune_and_kill
from tests.support.simulator import needs_simulator
from tests.support.undisturbed import TIMES

METHODS = ("ls", "fairgrad")
STUDY = ["--method", *METHODS, "--dataset", "mt1", "--trials", "2", "--epochs", "3", "--seeds", "2",
         "--search", "random"]  # fmt: skip
for setting in ("task=reach-v3+drawer-close-v3", "epoch_steps=12", "start_steps=6", "width=8",
                "depth=1", "capacity=30", "batch_size=16", "evaluation_goals=1"):  # fmt: skip
    STUDY += ["--set", setting]


def read_exports(results: Path) -> dict[str, str]:
    """Return the exported numbers that do not depend on the clock."""
    return {
        f"{method}/{name}": pd.read_csv(results / "mt1" / method / name)
        .drop(columns=TIMES)
        .to_csv()
        for method in METHODS
        for name in ("trials.csv", "seeds.csv")
    }


@pytest.mark.slow
@needs_simulator
@pytest.mark.parametrize("keeps", ["true", "false"])
def test_killed_study_exports_the_same(keeps: str, tmp_path: Path) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    command = [*STUDY, "--set", f"keep_replay={keeps}"]
    done = run_tune([*command, "--results", plain])
    assert done.code == 0, done.err
    records = tmp_path / "killed.records"
    assert run_tune_and_kill(
        [*command, "--results", killed],
        once=lambda: any(records.glob("mt1/*/runs/*/end.json")),
        after=0.5,
    )
    done = run_tune([*command, "--results", killed, "--resume"])
    assert done.code == 0, done.err
    assert read_exports(killed) == read_exports(plain)
    seeds = pd.read_csv(plain / "mt1" / "ls" / "seeds.csv")
    assert {"test_success", "test_worst_task_success"} <= set(seeds.columns)
    table = (plain / "mt1" / "table.md").read_text()
    assert all(f"| {method}" in table for method in METHODS)
