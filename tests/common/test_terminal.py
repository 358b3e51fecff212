"""Commands on terminals that are not UTF-8, and with an output that is full, closed or cut off."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import ROOT, clean_environment, ran_to_end

INCOMPLETE = "standard output is incomplete: No space left on device\n"
DESCRIBE = ["-m", "datasets.describe", "colored_digits"]
TRAIN = ["-m", "core", "--method", "erm", "--dataset", "colored_digits", "--epochs", "2"]
HELP = ["tune.py", "--help"]
LISTED = ["tune.py", "ls", "methods"]
WRONG = ["-m", "datasets.prepare", "waterbird"]

COMMAND = """
import sys
from common.terminal import run_command
def print_lines():
    print("62.1 ± 7.4, \\u00e9, \\udcff")
    print("second", flush=True)
    print("no ± either", file=sys.stderr)
    return int(sys.argv[1])
sys.exit(run_command(print_lines, prints_result=sys.argv[2] == "printed"))
"""


def run_shell(
    arguments: list[str], redirection: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python with arguments and a redirection of the shell."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {redirection}', "bash", sys.executable, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=240, encoding="utf-8",
        env={**clean_environment(), **variables},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "62.1 +- 7.4, \\xe9, \\udcff"), ("utf-8", "62.1 ± 7.4, é, \\udcff")],
)
@pytest.mark.parametrize("result", ["printed", "on_disk"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_terminal_shows_what_it_can(encoding: str, shown: str, result: str, code: int) -> None:
    done = run_shell(["-c", COMMAND, str(code), result], "", PYTHONIOENCODING=encoding)
    assert done.returncode == code
    assert done.stdout == f"{shown}\nsecond\n"
    assert done.stderr == f"no {'±' if encoding == 'utf-8' else '+-'} either\n"


@pytest.mark.parametrize(
    ("redirection", "result", "code", "expected"),
    [
        (">/dev/full", "on_disk", 0, 0), (">/dev/full", "on_disk", 3, 3),
        (">/dev/full", "printed", 0, 1), (">&-", "on_disk", 0, 0), (">&-", "printed", 0, 0),
        ("2>/dev/full", "on_disk", 0, 0), ("2>&-", "printed", 0, 0), (">&- 2>&-", "on_disk", 3, 3),
        ("| true", "on_disk", 0, 0), ("| true", "on_disk", 3, 3), ("| true", "printed", 0, 0),
    ],
)  # fmt: skip
def test_exit_codes_do_not_depend_on_the_output(
    redirection: str, result: str, code: int, expected: int
) -> None:
    done = run_shell(["-c", COMMAND, str(code), result], redirection)
    assert done.returncode == expected
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr
    assert (INCOMPLETE in done.stderr) == (redirection == ">/dev/full")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "redirection", "expected"),
    [
        (HELP, "| head -1", 0), (DESCRIBE, ">/dev/full", 1), (TRAIN, ">/dev/full", 1),
        (WRONG, "2>&-", 2), (LISTED, ">/dev/full", 1),
    ],
    ids=["help", "describe", "core", "wrong name", "list"],
)  # fmt: skip
def test_commands_run_through_it(command: list[str], redirection: str, expected: int) -> None:
    done = run_shell(command, redirection, PYTHONIOENCODING="ascii")
    assert done.returncode == expected
    assert len(done.stdout.splitlines()) <= 1
    assert "Traceback" not in done.stderr


def test_modules_that_are_commands_run_through_it() -> None:
    packages = ("common", "core", "datasets", "tuning")
    files = [path for name in packages for path in (ROOT / name).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tune.py", *files)}
    commands = {path.name for path, text in texts.items() if '__name__ == "__main__"' in text}
    assert commands >= {"tune.py", "prepare.py", "describe.py", "__main__.py", "schema.py"}
    for path, text in texts.items():
        if path.name in commands and '__name__ == "__main__"' in text:
            assert "sys.exit(run_command(main" in text, path


@pytest.mark.slow
def test_a_study_on_such_a_terminal(tmp_path: Path) -> None:
    study = [
        "tune.py", "--method", "erm", "--dataset", "colored_digits", "--trials", "1", "--epochs",
        "1", "--seeds", "2", "--address", "local", "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    done = run_shell(study, "", PYTHONIOENCODING="ascii")
    assert ran_to_end(done.returncode, done.stderr), done.stderr
    assert "+-" in done.stdout
    table = tmp_path / "results" / "colored_digits" / "table.md"
    assert "±" in table.read_text(encoding="utf-8")
    again = run_shell([*study, "--resume"], ">/dev/full", LC_ALL="C", PYTHONUTF8="0")
    assert ran_to_end(again.returncode, again.stderr.removesuffix(INCOMPLETE))
    assert again.stderr.endswith(INCOMPLETE)


def test_a_signal_during_the_first_imports_is_one_line() -> None:
    code = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "common.interrupts":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["tune.py"]
import common
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
