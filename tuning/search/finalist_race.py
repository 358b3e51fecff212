"""The race of the finalists: which of the best trials wins, by further training seeds.

Nothing here trains or reads records: the race is a function of the values that are known.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from statistics import fmean, stdev

FINALIST_SEEDS = 3  # further training seeds of a finalist at most
HOPELESS_ERRORS = 2.0  # standard errors of the paired difference behind the leader

Values = Mapping[int, Sequence[float]]  # of each trial, in the order of its further seeds


@dataclass(frozen=True)
class Race:
    """A state of the race.

    Args:
        left: The finalists that can still win, the best of the search first.
        leader: The best of them by the seeds that all of them have; without any, the search's best.
        seeds: The further seeds that all of them have.
        is_decided: Whether the leader has won.
    """

    left: tuple[int, ...]
    leader: int
    seeds: int
    is_decided: bool


def run_race(finalists: Sequence[int], values: Values) -> Race:
    """Return the state of the race by the values that are known.

    All finalists that are left get a further seed in turn. From the second on, those leave that
    are more than two standard errors of the paired difference behind the leader. The seed of the
    search takes no part: it chose them, so that their values are too good.

    Args:
        finalists: The best trials of the search, the best one first; at least one.
        values: The value of each training seed that has ended, by trial; a failed one has minus
            infinity.
    """
    left = list(finalists)
    seeds = 0
    while len(left) > 1 and seeds < FINALIST_SEEDS:
        if any(len(values.get(trial, ())) <= seeds for trial in left):
            return Race(tuple(left), _find_leader(left, values, seeds), seeds, is_decided=False)
        seeds += 1
        leader = _find_leader(left, values, seeds)
        left = [t for t in left if t == leader or not _is_hopeless(t, leader, values, seeds)]
    return Race(tuple(left), _find_leader(left, values, seeds), seeds, is_decided=True)


def _find_leader(left: Sequence[int], values: Values, seeds: int) -> int:
    """Return the finalist with the best mean, the first of equals."""
    if not seeds:
        return left[0]
    return max(left, key=lambda trial: fmean(values[trial][:seeds]))


def _is_hopeless(trial: int, leader: int, values: Values, seeds: int) -> bool:
    pairs = zip(values[leader][:seeds], values[trial][:seeds], strict=True)
    if -math.inf in values[trial][:seeds]:
        return True
    differences = [one - other for one, other in pairs]
    if len(differences) < 2:
        return False
    return fmean(differences) > HOPELESS_ERRORS * stdev(differences) / math.sqrt(seeds)


def count_runs_left(race: Race | None, runs: Mapping[int, Sized]) -> int:
    """Return how many runs a race can take at most beyond those that exist.

    Args:
        race: The state of the race; None without one.
        runs: The further runs of each trial, by its number.
    """
    if race is None or race.is_decided:
        return 0
    return sum(max(0, FINALIST_SEEDS - len(runs.get(number, ()))) for number in race.left)


def count_finalist_runs(finalists: int) -> int:
    """Return how many further runs a race of so many finalists takes at most."""
    return finalists * FINALIST_SEEDS if finalists > 1 else 0
