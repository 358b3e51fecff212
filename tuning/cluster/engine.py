"""Ray: the one file, with :mod:`tuning.worker.actor`, that drives Ray Tune.

One Tuner carries the whole command: its searcher asks the methods in turn for work, its scheduler
hands them each epoch. Ray's own experiment state lives in a temporary folder and is never read.
"""

import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from common.errors import UserError
from core.environment import Environment, detect
from tuning.cluster.capacity import Capacity
from tuning.options import Options
from tuning.resources import Resources
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Tried
from tuning.selection import Score
from tuning.worker.actor import TrialActor
from tuning.worker.recorded_run import EpochReport

# Trials per Tuner: its driver keeps some 30 kB of each (benchmarks/scale.py, up to here without
# growth of the time per report), and at the end of a batch slots stand idle.
BATCH = 1000
# Seconds in which a process starts. It may never: others may hold what the nodes have.
STARTS = 300.0


class Queue:
    """The work of all methods: what runs, what comes next, what has come of it.

    Args:
        searches: The methods.
        slots: How many configurations run at once; follows :attr:`capacity` once that is set.
        work_of: Makes the actor's work of a configuration.
        stop: Whether to stop now (interrupt or budget).
        changed: Called after every event.
    """

    def __init__(
        self,
        searches: list[MethodSearch],
        slots: int,
        work_of: Callable[[Tried], dict[str, Any]],
        stop: Callable[[], bool],
        changed: Callable[[MethodSearch, Tried], None],
    ) -> None:
        self.searches = searches
        self.slots = slots
        self.work_of = work_of
        self.stop = stop
        self.changed = changed
        self.capacity: Callable[[], int] = lambda: slots  # asked before each proposal
        self.nodes_gone: Callable[[], int] = lambda: 0  # asked when a process died
        self.whole_gpu = False  # whether it is the turn of what did not fit into a share of a GPU
        self.running: dict[str, tuple[MethodSearch, Tried]] = {}
        self.started = 0
        self.error: UserError | None = None  # what ends the study

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep what a user can mend, such as a full disk, from ending in a traceback of Ray's."""
        try:
            yield
        except UserError as error:
            self.error = self.error or error

    def __getstate__(self) -> dict[str, Any]:
        """Give nothing to Ray, which pickles its searchers into a state that nobody reads."""
        return {}

    @property
    def done(self) -> bool:
        """Whether nothing is left to run."""
        return all(search.done for search in self.searches)

    def next(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next work, ``Searcher.FINISHED``, or None to wait."""
        with self._watched():
            return self._next(trial_id)
        return str(Searcher.FINISHED)

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error or self.stop() or self.done or (self.started >= BATCH and not self.running):
            return str(Searcher.FINISHED)
        self.slots = self.capacity()
        if len(self.running) >= self.slots or self.started >= BATCH:
            return None
        # The method with the fewest running comes first, so that none waits for another.
        counts = {s.name: sum(m is s for m, _ in self.running.values()) for s in self.searches}
        for search in sorted(self.searches, key=lambda s: counts[s.name]):
            tried = search.next_work(self.whole_gpu)
            if tried is not None:
                self.running[trial_id] = (search, tried)
                self.started += 1
                self.changed(search, tried)
                return {"work": json.dumps(self.work_of(tried))}
        if not self.running and not self.done:  # the others wait: this Tuner ends, another begins
            self.whole_gpu = not self.whole_gpu
            return str(Searcher.FINISHED)
        return str(Searcher.FINISHED) if self.done else None

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in an epoch; return whether its configuration goes on."""
        with self._watched():
            return self._report(trial_id, result)
        return False

    def _report(self, trial_id: str, result: dict[str, Any]) -> bool:
        if trial_id not in self.running or "rows" not in result:
            return False
        search, tried = self.running[trial_id]
        rows = json.loads(result["rows"])
        found = json.loads(result["score"])
        score = None if found is None else Score(found[0], found[1], -int(rows[0]["epoch"]))
        step = EpochReport(rows, score, result["status"], result["reason"])
        goes_on = search.report(tried, step)
        if not goes_on:
            del self.running[trial_id]
        self.changed(search, tried)
        return goes_on

    def lost(self, trial_id: str) -> None:
        """Take note that a configuration's process died; it is run again where that can help."""
        if trial_id in self.running:
            search, tried = self.running.pop(trial_id)
            with self._watched():
                search.lost(tried, self.nodes_gone())
                self.changed(search, tried)


class _QueueSearcher(Searcher):
    """Hands the queue's work to Tune."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(metric="score", mode="max")
        self.queue = queue

    def suggest(self, trial_id: str) -> Any:
        return self.queue.next(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if error or result is None:
            self.queue.lost(trial_id)
        else:  # the last epoch, which Tune does not show the scheduler
            self.queue.report(trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the records hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the records hold everything."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the records hold everything."""


class _QueueScheduler(FIFOScheduler):
    """Tells the queue each epoch and stops what its method stops."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue = queue
        self._waiting: dict[Any, float] = {}  # trials, and since when, oldest first

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take note of a trial that begins to wait for a process."""
        self._waiting[trial] = time.monotonic()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return a trial whose process does not come up, or None: Tune starts new ones by itself.

        What is chosen gets the process of the next trial that ends, and its own is given up. Tune's
        own choice is the first that waits, so where trials are shorter than a process takes to
        start none came up, and a new node did nothing.
        """
        while self._waiting:
            trial, since = next(iter(self._waiting.items()))
            if trial.status == trial.PENDING:
                return trial if time.monotonic() - since > STARTS else None
            del self._waiting[trial]
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self.queue.report(trial.trial_id, result)
        return FIFOScheduler.CONTINUE if goes_on else FIFOScheduler.STOP


class _QueueStopper(Stopper):
    """Stops all trials when the queue says so; their records are where they were."""

    def __init__(self, queue: Queue, capacity: Capacity) -> None:
        self.queue = queue
        self.capacity = capacity

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        # Without the last, Tune itself would wait for ever.
        return self.queue.error is not None or self.queue.stop() or self.capacity.lost

    def __getstate__(self) -> dict[str, Any]:
        """Give nothing to Ray, which pickles its stoppers into a state that nobody reads."""
        return {}


def _left(search: MethodSearch) -> int:
    """Return how many configurations and seeds of a method have not ended."""
    ended = sum(tried.finished for tried in (*search.trials.values(), *search.seeds.values()))
    return max(0, search.asked + search.options.seeds - ended)


def run(
    queue: Queue,
    resources: Resources,
    reuse_actors: bool = True,
    trainable: type[tune.Trainable] = TrialActor,
) -> None:
    """Work through a queue until it is done or stopped.

    Args:
        queue: The queue.
        resources: What a trial takes.
        reuse_actors: Whether a process serves many trials; off only to measure what that saves.
        trainable: What trains; another one only to measure the engine itself.

    Raises:
        UserError: If Ray died on this machine, or the records cannot be kept.
    """
    # The queue gives no more than fit. Were it asked for fewer, a process that gets free would take
    # over the trial of one that still starts, and end that.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(BATCH)
    queue.capacity = capacity = Capacity(resources, lambda: sum(map(_left, queue.searches)))
    queue.nodes_gone = capacity.nodes_gone
    try:
        while not queue.done and not queue.stop():
            queue.started = 0
            # With a Tuner of their own: in one with small trials, which fill every share that
            # gets free, a trial that takes a whole GPU would wait for ever.
            capacity.need(resources.whole_gpu if queue.whole_gpu else resources)
            temporary = tempfile.TemporaryDirectory(prefix="evenhand-")
            with temporary as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray; a user can do nothing about them
                _tuner(queue, capacity, folder, reuse_actors, trainable).fit()
            queue.running.clear()
            if queue.error:
                raise queue.error
            if capacity.lost:
                raise UserError(
                    "Ray's process of this machine (the raylet) died, for want of memory perhaps; "
                    "what is recorded stays: the same command with --resume goes on"
                )
    finally:
        capacity.release()


def _tuner(
    queue: Queue,
    capacity: Capacity,
    folder: str,
    reuse_actors: bool,
    trainable: type[tune.Trainable],
) -> tune.Tuner:
    needs = tune.PlacementGroupFactory([capacity.resources.bundle])
    return tune.Tuner(
        tune.with_resources(trainable, needs),
        tune_config=tune.TuneConfig(
            search_alg=_QueueSearcher(queue),
            scheduler=_QueueScheduler(queue),
            num_samples=-1,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=folder,
            stop=_QueueStopper(queue, capacity),
            # Tune does not try again what died while its process changed over; the queue does.
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )


def probe(resources: Resources, options: Options, remote: bool) -> Environment:
    """Return where a trial with these resources computes.

    Args:
        resources: What a trial takes.
        options: The command line's, for determinism and precision.
        remote: Whether to ask a worker that holds these resources, not this process.
    """
    gpu = None if resources.gpus else False
    asked = (gpu, resources.cpus, options.deterministic, options.precision)
    if not remote and not resources.gpus:
        return detect(*asked)
    found: list[Environment] = remotely(detect, [asked], resources)
    return found[0]


def remotely(
    task: Callable[..., Any], calls: Sequence[tuple[Any, ...]], resources: Resources
) -> list[Any]:
    """Return a function's result for each call, on workers that hold a trial's resources.

    On GPUs each call has a process of its own, which ends with it.

    Args:
        task: The function.
        calls: The arguments of each call.
        resources: What a trial takes.

    Raises:
        UserError: If a process died.
    """
    ask: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(task)
    try:
        return list(ray.get([ask.options(max_retries=1).remote(*call) for call in calls]))
    except RayError as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"a process that was to look at a worker's device died: {first}") from None
