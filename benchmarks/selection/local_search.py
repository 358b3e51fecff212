"""Local and random search: half of the trials near the best one so far, half anywhere.

It is a candidate for ``--search``; the replays have not shown that it finds more than the others.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from common.hyperparameters import (
    Hyperparameter,
    Hyperparameters,
    Scalar,
    active_names,
    list_defaults,
    sort_by_conditions,
)
from core.training.selection import RULES, Score, rank_trial
from tuning.records.run_data import TrialStatus
from tuning.search.searchers.base import make_identity
from tuning.search.searchers.random import MAX_DRAWS, RandomSearcher, sample_new_hyperparameters

LOCAL_SHARE = 0.5  # of the trials
# Shares of a range: the least and the greatest deviation of a trial near another.
WIDTHS = (0.05, 0.5)
RANKING = RULES["validation_worst_group_accuracy_best3"]  # by the mean of the three best epochs


class LocalSearcher(RandomSearcher):
    """Proposes the defaults, then each trial near the best one so far or, as often, anywhere.

    A trial near another has each hyperparameter drawn from a normal distribution around the
    other's, whose deviation is drawn for each trial, log-uniformly from a twentieth to half of the
    range, as heavy-tailed mutations of evolutionary algorithms (Doerr et al., GECCO 2017). A trial
    is a function of (study seed, its number) and of the best trial so far.

    Args:
        hyperparameters: The hyperparameters.
        seed: The study's seed.
        salt: Tells this search from others with the same seed, such as the method's name.
    """

    def __init__(self, hyperparameters: Mapping[str, Hyperparameter], seed: int, salt: str) -> None:
        super().__init__(hyperparameters, seed, salt)
        self.values: dict[int, Hyperparameters] = {}  # of all trials
        self.ranks: dict[int, tuple[float, float]] = {}  # of trials with eligible epochs

    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return the defaults, or values near those of the best trial or anywhere."""
        defaults = list_defaults(self.hyperparameters)
        if not number and make_identity(defaults) not in self.proposed:
            return defaults
        generator = np.random.Generator(np.random.PCG64([*self.entropy, number]))
        center = self.find_best()
        if center is not None and generator.random() < LOCAL_SHARE:
            for _ in range(MAX_DRAWS):
                values = sample_near(self.hyperparameters, center, generator)
                if make_identity(values) not in self.proposed:
                    return values
        return sample_new_hyperparameters(self.hyperparameters, generator, self.proposed)

    def propose_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return new hyperparameters and remember them; None if none are left."""
        values = super().propose_hyperparameters(number)
        if values is not None:
            self.values[number] = values
        return values

    def add_trial(self, number: int, values: Hyperparameters) -> None:
        """Add a trial that an earlier session proposed."""
        super().add_trial(number, values)
        self.values[number] = values

    def report_trial(
        self, number: int, scores: Sequence[Score | None], status: TrialStatus
    ) -> None:
        """Rank a trial by the mean of its best epochs, then by their higher mean tie breaker."""
        found = rank_trial(RANKING, scores)
        if found is not None and status != TrialStatus.FAILED:
            self.ranks[number] = found.value, found.tie_breaker

    def find_best(self) -> Hyperparameters | None:
        """Return the hyperparameters of the best trial, the earliest among equals."""
        if not self.ranks:
            return None
        number = max(self.ranks, key=lambda n: (self.ranks[n], -n))
        return self.values[number]


def sample_near(
    hyperparameters: Mapping[str, Hyperparameter],
    center: Hyperparameters,
    generator: np.random.Generator,
) -> Hyperparameters:
    """Sample the active hyperparameters near others, at a distance that is drawn too."""
    low, high = WIDTHS
    width = math.exp(generator.uniform(math.log(low), math.log(high)))
    drawn: Hyperparameters = {}
    for name in sort_by_conditions(hyperparameters):
        domain = hyperparameters[name]
        drawn[name] = _sample_value(domain, center.get(name, domain.default), width, generator)
    return {name: drawn[name] for name in active_names(hyperparameters, drawn)}


def _sample_value(
    domain: Hyperparameter, center: Scalar, width: float, generator: np.random.Generator
) -> Scalar:
    """Sample a value near another; names and switches, which have no order, change at times."""
    if domain.kind == "choice" and domain.is_nominal:
        return domain.sample(generator) if generator.random() < width else center
    choices = sorted(domain.values) if domain.kind == "choice" else []
    position = _find_position(domain, choices, center) + width * generator.standard_normal()
    position = abs(position) % 2  # reflected at both ends of the range
    position = min(2 - position if position > 1 else position, 1 - 1e-12)
    return choices[int(position * len(choices))] if choices else domain.value_at(position)


def _find_position(domain: Hyperparameter, choices: Sequence[Scalar], value: Scalar) -> float:
    """Return where a value is between the ends of its domain, on the domain's own scale."""
    if choices:
        return (choices.index(domain.find_choice(value)) + 0.5) / len(choices)
    low, high = domain.bounds
    number = float(value)
    if domain.is_integer:  # the middle of the positions that give it
        high, number = high + 1, number + 0.5
    if domain.is_log:
        return math.log(number / low) / math.log(high / low)
    return (number - low) / (high - low)
