"""Random search."""

import hashlib
from collections.abc import Mapping

import numpy as np

from common.hyperparameters import (
    Hyperparameter,
    Hyperparameters,
    active_names,
    list_defaults,
    sort_by_conditions,
)
from tuning.search.searchers.base import Searcher, make_identity
from tuning.search.searchers.grid import list_points

MAX_DRAWS = 100  # draws of hyperparameters that are known already, before a space is enumerated


class RandomSearcher(Searcher):
    """Proposes the defaults, then a seeded sequence: trial i is a function of (study seed, i).

    Args:
        hyperparameters: The hyperparameters.
        seed: The study's seed.
        salt: Tells this search from others with the same seed, such as the method's name.
    """

    def __init__(self, hyperparameters: Mapping[str, Hyperparameter], seed: int, salt: str) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        self.entropy = [seed, int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "little")]
        self.sequence: list[Hyperparameters] = [list_defaults(hyperparameters)]
        self.drawn: set[str] = {make_identity(self.sequence[0])}

    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return entry ``number`` of the sequence, without regard to other proposals."""
        while len(self.sequence) <= number:
            index = len(self.sequence)
            generator = np.random.Generator(np.random.PCG64([*self.entropy, index]))
            values = sample_new_hyperparameters(self.hyperparameters, generator, self.drawn)
            if values is None:
                return None
            self.sequence.append(values)
            self.drawn.add(make_identity(values))
        return self.sequence[number]


def sample_hyperparameters(
    hyperparameters: Mapping[str, Hyperparameter], generator: np.random.Generator
) -> Hyperparameters:
    """Sample the active hyperparameters."""
    drawn = {
        name: hyperparameters[name].sample(generator)
        for name in sort_by_conditions(hyperparameters)
    }
    return {name: drawn[name] for name in active_names(hyperparameters, drawn)}


def sample_new_hyperparameters(
    hyperparameters: Mapping[str, Hyperparameter], generator: np.random.Generator, known: set[str]
) -> Hyperparameters | None:
    """Sample hyperparameters whose identity is not known yet; None if there are none."""
    for _ in range(MAX_DRAWS):
        values = sample_hyperparameters(hyperparameters, generator)
        if make_identity(values) not in known:
            return values
    rest = [v for v in list_points(hyperparameters) or [] if make_identity(v) not in known]
    return rest[int(generator.integers(len(rest)))] if rest else None
