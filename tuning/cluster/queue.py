"""The queue of a study: running trials, the next one to start, and their reports.

Independent of Ray. It hands crashes to the method's search, where :mod:`tuning.search.retries`
decides whether the trial runs again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Protocol

from common.errors import UserError
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial
from tuning.worker.trial_work import EpochReport

# Trials per Tuner: its driver keeps some 30 kB of each (benchmarks/scale.py, up to here without
# growth of the time per report), and at the end of a batch slots are idle.
BATCH_TRIALS = 1000


class Slots(Protocol):
    """The places for trials on the nodes of a cluster, such as a Capacity."""

    def count_slots(self) -> int:
        """Return how many trials can run at once now, one or more."""

    def count_lost_nodes(self) -> int:
        """Return how many nodes the cluster has lost so far."""


class Next(Enum):
    """Answers of the queue where no trial starts now."""

    WAIT = "wait"  # running trials decide what starts next
    END_BATCH = "end batch"  # this Tuner gets no more trials


class Queue:
    """The trials of all methods of a study.

    Args:
        searches: The methods.
        slots: The places for trials.
        encode_work: Encodes a trial's work for its actor, as JSON.
        should_stop: Returns whether to stop now (interrupt or budget).
        on_change: Called after every event.
        batch_trials: Trials per Tuner.
    """

    def __init__(
        self,
        searches: Sequence[MethodSearch],
        slots: Slots,
        encode_work: Callable[[Trial], str],
        should_stop: Callable[[], bool],
        on_change: Callable[[MethodSearch, Trial], None],
        batch_trials: int = BATCH_TRIALS,
    ) -> None:
        self.searches = searches
        self.slots = slots
        self.encode_work = encode_work
        self.should_stop = should_stop
        self.on_change = on_change
        self.batch_trials = batch_trials
        self.whole_gpu = False  # whether trials that ran out of memory on a share have their turn
        self.running: dict[str, tuple[MethodSearch, Trial]] = {}
        self.started = 0  # trials of this batch
        self.has_report = False  # whether a process has trained an epoch
        self.error: UserError | None = None  # ends the study

    @property
    def done(self) -> bool:
        """Whether no trial is left to run."""
        return all(search.is_done for search in self.searches)

    def begin_batch(self) -> None:
        """Begin the trials of a new Tuner; those of the last one that still run are forgotten."""
        self.started = 0
        self.running.clear()

    def next_work(self, trial_id: str) -> str | Next:
        """Return the work of the trial that starts next.

        Args:
            trial_id: Ray's name for it.
        """
        with self._keep_error():
            return self._next_work(trial_id)
        return Next.END_BATCH

    def _next_work(self, trial_id: str) -> str | Next:
        full = self.started >= self.batch_trials
        if self.error or self.should_stop() or self.done or (full and not self.running):
            return Next.END_BATCH
        if len(self.running) >= self.slots.count_slots() or full:
            return Next.WAIT
        # Methods take turns, so that none waits for another, nor finds a budget used up.
        running = {s.name: sum(m is s for m, _ in self.running.values()) for s in self.searches}
        for search in sorted(self.searches, key=lambda s: (running[s.name], len(s.trials))):
            trial = search.next_trial(self.whole_gpu)
            if trial is not None:
                self.running[trial_id] = (search, trial)
                self.started += 1
                self.on_change(search, trial)
                return self.encode_work(trial)
        if not self.running and not self.done:  # the other kind waits, for a Tuner of its own
            self.whole_gpu = not self.whole_gpu
            return Next.END_BATCH
        return Next.END_BATCH if self.done else Next.WAIT

    def report_epoch(self, trial_id: str, report: EpochReport) -> bool:
        """Hand a report to its method; return whether the trial continues."""
        self.has_report = True
        with self._keep_error():
            return self._report_epoch(trial_id, report)
        return False

    def _report_epoch(self, trial_id: str, report: EpochReport) -> bool:
        if trial_id not in self.running:
            return False
        search, trial = self.running[trial_id]
        continues = search.report_epoch(trial, report)
        if not continues:
            del self.running[trial_id]
        self.on_change(search, trial)
        return continues

    def report_crash(self, trial_id: str, cause: str = "") -> None:
        """Tell a trial's method that its process died; it decides whether the trial runs again.

        Args:
            trial_id: Ray's name for the trial.
            cause: The cause, as a clause; empty if it is not known.
        """
        if trial_id in self.running:
            search, trial = self.running.pop(trial_id)
            with self._keep_error():
                search.report_crash(trial, self.slots.count_lost_nodes(), cause)
                self.on_change(search, trial)

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        """Keep an error that a user can fix, such as a full disk, out of Ray's tracebacks."""
        try:
            yield
        except UserError as error:
            self.error = self.error or error

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Ray pickles its searchers into a state that nobody reads."""
        return {}
