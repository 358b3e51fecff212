"""The reusable Ray actor: one process serves many configurations, one after the other."""

import json
import os
from typing import Any

import ray
import torch
from ray import tune

from tuning.resources import torchs_part
from tuning.worker.recorded_run import TrialRunner

# GiB by which a process may grow after its first configuration before a fresh one takes its place.
GROWTH_LIMIT = float(os.environ.get("EVENHAND_GROWTH_LIMIT_GIB", "2"))


class TrialActor(tune.Trainable):
    """Trains configurations; data set, model code and device context stay loaded between them.

    ``config["work"]`` is JSON: what :class:`tuning.worker.recorded_run.TrialRunner` takes, and
    ``gpu_share``, the share of the GPU's memory that the process may use.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first configuration."""
        self._memory_at_start: int | None = None
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration."""
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        work = json.loads(config["work"])
        share = float(work["gpu_share"])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            if 0 < share < 1:
                total = torch.cuda.mem_get_info()[1]
                torch.cuda.set_per_process_memory_fraction(torchs_part(share, total))
        self._configuration = TrialRunner(work)

    def step(self) -> dict[str, Any]:
        """Train one epoch; plain data, with the rows as JSON so that Ray does not flatten them.

        A process that has grown too much leaves at the end of its configuration; the study finds
        the result in the record.
        """
        step = self._configuration.step()
        if self._memory_at_start is None:  # after an epoch everything that stays is loaded
            self._memory_at_start = resident_memory()
        if step.status and resident_memory() - self._memory_at_start > GROWTH_LIMIT * 1024**3:
            ray.actor.exit_actor()
        score = None if step.score is None else [step.score.value, step.score.average]
        return {
            "rows": json.dumps(step.rows),
            "score": json.dumps(score),
            "status": step.status,
            "reason": step.reason,
            "done": bool(step.status),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the record holds the state."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: the record holds the state."""


def resident_memory() -> int:
    """Return this process's resident memory in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
