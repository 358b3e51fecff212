"""The steps and epochs of ``--plan`` are those that the trainer takes, stage by stage."""

from pathlib import Path

import pytest

import datasets
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.training.context import EpochPosition
from core.training.run import Run
from tests.conftest import fitting
from tuning.cli.main import main
from tuning.options import Options
from tuning.search.space import make_space
from tuning.study.steps import count_epoch_steps

# The built-in benchmarks of groups and of tasks.
PAIRS = fitting(list_methods(), ("colored_digits", "two_digits"))
CPU = detect_environment(gpu=False)


@pytest.mark.parametrize(("method", "dataset"), PAIRS)
def test_plan_counts_what_the_trainer_does(method: str, dataset: str) -> None:
    search = "grid"
    benchmark = datasets.load_benchmark(dataset)
    options = Options((method,), dataset, search=search)
    space = make_space(load_method(method), benchmark, options)
    values = space.find_common_values(search)
    key = space.resolved.make_key(values, 0, CPU)
    planned = count_epoch_steps(space, search, key, Run(key, benchmark))
    first = space.complete(space.grid()[0])
    run = Run(space.resolved.make_key(first, 0, CPU), benchmark)
    counts = space.count_epochs(search)[0]
    assert counts.total == run.total_epochs
    steps = planned.by_batch_size[run.context.config.batch_size]
    assert len(steps) == len(run.context.stages)
    for index, stage in enumerate(run.context.stages):
        run.begin_stage(index)
        _, batches = run.prepare_epoch(EpochPosition(index, 0))
        taken = 0 if stage.splits_validation else len(batches)
        assert (steps[index], planned.bounds[index] == "at least ") == (
            taken,
            method == "jtt" and index == 1,
        )


@pytest.mark.parametrize(
    ("method", "settings", "steps"),
    [
        ("jtt", {"T": 1, "up": 4, "epochs": 1}, "2, then at least 2"),
        ("dfr", {"epochs": 1, "c": 0.1}, "2, then 0"),
        ("subg", {"epochs": 1}, "1"),
        ("erm", {"epochs": 1}, "2"),
    ],
)
def test_trained_epochs_have_the_planned_steps(
    method: str, settings: dict[str, int], steps: str
) -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    options = Options((method,), "colored_digits", pinned={**settings, "batch_size": 700})
    space = make_space(load_method(method), benchmark, options)
    key = space.resolved.make_key(space.find_common_values("tpe"), 0, CPU)
    run = Run(key, benchmark)
    planned = count_epoch_steps(space, "tpe", key, run)
    assert str(planned) == steps
    (by_stage,) = planned.by_batch_size.values()
    rows = [run.train_epoch() for _ in range(run.total_epochs)]
    for row in rows:
        least = planned.bounds[row.stage] == "at least "
        assert row.steps >= by_stage[row.stage] if least else row.steps == by_stage[row.stage]


def test_a_grid_of_batch_sizes_and_subsets_show_their_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "--method erm subg suby --dataset waterbirds --search grid --address local --plan"
    none = ["--data-root", str(tmp_path / "none"), "--results", str(tmp_path / "results")]
    assert main([*command.split(), *none]) == 0
    out = capsys.readouterr().out
    assert "| about 75-1199 " in out  # 4,795 examples in batches of 64 and 4
    assert "| about 4-56 " in out  # four groups of 56 in batches of 64 and 4
    assert "| about 35-557 " in out  # two classes of 1,113 in batches of 64 and 4
    assert "at most" not in out


@pytest.mark.parametrize(
    ("command", "steps", "reason"),
    [
        (
            "--method suby --dataset civilcomments --set batch_size=16",
            "about at most 16815",
            "at most N steps: a subset as large as the smallest group or class allows",
        ),
        (
            "--method jtt --dataset waterbirds --search published",
            "about 600, then at least 600",
            "at least N steps: a stage repeats the examples that the stage before finds wrong",
        ),
    ],
)
def test_a_bound_of_the_steps_is_explained(
    command: str, steps: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = ["--data-root", str(tmp_path / "none"), "--results", str(tmp_path / "results")]
    assert main([*command.split(), "--address", "local", "--plan", *none]) == 0
    out = capsys.readouterr().out
    assert f"| {steps} " in out
    assert reason in out
