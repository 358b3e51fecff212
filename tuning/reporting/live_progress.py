"""The progress of a study: a live table on a terminal, timed lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tuning.records.run_data import Phase, TrialStatus
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial

QUIET_SECONDS = 10.0  # between plain lines about epochs; ends of trials are always printed


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
        self.start = time.monotonic()
        self._last_line = self.start
        self._reported: set[tuple[str, str, int]] = {
            (s.name, t.phase, t.number) for s in searches for t in s.list_trials() if t.is_finished
        }

    @contextmanager
    def show(self) -> Iterator[Callable[[MethodSearch, Trial], None]]:
        """Show progress during the block; yield a callback for every change of a trial."""
        if not self.console.is_terminal:
            yield self._print_line
            return
        with Live(get_renderable=self.make_table, console=self.console, refresh_per_second=2):
            yield lambda search, trial: None

    def _print_line(self, search: MethodSearch, trial: Trial) -> None:
        """Print a line for the end of a trial, and occasionally one for an epoch."""
        identity = (search.name, trial.phase, trial.number)
        now = time.monotonic()
        if trial.is_finished:
            if identity in self._reported:
                return
            self._reported.add(identity)
            self.console.print(f"{self._format_elapsed()} {self._describe_end(search, trial)}")
        elif now - self._last_line > QUIET_SECONDS:
            self.console.print(f"{self._format_elapsed()} {self._describe_state(search)}")
        else:
            return
        self._last_line = now

    def _format_elapsed(self) -> str:
        return f"[{_format_duration(time.monotonic() - self.start)}]"

    def _describe_end(self, search: MethodSearch, trial: Trial) -> str:
        value = (
            f", {search.rule.name} {search.rule.read_metric(trial.best):.4f}" if trial.best else ""
        )
        reason = f": {trial.reason}" if trial.reason else ""
        status = trial.status.replace("_", " ")
        return (
            f"{search.name} {trial.name} {status} after {len(trial.scores)} epochs{value}{reason}"
        )

    def _describe_state(self, search: MethodSearch) -> str:
        cells = dict(zip(_HEADINGS, self._make_cells(search), strict=True))
        words = [f"{head} {cell}" for head, cell in cells.items() if head != "method"]
        return f"{search.name}: {', '.join(words)}; about {self._estimate_time_left()} left"

    def _estimate_time_left(self) -> str:
        """Return an estimate of the time left from the finished epochs; ``?`` before the first."""
        done = [trial for search in self.searches for trial in search.list_trials()]
        epochs = sum(t.epochs_done for t in done)
        if not epochs:
            return "?"
        seconds = sum(t.seconds for t in done) / epochs
        left = sum(_estimate_epochs_left(search) for search in self.searches)
        return _format_duration(left * seconds / max(1, self.slots))

    def _make_cells(self, search: MethodSearch) -> list[str]:
        every = search.list_trials()
        trials = [t for t in every if t.phase == Phase.SEARCH]
        seeds = [t for t in every if t.phase == Phase.CONFIRM]
        finished = [t for t in trials if t.is_finished]
        best = search.find_incumbent()
        value = search.rule.read_metric(best.best if best else None)
        shown = "-" if best is None or value is None else f"{value:.4f} (trial {best.number})"
        phase = "done" if search.is_done else "confirm" if search.is_search_done else "search"
        return [
            search.name,
            phase,
            str(sum(t.status == TrialStatus.RUNNING for t in every)),
            f"{len(finished)}/{search.trial_budget}",
            str(sum(t.status == TrialStatus.PRUNED for t in finished)),
            str(sum(t.status == TrialStatus.FAILED for t in every)),
            f"{sum(t.is_finished for t in seeds)}/{search.options.seeds}",
            shown,
            str(sum(t.epochs_done for t in every)),
        ]

    def make_table(self) -> Table:
        """Return the live table."""
        elapsed = _format_duration(time.monotonic() - self.start)
        rule = ", ".join(sorted({search.rule.name for search in self.searches}))
        left = self._estimate_time_left()
        table = Table(
            title=f"{self.searches[0].space.benchmark.name}, best by {rule}",
            caption=f"elapsed {elapsed}, about {left} left; Ctrl-C stops and keeps all records",
        )
        for head in _HEADINGS:
            table.add_column(head, justify="left" if head in ("method", "phase") else "right")
        for search in self.searches:
            table.add_row(*self._make_cells(search))
        return table


_HEADINGS = ("method", "phase", "running", "trials", "pruned", "failed", "seeds", "best", "epochs")


def _estimate_epochs_left(search: MethodSearch) -> float:
    """Return an estimate of the epochs left, from the mean of finished trials if there are any."""
    full = search.epoch_counts.total
    whole = full * search.options.search_seeds
    trials, seeds = list(search.trials.values()), list(search.seeds.values())
    finished = [t.epochs_done for t in trials if t.is_finished and t.epochs_done]
    mean = sum(finished) / len(finished) if finished else whole
    going = sum(max(0, whole - t.epochs_done) for t in trials if not t.is_finished)
    confirming = sum(max(0, full - t.epochs_done) for t in seeds if not t.is_finished)
    later = 0 if seeds else search.options.seeds * full
    return (search.trial_budget - len(trials)) * mean + going + confirming + later


def _format_duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
