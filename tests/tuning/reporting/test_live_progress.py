"""The live view: nothing is cut on terminals of any width, and ends of trials are printed once."""

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.made_searches import make_search, train_epoch
from tests.support.real_searches import search_of
from tests.tuning.search.test_method_search import train
from tuning.records.run_data import TrialStatus
from tuning.reporting.live_progress import Progress, choose_columns
from tuning.search.method_search import MethodSearch

WIDTHS = (60, 80, 120, 200)


def show(searches: list[MethodSearch], width: int) -> list[str]:
    console = Console(
        width=width, height=40, file=io.StringIO(), force_terminal=True, color_system=None
    )
    with console.capture() as capture:
        console.print(Progress(searches, 2, console).make_view())
    return capture.get().splitlines()


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> list[MethodSearch]:
    made = [search_of(tmp_path_factory.mktemp(name), name) for name in ("erm", "fairgrad_groups")]
    for search in made:
        ended, running = search.next_trial(), search.next_trial()
        assert ended is not None
        assert running is not None
        train(search, ended)
        train(search, running, epochs=1)
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(width: int, searches: list[MethodSearch]) -> None:
    lines = show(searches, width)
    assert max(map(len, lines)) <= width
    table = lines[1:-3]
    assert not any("…" in line for line in table), table
    for heading in ("method", "trials", "best"):
        assert heading in table[1]
    assert any("erm trial 1: epoch 1 of 9, best " in line for line in lines)
    assert lines[-1].split(",")[0].endswith("elapsed")


def test_wide_terminals_show_all_columns(searches: list[MethodSearch]) -> None:
    widths = dict.fromkeys(("method", "phase", "running", "trials", "pruned", "failed", "seeds",
                            "best", "epochs"), 6)  # fmt: skip
    assert choose_columns(widths, 200) == list(widths)
    shown = [choose_columns(widths, width) for width in range(30, 120)]
    for narrow, wide in itertools.pairwise(shown):
        assert set(narrow) <= set(wide)
    assert shown[0] == ["method", "trials", "best"]


def test_the_best_is_known_after_an_epoch(tmp_path: Path) -> None:
    search = search_of(tmp_path)
    trial = search.next_trial()
    assert trial is not None
    train(search, trial, epochs=1)
    assert any("(trial 0)" in line for line in show([search], 80))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_end_of_a_trial_is_printed_once(terminal: bool, tmp_path: Path) -> None:
    search = search_of(tmp_path)
    out = io.StringIO()
    console = Console(width=100, file=out, force_terminal=terminal, color_system=None)
    trial = search.next_trial()
    assert trial is not None
    with Progress([search], 1, console).show() as report_change:
        train(search, trial)
        for _ in range(2):
            report_change(search, trial)
    assert out.getvalue().count("erm trial 0 completed after 9 epochs") == 1


def test_a_pause_is_printed_and_its_end_as_pruned_is_not(tmp_path: Path) -> None:
    search = make_search(tmp_path, 2, scheduler="asha_promotion")
    out = io.StringIO()
    console = Console(width=100, file=out, color_system=None)
    with Progress([search], 1, console).show() as report_change:
        first = search.next_trial()
        assert first is not None
        train_epoch(search, first, 1)
        report_change(search, first)
        report_change(search, first)
        second = search.next_trial()
        assert second is not None
        train_epoch(search, second, 1)
        report_change(search, second)
    assert first.status == TrialStatus.PRUNED
    assert out.getvalue().count("rwg trial 0 paused after 1 epoch") == 1
    assert out.getvalue().count("rwg trial 1 pruned after 1 epoch") == 1
    assert out.getvalue().count(" after ") == 2
