"""Tree-structured Parzen estimator of Optuna."""

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from common.hyperparameters import (
    Hyperparameter,
    Hyperparameters,
    Scalar,
    active_names,
    list_defaults,
    sort_by_conditions,
)
from core.training.selection import Score
from tuning.records.run_data import TrialStatus
from tuning.search.searchers.base import Searcher, make_identity
from tuning.search.searchers.random import sample_new_hyperparameters

MAX_ASKS = 100  # asks that give known hyperparameters, before they are sampled at random
MAX_READ = 300  # trials that Optuna reads, so that the time of a proposal stops growing
MIN_READ = 250  # of these, those that are kept; of so many or more TPE compares 25 with the rest
BEST_READ = 25  # best trials that are always kept


class TPESearcher(Searcher):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) of Optuna, in memory.

    The first trial has the defaults. It learns from the running best of the selection value, epoch
    by epoch, and from pruned trials. If Optuna repeats a proposal, it gets the known result and is
    asked again. Of more than ``MAX_READ`` trials it reads the best and some of the others.

    Args:
        hyperparameters: The hyperparameters.
        seed: Seed of the sampler.
    """

    def __init__(self, hyperparameters: Mapping[str, Hyperparameter], seed: int) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked experimental
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.generator = np.random.Generator(np.random.PCG64([seed, 1]))
        self.asked: dict[int, optuna.trial.Trial] = {}  # running trials that Optuna proposed
        self.added: dict[int, Hyperparameters] = {}  # unfinished trials that the study did not ask
        self.copies: dict[int, int] = {}  # the study's copies of those that an earlier study asked
        self.results: dict[str, float] = {}  # best value by identity
        self.values: dict[int, Hyperparameters] = {}  # of all trials

    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Ask Optuna; after many repeated proposals in a row sample at random."""
        defaults = list_defaults(self.hyperparameters)
        if not number and make_identity(defaults) not in self.proposed:
            self.add_trial(number, defaults)
            return defaults
        if len(self._list_finished()) > MAX_READ:
            self._shrink_study()
        for _ in range(MAX_ASKS):
            trial = self.study.ask()
            values: Hyperparameters = {}
            for name in sort_by_conditions(self.hyperparameters):
                if name in active_names(self.hyperparameters, values):
                    values[name] = suggest_value(trial, name, self.hyperparameters[name])
            if make_identity(values) not in self.proposed:
                self.asked[number] = trial
                self.values[number] = values
                return values
            result = self.results.get(make_identity(values))
            if result is None:  # still running
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, result)
        found = sample_new_hyperparameters(self.hyperparameters, self.generator, self.proposed)
        if found is not None:
            self.add_trial(number, found)
        return found

    def _list_finished(self) -> list[FrozenTrial]:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        return self.study.get_trials(deepcopy=False, states=states)

    def _shrink_study(self) -> None:
        """Begin a study with the best trials, a random sample of the others, and running ones.

        All that Optuna computes for a proposal grows with the number of its trials: it sorts them,
        and it compares the best 25 with a kernel density of the others, which so many describe as
        well as all of them do.
        """
        ranked = sorted(self._list_finished(), key=rank_observation, reverse=True)
        best, others = ranked[:BEST_READ], ranked[BEST_READ:]
        drawn = self.generator.choice(len(others), MIN_READ - BEST_READ, replace=False)
        kept = [*best, *(others[i] for i in drawn)]
        earlier = self.study
        self.study = optuna.create_study(direction="maximize", sampler=earlier.sampler)
        self.study.add_trials(sorted(kept, key=lambda trial: trial.number))  # old ones weigh less
        running = self.copies | {number: trial.number for number, trial in self.asked.items()}
        frozen = earlier.get_trials(deepcopy=False)
        for number, asked in running.items():
            self.copies[number] = len(self.study.get_trials(deepcopy=False))
            self.study.add_trial(frozen[asked])
            self.added[number] = self.values[number]
        self.asked.clear()

    def add_trial(self, number: int, values: Hyperparameters) -> None:
        """Add a trial that Optuna did not propose; Optuna gets it once it has ended."""
        super().add_trial(number, values)
        self.added[number] = values
        self.values[number] = values

    def report_trial(
        self, number: int, scores: Sequence[Score | None], status: TrialStatus
    ) -> None:
        """Report the running best per eligible epoch, and whether the trial was pruned.

        A trial that was paused, and has continued since, is reported again as another observation.
        """
        best = compute_running_best(scores)
        state = TrialState.COMPLETE
        if status == TrialStatus.FAILED or not best:
            state = TrialState.FAIL
        elif status == TrialStatus.PRUNED:
            state = TrialState.PRUNED
        if best and status != TrialStatus.FAILED:
            self.results[make_identity(self.values[number])] = best[-1]
        trial = self.asked.pop(number, None)
        if trial is None:
            self._report_added_trial(number, best, state)
            return
        for step, value in enumerate(best, start=1):
            trial.report(value, step)
        self.study.tell(trial, best[-1] if state == TrialState.COMPLETE else None, state=state)

    def _report_added_trial(self, number: int, best: list[float], state: TrialState) -> None:
        values = self.added.pop(number, self.values[number])
        if (copy := self.copies.pop(number, None)) is not None:
            self.study.tell(copy, state=TrialState.FAIL)
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=best[-1] if state == TrialState.COMPLETE else None,
                params=dict(values),
                distributions={
                    name: make_distribution(self.hyperparameters[name])
                    for name in values
                    if name in self.hyperparameters
                },
                intermediate_values=dict(enumerate(best, start=1)),
            )
        )


def rank_observation(trial: FrozenTrial) -> tuple[bool, float, float]:
    """Return a key by which TPE ranks finished trials: complete ones, then late-pruned ones."""
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return True, trial.value, 0.0
    last = max(trial.intermediate_values, default=0)
    return False, last, trial.intermediate_values.get(last, -math.inf)


def compute_running_best(scores: Iterable[Score | None]) -> list[float]:
    """Return the best value so far at each epoch that has a score."""
    values = [score.value for score in scores if score is not None]
    return list(itertools.accumulate(values, max))


def suggest_value(trial: optuna.trial.Trial, name: str, hyperparameter: Hyperparameter) -> Scalar:
    """Return Optuna's suggestion for a hyperparameter."""
    if hyperparameter.kind == "choice":
        choice = trial.suggest_categorical(name, list(hyperparameter.values))
        assert choice is not None  # no domain holds it
        return choice
    low, high = hyperparameter.bounds
    if hyperparameter.is_integer:
        return trial.suggest_int(name, int(low), int(high), log=hyperparameter.is_log)
    return hyperparameter.round_value(
        trial.suggest_float(name, low, high, log=hyperparameter.is_log)
    )


def make_distribution(hyperparameter: Hyperparameter) -> BaseDistribution:
    """Return Optuna's form of a hyperparameter's domain."""
    if hyperparameter.kind == "choice":
        return CategoricalDistribution(list(hyperparameter.values))
    low, high = hyperparameter.bounds
    if hyperparameter.is_integer:
        return IntDistribution(int(low), int(high), log=hyperparameter.is_log)
    return FloatDistribution(low, high, log=hyperparameter.is_log)
