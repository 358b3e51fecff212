"""The search mirrored into a journal file of Optuna, which ``optuna-dashboard`` opens."""

import math
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from common.hyperparameters import Hyperparameter, parse_hyperparameter
from core.training.selection import get_rule
from tuning.loggers.base import LoggedRun, RunLogger
from tuning.records.run_data import TrialStatus
from tuning.search.searchers.tpe import make_distribution

FILE_NAME = "optuna.journal"
STATES = {TrialStatus.FAILED: TrialState.FAIL, TrialStatus.PRUNED: TrialState.PRUNED}


class OptunaLogger(RunLogger):
    """Writes the trials of searches into ``<results>/optuna.journal``, a study per method.

    A trial of several training seeds is a trial for each of them.

    Args:
        results: The results folder.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self._storage: JournalStorage | None = None  # one: each holds all that the file has
        self._studies: dict[str, optuna.study.Study] = {}
        self._known: dict[str, set[str]] = {}  # keys and epochs of the runs of each study

    def log_run(self, run: LoggedRun) -> None:
        """Add a trial of a search to its study, again if it has more epochs since."""
        if not run.is_search:
            return
        study = self._open_study(run)
        known = self._known[study.study_name]
        trial = _make_trial(run)
        if (identity := _identify_trial(trial)) not in known:
            study.add_trial(trial)
            known.add(identity)

    def _open_study(self, run: LoggedRun) -> optuna.study.Study:
        name = f"{run.context.dataset}/{run.context.method}"
        if name not in self._studies:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            self.results.mkdir(parents=True, exist_ok=True)
            lower = get_rule(run.context.rule).lower_is_better
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the storage is experimental
                if self._storage is None:
                    backend = JournalFileBackend(str(self.results / FILE_NAME))
                    self._storage = JournalStorage(backend)
                study = optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    direction="minimize" if lower else "maximize",
                    load_if_exists=True,
                )
                study.set_metric_names([run.context.rule])
            self._studies[name] = study
            self._known[name] = {_identify_trial(trial) for trial in study.get_trials(False)}
        return self._studies[name]


def _identify_trial(trial: optuna.trial.FrozenTrial) -> str:
    """Return the key and the number of epochs of a trial, which an addition repeats."""
    return f"{trial.user_attrs.get('key')} {len(trial.intermediate_values)}"


def _make_trial(run: LoggedRun) -> optuna.trial.FrozenTrial:
    rule = get_rule(run.context.rule)
    value = run.results.get(f"best_{rule.name}")
    state = STATES.get(run.status, TrialState.COMPLETE)
    if value is None or not math.isfinite(value):
        state = TrialState.FAIL
    domains = _read_domains(run)
    params = {
        name: number
        for name, number in run.description.hyperparameters.items()
        if name in domains and domains[name].find_broken_rule(number) is None
    }
    metric = rule.column
    return optuna.trial.create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: make_distribution(domains[name]) for name in params},
        user_attrs={**run.tags, **run.results},
        intermediate_values={
            epoch.number: epoch.metrics[metric] for epoch in run.epochs if metric in epoch.metrics
        },
    )


def _read_domains(run: LoggedRun) -> dict[str, Hyperparameter]:
    found = {
        name: parse_hyperparameter(name, domain, [])
        for name, domain in run.context.search_space.items()
    }
    return {name: domain for name, domain in found.items() if domain is not None}
