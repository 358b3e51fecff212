"""Selection of trials: the winner of a search; :mod:`core.training.selection` selects epochs.

Nothing here reads records: :mod:`tuning.search.recorded_scores` does.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from core.training.selection import Rule, Score, rank_trial
from tuning.records.run_data import TrialStatus


class Candidate(Protocol):
    """A trial, running or recorded, that a rule may select."""

    @property
    def number(self) -> int:
        """The trial's number."""

    @property
    def status(self) -> TrialStatus:
        """How it ended."""

    @property
    def is_default(self) -> bool:
        """Whether it is the search's trial of the default hyperparameters."""

    @property
    def scores(self) -> Sequence[Score | None]:
        """The score of each of its epochs."""


C = TypeVar("C", bound=Candidate)


def rank_trials(trials: Iterable[C], rule: Rule) -> list[C]:
    """Return the trials that have a score and have not failed, the one that wins first.

    A trial that has not ended counts with its epochs so far, as one that was pruned does. By a rule
    with a margin the default hyperparameters come first unless the best trial is better by more
    than it.

    Args:
        trials: The trials.
        rule: The rule that ranks them.
    """
    scored = [
        (score, -trial.number, trial)
        for trial in trials
        if trial.status != TrialStatus.FAILED
        and (score := rank_trial(rule, trial.scores)) is not None
    ]
    scored.sort(key=lambda ranked: ranked[:2], reverse=True)
    if rule.margin:
        for i, (score, _, trial) in enumerate(scored):
            if trial.is_default:
                if scored[0][0].value <= score.value + compute_margin(rule, score):
                    scored.insert(0, scored.pop(i))
                break
    return [trial for _, _, trial in scored]


def list_finalists(trials: Iterable[C], rule: Rule, count: int) -> list[C]:
    """Return the trials that a race decides between, the one that wins without it first.

    By a rule with a margin these are the default hyperparameters and the trials that are better.
    Two finalists are one where the defaults have no score: the best trial wins.

    Args:
        trials: The trials.
        rule: The rule that ranks them.
        count: The most finalists.
    """
    ranked = rank_trials(trials, rule)
    default = find_default(ranked, rule)
    if default is None or count == 1:
        return ranked[: 1 if rule.margin and count == 2 else count]
    least = rank_trial(rule, default.scores)
    better = [
        trial
        for trial in ranked
        if (score := rank_trial(rule, trial.scores)) and least and score.value > least.value
    ]
    finalists = [default, *better[: count - 1]]
    return sorted(finalists, key=ranked.index)


def find_default(trials: Iterable[C], rule: Rule) -> C | None:
    """Return the trial of the default hyperparameters that a rule prefers; None without."""
    return next((t for t in trials if t.is_default), None) if rule.margin else None


def compute_margin(rule: Rule, default: Score) -> float:
    """Return by how much a trial must be better than the default hyperparameters.

    The standard error is that of the difference of two such values on independent examples. Trials
    share the examples, so it is an upper bound.

    Args:
        rule: The rule.
        default: The score of the default hyperparameters.
    """
    return rule.margin * math.sqrt(2) * default.error


def select_trial(trials: Iterable[C], rule: Rule) -> C | None:
    """Return the best trial that has not failed; None without a score.

    Args:
        trials: The trials.
        rule: The rule that ranks them.
    """
    return next(iter(rank_trials(trials, rule)), None)
