"""Drives Ray Tune: its searcher takes trials from the queue, its scheduler hands reports back.

One Tuner carries a batch of trials. Ray's own experiment state goes into a temporary folder and is
never read.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from common.errors import UserError
from tuning.cluster import ray_private, worker_start
from tuning.cluster.capacity import Capacity
from tuning.cluster.queue import Next, Queue
from tuning.resources import Resources
from tuning.worker.actor import TrialActor
from tuning.worker.trial_work import EpochReport

# Within this time a process starts. It may never: others may hold the nodes' resources.
START_SECONDS = 300.0
TEMPORARY = "evenhand-"  # begins the names of temporary folders, before the process


class QueueSearcher(Searcher):
    """Gives Tune the queue's trials."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(metric="score", mode="max")
        self.queue = queue

    def suggest(  # type: ignore[override]  # Ray's FINISHED is a string
        self, trial_id: str
    ) -> dict[str, str] | str | None:
        """Return the next trial's work, ``FINISHED``, or None to wait."""
        work = self.queue.next_work(trial_id)
        if work is Next.WAIT:
            return None
        if work is Next.END_BATCH:
            return str(Searcher.FINISHED)
        return {"work": work}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, str] | None = None, error: bool = False
    ) -> None:
        """Hand on the last epoch, which Tune does not show the scheduler, or a crash."""
        if error or result is None:
            self.queue.report_crash(trial_id)
        else:
            _report_result(self.queue, trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the records hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the records hold everything."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the records hold everything."""


class QueueScheduler(FIFOScheduler):
    """Hands each epoch to the queue and stops the trials that it stops."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue = queue
        self._waiting: dict[RayTrial, float] = {}  # trials, and since when, oldest first

    def on_trial_add(self, tune_controller: TuneController, trial: RayTrial) -> None:
        """Note a trial that begins to wait for a process."""
        self._waiting[trial] = time.monotonic()

    def choose_trial_to_run(self, tune_controller: TuneController) -> RayTrial | None:
        """Return a trial whose process does not start, or None: Tune starts new ones by itself.

        The chosen trial gets the process of the next trial that ends, and its own is given up.
        Tune's own choice is the first that waits, so where trials are shorter than the start of a
        process none started, and a new node was of no use.
        """
        while self._waiting:
            trial, since = next(iter(self._waiting.items()))
            if trial.status == trial.PENDING:
                return trial if time.monotonic() - since > START_SECONDS else None
            del self._waiting[trial]
        return None

    def on_trial_error(self, tune_controller: TuneController, trial: RayTrial) -> None:
        """Hand on what Tune does not show the searcher: a crash's cause, code without imports."""
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        if ray_private.LOW_MEMORY in text:
            self.queue.report_crash(trial.trial_id, ray_private.LOW_MEMORY)
        elif not self.queue.has_report:
            self.queue.error = self.queue.error or worker_start.explain_import_error(text)

    def on_trial_result(
        self, tune_controller: TuneController, trial: RayTrial, result: dict[str, str]
    ) -> str:
        """Hand on an epoch; stop the trial if its method does."""
        continues = _report_result(self.queue, trial.trial_id, result)
        return FIFOScheduler.CONTINUE if continues else FIFOScheduler.STOP


class QueueStopper(Stopper):
    """Stops all trials when the queue says so; their records stay as they are."""

    def __init__(self, queue: Queue, capacity: Capacity) -> None:
        self.queue = queue
        self.capacity = capacity

    def __call__(self, trial_id: str, result: dict[str, str]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether to stop; if this node or all workers died, Tune would wait forever."""
        if not self.queue.has_report and self.queue.error is None:
            self.queue.error = worker_start.explain_crash()
        if self.queue.error is not None or self.queue.should_stop():
            return True
        return not self.capacity.check_own_node()

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Ray pickles its stoppers into a state that nobody reads."""
        return {}


def _report_result(queue: Queue, trial_id: str, result: dict[str, str]) -> bool:
    """Hand a result of Tune's to the queue; return whether its trial continues."""
    if "report" not in result:  # the process died before its first epoch
        return False
    return queue.report_epoch(trial_id, EpochReport.from_json(result["report"]))


def run_queue(
    queue: Queue,
    capacity: Capacity,
    resources: Resources,
    reuse_actors: bool = True,
    trainable: type[tune.Trainable] = TrialActor,
) -> None:
    """Run the trials of a queue until it is done or stopped.

    Args:
        queue: The queue.
        capacity: Its slots.
        resources: The resources of a trial.
        reuse_actors: Whether a process serves many trials; off only to measure the saving.
        trainable: The actor; another one only to measure the driver itself.

    Raises:
        UserError: If Ray died on this machine, or the records cannot be written.
    """
    # The queue gives no more than fit. Were it asked for fewer, a process that becomes idle would
    # take over the trial of one that still starts, and end that process.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(queue.batch_trials)
    ray_private.take_errors_for_crashes()
    try:
        while not queue.done and not queue.should_stop():
            queue.begin_batch()
            # In the Tuner of small trials, which fill every share that becomes free, a trial that
            # takes a whole GPU would wait forever.
            capacity.change_resources(resources.whole_gpu if queue.whole_gpu else resources)
            temporary = tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{os.getpid()}-")
            with temporary as folder, warnings.catch_warnings(), _explain_ray_errors():
                warnings.simplefilter("ignore")  # Ray's, which a user can do nothing about
                _make_tuner(queue, capacity, folder, reuse_actors, trainable).fit()
            if queue.error:
                raise queue.error
            if not capacity.check_own_node():
                raise UserError(
                    "Ray's process on this machine (the raylet) died, perhaps out of memory; the "
                    "records are kept: run the same command with --resume"
                )
    finally:
        capacity.release()


@contextmanager
def _explain_ray_errors() -> Iterator[None]:
    """Raise an error of Ray's own, which is none of a process, as one line.

    Raises:
        UserError: In its place.
    """
    try:
        yield
    except (RayError, TuneError) as error:  # Tune's holds a traceback as its text
        lines = str(error).strip().splitlines() or [""]
        if isinstance(error, TuneError) and RayError.__module__ not in lines[-1]:
            raise  # an error of this project
        reason = lines[0] if isinstance(error, RayError) else lines[-1]
        raise UserError(
            f"Ray failed: {type(error).__name__}: {reason}; the records are kept: run the same "
            "command with --resume"
        ) from None


def _make_tuner(
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
            search_alg=QueueSearcher(queue),
            scheduler=QueueScheduler(queue),
            num_samples=-1,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=folder,
            stop=QueueStopper(queue, capacity),
            # Not Tune, which would lose a trial that died while its process changed over, but
            # tuning/search/retries.py decides which trials run again.
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
