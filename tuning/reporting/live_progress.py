"""The progress of a study: timed lines, and on a terminal a live table below them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common import COMMAND_START
from common.hyperparameters import Hyperparameters
from common.text import format_count
from tuning.records.run_data import Phase, TrialStatus
from tuning.reporting.layout.reflow import DrawnView
from tuning.search.method_search import MethodSearch
from tuning.search.time_left import estimate_seconds_left
from tuning.search.trial import Trial

QUIET_SECONDS = 10.0  # between plain lines about epochs; ends of trials are always printed
CELL_BORDER = 3  # columns of the screen that a cell of the table takes beside its text
OTHER_LINES = 8  # of the screen: title, frame and header of the table, footer

ChangeHandler = Callable[[MethodSearch, Trial], None]


class Occupancy:
    """The time in which slots are occupied, against the time of the epochs trained in it."""

    def __init__(self) -> None:
        self._time: float | None = None  # of the last change, once an epoch has been trained
        self._running = 0
        self._occupied = 0.0
        self._first = 0.0
        self._trained = 0.0

    @property
    def overhead(self) -> float:
        """Seconds in a slot per trained second, at least 1; more where epochs are very short."""
        return max(1.0, self._occupied / self._trained) if self._trained else 1.0

    def add_change(self, time: float, running: int, trained: float) -> None:
        """Take in a change of a trial.

        Args:
            time: When it happened, in seconds.
            running: The trials that run from then on.
            trained: Seconds of all epochs until then.
        """
        if self._time is None:
            if not trained:  # processes still start
                return
            self._first = trained
        else:
            self._occupied += self._running * (time - self._time)
        self._time, self._running, self._trained = time, running, trained - self._first


class Progress:
    """Shows the progress of the methods.

    Args:
        searches: The methods.
        slots: Trials that run at once, for the estimate of the time left.
        console: The console.
    """

    def __init__(self, searches: list[MethodSearch], slots: int, console: Console) -> None:
        self.searches = searches
        self.slots = slots
        self.console = console
        self._occupancy = Occupancy()
        self._last_line = time.monotonic()
        self._reported = {
            _identify_end(search, trial)
            for search in searches
            for trial in search.list_trials()
            if trial.is_finished
        }

    @contextmanager
    def show(self) -> Iterator[ChangeHandler]:
        """Show progress during the block; yield a callback for every change of a trial."""
        if not self.console.is_terminal:
            yield self._observe(self._print_change)
            return
        drawn = DrawnView(self.console)

        def draw_view() -> Group:
            return drawn.draw_view(self.make_view)

        def print_end(search: MethodSearch, trial: Trial) -> None:
            if drawn.is_wrapped:
                live.refresh()
            self._print_end(search, trial)

        with Live(
            get_renderable=draw_view, console=self.console, refresh_per_second=2, transient=True
        ) as live:
            yield self._observe(print_end)

    def _observe(self, show_change: ChangeHandler) -> ChangeHandler:
        """Return a callback that measures the occupancy of the slots, then shows a change."""

        def handle_change(search: MethodSearch, trial: Trial) -> None:
            trials = [trial for search in self.searches for trial in search.list_trials()]
            running = sum(trial.status == TrialStatus.RUNNING for trial in trials)
            self._occupancy.add_change(
                time.monotonic(), running, sum(trial.seconds for trial in trials)
            )
            show_change(search, trial)

        return handle_change

    def _print_end(self, search: MethodSearch, trial: Trial) -> None:
        """Print a line for the end or the pause of a trial, once."""
        identity = _identify_end(search, trial)
        rests = trial.is_finished or trial.status == TrialStatus.PAUSED
        if rests and identity not in self._reported:
            self._reported.add(identity)
            self.console.print(f"{format_elapsed()} {self._describe_end(search, trial)}")
            self._last_line = time.monotonic()

    def _print_change(self, search: MethodSearch, trial: Trial) -> None:
        """Print a line for the end or the pause of a trial, and occasionally one for an epoch."""
        if trial.is_finished or trial.status == TrialStatus.PAUSED:
            self._print_end(search, trial)
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self.console.print(f"{format_elapsed()} {self._describe_state(search)}")
            self._last_line = time.monotonic()

    def _describe_end(self, search: MethodSearch, trial: Trial) -> str:
        found = search.rule.read_metric(trial.best)
        value = "" if found is None else f", {search.rule.column} {found:.4f}"
        reason = f": {trial.reason}" if trial.reason else ""
        status = trial.status.replace("_", " ")
        return (
            f"{search.name} {trial.name} {status} after "
            f"{format_count(len(trial.scores), 'epoch')}{value}{reason}"
        )

    def _describe_state(self, search: MethodSearch) -> str:
        cells = self._make_cells(search)
        words = [f"{head} {cells[head]}" for head in _HEADINGS if head != "method"]
        return f"{search.name}: {', '.join(words)}; about {self._estimate_time_left()} left"

    def _estimate_time_left(self) -> str:
        """Return an estimate of the time left; ``?`` before the first epoch."""
        methods = [search.describe_times() for search in self.searches if not search.is_done]
        seconds = estimate_seconds_left(methods, self.slots) if methods else 0.0
        return "?" if seconds is None else _format_duration(seconds * self._occupancy.overhead)

    def _make_cells(self, search: MethodSearch) -> dict[str, str]:
        every = search.list_trials()
        trials = [t for t in every if t.phase == Phase.SEARCH]
        seeds = [t for t in every if t.phase == Phase.CONFIRM]
        finished = [t for t in trials if t.is_finished]
        phase = "done" if search.is_done else "confirm" if search.is_search_done else "search"
        return {
            "method": search.name,
            "phase": phase,
            "running": str(sum(t.status == TrialStatus.RUNNING for t in every)),
            "trials": f"{len(finished)}/{search.trial_budget}",
            "pruned": str(sum(t.status == TrialStatus.PRUNED for t in finished)),
            "failed": str(sum(t.status == TrialStatus.FAILED for t in every)),
            "seeds": f"{sum(t.is_finished for t in seeds)}/{search.options.seeds}",
            "best": _describe_best(search),
            "epochs": str(sum(t.epochs_done for t in every)),
        }

    def make_view(self) -> Group:
        """Return the live view: a row per method, a line per running trial, and the time left.

        No line is longer than the terminal is wide: it drops columns, the least useful first.
        """
        rule = ", ".join(sorted({search.rule.name for search in self.searches}))
        footer = (
            f"{_format_duration(time.monotonic() - COMMAND_START)} elapsed, about "
            f"{self._estimate_time_left()} left; Ctrl-C keeps all records"
        )
        running = [
            _describe_running(search, trial)
            for search in self.searches
            for trial in search.list_trials()
            if trial.status == TrialStatus.RUNNING
        ]
        room = max(1, self.console.height - OTHER_LINES - len(self.searches))
        if len(running) > room:
            running = [*running[: room - 1], f"... and {len(running) - room + 1} more"]
        title = f"{self.searches[0].space.benchmark.name}, best by {rule}"
        return Group(
            _make_line(title), self._make_table(), *map(_make_line, running), _make_line(footer)
        )

    def _make_table(self) -> Table:
        rows = [self._make_cells(search) for search in self.searches]
        widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in _HEADINGS}
        shown = choose_columns(widths, self.console.width)
        table = Table()
        for head in shown:
            justify: Literal["left", "right"] = "left" if head in ("method", "phase") else "right"
            table.add_column(head, justify=justify, no_wrap=True, min_width=len(head))
        for row in rows:
            table.add_row(*(Text(row[head]) for head in shown))
        return table


_HEADINGS = ("method", "phase", "running", "trials", "pruned", "failed", "seeds", "best", "epochs")
# The columns that a narrow terminal drops, first the least useful.
_DROPPED = ("pruned", "epochs", "phase", "running", "failed", "seeds")


def choose_columns(widths: Mapping[str, int], available: int) -> list[str]:
    """Return the headings of the columns that fit into a terminal, in their order.

    Args:
        widths: The width of each column's text.
        available: The width of the terminal.
    """
    shown = list(widths)
    for head in _DROPPED:
        if sum(widths[name] + CELL_BORDER for name in shown) + 1 <= available:
            break
        shown.remove(head)
    return shown


def format_elapsed() -> str:
    """Return the time since the command began, as lines of progress begin with it."""
    return f"[{_format_duration(time.monotonic() - COMMAND_START)}]"


def _identify_end(search: MethodSearch, trial: Trial) -> tuple[str, str, str, int]:
    """Return the trial, how it ended or pauses, and after how many epochs."""
    return search.name, trial.name, trial.status, len(trial.scores)


def _make_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _describe_best(search: MethodSearch) -> str:
    """Return the best metric so far, of running trials too, and its trial."""
    found = search.find_incumbent()
    value = search.rule.read_metric(found.best) if found else None
    return "-" if found is None or value is None else f"{value:.4f} (trial {found.number})"


def _describe_running(search: MethodSearch, trial: Trial) -> str:
    value = search.rule.read_metric(trial.best)
    best = "-" if value is None else f"{value:.4f}"
    return (
        f"{search.name} {trial.name}: epoch {len(trial.scores)} of {search.epoch_counts.total}, "
        f"best {best}, {_describe_values(trial.hyperparameters)}"
    )


def _describe_values(values: Hyperparameters) -> str:
    """Return a configuration in short."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _format_duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
