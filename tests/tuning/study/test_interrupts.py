"""One Ctrl-C at any moment ends a command with one line and exit code 130."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.support.command import ROOT, UNLEARNED, clean_environment, list_descendants

pytestmark = pytest.mark.study

TRIAL = ["--method", "erm", "--dataset", "colored_digits", "--epochs", "3"]
WAIT_SECONDS = 240
LONGEST_DELAY_SECONDS = 0.4  # after an event, drawn anew for each moment


class Foreground:
    """A command with its children in a process group, to all of which a terminal sends Ctrl-C.

    Args:
        folder: Folder for the outputs.
        arguments: Arguments of Python.
    """

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=clean_environment(), stdout=out,
                stderr=err, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def wait_for(self, event: Callable[[Self], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not event(self):
            assert time.monotonic() < deadline
            assert self._process.poll() is None, self._err.read_text()
            time.sleep(0.005)

    def press_interrupt(self) -> tuple[int, list[str], str]:
        """Press Ctrl-C; return the exit code, the lines of the error output and the output."""
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(WAIT_SECONDS)
        return code, self._err.read_text().splitlines(), self._out.read_text()

    def has_printed(self, text: str) -> bool:
        return text in self._out.read_text()

    def has_loaded(self, library: str) -> bool:
        return library in Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8")

    def has_started(self, program: str) -> bool:
        commands = (Path(f"/proc/{child}/cmdline") for child in list_descendants(self._process.pid))
        return any(program in path.read_text() for path in commands if path.exists())


def starts_imports(command: Foreground) -> bool:
    return command.has_loaded("libtorch")


def starts_ray(command: Foreground) -> bool:
    return command.has_started("gcs_server")


def starts_trials(command: Foreground) -> bool:
    return command.has_printed("confirmation seed")


def ends_trial(command: Foreground) -> bool:
    return command.has_printed("trial 0 completed")


def ends_study(command: Foreground) -> bool:
    return command.has_printed("results: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "event", [starts_imports, starts_ray, starts_trials, ends_trial, ends_study]
)
def test_a_study_ends_with_one_line(event: Callable[[Foreground], bool], tmp_path: Path) -> None:
    results = tmp_path / "results"
    seed = 0 if event is ends_study else random.Random(event.__name__).random()
    study = [*TRIAL, "--trials", "2", "--seeds", "1", "--address", "local"]
    with Foreground(tmp_path, ["tune.py", *study, "--results", str(results)]) as command:
        command.wait_for(event)
        time.sleep(seed * LONGEST_DELAY_SECONDS)
        code, lines, out = command.press_interrupt()
    assert code == 130, (lines, out)
    if event in (starts_trials, ends_trial):
        assert lines == []
        assert "stopped: interrupted; resume with:" in out
    else:
        assert [line for line in lines if UNLEARNED not in line] == ["interrupted"]
    if event is ends_trial:
        assert (results / "colored_digits" / "erm" / "trials.csv").is_file()
    if event in (starts_imports, starts_ray):
        assert not results.exists()
        assert not results.with_name("results.records").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "core", *TRIAL], ["tune.py", *TRIAL, "--plan"], ["tune.py", "export"],
        ["-m", "datasets.prepare", "waterbirds"], ["tune.py", "status", "--follow"],
    ],
)  # fmt: skip
def test_other_commands_end_with_one_line(arguments: list[str], tmp_path: Path) -> None:
    with Foreground(tmp_path, arguments) as command:
        command.wait_for(starts_imports)
        time.sleep(random.Random(arguments[1]).random() * LONGEST_DELAY_SECONDS)
        code, lines, _ = command.press_interrupt()
    assert (code, lines) == (130, ["interrupted"])
