"""``--plan`` and a study's first line count what will run, also without data and weights."""

from itertools import takewhile
from pathlib import Path

import pytest

import datasets
from core.environment import detect_environment
from core.make_run import AnyRun, make_run
from core.recipe.method_files import load_method
from core.recipe.trial_key import TrialKey
from core.training import selection
from core.training.run import Run
from datasets.benchmark import Benchmark
from tests.conftest import EMBEDDED
from tuning.cli.main import main
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.resources import Node, Resources
from tuning.search.method_search import MethodSearch
from tuning.search.space import make_space
from tuning.study.cost import estimate_costs
from tuning.study.messages import describe_study

BY_CARD = [n for n in datasets.list_benchmarks() if datasets.load_benchmark(n).published_sizes]


def read_plan(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what ``--plan`` prints on a machine without data."""
    options = ["--data-root", str(folder / "none"), "--results", str(folder / "results")]
    capsys.readouterr()
    assert main([*arguments, *options, "--address", "local", "--plan"]) == 0
    assert not list(folder.iterdir())
    return capsys.readouterr().out


def read_rows(plan: str) -> dict[str, dict[str, str]]:
    """Return the cells of a plan's table of costs, by method and column."""
    lines = iter(plan.splitlines())
    head = next(line for line in lines if "epochs per trial" in line)
    table = [head, *takewhile(lambda line: line.startswith("|"), lines)]
    heads, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows}


@pytest.mark.parametrize(
    ("arguments", "method", "epochs", "steps"),
    [
        ("--dataset waterbirds --search published", "jtt", "199", "about 600, then at least 600"),
        (
            "--dataset waterbirds --search published --set epochs_cover=stage",
            "jtt",
            "210",
            "about 600, then at least 600",
        ),
        (
            "--dataset waterbirds --search grid --set epochs_cover=stage",
            "jtt",
            "210-230",
            "about 150-1199, then at least 150-1199",
        ),
        ("--dataset waterbirds --search grid", "dfr", "101", "about 150, then 0"),
        ("--dataset waterbirds --search random", "jtt", "240", "about 300, then at least 300"),
        (
            "--dataset waterbirds --search published --epochs 70",
            "jtt",
            "69",
            "about 600, then at least 600",
        ),
        (
            "--dataset waterbirds --search published --set T=3",
            "jtt",
            "199",
            "about 600, then at least 600",
        ),
        (
            "--dataset civilcomments_small --search published",
            "jtt",
            "49",
            "about 1722, then at least 1722",
        ),
        ("--dataset celeba --search grid --set batch_size=64", "dfr", "51", "about 2544, then 0"),
        ("--dataset cityscapes --search published", "fairgrad", "200", "about 335"),
    ],
)
def test_plans_without_data_count_what_published_and_grid_set(
    arguments: str, method: str, epochs: str, steps: str, folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = read_plan(["--method", method, *arguments.split()], folder, capsys)
    row = read_rows(plan)[method]
    assert (row["epochs per trial"], row["steps per epoch"]) == (epochs, steps)
    assert (row["s per epoch"], row["device-hours"]) == ("-", "-")
    assert "estimated from the data card" in plan
    assert "nothing was started" in plan


@pytest.mark.parametrize("dataset", BY_CARD)
def test_every_data_set_with_sizes_can_be_planned_without_its_data(
    dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_plan(["--method", "all", "--dataset", dataset], folder, capsys)
    fitting = datasets.load_benchmark(dataset).provides
    assert {"erm", "dfr"} <= set(read_rows(plan)) or {"ls", "fairgrad"} <= set(read_rows(plan))
    assert fitting
    for split, count in datasets.load_benchmark(dataset).published_sizes.items():
        assert f"{count:,} {split}" in plan


@pytest.mark.parametrize("dataset", BY_CARD)
def test_sizes_of_the_card_agree_with_the_published_groups(dataset: str) -> None:
    benchmark = datasets.load_benchmark(dataset)
    assert list(benchmark.published_sizes) == ["train", "validation", "test"]
    for split, counts in getattr(benchmark, "published_counts", {}).items():
        assert sum(counts) == benchmark.published_sizes[split]


def test_models_and_gpus_of_the_cluster_need_not_be_here(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--method", "erm", "--dataset", "waterbirds", "--set", "model=/cluster/vit"]
    plan = read_plan([*asked, "--gpus-per-trial", "0.25"], folder, capsys)
    assert "model '/cluster/vit': not on this machine" in plan
    assert "each trial takes 1 CPU, 0.25 GPUs" in plan


@pytest.mark.parametrize("dataset", [*EMBEDDED, "waterbirds"])
def test_mistakes_are_refused_in_a_plan_too(
    dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data-root", str(folder / "none"), "--results", str(folder / "r"), "--plan"]
    assert main(["--method", "all", "--dataset", dataset, "--set", "lrr=1", *options]) == 2
    assert "did you mean 'lr'" in capsys.readouterr().err
    assert main(["--method", "erm", "--dataset", "folder", *options]) == 2
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "search", "words"),
    [
        ("dfr", "grid", "7 trials (grid, asha) of 101 epochs, then"),
        ("erm", "grid", "10 trials (grid, asha) of 200 epochs, then"),
        ("jtt", "grid", "16 trials (grid, asha) of 199 epochs, then"),
        ("jtt", "published", "published hyperparameters for 199 epochs, 5 confirmation seeds"),
        ("dfr", "random", "of 201 epochs, then"),
    ],
)
def test_the_first_line_of_a_study_counts_what_a_grid_sets(
    method: str, search: str, words: str, tmp_path: Path
) -> None:
    benchmark = datasets.load_benchmark("waterbirds")
    options = Options((method,), "waterbirds", search=search)
    space = make_space(load_method(method), benchmark, options)
    rule = selection.get_rule(benchmark.default_selection_rule)
    records = MethodRecords(tmp_path / "records")
    found = MethodSearch(space, options, detect_environment(gpu=False), records, rule)
    assert words in describe_study([found], options, [Node("a", 2, 0)], Resources(1, 0))


def test_methods_of_a_kind_are_built_once_and_recorded_epochs_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    timed: list[str] = []

    def make_noted(key: TrialKey, benchmark: Benchmark) -> AnyRun:
        built.append(key.recipe.weighting.name)
        return make_run(key, benchmark)

    def measure(run: Run, max_seconds: float) -> tuple[float, ...]:
        timed.append(run.key.recipe.weighting.name)
        return (1.0,)

    monkeypatch.setattr("tuning.study.cost.make_run", make_noted)
    monkeypatch.setattr("tuning.study.cost.measure_stage_seconds", measure)
    monkeypatch.setattr("tuning.study.cost.SHORT_TIMING_SECONDS", -1.0)
    options = Options(("cagrad", "imtl", "uw"), "two_digits", results=tmp_path / "results")
    spaces = [
        make_space(load_method(name), datasets.load_benchmark("two_digits"), options)
        for name in options.methods
    ]
    first = estimate_costs(options, spaces, Resources(1, 0))
    assert built == timed == ["cagrad", "uw"]
    assert [cost.source for cost in first] == ["steps timed here", "as cagrad", "steps timed here"]
    assert str(first[1].steps) == str(first[0].steps)
    monkeypatch.setattr("tuning.study.cost._average_recorded_seconds", lambda runs: {0: 2.0})
    again = estimate_costs(options, spaces, Resources(1, 0))
    assert timed == ["cagrad", "uw"]
    assert {cost.source for cost in again} == {"recorded epochs"}
    assert all(cost.disk == before.disk for cost, before in zip(again, first, strict=True))
