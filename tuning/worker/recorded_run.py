"""A training run with a record: replays what its folder holds, goes on from there, ends.

That is the whole of resume, retry and extension. Knows no Ray.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

import datasets
from core.recipe.trial_key import TrialKey
from core.training.run import Run
from core.training.steps import BatchTooLarge
from datasets.benchmark import Benchmark, Meter
from tuning import selection
from tuning.records.records import RunRecord
from tuning.records.storage import StorageError
from tuning.selection import Score

Row = dict[str, Any]

OUT_OF_MEMORY = "out_of_memory"  # the status of a configuration that takes a whole GPU next
STORAGE_FAILED = "storage_failed"  # of one whose record could not be kept


@dataclass(frozen=True)
class RunOptions:
    """Options of a study that apply to each of its runs, beyond the run's key.

    Args:
        rule: Name of the selection rule.
        confirm: Whether this is a confirmation seed, which reads the test split once at its end.
        audit: Whether the test metrics of every epoch are recorded, for labelled rules.
        keep_model: Whether a confirmation seed keeps its chosen epoch's weights.
        data_root: The folder of the data sets.
        baseline: The text of a baseline file; empty for the data set's own.
    """

    rule: str
    confirm: bool
    audit: bool
    keep_model: bool
    data_root: str
    baseline: str = ""


class RecordedRun:
    """One training seed of a configuration, with its record.

    Args:
        folder: The record.
        key: The run's key.
        options: The study's options for its runs.
    """

    def __init__(self, folder: RunRecord, key: TrialKey, options: RunOptions) -> None:
        self.folder = folder
        self.key = key
        self.options = options
        self.rule = selection.rule(options.rule)
        self.rows: list[Row] = []
        self.audit: list[dict[str, Any]] = []
        self.best: Score | None = None
        self._run: Run | None = None
        self._recorded = folder.rows()
        self._recorded_audit = folder.audit()
        if options.audit:
            self._recorded = self._recorded[: len(self._recorded_audit)]

    @property
    def run(self) -> Run:
        """The run itself, made when first needed, from its last state where that is of use."""
        if self._run is None:
            self._run = Run(self.key, self._benchmark())
            state = self.folder.state("last")
            if state is not None and state["epochs_done"] <= len(self._recorded):
                self._run.load_state_dict(state)
        return self._run

    def _benchmark(self) -> Benchmark:
        return datasets.load(self.key.dataset, self.options.data_root, self.options.baseline)

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages."""
        return self.run.total_epochs

    def next_row(self) -> Row:
        """Return the next epoch's row, as selection sees it: recorded earlier, or trained now."""
        index = len(self.rows)
        if index < len(self._recorded):
            self.rows.append(self._recorded[index])
            self.audit += self._recorded_audit[index : index + 1]
            self._improves()
            return self.seen(index)
        while self.run.epochs_done < index:  # the state is behind the rows: exactness catches up
            self.run.train_epoch()
        row = self.run.train_epoch().as_dict()
        if self.options.audit:
            self.audit.append(
                self.run.evaluate("test", batch_averaged=self.rule.window > 0).metrics()
            )
        self.rows.append(row)
        improved = self._improves()
        self.folder.write_rows(self.rows, self.audit)
        state = self.run.state_dict()
        if improved and self.options.confirm:
            self.folder.write_state("best", state)
        self.folder.write_state("last", state)
        return self.seen(index)

    def seen(self, index: int) -> Row:
        """Return a row with its test metrics, where they are audited, under ``test``."""
        if not self.audit:
            return self.rows[index]
        return selection.audited(self.rule, self.rows, self.audit)[index]

    def _improves(self) -> bool:
        found = selection.score(self.rule, [self.seen(len(self.rows) - 1)])
        improved = found is not None and (self.best is None or found > self.best)
        if improved:
            self.best = found
        return improved

    def finish(self, status: str, reason: str = "") -> None:
        """Write the run's end; a confirmation seed reads the test split now, once."""
        end: dict[str, Any] = {
            "status": status,
            "reason": reason,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "rows": self.rows,
        }
        if self.options.confirm and status != "failed" and self.best is not None:
            end |= self._confirm(self.best)
        self.folder.write_end(end)

    def _confirm(self, best: Score) -> dict[str, Any]:
        run = self._run_until(best.epoch)
        test = run.evaluate("test")
        self._write_predictions(run, test)
        if self.options.keep_model:
            weights = {n: t.contiguous().cpu() for n, t in run.model.state_dict().items()}
            with self.folder.atomic_write("model.safetensors") as new:
                save_file(weights, new)
        validation = self.rows[best.epoch - 1]["validation"]
        return {
            "best_epoch": best.epoch,
            "value": self.rule.shown(best),
            "validation": validation,
            "test": self.seen(best.epoch - 1)["test"] if self.rule.window else test.metrics(),
        }

    def _run_until(self, chosen: int) -> Run:
        """Return a run as it was after the chosen epoch."""
        run = Run(self.key, self._benchmark())
        state = self.folder.state("best")
        if state is not None and state["epochs_done"] == chosen:
            run.load_state_dict(state)
        while run.epochs_done < chosen:  # no such state, say after a crash
            run.train_epoch()
        return run

    def _write_predictions(self, run: Run, test: Meter) -> None:
        meters = {"validation": run.evaluate("validation"), "test": test}
        tables = []
        for name, meter in meters.items():
            columns = {column: tensor.numpy() for column, tensor in meter.predictions().items()}
            tables.append(pd.DataFrame({"split": name, **columns}))
        with self.folder.atomic_write("predictions.parquet") as new:
            pd.concat(tables).to_parquet(new, index=False)


@dataclass
class EpochReport:
    """What a configuration's step tells the study.

    Args:
        rows: The epoch's row of each training seed, without test metrics.
        score: The epoch's score, averaged over the seeds; None where it is not eligible.
        status: Empty while the configuration goes on; else how it ended, or
            :data:`OUT_OF_MEMORY` or :data:`STORAGE_FAILED`, which do not end it.
        reason: Why it failed.
    """

    rows: list[Row]
    score: Score | None
    status: str = ""
    reason: str = ""


class TrialRunner:
    """All training seeds of one configuration, trained epoch by epoch in turn.

    Args:
        work: ``runs`` (a mapping with ``folder`` and ``key`` for each seed), ``options`` (the
            fields of :class:`RunOptions`) and ``gpu_share``, the share of a GPU that it may use.
    """

    def __init__(self, work: Mapping[str, Any]) -> None:
        self.options = RunOptions(**work["options"])
        self.share = float(work.get("gpu_share", 0))
        self.runs = [
            RecordedRun(RunRecord(run["folder"]), TrialKey.from_dict(run["key"]), self.options)
            for run in work["runs"]
        ]
        self.rule = selection.rule(self.options.rule)
        self.patience = int(self.runs[0].key.settings["patience"])
        self.best: Score | None = None
        self.eligible_since_best = 0

    def step(self) -> EpochReport:
        """Return the next epoch; ends the configuration after its last one or out of patience.

        Whatever goes wrong in training ends the configuration with its reason, never the study.
        One that did not fit into its share of a GPU does not end: it gets a whole one, once. Nor
        does one whose record cannot be kept.
        """
        try:
            seen = [run.next_row() for run in self.runs]
            step = EpochReport(
                [run.rows[-1] for run in self.runs], selection.score(self.rule, seen)
            )
            step.status = self._status(step.score, bool(seen[0]["eligible"]))
            if step.status:
                self._finish(step.status)
        except StorageError as error:  # which tells nothing about the configuration
            return EpochReport([], None, STORAGE_FAILED, str(error))
        except Exception as error:  # recorded with its reason; the search goes on
            reason = f"{type(error).__name__}: {error}"
            status = OUT_OF_MEMORY if self._fits_a_whole_gpu(error) else "failed"
            if status == "failed":
                self._finish(status, reason)
            else:
                for run in self.runs:
                    run.folder.write_oom_reason(reason)
            rows = [run.rows[-1] for run in self.runs if run.rows]
            return EpochReport(rows, None, status, reason)
        return step

    def _fits_a_whole_gpu(self, error: Exception) -> bool:
        """Return whether memory ran out on a share of a GPU, and a whole one was not tried yet."""
        cause = error.__cause__ if isinstance(error, BatchTooLarge) else error
        return (
            isinstance(cause, torch.OutOfMemoryError)
            and 0 < self.share < 1
            and not any(run.folder.oom_reason for run in self.runs)
        )

    def _status(self, score: Score | None, eligible: bool) -> str:
        if score is not None and (self.best is None or score > self.best):
            improved = self.best is None or score.value > self.best.value
            self.best = score
            self.eligible_since_best = 0 if improved else self.eligible_since_best + 1
        elif eligible:
            self.eligible_since_best += 1
        if len(self.runs[0].rows) >= self.runs[0].total_epochs:
            return "completed"
        if self.patience and self.eligible_since_best >= self.patience:
            return "stopped_early"
        return ""

    def _finish(self, status: str, reason: str = "") -> None:
        for run in self.runs:
            run.finish(status, reason)
