"""Study files: what a study writes, --config reads, and resume continues."""

from pathlib import Path

import pandas as pd
import pytest

from common.errors import UserError
from common.yaml_files import parse_yaml
from tests.datasets.own.test_references import write_images
from tests.support.command import run_tune
from tuning.cli.main import main
from tuning.cli.make_options import make_command, make_options
from tuning.cli.parser import make_parser
from tuning.cli.resume import find_studies
from tuning.cli.study_file import list_study_arguments, merge_arguments, parse_study
from tuning.options import FLAGS, Options
from tuning.reporting.study_results import StudyResults
from tuning.study.data_sets import list_studies, share_time
from tuning.study.study_file import StudyCommand, format_study, name_key, write_study_file

STUDY = ["--method", "erm", "rwg", "--dataset", "colored_digits"]
DOMAINS = """
lr: {log_uniform: [1e-5, 0.1], default: 0.01}
momentum: {uniform: [0, 0.99], default: 0.9, when: {optimizer: [sgd]}}
optimizer: {choice: [sgd, adam]}
batch_size: 16
"""


def parse(*arguments: str) -> Options:
    return make_options(make_parser().parse_args(arguments))


def repeat_options(options: Options) -> Options:
    """Return the options that a study's own file gives."""
    return make_options(
        parse_study(parse_yaml(format_study(StudyCommand(options, (options.dataset,)))), "--config")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "", "--trials 3 --seeds 2 --epochs 4 --search random --scheduler none --study-seed 7",
        "--set lr=0.01 --set model=a:b --set schedule=none --set batch_size=choice:8,16",
        "--set model=true --set clip=1e-05", "--audit-test --report-training --keep-models",
        "--gpus-per-trial 0.25 --cpus-per-trial 2 --precision float32 --deterministic",
        "--gpus-per-trial 0", "--gpus-per-trial auto --address auto --search-seeds 2",
        "--time-limit 1h30m --max-device-hours 0.5", "--time-limit 0.5s --max-device-hours 1e-3",
        "--storage s3://bucket/records", "--select validation_average_accuracy",
    ],
)  # fmt: skip
def test_a_study_file_repeats_the_options(arguments: str) -> None:
    options = parse(*STUDY, *arguments.split())
    assert repeat_options(options) == options
    if not options.domains:
        assert parse(*list_study_arguments(StudyCommand(options, (options.dataset,)))) == options


def test_a_study_file_holds_domains_and_absolute_paths(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(DOMAINS)
    options = parse(*STUDY, "--space", str(space), "--results", "out", "--data-root", "images")
    assert options.domains["momentum"].when == {"optimizer": ("sgd",)}
    again = repeat_options(options)
    assert (again.domains, again.pinned) == (options.domains, options.pinned)
    assert (again.results, again.data_root) == (Path.cwd() / "out", Path.cwd() / "images")


def test_a_study_file_holds_all_data_sets(tmp_path: Path) -> None:
    given = ["--method", "ls", "--dataset", "two_digits", "imbalanced_tasks"]
    given += ["--max-device-hours", "3", "--results", str(tmp_path)]
    command = make_command(make_parser().parse_args(given))
    text = format_study(command)
    assert make_command(parse_study(parse_yaml(text), "--config")) == command
    assert make_command(make_parser().parse_args(list_study_arguments(command))) == command
    studies = list(list_studies(command))
    assert [study.dataset for study in studies] == ["two_digits", "imbalanced_tasks"]
    assert [study.max_device_hours for study in studies] == [1.5, 1.5]
    assert share_time(90.0, 30.0, 3) == 20.0
    assert share_time(None, 30.0, 3) is None


def test_all_data_sets_are_checked_before_the_first_study(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "ls", "--results", str(folder / "results"), "--dataset", "two_digits"]
    for others, words in (
        (["tow_digits"], "did you mean 'two_digits'"), (["two_digits"], "is given twice"),
        (["colored_digits"], "method 'ls' needs tasks"),
    ):  # fmt: skip
        assert main([*given, *others]) == 2
        assert words in capsys.readouterr().err
        assert not list(folder.iterdir())


def test_two_names_of_a_folder_are_one_data_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder.parent / "data"
    write_images(root / "birds")
    given = ["--method", "erm", "--data-root", str(root), "--set", "model=tiny_vit",
             "--results", str(folder / "results")]  # fmt: skip
    assert main([*given, "--dataset", "folder:birds", str(root / "birds")]) == 2
    assert "--dataset: folder:birds is given twice" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_every_option_is_a_key() -> None:
    assert {name_key(name) for name in FLAGS} == {flag.strip("-") for flag in FLAGS.values()}
    help_text = make_parser().format_help()
    for flag in (*FLAGS.values(), "--config"):
        assert flag in help_text


def test_the_command_line_takes_precedence() -> None:
    file = parse_study(
        {"method": "erm", "dataset": "colored_digits", "trials": 4, "time_limit": "30m",
         "set": {"lr": 0.1, "batch_size": "choice:8,16"}}, "--config"
    )  # fmt: skip
    given = make_parser().parse_args(["--trials", "9", "--set", "batch_size=32"])
    options = make_options(merge_arguments(file, given))
    assert (options.methods, options.trials, options.time_limit) == (("erm",), 9, 1800)
    assert (options.pinned, options.domains) == ({"lr": 0.1, "batch_size": 32}, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeeds: 3", "unknown option 'seeeds' (did you mean 'seeds'?)"),
        ("audit-test: 3", "audit-test: received 3, expected true or false"),
        ("time_limit: 2x", "argument --time-limit: received '2x'"),
        ("search: [a, b]", "search: received ['a', 'b'], expected a single value"),
        ("- erm", "expected a mapping such as"), ("", "expected a mapping such as"),
        ("method: [", "malformed YAML"), ("seeds: 1\nseeds: 2", "duplicate key seeds"),
        ("space: 3", "missing"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    try:
        code = main(["--config", str(path), *STUDY])
    except SystemExit as end:
        code = int(end.code or 0)
    message = capsys.readouterr().err
    assert code == 2
    assert words in message
    assert len(message.splitlines()) == 1


def test_an_absent_study_names_those_near_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parse(*STUDY, "--results", str(tmp_path / "results"))
    write_study_file(StudyCommand(options, (options.dataset,)), [])
    for mistyped in ("reslts", "results/colored_digits"):
        assert main(["resume", str(tmp_path / mistyped)]) == 2
        message = capsys.readouterr().err
        assert f"no study found in '{tmp_path / mistyped}'" in message
        assert "results" in message.partition("known: ")[2]
        assert len(message.splitlines()) == 1
    (found,) = find_studies(str(tmp_path / "results"))
    assert make_options(found) == options


@pytest.mark.slow
@pytest.mark.study
def test_a_study_is_resumed_from_its_folder(tmp_path: Path) -> None:
    results = tmp_path / "results"
    study = ["--method", "erm", "--dataset", "colored_digits", "--trials", "1", "--epochs", "2",
             "--seeds", "1", "--search", "random",
             "--set", "lr=0.02", "--results", results]  # fmt: skip
    done = run_tune(study)
    assert done.ran_to_end, done.err
    moved = results.rename(tmp_path / "moved")
    results.with_name("results.records").rename(tmp_path / "moved.records")
    for location, trials in ((moved, 2), (tmp_path / "moved.records", 2)):
        done = run_tune(["resume", location, "--trials", trials])
        assert done.ran_to_end, done.err
        assert done.out.startswith("resuming: python tune.py --method erm ")
        assert f" --trials {trials} " in done.out
    content = parse_yaml((moved / "study.yaml").read_text())
    assert isinstance(content, dict)
    assert (content["trials"], content["set"]) == (2, {"lr": 0.02})
    done = run_tune(["--config", moved / "study.yaml", "--results", tmp_path / "again"])
    assert done.ran_to_end, done.err
    name = "colored_digits/erm/trials.csv"
    tables = [pd.read_csv(folder / name) for folder in (moved, tmp_path / "again")]
    keys = [sorted(table["keys"]) for table in tables]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 2


def test_an_error_in_one_data_set_ends_no_other_and_is_reported_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(options: Options, command: StudyCommand) -> StudyResults:
        ran.append(options.dataset)
        if options.dataset == "two_digits":
            raise UserError("no room on the disk")
        return StudyResults(options.results / options.dataset, 0)

    monkeypatch.setattr("tuning.study.data_sets.run_study", run)
    given = ["--dataset", "two_digits", "imbalanced_tasks", "--results", str(tmp_path / "r")]
    assert main(["--method", "ls", *given]) == 2
    assert ran == ["two_digits", "imbalanced_tasks"]
    printed = capsys.readouterr()
    assert "data set two_digits ended with an error: no room on the disk" in printed.out
    assert printed.err == "error: data set two_digits: no room on the disk\n"


def test_a_folder_in_place_of_a_study_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path)]) == 2
    assert f"not a file; to continue a study: python tune.py resume {tmp_path}" in (
        capsys.readouterr().err
    )
    (tmp_path / "study.yaml").write_text("method: [erm]")
    assert main(["--config", str(tmp_path)]) == 2
    assert f"a folder, expected a file: {tmp_path}/study.yaml" in capsys.readouterr().err
