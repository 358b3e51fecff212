"""A training run with a record: replays the recorded epochs, trains the rest, writes its end.

Resume, retry and extension are nothing else. Independent of Ray.
"""

import os
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pandas as pd

import datasets
from common.errors import UserError
from core.kept_model import save_model
from core.make_run import AnyRun, make_run
from core.recipe.trial_key import TrialKey
from core.reinforcement.run import ReinforcementRun
from core.training import selection
from core.training.epoch_row import EpochRow
from core.training.selection import Score, SelectionRow
from datasets.benchmark import Benchmark, Meter
from datasets.training_config import JOINED_SPLIT
from tuning.records.run_data import Confirmation, Metrics, RunEnd, TrialStatus
from tuning.records.run_record import RunRecord
from tuning.worker.trial_work import RunOptions


class RecordedRun:
    """One training seed of a trial, with its record.

    Args:
        record: The record.
        key: The run's key.
        options: The study's options for its runs.
        gpu_share: The share of a GPU, or the number of GPUs, that it takes; 0 on a CPU.
    """

    def __init__(
        self, record: RunRecord, key: TrialKey, options: RunOptions, gpu_share: float = 0.0
    ) -> None:
        self.record = record
        self.key = key
        self.options = options
        self.gpu_share = gpu_share
        self.rule = selection.get_rule(options.rule)
        self.rows: list[EpochRow] = []
        self.audit: list[Metrics] = []
        self.best: Score | None = None
        self._run: AnyRun | None = None
        self._recorded = record.read_rows()
        self._recorded_audit = record.read_audit()
        if options.audit:
            self._recorded = self._recorded[: len(self._recorded_audit)]

    @property
    def run(self) -> AnyRun:
        """The run, made when first needed, from its last state if the record covers that."""
        if self._run is None:
            self._run = make_run(self.key, self._load_benchmark())
            state = self.record.read_state("last")
            if state is not None and state.epochs_done <= len(self._recorded):
                if self._run.can_resume(state):
                    self._run.load_state(state)
                else:
                    print(
                        f"{self.record.storage}: trains epochs 1 to {state.epochs_done} again: "
                        "with keep_replay=false, states have no replay",
                        file=sys.stderr,
                    )
        return self._run

    def _load_benchmark(self) -> Benchmark:
        return datasets.load_benchmark(
            self.options.dataset or self.key.dataset,
            self.options.data_root,
            self.options.baseline,
        )

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all stages."""
        return self.run.total_epochs

    def train_next_epoch(self) -> SelectionRow:
        """Return the next epoch's row for selection: recorded earlier, or trained now."""
        index = len(self.rows)
        if index < len(self._recorded):
            self.rows.append(self._recorded[index])
            self.audit += self._recorded_audit[index : index + 1]
            seen = self.row_for_selection(index)
            self._update_best(seen)
            return seen
        while self.run.epochs_done < index:  # the state is older than the rows
            self.run.train_epoch()
        row = self.run.train_epoch(self.options.report_training, self._audit_epoch)
        if self.gpu_share:
            row = replace(row, devices=self.gpu_share)
        self.rows.append(row)
        seen = self.row_for_selection(index)
        is_best = self._update_best(seen) and self.options.confirm
        self.record.write_epoch(self.rows, self.audit, self.run.make_state(), is_best)
        return seen

    def _audit_epoch(self) -> None:
        """Measure the test metrics of the epoch that was just validated, where asked."""
        if self.options.audit:
            meter = self.run.evaluate_split("test", batch_averaged=self.rule.window > 0)
            self.audit.append(meter.compute_metrics())

    def row_for_selection(self, index: int) -> SelectionRow:
        """Return an epoch's row, with its audited test metrics, if any."""
        return selection.make_selection_row(self.rule, self.rows, self.audit, index)

    def _update_best(self, seen: SelectionRow) -> bool:
        """Take an epoch's score in; return whether it is the best so far."""
        score = selection.score_epoch(self.rule, [seen])
        if score is None or (self.best is not None and score <= self.best):
            return False
        self.best = score
        return True

    def write_end(self, status: TrialStatus, reason: str = "") -> None:
        """Write the run's end; a confirmation seed reads the test split now, once."""
        confirmation = None
        if self.options.confirm and status != TrialStatus.FAILED and self.best is not None:
            confirmation = self._measure_confirmation(self.best)
        end = RunEnd(
            status,
            reason,
            self.rows,
            host=socket.gethostname(),
            process=os.getpid(),
            confirmation=confirmation,
        )
        self.record.write_end(end)

    def _measure_confirmation(self, best: Score) -> Confirmation:
        run = self._run_until(best.epoch)
        test = run.evaluate_split("test")
        self._write_predictions(run, test)
        if self.options.keep_model:
            with self.record.atomic_write("model.safetensors") as new:
                save_model(run.model, self.key, run.benchmark, new)
        selected = self.row_for_selection(best.epoch - 1)
        measured = selected.get_metrics("test") if self.rule.window else test.compute_metrics()
        return Confirmation(best.epoch, selected.epoch_row.validation, measured)

    def _run_until(self, epoch: int) -> AnyRun:
        """Return the run in its state after an epoch."""
        run = make_run(self.key, self._load_benchmark())
        state = self.record.read_state("best")
        if state is not None and state.epochs_done == epoch:
            run.load_state(state)
        while run.epochs_done < epoch:  # no such state, for example after a crash
            run.train_epoch()
        return run

    def _write_predictions(self, run: AnyRun, test: Meter) -> None:
        meters = {"validation": run.evaluate_split("validation"), "test": test}
        if self.options.report_training:
            meters = {"train": run.evaluate_split("train"), **meters}
        tables = []
        for name, meter in meters.items():
            columns: dict[str, Any] = {
                column: tensor.numpy() for column, tensor in meter.collect_predictions().items()
            }
            rows = columns.pop("index")
            named = _name_examples(run, name, rows.tolist())
            found = pd.DataFrame({"split": name, "index": rows, **named, **columns})
            if names := run.benchmark.list_group_names(name):
                place = list(found).index("group") + 1
                found.insert(place, "group_name", [names[i] for i in found.group])
            tables.append(found)
        with self.record.atomic_write("predictions.parquet") as new:
            pd.concat(tables).to_parquet(new, index=False)


def _name_examples(run: AnyRun, split: str, rows: list[int]) -> dict[str, list[str]]:
    """Return the ids and files of examples, as the data set names them, where it does."""
    if isinstance(run, ReinforcementRun):  # whose examples are goals
        return {}
    joined = split == "train" and run.key.training_config.training_split == JOINED_SPLIT
    parts = ("train", "validation") if joined else (split,)
    benchmark, named = run.benchmark, {}
    for column, list_names in (("id", benchmark.list_ids), ("filename", benchmark.list_filenames)):
        with suppress(UserError, OSError):  # the original files need not be where the cache is
            names = [name for part in parts for name in list_names(part) or ()]
            if len(names) == len(run.context.loader.splits[split]):
                named[column] = [str(names[row]) for row in rows]
    return named
