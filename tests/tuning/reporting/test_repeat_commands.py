"""The exported commands train what the winner's key says, for every method and data set."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import core.__main__
import datasets
from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar
from core.environment import detect_environment
from core.recipe.assignments import format_assignment, parse_assignments
from core.recipe.method_files import list_methods, load_method
from core.recipe.trial_key import TrialKey
from core.training.selection import get_rule
from datasets.benchmark import Benchmark
from tests.conftest import EMBEDDED, fitting
from tests.datasets.own.test_references import write_images
from tests.support.epoch_rows import make_row
from tuning.cli.make_options import make_options
from tuning.cli.parser import make_parser
from tuning.option_values import read_space
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Confirmation, RunEnd, TrialStatus
from tuning.reporting.export_method import export_method
from tuning.search.method_search import MethodSearch
from tuning.search.space import Space, make_space
from tuning.study.make_export_context import make_export_context

KNOWN = ("published", "grid")


def list_known(search: str) -> list[tuple[str, str]]:
    """Return all methods and data sets with published values, or with a grid."""
    return [
        (method, name)
        for method in list_methods()
        for name in getattr(load_method(method), search)
        if name in datasets.list_benchmarks()
    ]


CASES = [
    *((*pair, "random") for pair in fitting(list_methods(), EMBEDDED)),
    *((*pair, search) for search in KNOWN for pair in list_known(search)),
    *((*pair, "tpe") for pair in list_known("published")),
]


def open_benchmark(name: str, data_root: Path = Options.data_root) -> Benchmark:
    """Return a benchmark without reading its data."""
    benchmark = datasets.load_benchmark.__wrapped__(name, data_root)
    benchmark.__dict__["data_hash"] = "0"
    return benchmark


def export_winner(options: Options, folder: Path) -> tuple[dict[str, Any], TrialKey]:
    """Record a study whose last trial wins; return ``best_config.yaml`` and the winner's key."""
    benchmark = open_benchmark(options.dataset, options.data_root)
    method = load_method(options.methods[0])
    space = make_space(method, benchmark, options)
    records = MethodRecords(folder / "records")
    rule = get_rule(benchmark.default_selection_rule)
    search = MethodSearch(space, options, detect_environment(gpu=False), records, rule)
    metrics: dict[str, Any] = dict.fromkeys(benchmark.higher_is_better, 0.5)
    end = RunEnd(TrialStatus.COMPLETED, "", [make_row(1, **metrics)])
    while (trial := search.next_trial()) is not None:
        key = trial.keys[0]
        confirmation = Confirmation(1, metrics, metrics)
        for run in trial.runs:
            run.write_end(replace(end, confirmation=confirmation) if key.seed < 5 else end)
        search.report_crash(trial)  # it finds the end
    records.write_context(make_export_context(search, options))
    export_method(records, folder)
    path = folder / benchmark.name / options.methods[0] / "best_config.yaml"
    return yaml.safe_load(path.read_text()), key


def resolve_command(command: str) -> TrialKey:
    """Return the key of the run with seed 0 that a command asks for."""
    python, *arguments = shlex.split(command)
    assert python == "python"
    if arguments[0] == "tune.py":
        options = make_options(make_parser().parse_args(arguments[1:]))
        benchmark = open_benchmark(options.dataset, options.data_root)
        space = make_space(load_method(options.methods[0]), benchmark, options)
        values = space.published()
        assert options.search == "published"
        assert values is not None
        environment = detect_environment(
            False, options.cpus_per_trial, options.deterministic, options.precision
        )
        return space.resolved.make_key(space.complete(values), 0, environment)
    assert arguments[:2] == ["-m", "core"]
    args = core.__main__.make_parser().parse_args(arguments[2:])
    return core.__main__.make_key(args, open_benchmark(args.dataset, args.data_root))


@pytest.mark.parametrize("is_outside", [False, True])
def test_own_data_are_found_from_any_folder_though_their_file_changes(
    is_outside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("elsewhere" if is_outside else "data") / "my birds"
    write_images(folder)
    file = folder / "dataset.yaml"
    file.write_text("protocol: {model: tiny_vit, epochs: 3, lr: 0.5, optimizer: adamw}")
    given = "elsewhere/my birds" if is_outside else "folder:my birds"
    options = Options(("dro",), given, search="random", trials=1, seeds=1)
    exported, key = export_winner(options, tmp_path / "out")
    assert exported["dataset"] == key.dataset == "folder:my birds"
    assert key.training_config.lr == 0.5
    file.write_text("protocol: {epochs: 9, lr: 0.1}\nsearch: {eta: {uniform: [0, 1]}}")
    monkeypatch.chdir("/")
    for name in ("command", "command_of_one_seed"):
        assert resolve_command(exported[name]).as_dict() == replace(key, seed=0).as_dict()


@pytest.mark.parametrize(("method", "dataset", "search"), CASES)
def test_the_commands_train_what_the_winners_key_says(
    method: str, dataset: str, search: str, tmp_path: Path
) -> None:
    options = Options((method,), dataset, search=search, trials=1, seeds=1)
    exported, key = export_winner(options, tmp_path)
    for name in ("command", "command_of_one_seed"):
        assert resolve_command(exported[name]).as_dict() == replace(key, seed=0).as_dict()
    assert exported["training_config"] == key.training_config.as_dict()
    assert exported["recipe"] == key.recipe.as_dict()
    if search in ("random", "tpe"):
        check_space(exported, options, tmp_path)
    assert exported["provenance"]["seed_keys"] == [replace(key, seed=0).digest]
    for name, value in load_method(method).settings.items():
        assert exported["training_config"][name] == value or name in exported["hyperparameters"]


def check_space(exported: dict[str, Any], options: Options, folder: Path) -> None:
    """Check that the exported search space, as a file of ``--space``, is the study's."""
    method, benchmark = load_method(options.methods[0]), open_benchmark(options.dataset)
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(exported["selection"]["search_space"], sort_keys=False))
    values, domains = read_space(file)
    assert not values
    again = replace(options, domains=domains)
    assert make_space(method, benchmark, again).free == make_space(method, benchmark, options).free


def test_conditions_of_the_search_space_are_exported(tmp_path: Path) -> None:
    domains = {
        "optimizer": Hyperparameter("choice", ("sgd", "adamw"), "sgd"),
        "momentum": Hyperparameter("uniform", (0.0, 0.9), 0.5, {"optimizer": ("sgd",)}),
    }
    options = Options(
        ("erm",), "colored_digits", search="random", trials=2, seeds=1, domains=domains
    )
    exported, _ = export_winner(options, tmp_path)
    space = exported["selection"]["search_space"]
    assert space["momentum"] == {
        "uniform": [0.0, 0.9], "default": 0.5, "when": {"optimizer": ["sgd"]},
    }  # fmt: skip
    check_space(exported, options, tmp_path)


PINNED: tuple[Hyperparameters, ...] = (
    {"momentum": 0.5, "warmup_steps": 7, "schedule": "linear", "clip_norm": 0.5, "clip": "all"},
    {"epochs": 33, "patience": 4, "optimizer": "adamw"},
    {"lr": 1e-7, "weight_decay": 12345678.9, "batch_size": 3, "checkpointing": True},
)


@pytest.mark.parametrize("pinned", PINNED)
@pytest.mark.parametrize(
    ("method", "dataset", "search"),
    [
        ("jtt", "waterbirds", "published"),
        ("erm_mt_l1", "waterbirds", "grid"),
        ("erm_mt_l1", "colored_digits", "random"),
        ("fairgrad_groups", "colored_digits", "random"),
    ],
)
def test_values_that_the_command_fixed_are_repeated(
    method: str, dataset: str, search: str, pinned: Hyperparameters, tmp_path: Path
) -> None:
    options = Options((method,), dataset, search=search, trials=1, seeds=1, pinned=pinned)
    exported, key = export_winner(options, tmp_path)
    for name in ("command", "command_of_one_seed"):
        assert resolve_command(exported[name]).as_dict() == replace(key, seed=0).as_dict()
    for name, value in pinned.items():
        assert exported["training_config"][name] == exported["hyperparameters"][name] == value


@pytest.mark.deviation("dfr-base")
def test_published_dfr_on_waterbirds_says_its_hundred_epochs(tmp_path: Path) -> None:
    options = Options(("dfr",), "waterbirds", search="grid", seeds=1)
    exported, _ = export_winner(options, tmp_path)
    assert exported["training_config"]["epochs"] == exported["hyperparameters"]["epochs"] == 100
    assert "--epochs 100" in exported["command"]


@pytest.mark.parametrize(
    "value", [1e-05, 0.1 + 0.2, 3, True, False, "yes", "1e-3", "none", "null", "a: b", "it's", "~"]
)
def test_values_are_read_back_as_they_were(value: Scalar) -> None:
    (word,) = shlex.split(shlex.quote(format_assignment("name", value)))
    found = parse_assignments([word])["name"]
    assert (found, type(found)) == (value, type(value))


def test_space_of_the_fixed_values_is_closed() -> None:
    options = Options(("jtt",), "colored_digits", search="grid", pinned={"lr": 0.1})
    space: Space = make_space(load_method("jtt"), open_benchmark("colored_digits"), options)
    assert space.find_common_values("random") == {"lr": 0.1}
    published = space.find_common_values("published")
    assert published["lr"] == 0.1
    assert published["T"] == 5


@pytest.mark.parametrize(
    "arguments",
    [
        "--method jtt --dataset colored_digits --set momentum=uniform:0.5:0.9 --set warmup=0.1",
        "--method fairgrad --dataset two_digits --set alpha=choice:1,4 --set clip_norm=choice:1,2",
        "--method dfr --dataset waterbirds --search grid --set epochs=choice:3,5",
        "--method erm --dataset civilcomments_small --search published --set batch_size=4",
        "--method dwa --dataset nyuv2 --search random --set window=7",
    ],
)
def test_domains_and_values_of_a_command_are_repeated(arguments: str, tmp_path: Path) -> None:
    given = [*arguments.split(), "--trials", "2", "--seeds", "1"]
    exported, key = export_winner(make_options(make_parser().parse_args(given)), tmp_path)
    for name in ("command", "command_of_one_seed"):
        assert resolve_command(exported[name]).as_dict() == replace(key, seed=0).as_dict()
