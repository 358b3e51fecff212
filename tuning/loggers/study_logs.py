"""Hands ended runs to the loggers of a study, in a thread of their own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from common.errors import UserError
from tuning.loggers.base import LoggedRun, RunLogger, read_logged_run
from tuning.options import Options
from tuning.records.export_context import ExportContext
from tuning.records.method_records import MethodRecords
from tuning.records.run_record import RunRecord

CLIENTS = {"mlflow": "mlflow", "wandb": "wandb"}  # modules of the loggers of --log


class StudyLogs:
    """The loggers of a study.

    A run is read from its record once it has ended, so an epoch costs the study nothing, and one
    that an earlier command left out is written by the next. A logger that fails is not asked
    again.

    Args:
        makers: A function that makes each logger, by name.
        warn: Prints a warning.
    """

    def __init__(
        self, makers: dict[str, Callable[[], RunLogger]], warn: Callable[[str], None]
    ) -> None:
        self._makers = makers
        self._warn = warn
        self._loggers: dict[str, RunLogger] = {}
        self._given: set[str] = set()  # keys of the runs that were handed over
        self._contexts: dict[str, ExportContext | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loggers")

    def add_runs(self, records: MethodRecords, runs: Sequence[RunRecord]) -> None:
        """Hand over the runs of an ended trial; those that were handed over before are skipped."""
        new = [run for run in runs if run.location not in self._given]
        self._given.update(run.location for run in new)
        if new and self._makers:
            self._thread.submit(self._log_runs, records, new)

    def close(self) -> None:
        """Wait until all is written."""
        self._thread.shutdown()
        for name in list(self._loggers):
            with self._warnings(name):
                self._loggers[name].close()

    def _log_runs(self, records: MethodRecords, runs: Sequence[RunRecord]) -> None:
        location = str(records.storage)
        for record in runs:
            with self._warnings(*self._makers):
                if location not in self._contexts:
                    self._contexts[location] = records.read_context()
                context = self._contexts[location]
                found = None if context is None else read_logged_run(context, record)
                if found is not None:
                    self._log_run(found)

    def _log_run(self, run: LoggedRun) -> None:
        for name in list(self._makers):
            with self._warnings(name):
                if name not in self._loggers:
                    self._loggers[name] = self._makers[name]()
                self._loggers[name].log_run(run)

    @contextmanager
    def _warnings(self, *names: str) -> Iterator[None]:
        """Turn an error into one warning, and give up the loggers."""
        try:
            yield
        except (Exception, SystemExit) as error:
            for name in names:
                self._makers.pop(name, None)
                self._loggers.pop(name, None)
            reason = str(error).strip().partition("\n")[0]
            self._warn(
                f"warning: no more logs for {', '.join(names)}: {type(error).__name__}: {reason}; "
                "the study continues, and --resume writes what is missing"
            )

    def __enter__(self) -> Self:
        """Return the logs, which are closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait until all is written."""
        self.close()


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose client is not installed.

    Raises:
        UserError: If one is not.
    """
    for name in names:
        if find_spec(CLIENTS[name]) is None:
            raise UserError(
                f"--log {name}: the package {CLIENTS[name]} is not installed: python -m pip "
                f"install --no-deps --require-hashes -r requirements-{name}.txt"
            )


def make_study_logs(options: Options, warn: Callable[[str], None]) -> StudyLogs:
    """Return the logs of a study: TensorBoard's and Optuna's always, those of ``--log``."""
    results, study = Path(options.results).absolute(), options.records

    def make_tensorboard() -> RunLogger:
        from tuning.loggers.tensorboard import TensorBoardLogger

        return TensorBoardLogger(results)

    def make_optuna() -> RunLogger:
        from tuning.loggers.optuna_journal import OptunaLogger

        return OptunaLogger(results)

    def make_mlflow() -> RunLogger:
        from tuning.loggers.mlflow import MlflowLogger

        return MlflowLogger(results, study)

    def make_wandb() -> RunLogger:
        from tuning.loggers.wandb import WandbLogger

        return WandbLogger(results, study)

    makers = {"TensorBoard": make_tensorboard, "Optuna": make_optuna}
    extra = {"mlflow": make_mlflow, "wandb": make_wandb}
    makers |= {name: extra[name] for name in options.log}
    return StudyLogs(makers, warn)
