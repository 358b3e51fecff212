"""Selection: which round and which configuration win, by a rule that every table names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets.errors import UserError, unknown

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """What makes a round better than another; higher is better.

    Ties go to the higher average accuracy, then to the earlier round, then to the lower trial
    number.

    Args:
        name: The name that options and tables use.
        split: ``validation``, or ``test`` for a rule that needs ``--audit-test``.
        metric: The metric of that split.
    """

    name: str
    split: str
    metric: str

    @property
    def oracle(self) -> bool:
        """Whether the rule reads the test split, so that its results are no honest estimate."""
        return self.split == "test"


RULES = {
    rule.name: rule
    for rule in (
        Rule("validation_worst_group_accuracy", "validation", "worst_group_accuracy"),
        Rule("validation_average_accuracy", "validation", "average_accuracy"),
        Rule("validation_worst_class_accuracy", "validation", "worst_class_accuracy"),
        Rule("validation_training_weighted_accuracy", "validation", "training_weighted_accuracy"),
        Rule("oracle_test_worst_group_accuracy", "test", "worst_group_accuracy"),
    )
}


def rule(name: str) -> Rule:
    """Return the rule of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in RULES:
        raise UserError(f"--select: {unknown('rule', name, RULES)}")
    return RULES[name]


@dataclass(frozen=True, order=True)
class Score:
    """A round's standing: greater is better.

    Args:
        value: The rule's metric.
        average: Average accuracy of the same split, which breaks ties.
        earliness: Minus the round's number.
    """

    value: float
    average: float
    earliness: int

    @property
    def round(self) -> int:
        """The round's number, from 1."""
        return -self.earliness


def score(chosen: Rule, rows: Sequence[Row]) -> Score | None:
    """Return the standing of one round, averaged over training seeds.

    Args:
        chosen: The rule.
        rows: The round's row for each training seed; a rule that reads the test split finds its
            metrics under ``test``.

    Returns:
        The score, or None where the round is not eligible or the metric undefined.
    """
    if not rows or not all(row["eligible"] for row in rows):
        return None
    values = [row[chosen.split].get(chosen.metric) for row in rows]
    if any(value is None for value in values):
        return None
    averages = [row[chosen.split]["average_accuracy"] for row in rows]
    return Score(sum(values) / len(rows), sum(averages) / len(rows), -int(rows[0]["round"]))


def best_round(chosen: Rule, curves: Sequence[Sequence[Row]]) -> Score | None:
    """Return the score of the best round of a configuration.

    Args:
        chosen: The rule.
        curves: The rows of each training seed; rounds that not all have are left out.
    """
    scores = (score(chosen, rows) for rows in zip(*curves, strict=False))
    return max((found for found in scores if found is not None), default=None)


def winner(scores: Iterable[tuple[int, Score | None]]) -> int | None:
    """Return the number of the best configuration; None if none has a score.

    Args:
        scores: Number and best score of each configuration.
    """
    ranked = [(found, -number) for number, found in scores if found is not None]
    return -max(ranked)[1] if ranked else None
