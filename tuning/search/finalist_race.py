"""The race of the finalists: which of the best trials wins, by further training seeds.

Nothing here trains or reads records: the race is a function of the values that are known.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from statistics import fmean, stdev

FINALIST_SEEDS = 3  # further training seeds of a finalist at most
DEFAULT_FINALISTS = 2  # with a rule that prefers the default hyperparameters: they, and the best
HOPELESS_ERRORS = 2.0  # standard errors of the paired difference behind the leader

Values = Mapping[int, Sequence[float]]  # of each trial, in the order of its further seeds


@dataclass(frozen=True)
class PreferredTrial:
    """The finalist that wins unless another one is better by a margin.

    Args:
        number: The trial's number.
        margin: By how much another one's value must be better if each has one seed. It falls with
            the square root of the number of seeds, as if these had examples of their own. They
            share them, but few searches of docs/search.md end below the defaults with it.
    """

    number: int
    margin: float


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


def run_race(
    finalists: Sequence[int], values: Values, preferred: PreferredTrial | None = None
) -> Race:
    """Return the state of the race by the values that are known.

    All finalists that are left get a further seed in turn. From the second on, those leave that
    are more than two standard errors of the paired difference behind the leader. The seed of the
    search takes no part: it chose them, so that their values are too good. A preferred finalist
    stays; the others leave as soon as their mean is no better than its mean.

    Args:
        finalists: The best trials of the search, the best one first; at least one.
        values: The value of each training seed that has ended, by trial; a failed one has minus
            infinity.
        preferred: The finalist that the rule prefers; None without one.
    """
    left = list(finalists)
    seeds = 0
    while len(left) > 1 and seeds < FINALIST_SEEDS:
        if any(len(values.get(trial, ())) <= seeds for trial in left):
            leader = _find_leader(left, values, seeds, preferred)
            return Race(tuple(left), leader, seeds, is_decided=False)
        seeds += 1
        left = _drop_hopeless(left, values, seeds, preferred)
    return Race(tuple(left), _find_leader(left, values, seeds, preferred), seeds, is_decided=True)


def _drop_hopeless(
    left: Sequence[int], values: Values, seeds: int, preferred: PreferredTrial | None
) -> list[int]:
    """Return the finalists that can still win."""
    least = None if preferred is None else _mean(values, preferred.number, seeds)
    others = [t for t in left if least is None or _mean(values, t, seeds) > least]
    best = max(others, key=lambda trial: _mean(values, trial, seeds), default=None)
    return [
        trial
        for trial in left
        if (preferred is not None and trial == preferred.number)
        or trial == best
        or (trial in others and best is not None and not _is_behind(trial, best, values, seeds))
    ]


def _find_leader(
    left: Sequence[int], values: Values, seeds: int, preferred: PreferredTrial | None
) -> int:
    """Return the finalist that wins by the seeds that all have, the first of equals."""
    if not seeds or len(left) == 1:
        return left[0]
    if preferred is None:
        return max(left, key=lambda trial: _mean(values, trial, seeds))
    others = [trial for trial in left if trial != preferred.number]
    best = max(others, key=lambda trial: _mean(values, trial, seeds))
    least = _mean(values, preferred.number, seeds) + preferred.margin / math.sqrt(seeds)
    return best if _mean(values, best, seeds) > least else preferred.number


def _mean(values: Values, trial: int, seeds: int) -> float:
    return fmean(values[trial][:seeds])


def _is_behind(trial: int, leader: int, values: Values, seeds: int) -> bool:
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
