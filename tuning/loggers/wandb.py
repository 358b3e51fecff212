"""Weights & Biases: a run per training run, those of a study in one group."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Literal

import wandb

from tuning.loggers.base import LoggedRun, RunLogger
from tuning.loggers.tensorboard import make_tags
from tuning.records.run_data import TrialStatus

PROJECT = "evenhand"
FOLDER = "wandb"


class WandbLogger(RunLogger):
    """Writes to the account of the client's settings; without an account into ``<results>/wandb``.

    ``wandb sync`` sends what was written there.

    Args:
        results: The results folder.
        study: The location of the records, which identifies the study.
    """

    def __init__(self, results: Path, study: str) -> None:
        self.results = results
        self.study = sha256(study.encode()).hexdigest()[:8]

    def log_run(self, run: LoggedRun) -> None:
        """Write a run, unless it is there."""
        identity = f"{self.study}-{run.digest}"
        if run.may_continue:
            identity += f"-{len(run.epochs)}"
        if any((self.results / FOLDER).glob(f"*run-*-{identity}")):
            return
        self.results.mkdir(parents=True, exist_ok=True)
        written = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=f"{run.context.dataset} {self.study}",
            job_type=f"{run.context.method} {run.description.phase}",
            name=run.name,
            id=identity,
            resume="allow",
            config={**run.hyperparameters, "evenhand": run.tags},
            dir=str(self.results),
            mode=_choose_mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        if not written.resumed:  # else another machine wrote it
            for epoch in run.epochs:
                named = {tag: epoch.metrics[name] for name, tag in make_tags(epoch.metrics).items()}
                written.log(named, step=epoch.number)
            tags = make_tags(run.results)
            written.summary.update({tag: run.results[name] for name, tag in tags.items()})
        written.finish(exit_code=int(run.status == TrialStatus.FAILED))


def _choose_mode() -> Literal["online", "offline"] | None:
    """Return the mode: that of ``WANDB_MODE``, else offline where nobody has logged in."""
    if "WANDB_MODE" in os.environ:
        return None
    return "online" if wandb.api.api_key else "offline"
