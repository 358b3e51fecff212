"""The reusable Ray actor: one process trains many trials, one after another.

:mod:`tuning.search.retries` decides whether the trial of a process that crashed runs again.
"""

import os

import ray
import torch
from ray import tune

from tuning.resources import torch_memory_fraction
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import TrialWork

# GiB by which a process may grow after its first trial before a new process replaces it.
GROWTH_LIMIT_GIB = float(os.environ.get("EVENHAND_GROWTH_LIMIT_GIB", "2"))


class TrialActor(tune.Trainable):
    """Trains trials; data set, model code and device context stay loaded between them.

    ``config["work"]`` is a :class:`tuning.worker.trial_work.TrialWork` as JSON.
    """

    def setup(self, config: dict[str, str]) -> None:
        """Start the first trial."""
        self._memory_at_start: int | None = None
        self._start_trial(config)

    def reset_config(self, new_config: dict[str, str]) -> bool:
        """Start the next trial."""
        self._start_trial(new_config)
        return True

    def _start_trial(self, config: dict[str, str]) -> None:
        work = TrialWork.from_json(config["work"])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            if 0 < work.gpu_share < 1:
                total = torch.cuda.mem_get_info()[1]
                fraction = torch_memory_fraction(work.gpu_share, total)
                torch.cuda.set_per_process_memory_fraction(fraction)
        self._runner = TrialRunner(work)

    def step(self) -> dict[str, str | bool]:
        """Train one epoch and return its report, as JSON so that Ray does not flatten it.

        A process that has grown too much exits at the end of its trial; the study finds the
        result in the record.
        """
        report = self._runner.train_epoch()
        if self._memory_at_start is None:  # after an epoch everything that stays is loaded
            self._memory_at_start = resident_memory()
        growth = resident_memory() - self._memory_at_start
        if report.status and growth > GROWTH_LIMIT_GIB * 1024**3:
            ray.actor.exit_actor()
        return {"report": report.to_json(), "done": bool(report.status)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the record holds the state."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Do nothing: the record holds the state."""


def resident_memory() -> int:
    """Return this process's resident memory in bytes; 0 where the system does not show it."""
    try:
        with open("/proc/self/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
