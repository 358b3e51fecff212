"""Searchers: which configuration to try next. The only file that knows Optuna.

A searcher proposes values for the active hyperparameters
(:func:`common.hyperparameters.active`); the others keep their defaults. It is
told each finished configuration.
"""

import hashlib
import itertools
import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar, active, ordered
from tuning.selection import Score

ATTEMPTS = 100  # draws for a configuration that was not tried yet, before the space counts as empty

MANY = 10_000  # configurations from which on a space counts as endless


def identity(config: Mapping[str, Scalar]) -> str:
    """Return a text that is equal for equal configurations."""
    return json.dumps(dict(config), sort_keys=True)


def space_size(hyperparameters: Mapping[str, Hyperparameter]) -> int | None:
    """Return how many configurations there are; None if there are more than :data:`MANY`."""
    found = everything(hyperparameters)
    return None if found is None else len(found)


def everything(hyperparameters: Mapping[str, Hyperparameter]) -> list[Hyperparameters] | None:
    """Return all configurations; None where there are more than :data:`MANY`."""
    sizes = [hyperparameter.size for hyperparameter in hyperparameters.values()]
    if None in sizes or math.prod(size for size in sizes if size is not None) > MANY:
        return None
    return grid(
        hyperparameters,
        {name: _all_values(hyperparameter) for name, hyperparameter in hyperparameters.items()},
    )


def grid(
    hyperparameters: Mapping[str, Hyperparameter], values: Mapping[str, Sequence[Scalar]]
) -> list[Hyperparameters]:
    """Return all combinations, in the hyperparameters' order.

    Args:
        hyperparameters: The hyperparameters.
        values: The values to combine; where a hyperparameter has none, its own grid
            (:meth:`Hyperparameter.grid`, all values of a whole-number range of up to 10).
    """
    lists = {
        **{
            name: _values(hyperparameter)
            for name, hyperparameter in hyperparameters.items()
            if name not in values
        },
        **values,
    }
    found: dict[str, Hyperparameters] = {}
    for combination in itertools.product(*lists.values()):
        config = dict(zip(lists, combination, strict=True))
        used = active(hyperparameters, config)
        config = {n: v for n, v in config.items() if n in used or n not in hyperparameters}
        found.setdefault(identity(config), config)
    return list(found.values())


def _values(hyperparameter: Hyperparameter) -> Sequence[Scalar]:
    return (
        _all_values(hyperparameter)
        if hyperparameter.integer and (hyperparameter.size or 0) <= 10
        else hyperparameter.grid()
    )


def _all_values(hyperparameter: Hyperparameter) -> Sequence[Scalar]:
    if not hyperparameter.integer:
        return hyperparameter.grid()
    low, high = hyperparameter.bounds
    return list(range(int(low), int(high) + 1))


class Searcher(ABC):
    """Proposes configurations of one method, in the order of their numbers from 0."""

    def __init__(self) -> None:
        self.tried: set[str] = set()

    @abstractmethod
    def draw(self, number: int) -> Hyperparameters | None:
        """Return the configuration of that number, not yet in ``tried``; None if there is none."""

    def propose(self, number: int) -> Hyperparameters | None:
        """Return a configuration that was not tried yet, and count it as tried; None if none."""
        config = self.draw(number)
        if config is not None:
            self.tried.add(identity(config))
        return config

    def adopt(self, number: int, config: Hyperparameters) -> None:
        """Take over a configuration that an earlier session proposed."""
        self.tried.add(identity(config))

    def tell(self, number: int, scores: Sequence[Score | None], status: str) -> None:
        """Learn how a configuration ended.

        Args:
            number: Its number.
            scores: The score of each of its epochs.
            status: Its status: ``completed``, ``stopped_early``, ``pruned`` or ``failed``.
        """
        return


class RandomSearcher(Searcher):
    """Configuration i is a function of (study seed, i): the first new one of a seeded sequence.

    Args:
        hyperparameters: The hyperparameters.
        seed: The study's seed.
        salt: What else tells this search from others, such as the method's name.
    """

    def __init__(self, hyperparameters: Mapping[str, Hyperparameter], seed: int, salt: str) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        self.entropy = [seed, int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "little")]
        self.sequence: list[Hyperparameters] = []
        self.drawn: set[str] = set()

    def draw(self, number: int) -> Hyperparameters | None:
        """Return configuration ``number`` of the sequence, whatever was tried elsewhere."""
        while len(self.sequence) <= number:
            index = len(self.sequence)
            generator = np.random.Generator(np.random.PCG64([*self.entropy, index]))
            config = sample_new(self.hyperparameters, generator, self.drawn)
            if config is None:
                return None
            self.sequence.append(config)
            self.drawn.add(identity(config))
        return self.sequence[number]


def sample(
    hyperparameters: Mapping[str, Hyperparameter], generator: np.random.Generator
) -> Hyperparameters:
    """Draw a configuration of the active hyperparameters."""
    drawn = {name: hyperparameters[name].sample(generator) for name in ordered(hyperparameters)}
    return {name: drawn[name] for name in active(hyperparameters, drawn)}


def sample_new(
    hyperparameters: Mapping[str, Hyperparameter], generator: np.random.Generator, known: set[str]
) -> Hyperparameters | None:
    """Draw a configuration that is not known yet; None if there is none."""
    for _ in range(ATTEMPTS):
        config = sample(hyperparameters, generator)
        if identity(config) not in known:
            return config
    rest = [config for config in everything(hyperparameters) or [] if identity(config) not in known]
    return rest[int(generator.integers(len(rest)))] if rest else None


class GridSearcher(Searcher):
    """All configurations of a list in turn.

    Args:
        configs: The list.
    """

    def __init__(self, configs: Sequence[Hyperparameters]) -> None:
        super().__init__()
        self.configs = configs

    def draw(self, number: int) -> Hyperparameters | None:
        """Return entry ``number`` of the list."""
        return self.configs[number] if number < len(self.configs) else None


class TPESearcher(Searcher):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) of Optuna, in memory.

    It learns the running best of the selection value, epoch by epoch, and that a pruned trial was
    pruned. Proposals that were tried already are given to Optuna with their known result and
    asked again.

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
        self.fallback = np.random.Generator(np.random.PCG64([seed, 1]))
        self.asked: dict[int, optuna.trial.Trial] = {}
        self.adopted: dict[int, Hyperparameters] = {}
        self.known: dict[str, float] = {}
        self.configs: dict[int, Hyperparameters] = {}

    def draw(self, number: int) -> Hyperparameters | None:
        """Ask Optuna; after many known configurations in a row draw at random."""
        for _ in range(ATTEMPTS):
            trial = self.study.ask()
            config: Hyperparameters = {}
            for name in ordered(self.hyperparameters):
                if name in active(self.hyperparameters, config):
                    config[name] = suggest(trial, name, self.hyperparameters[name])
            if identity(config) not in self.tried:
                self.asked[number] = trial
                self.configs[number] = config
                return config
            value = self.known.get(identity(config))
            if value is None:  # still running
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self.study.tell(trial, value)
        found = sample_new(self.hyperparameters, self.fallback, self.tried)
        if found is not None:
            self.adopt(number, found)
        return found

    def adopt(self, number: int, config: Hyperparameters) -> None:
        """Take over a configuration; Optuna gets it with its result, when it is finished."""
        super().adopt(number, config)
        self.adopted[number] = config
        self.configs[number] = config

    def tell(self, number: int, scores: Sequence[Score | None], status: str) -> None:
        """Give Optuna the running best per eligible epoch, and whether the trial was pruned."""
        best = running_best(scores)
        state = optuna.trial.TrialState.COMPLETE
        if status == "failed" or not best:
            state = optuna.trial.TrialState.FAIL
        elif status == "pruned":
            state = optuna.trial.TrialState.PRUNED
        if best and status != "failed":
            self.known[identity(self.configs[number])] = best[-1]
        trial = self.asked.pop(number, None)
        if trial is None:
            self._add(number, best, state)
            return
        for step, value in enumerate(best, start=1):
            trial.report(value, step)
        complete = state == optuna.trial.TrialState.COMPLETE
        self.study.tell(trial, best[-1] if complete else None, state=state)

    def _add(self, number: int, best: list[float], state: Any) -> None:
        config = self.adopted.pop(number)
        complete = state == optuna.trial.TrialState.COMPLETE
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=best[-1] if complete else None,
                params=dict(config),
                distributions={
                    n: distribution(self.hyperparameters[n])
                    for n in config
                    if n in self.hyperparameters
                },
                intermediate_values=dict(enumerate(best, start=1)),
            )
        )


def running_best(scores: Iterable[Score | None]) -> list[float]:
    """Return the best value so far at each epoch that has a score."""
    values = [score.value for score in scores if score is not None]
    return list(itertools.accumulate(values, max))


def suggest(trial: optuna.trial.Trial, name: str, hyperparameter: Hyperparameter) -> Scalar:
    """Return Optuna's suggestion for a hyperparameter."""
    if hyperparameter.kind == "choice":
        return cast(Scalar, trial.suggest_categorical(name, list(hyperparameter.values)))
    low, high = hyperparameter.bounds
    if hyperparameter.integer:
        return trial.suggest_int(name, int(low), int(high), log=hyperparameter.log)
    return hyperparameter.tidy(trial.suggest_float(name, low, high, log=hyperparameter.log))


def distribution(hyperparameter: Hyperparameter) -> BaseDistribution:
    """Return Optuna's form of a hyperparameter's domain."""
    if hyperparameter.kind == "choice":
        return CategoricalDistribution(list(hyperparameter.values))
    low, high = hyperparameter.bounds
    if hyperparameter.integer:
        return IntDistribution(int(low), int(high), log=hyperparameter.log)
    return FloatDistribution(low, high, log=hyperparameter.log)
