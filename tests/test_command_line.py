"""The command line: its options are pinned, and mistakes get one clear message."""

import subprocess
import venv
from pathlib import Path

import pytest

from common.project import ROOT
from tuning.cli.main import main, prints_result
from tuning.cli.parser import make_parser

OPTIONS = {
    "--method", "--dataset", "--data-root", "--epochs", "--set", "--search", "--trials",
    "--search-seeds", "--scheduler", "--select", "--seeds", "--study-seed", "--audit-test",
    "--deterministic", "--gpus-per-trial", "--cpus-per-trial", "--max-device-hours",
    "--time-limit", "--address", "--results", "--storage", "--resume", "--keep-models", "--plan",
    "--help", "--baseline", "--config", "--simulate", "--precision", "--space", "--report-training",
    "--protocol", "--log", "--finalists",
}  # fmt: skip


def test_options_are_pinned() -> None:
    found = {
        o for action in make_parser()._actions for o in action.option_strings if o.startswith("--")
    }
    assert found == OPTIONS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ls methods", True), ("status", True), ("clean", True), ("clean --yes", False),
        ("resume results --plan", True), ("--simulate records", True), ("", False),
        ("--method erm --dataset colored_digits --results status", False),
        ("export --results trace", False), ("compare results", False),
    ],
)  # fmt: skip
def test_commands_without_other_results_fail_where_their_output_is_lost(
    line: str, expected: bool
) -> None:
    assert prints_result(line.split()) == expected


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its message. Nothing may be written."""
    if "--results" not in arguments:
        arguments = [*arguments, "--results", str(folder / "results")]
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert not list(folder.iterdir())
    return captured.err


GOOD = ["--method", "erm", "--dataset", "colored_digits"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "ermm", "--dataset", "colored_digits"], ["'ermm'", "did you mean 'erm'"]),
        (["--method", "erm", "--dataset", "colored_digit"], ["did you mean 'colored_digits'"]),
        ([*GOOD, "--trails", "3"], ["--trails", "did you mean '--trials'"]),
        ([*GOOD, "--set", "lrr=0.1"], ["unknown hyperparameter 'lrr'", "did you mean 'lr'"]),
        ([*GOOD, "--set", "lr=fast"], ["lr", "'fast'", "a number"]),
        ([*GOOD, "--set", "batch_size=1.5"], ["batch_size", "1.5", "an integer"]),
        ([*GOOD, "--set", "batch_size=0"], ["batch_size", "0", "from 1"]),
        ([*GOOD, "--set", "lr"], ["'lr'", "key=value"]),
        ([*GOOD, "--set", "lr=1", "--set", "lr=2"], ["lr is given twice: 1 and 2"]),
        ([*GOOD, "--set", "model=resnet"], ["model", "'resnet'", "digits_cnn"]),
        ([*GOOD, "--set", "epochs=3", "--epochs", "4"], ["epochs"]),
        (["--method", "jtt", *GOOD[2:], "--set", "T=0"], ["T: received 0", "at least 1"]),
        (["--method", "jtt", *GOOD[2:], "--set", "up=-1"], ["up: received -1", "least 1"]),
        (["--method", "dro", *GOOD[2:], "--set", "eta=-1"], ["eta is -1.0", "above 0"]),
        (["--method", "dro", *GOOD[2:], "--set", "eta=.nan"], ["eta", "nan", "a number"]),
        ([*GOOD, "--set", "lr=2020-13-45"], ["lr", "2020-13-45", "a number"]),
        (["--method", "all", "erm", *GOOD[2:]], ["'all' cannot be combined"]),
        (["--method", "all", *GOOD[2:], "--set", "T=abc"], ["T", "'abc'", "an integer"]),
        ([*GOOD, "rwg"], ["--dataset: 'rwg' is a method", "--method erm rwg"]),
        ([*GOOD, "--set", "lr", "=", "0.1"], ["write lr=0.1 without spaces"]),
        ([*GOOD, "--set", "lr=", "0.1"], ["write lr=0.1 without spaces"]),
        ([*GOOD, "--set", "lr", "=0.1"], ["write lr=0.1 without spaces"]),
        ([*GOOD, "--set", "lr:", "0.1"], ["write lr=0.1 without spaces"]),
        ([*GOOD, "--set", "T=3"], ["--set: 'T' is a hyperparameter of jtt, not of the given"]),
        ([*GOOD, "--set", "lr = 0.1"], ["write lr=0.1 without spaces"]),
        ([*GOOD, "--set", "lr = choice:1,2"], ["write lr=choice:1,2 without spaces"]),
        ([*GOOD, "--set", "lr=1,batch_size=8"], ["one each: --set lr=1 --set batch_size=8"]),
        ([*GOOD, "--set", "lr=1", "batch_size=8"], ["write --set lr=1 --set batch_size=8"]),
        ([*GOOD, "--set", "lr=[0.1,0.2]"], ["such as lr=choice:0.1,0.2"]),
        ([*GOOD, "--scheduler", "ASHA"], ["'ASHA' (did you mean 'asha'", "one of asha, "]),
        (["--status"], ["'status' is a command: write python tune.py status"]),
        (["status", "a"], ["unknown argument 'a'; a results folder is given by --results a"]),
        (["compare", "--results", "a"], ["write the results folder alone"]),
        (["--method", "rwg,", "erm", *GOOD[2:]], ["methods separated by spaces: rwg"]),
        ([*GOOD, "--set", "learning_rate=0.1"], ["did you mean 'lr'?"]),
        (["--method", "rwg,erm", *GOOD[2:]], ["expected methods separated by spaces: rwg erm"]),
        (["--method", "RWG", *GOOD[2:]], ["did you mean 'rwg'?"]),
        (["doctro"], ["unknown command 'doctro' (did you mean 'doctor'?)"]),
        (["exprot"], ["unknown command 'exprot' (did you mean 'export'?)"]),
        ([*GOOD, "--seeds", "2000"], ["--seeds", "2000", "at most 1000"]),
        ([*GOOD, "--trials", "0"], ["--trials", "'0'", "from 1"]),
        ([*GOOD, "--seeds", "0"], ["--seeds", "'0'", "from 1"]),
        ([*GOOD, "--trials", "many"], ["--trials", "'many'", "an integer"]),
        ([*GOOD, "--search", "bayes"], ["--search", "bayes", "tpe"]),
        ([*GOOD, "--select", "validation_worst_group"], ["mean 'validation_worst_group_acc"]),
        ([*GOOD, "--select", "oracle_test_worst_group_accuracy"], ["--audit-test"]),
        ([*GOOD, "--gpus-per-trial", "1.5"], ["--gpus-per-trial", "1.5", "share"]),
        ([*GOOD, "--time-limit", "soon"], ["--time-limit", "soon", "30m"]),
        ([*GOOD, "--results", "/proc/nowhere/results"], ["--results", "cannot write"]),
        ([*GOOD, "--cpus-per-trial", "100000"], ["no node", "largest node", "100000 CPUs"]),
        ([*GOOD, "--gpus-per-trial", "64"], ["no node", "largest node", "64 GPUs"]),
    ],
)  # fmt: skip
def test_mistakes_get_one_clear_message(
    arguments: list[str], words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments, folder, capsys)
    for word in words:
        assert word in message


def test_several_mistakes_are_told_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--method",
        "erm",
        "--dataset",
        "colored_digits",
        "--set",
        "lrr=1",
        "--set",
        "lr=x",
    ]
    message = refused(arguments, folder, capsys)
    assert "lrr" in message
    assert "lr: received 'x'" in message


def test_existing_study_is_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = folder / "results" / "colored_digits" / "erm" / "best_config.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    code = main([*GOOD, "--results", str(folder / "results")])
    message = capsys.readouterr().err
    assert code == 2
    assert "--resume" in message
    assert "--results" in message
    assert kept.read_text() == "mine"


def test_odd_folders_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "results" / "colored_digits").mkdir(parents=True)
    (folder / "results" / "colored_digits" / "erm").touch()
    for name in ("link", "results"):
        assert main([*GOOD, "--results", str(folder / name)]) == 2
        assert "cannot write" in capsys.readouterr().err
    same = str(folder / "one")
    assert main([*GOOD, "--results", same, "--storage", same]) == 2
    assert "--storage" in capsys.readouterr().err


def test_file_in_the_place_of_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("mine")
    code = main([*GOOD, "--results", str(folder / "file" / "results")])
    assert code == 2
    assert "cannot write" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "erm_l1" in text
    assert "colored_digits" in text


def test_plan_starts_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = str(folder / "results")
    assert (
        main(["--method", "all", "--dataset", "colored_digits", "--plan", "--results", results])
        == 0
    )
    text = capsys.readouterr().out
    for word in ("jtt", "trials in parallel", "device-hours", "disk", "nothing was started"):
        assert word in text
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "command",
    ["tune.py", "-m core", "-m core.toy", "-m datasets.prepare", "-m datasets.describe"],
)
def test_a_python_without_the_packages_gets_one_line(command: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=False)
    done = subprocess.run(
        [tmp_path / "empty" / "bin" / "python", *command.split(), "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "activate the project's environment" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def plan(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the output of ``--plan`` on colored_digits."""
    results = str(folder / "results")
    assert main([*arguments, *GOOD[2:], "--plan", "--results", results]) == 0
    return capsys.readouterr().out


def test_skipped_methods_share_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(["--method", "all", "--search", "published"], folder, capsys)
    (line,) = (line for line in text.splitlines() if "has no tasks" in line)
    assert line.startswith(f"{line.count(',')} methods skipped, because data set 'colored_digits'")
    assert "fairgrad," in line


def test_options_without_effect_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = ["--method", "rwg", "--search", "published"]
    assert "no effect" not in plan(published, folder, capsys)
    assert "--trials has no effect" in plan([*published, "--trials", "3"], folder, capsys)
    both = [*published, "--trials", "3", "--search-seeds", "2"]
    assert "--trials and --search-seeds have no effect" in plan(both, folder, capsys)


def test_a_plan_says_that_there_is_no_study(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no study found" in plan(["--method", "erm", "--resume"], folder, capsys)


def test_all_that_is_missing_is_said_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--method", "erm", "--dataset", "waterbirds", "--data-root", str(folder / "none")]
    text = refused([*command, "--set", "model=/no/such/folder"], folder, capsys)
    for word in ("waterbirds: missing", "datasets.prepare waterbirds", "/no/such/folder"):
        assert word in text
