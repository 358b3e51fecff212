"""MLflow: an experiment per data set, a parent run per study, and a child run per training run."""

import os
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from tuning.loggers.base import LoggedRun, RunLogger
from tuning.loggers.tensorboard import make_tags
from tuning.records.run_data import TrialStatus

FOLDER = "mlruns"
METRICS_PER_CALL = 1000  # the server's limits
PARAMS_PER_CALL = 100
STUDY = "evenhand.study"
KEY = "evenhand.key"
EPOCHS = "evenhand.epochs"
PARENT = "mlflow.parentRunId"


class MlflowLogger(RunLogger):
    """Writes to the server of ``MLFLOW_TRACKING_URI``, by default into ``<results>/mlruns``.

    Args:
        results: The results folder.
        study: The location of the records, which identifies the study.
    """

    def __init__(self, results: Path, study: str) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (results.absolute() / FOLDER).as_uri()
        if uri.startswith("file:"):  # MLflow asks for it, since it prefers data bases
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client = MlflowClient(tracking_uri=uri)
        self.study = study
        self._parents: dict[str, tuple[str, str]] = {}  # experiment and run of each data set

    def log_run(self, run: LoggedRun) -> None:
        """Write a run, unless it is there; one that has more epochs since is written again."""
        experiment, parent = self._find_parent(run.context.dataset)
        for found in self.client.search_runs([experiment], f"tags.`{KEY}` = '{run.digest}'"):
            if found.data.tags.get(PARENT) != parent:
                continue
            epochs = found.data.tags.get(EPOCHS, run.tags["epochs"])
            if found.info.status != "RUNNING" and epochs == run.tags["epochs"]:
                return
            self.client.delete_run(found.info.run_id)
        tags = {f"evenhand.{name}": value for name, value in run.tags.items()}
        tags |= {PARENT: parent, STUDY: self.study}
        created = self.client.create_run(experiment, tags=tags, run_name=run.name)
        self._write_values(created.info.run_id, run)
        failed = run.status == TrialStatus.FAILED
        self.client.set_terminated(created.info.run_id, "FAILED" if failed else "FINISHED")

    def _write_values(self, run_id: str, run: LoggedRun) -> None:
        begin = int(1000 * (time.time() - (run.epochs[-1].seconds if run.epochs else 0.0)))
        metrics = [
            Metric(tag, epoch.metrics[name], begin + int(1000 * epoch.seconds), epoch.number)
            for epoch in run.epochs
            for name, tag in make_tags(epoch.metrics).items()
        ]
        last = run.epochs[-1].number if run.epochs else 0
        for name, tag in make_tags(run.results).items():
            metrics.append(Metric(tag, run.results[name], begin, last))
        params = [
            Param(tag, str(run.hyperparameters[name]))
            for name, tag in make_tags(run.hyperparameters).items()
        ]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])

    def _find_parent(self, dataset: str) -> tuple[str, str]:
        """Return the experiment of a data set, and the parent run of its study in it."""
        if dataset not in self._parents:
            name = f"evenhand/{dataset}"
            known = self.client.get_experiment_by_name(name)
            experiment = self.client.create_experiment(name) if known is None else None
            experiment = experiment or known.experiment_id
            runs = self.client.search_runs([experiment], f"tags.`{STUDY}` != ''")
            parents = [
                run.info.run_id
                for run in runs
                if run.data.tags[STUDY] == self.study and PARENT not in run.data.tags
            ]
            if not parents:
                made = self.client.create_run(
                    experiment, tags={STUDY: self.study}, run_name=f"study of {dataset}"
                )
                self.client.set_terminated(made.info.run_id)
                parents = [made.info.run_id]
            self._parents[dataset] = (experiment, parents[0])
        return self._parents[dataset]
