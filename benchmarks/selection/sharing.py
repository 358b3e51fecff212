"""Sharing: searches of several methods on one data set tell each other their best configurations.

Rate, decay and batch size belong to the data set, so the configuration that one method found may
start another's search. All methods search alone for half of their equal budgets; then each first
trains the best configurations of the others, with its own hyperparameters at their defaults.
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.strategies import (
    SLOTS,
    Choice,
    Chooser,
    Replay,
    Strategy,
    count_epochs,
    find_configuration,
    search_trials,
)
from common.hyperparameters import Hyperparameters, list_defaults
from tuning.search.searchers.base import make_identity
from tuning.search.searchers.tpe import TPESearcher
from tuning.search.simulate import SimulatedSearch


class SharingSearcher(TPESearcher):
    """TPE that trains the configurations of others from some trial on, before its own.

    Args:
        curves: The table that it searches.
        seed: Seed of the sampler.
        shared: The others' best configurations.
        first: The number of the first trial that takes one of them.
    """

    def __init__(
        self, curves: TableCurves, seed: int, shared: Sequence[Hyperparameters], first: int
    ) -> None:
        super().__init__(curves.table.space, seed)
        self.first = first
        self.shared = [self._adopt_values(values) for values in shared]

    def _adopt_values(self, values: Hyperparameters) -> Hyperparameters:
        common = {name: value for name, value in values.items() if name in self.hyperparameters}
        return {**list_defaults(self.hyperparameters), **common}

    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return the next configuration of another method, else a proposal of TPE."""
        while number >= self.first and self.shared:
            values = self.shared.pop(0)
            if make_identity(values) not in self.proposed:
                self.add_trial(number, values)
                return values
        return super().draw_hyperparameters(number)


def make_sharing(tables: Sequence[TableCurves], choose: Chooser) -> Strategy:
    """Return a search by TPE and ASHA that shares with those of the other tables.

    Args:
        tables: The tables of one data set, that of the search among them.
        choose: Chooses among the trials of a search.
    """

    def run(replay: Replay) -> Choice:
        shared = []
        for other in tables:
            if other is not replay.curves:
                half = replace(replay, curves=other, budget=replay.budget / 2)
                found = choose(half, search_trials(half, "tpe", "asha"))
                shared.append(found.curve.hyperparameters)
        alone = search_trials(replace(replay, budget=replay.budget / 2), "tpe", "asha")
        pool = replay.curves.make_pool(replay.seeds[:1], start=replay.start)
        searcher = SharingSearcher(replay.curves, replay.seed, shared, len(alone))
        search = SimulatedSearch(pool, searcher, "asha", len(pool.curves), SLOTS, replay.budget)
        search.run()
        chosen = choose(replay, search.ended)
        return Choice(find_configuration(replay, chosen.curve), count_epochs(search.ended))

    return run
