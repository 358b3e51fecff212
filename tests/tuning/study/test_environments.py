"""A study of reinforcement learning, killed and resumed, exports what an undisturbed one does."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.command import run_tune, run_tune_and_kill
from tests.support.simulator import needs_simulator
from tests.support.undisturbed import TIMES
from tuning.cli.main import main

pytestmark = pytest.mark.study

METHODS = ("ls", "fairgrad")
STUDIES = {
    "mt1": ["--epochs", "3", "--seeds", "2", "--set", "task=reach-v3+drawer-close-v3",
            "--set", "keep_replay=false"],
    # Of this protocol's single goals the simulator draws the fewest.
    "mt10": ["--epochs", "2", "--seeds", "1", "--set", "protocol=system2"],
}  # fmt: skip
STUDY = ["--method", *METHODS, "--trials", "2", "--search", "random"]
for setting in ("epoch_steps=12", "start_steps=6", "width=8",
                "depth=1", "capacity=30", "batch_size=16", "evaluation_goals=1"):  # fmt: skip
    STUDY += ["--set", setting]


def read_exports(results: Path, dataset: str) -> dict[str, str]:
    """Return the exported numbers that do not depend on the clock."""
    return {
        f"{method}/{name}": pd.read_csv(results / dataset / method / name)
        .drop(columns=TIMES)
        .to_csv()
        for method in METHODS
        for name in ("trials.csv", "seeds.csv")
    }


@pytest.mark.slow
@needs_simulator
@pytest.mark.parametrize("dataset", STUDIES)
def test_killed_study_exports_the_same(dataset: str, tmp_path: Path) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    command = [*STUDY, "--dataset", dataset, *STUDIES[dataset]]
    done = run_tune([*command, "--results", plain])
    assert done.code == 0, done.err
    records = tmp_path / "killed.records"
    assert run_tune_and_kill(
        [*command, "--results", killed],
        once=lambda: any(records.glob(f"{dataset}/*/runs/*/end.json")),
        after=0.5,
    )
    done = run_tune([*command, "--results", killed, "--resume"])
    assert done.code == 0, done.err
    assert read_exports(killed, dataset) == read_exports(plain, dataset)
    seeds = pd.read_csv(plain / dataset / "ls" / "seeds.csv")
    assert {"test_success", "test_worst_task_success"} <= set(seeds.columns)
    if dataset == "mt1":  # the metrics of the tasks that were trained
        names = {f"test_success_{task}" for task in ("reach-v3", "drawer-close-v3")}
        assert names <= set(seeds.columns)
        columns = pd.read_csv(plain / dataset / "table.csv").columns
        assert {f"{name}_mean" for name in names} <= set(columns)
    table = (plain / dataset / "table.md").read_text()
    assert all(f"| {method}" in table for method in METHODS)


def test_replay_larger_than_memory_is_refused_before_the_study(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--method", *METHODS, "--dataset", "mt1", "--set", "capacity=900000000",
               "--address", "local", "--results", str(tmp_path / "results")]  # fmt: skip
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "capacity: received 900,000,000: the replay of 1 task" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
