"""The winner's curse: a winner's value in the search beside those of its fresh seeds.

The best of many noisy values is too high on average, the more so the more values there are and the
more they vary with the seed. Fresh seeds of the same hyperparameters are not selected, so that
their mean is unbiased.
"""

import math
from dataclasses import dataclass

from scipy.special import stdtrit

from tuning.reporting.intervals import CONFIDENCE, MIN_SEEDS, SeedStatistics, are_equal
from tuning.reporting.recorded_study import RecordedStudy


@dataclass(frozen=True)
class WinnerValues:
    """The metric of selection, of the winner's hyperparameters.

    Args:
        metric: The metric.
        searched: Its value in the search, on the split of the rule; None without a search.
        validation: Its mean over the confirmation seeds on the validation split; None without.
        test: Its mean on the test split; None without.
        exceeds_seeds: Whether the value of the search is better than the seeds explain: it lies
            beyond their 95% prediction interval.
    """

    metric: str
    searched: float | None
    validation: float | None
    test: float | None
    exceeds_seeds: bool


def compare_winner_values(
    study: RecordedStudy,
    validation: SeedStatistics | None,
    test: SeedStatistics | None,
) -> WinnerValues:
    """Return the winner's value in the search beside those of its fresh seeds.

    Args:
        study: The study.
        validation: The rule's metric over the confirmation seeds, on the validation split.
        test: The same on the test split.
    """
    rule = study.rule
    searched = None if study.winner is None else rule.read_metric(study.winner.best)
    compared = test if rule.oracle else validation
    sign = -1 if rule.lower_is_better else 1
    limit = None if compared is None else predict_limit(compared, study.context.search_seeds)
    return WinnerValues(
        metric=rule.metric,
        searched=searched,
        validation=None if validation is None else validation.mean,
        test=None if test is None else test.mean,
        exceeds_seeds=searched is not None
        and compared is not None
        and limit is not None
        and sign * (searched - compared.mean) > limit,
    )


def predict_limit(found: SeedStatistics, seeds: int) -> float | None:
    """Return half the width of the prediction interval of a mean over further seeds.

    Fewer than three seeds have none, nor have equal ones, such as of collapsed models, whose
    deviation of 0 says nothing about further seeds.

    Args:
        found: A metric over the confirmation seeds.
        seeds: The number of further seeds.
    """
    if found.std is None or found.n < MIN_SEEDS or are_equal(found.values):
        return None
    quantile = float(stdtrit(found.n - 1, (1 + CONFIDENCE) / 2))
    return quantile * found.std * math.sqrt(1 / seeds + 1 / found.n)
