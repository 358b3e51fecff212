"""Proposal: the hyperparameters of the next trial, and the number of trials."""

import hashlib
import itertools
from collections.abc import Container

from common.errors import UserError
from common.hyperparameters import Hyperparameters
from tuning.options import DEFAULT_TRIALS, Options
from tuning.search.searchers.base import Searcher
from tuning.search.searchers.grid import GridSearcher
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher
from tuning.search.space import Space


class Proposer:
    """Proposes new trials until the budget or the space is exhausted.

    Args:
        searcher: The searcher; None where nothing is searched.
        budget: Trials of the search.
    """

    def __init__(self, searcher: Searcher | None, budget: int) -> None:
        self.searcher = searcher
        self.budget = budget
        self.is_exhausted = False
        self._numbers = itertools.count()

    def raise_budget(self, trials: int) -> None:
        """Raise the budget to the trials that exist already."""
        self.budget = max(self.budget, trials)

    def propose_trial(self, taken: Container[int]) -> tuple[int, Hyperparameters] | None:
        """Return the number and hyperparameters of a new trial; None if there are none.

        Args:
            taken: Numbers of trials that exist.
        """
        if self.searcher is None:
            return None
        number = next(i for i in self._numbers if i not in taken)
        values = self.searcher.propose_hyperparameters(number)
        if values is None:
            self.is_exhausted = True
            return None
        return number, values


def make_searcher(space: Space, options: Options, earlier_trials: int) -> Searcher | None:
    """Return the searcher of a method; None where nothing is searched (``published``).

    Args:
        space: The search space.
        options: The command.
        earlier_trials: Trials of earlier sessions, so that a resumed TPE search does not repeat
            their first random draws.

    Raises:
        UserError: If published hyperparameters are asked for and there are none.
    """
    if options.search == "published":
        if space.published() is None:
            name = space.method.name
            known = ", ".join(sorted(space.method.published))
            raise UserError(
                f"--search published: {name} has no published hyperparameters for "
                f"'{space.benchmark.name}'{f', only for {known}' if known else ''}; "
                f"--set may give all of {', '.join(space.free)}"
            )
        return None
    if options.search == "grid":
        return GridSearcher(space.grid())
    if options.search == "random":
        return RandomSearcher(space.free, options.study_seed, space.method.name)
    salt = f"{options.study_seed} {space.method.name} {earlier_trials}"
    return TPESearcher(space.free, int(hashlib.sha256(salt.encode()).hexdigest()[:8], 16))


def count_trials(space: Space, options: Options) -> int:
    """Return the trials of the search: those asked for, or all points of a smaller space."""
    if options.search == "published":
        return 0
    if options.search == "grid":
        size = len(space.grid())
        return size if options.trials is None else min(options.trials, size)
    asked = DEFAULT_TRIALS if options.trials is None else options.trials
    points = space.count_points()
    return asked if points is None else min(asked, points)
