"""Selection of epochs: the rules that choose the best epoch of a run.

In this order: a :class:`Rule` names the metric; :func:`score_epoch` makes a :class:`Score` of an
epoch; :func:`select_epoch` takes the best one. :mod:`tuning.selection` chooses among trials.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import UserError, unknown_name_message
from core.training.epoch_row import EpochRow
from datasets.benchmark import Benchmark
from datasets.training_config import JOINED_SPLIT

CONSTANT_TOLERANCE = 1e-9  # of means over training seeds

Metrics = Mapping[str, float | list[float | None] | None]  # of one split


@dataclass(frozen=True)
class SelectionRow:
    """An epoch as selection sees it.

    Args:
        epoch_row: The row of the epoch.
        test: Its audited test metrics, averaged over the window of the rule, for oracle rules.
    """

    epoch_row: EpochRow
    test: Metrics | None = None

    def get_metrics(self, split: str) -> Metrics:
        """Return the metrics of the split ``validation`` or ``test``."""
        metrics = self.test if split == "test" else self.epoch_row.validation
        if metrics is None:
            raise ValueError("no test metrics were recorded for this epoch (run with --audit-test)")
        return metrics


@dataclass(frozen=True)
class Rule:
    """A rule that orders epochs.

    Ties go to the higher average accuracy (for tasks, the lower worst-task delta; for environments,
    the higher success of the worst task), then to the earlier epoch, then to the lower trial
    number.

    Args:
        name: The name that options and tables use.
        split: ``validation``, or ``test`` for a rule that needs ``--audit-test``.
        metric: The metric of that split.
        lower_is_better: Whether lower is better.
        window: Number of last epochs whose metrics are averaged, instead of choosing an epoch; 0
            chooses the best epoch.
        ranked_epochs: Number of best epochs whose mean ranks a trial among others. The best epoch
            alone is the luckiest one; the epoch that is kept is the best one all the same.
        margin: Standard errors of the difference by which a trial must be better than the default
            hyperparameters to rank before them; 0 ranks them as any other.
    """

    name: str
    split: str
    metric: str
    lower_is_better: bool = False
    window: int = 0
    ranked_epochs: int = 1
    margin: float = 0.0

    def read_metric(self, score: "Score | None") -> float | None:
        """Return the metric behind a score, whose value is negated where lower is better."""
        if score is None:
            return None
        return -score.value if self.lower_is_better else score.value

    def rank_metric(self, value: float) -> float:
        """Return the value of a score with a metric, which is greater where it is better."""
        return -value if self.lower_is_better else value

    @property
    def column(self) -> str:
        """The metric with its split, as exports name it."""
        return f"{self.split}_{self.metric}"

    @property
    def oracle(self) -> bool:
        """Whether it reads the test split: its results are an optimistically biased estimate."""
        return self.split == "test"


RULES = {
    rule.name: rule
    for rule in (
        Rule("validation_worst_group_accuracy", "validation", "worst_group_accuracy"),
        Rule(
            "validation_worst_group_accuracy_best3",
            "validation",
            "worst_group_accuracy",
            ranked_epochs=3,
        ),
        # One standard error: Breiman et al., Classification and Regression Trees, 1984.
        Rule(
            "validation_worst_group_accuracy_or_default",
            "validation",
            "worst_group_accuracy",
            ranked_epochs=3,
            margin=1.0,
        ),
        Rule("validation_average_accuracy", "validation", "average_accuracy"),
        Rule("validation_worst_class_accuracy", "validation", "worst_class_accuracy"),
        Rule("validation_training_weighted_accuracy", "validation", "training_weighted_accuracy"),
        Rule("oracle_test_worst_group_accuracy", "test", "worst_group_accuracy"),
        Rule("validation_delta_m", "validation", "delta_m", lower_is_better=True),
        Rule(
            "validation_delta_m_best3",
            "validation",
            "delta_m",
            lower_is_better=True,
            ranked_epochs=3,
        ),
        Rule("validation_worst_task_delta", "validation", "worst_task_delta", lower_is_better=True),
        Rule("validation_mean_f1", "validation", "mean_f1"),
        Rule("oracle_test_delta_m", "test", "delta_m", lower_is_better=True),
        Rule("validation_success", "validation", "success"),
        Rule("validation_worst_task_success", "validation", "worst_task_success"),
        Rule("oracle_test_success", "test", "success"),
        Rule("published_last10", "test", "delta_m", lower_is_better=True, window=10),
    )
}


def get_rule(name: str, source: str = "") -> Rule:
    """Return the rule of that name.

    Args:
        name: The name.
        source: The option or setting that gave it, with which an error message begins.

    Raises:
        UserError: If there is none.
    """
    if name not in RULES:
        message = unknown_name_message("rule", name, RULES)
        raise UserError(f"{source}: {message}" if source else message)
    return RULES[name]


def choose_variant(name: str) -> str:
    """Return the variant of a data set's rule that ``--search auto`` takes, or the rule itself."""
    variants = (f"{name}_or_default", f"{name}_best3")
    return next((variant for variant in variants if variant in RULES), name)


def check_rule(rule: Rule, benchmark: Benchmark) -> None:
    """Refuse a rule that does not fit a benchmark.

    Raises:
        UserError: If the benchmark does not report its metric, or was published with another rule.
    """
    if rule.metric not in benchmark.higher_is_better:
        fitting = [name for name, r in RULES.items() if r.metric in benchmark.higher_is_better]
        raise UserError(
            f"--select {rule.name}: data set '{benchmark.name}' does not report {rule.metric}; "
            f"compatible rules: {', '.join(fitting)}"
        )
    published = benchmark.published_rule
    if rule.window and published not in (None, rule.name):
        raise UserError(
            f"--select {rule.name}: the published protocol of data set '{benchmark.name}' has "
            f"another rule, {published}"
        )


def explain_trained_split(rule: Rule, training_split: str) -> str:
    """Return why a rule cannot choose among epochs trained on a split; empty where it can."""
    if training_split != JOINED_SPLIT or rule.window:
        return ""
    return f"training_split={JOINED_SPLIT} trains on the split that {rule.name} reads"


@dataclass(frozen=True, order=True)
class Score:
    """The score of an epoch: greater is better.

    Args:
        value: The rule's metric, negated where lower is better.
        tie_breaker: The average accuracy, minus the worst-task delta, or the worst task's success.
        negated_epoch: Minus the epoch's number: among equal epochs the earlier one wins.
        error: The standard error of the value by the examples of the worst group; 0 for other
            metrics.
    """

    value: float
    tie_breaker: float
    negated_epoch: int
    error: float = field(default=0.0, compare=False)

    @property
    def epoch(self) -> int:
        """The epoch's number, from 1."""
        return -self.negated_epoch


def score_epoch(rule: Rule, rows: Sequence[SelectionRow]) -> Score | None:
    """Return the score of one epoch, averaged over training seeds.

    Args:
        rule: The rule.
        rows: The epoch's row for each training seed.

    Returns:
        The score, or None where the epoch is not eligible or the metric undefined.
    """
    if not rows or not all(row.epoch_row.eligible for row in rows):
        return None
    if rule.window and not all(row.epoch_row.final for row in rows):
        return None
    metrics = [row.get_metrics(rule.split) for row in rows]
    values = [_read_number(one, rule.metric) for one in metrics]
    defined = [value for value in values if value is not None]
    if len(defined) < len(rows):
        return None
    value = (-1 if rule.lower_is_better else 1) * sum(defined) / len(rows)
    tie_breakers = [_read_tie_breaker(one) for one in metrics]
    # Training seeds share the examples, so their errors do not cancel.
    has_error = rule.metric == "worst_group_accuracy"
    errors = [_estimate_error(one) if has_error else 0.0 for one in metrics]
    return Score(
        value,
        sum(tie_breakers) / len(rows),
        -rows[0].epoch_row.epoch,
        sum(errors) / len(errors),
    )


def _estimate_error(metrics: Metrics) -> float:
    """Return the binomial standard error of the accuracy of the worst group; 0 where unknown.

    A right and a wrong example are added, so that groups that are all right or all wrong have an
    error too.
    """
    accuracies, counts = metrics.get("group_accuracy"), metrics.get("group_count")
    if not isinstance(accuracies, list) or not isinstance(counts, list):
        return 0.0
    known = [(a, n) for a, n in zip(accuracies, counts, strict=True) if a is not None and n]
    accuracy, count = min(known, default=(0.0, 0.0))
    if not count:
        return 0.0
    share = (accuracy * count + 1) / (count + 2)
    return math.sqrt(share * (1 - share) / count)


def _read_number(metrics: Metrics, name: str) -> float | None:
    """Return a metric; None if it is undefined or NaN."""
    value = metrics.get(name)
    return value if isinstance(value, (int, float)) and value == value else None


def _read_tie_breaker(metrics: Metrics) -> float:
    """Return the metric that breaks ties; greater is better."""
    worst, average = metrics.get("worst_task_delta"), metrics.get("average_accuracy", 0.0)
    if isinstance(worst, (int, float)):
        return -float(worst)
    success = metrics.get("worst_task_success")
    if isinstance(success, (int, float)):
        return float(success)
    return float(average) if isinstance(average, (int, float)) else 0.0


def make_selection_row(
    rule: Rule, rows: Sequence[EpochRow], audit: Sequence[Metrics], index: int
) -> SelectionRow:
    """Return an epoch as selection sees it: its row, and its audited test metrics, if any.

    Args:
        rule: The rule, over whose window the test metrics are averaged.
        rows: The rows of a run.
        audit: The test metrics of each epoch; empty without an audit.
        index: The epoch's position in both, from 0.
    """
    if not audit:
        return SelectionRow(rows[index])
    last = audit[max(0, index + 1 - max(1, rule.window)) : index + 1]
    return SelectionRow(rows[index], _average_metrics(last) if len(last) > 1 else last[0])


def _average_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric that is a number."""
    means = {}
    for name in metrics[0]:
        values = [value for one in metrics if isinstance(value := one[name], (int, float))]
        if len(values) == len(metrics):
            means[name] = sum(values) / len(metrics)
    return means


def select_epoch(scores: Iterable[Score | None]) -> Score | None:
    """Return the score of the epoch that the rule selects; None if no epoch has a score."""
    return max((score for score in scores if score is not None), default=None)


def rank_trial(rule: Rule, scores: Iterable[Score | None]) -> Score | None:
    """Return the score by which a trial is compared with others; None if no epoch has a score.

    Args:
        rule: The rule.
        scores: The score of each epoch; the mean is over the best ones, of which a trial that
            ended early may have fewer.

    Returns:
        The score, which names the best epoch.
    """
    ordered = sorted((score for score in scores if score is not None), reverse=True)
    best = ordered[: rule.ranked_epochs]
    if len(best) < 2:
        return best[0] if best else None
    return Score(
        sum(score.value for score in best) / len(best),
        sum(score.tie_breaker for score in best) / len(best),
        best[0].negated_epoch,
        sum(score.error for score in best) / len(best),
    )


def score_curves(rule: Rule, curves: Sequence[Sequence[SelectionRow]]) -> list[Score | None]:
    """Return the score of each epoch that the rows of all training seeds contain."""
    return [score_epoch(rule, rows) for rows in zip(*curves, strict=False)]


def exceeds_constant(rule: Rule, score: Score | None, constant_metric: float | None) -> bool:
    """Return whether a score is better than a constant prediction's, where that is known.

    Args:
        rule: The rule.
        score: The score; None before the first one.
        constant_metric: The metric of a constant prediction; None where unknown.
    """
    if constant_metric is None or score is None:
        return constant_metric is None
    return score.value > rule.rank_metric(constant_metric) + CONSTANT_TOLERANCE


class Patience:
    """Ends a trial that improves no longer, and holds its best score.

    It begins once the score exceeds that of a constant prediction.

    Args:
        epochs: Eligible epochs without improvement after which it ends; 0 for never.
        rule: The rule.
        constant_metric: The rule's metric of a constant prediction; None where unknown.
    """

    def __init__(self, epochs: int, rule: Rule, constant_metric: float | None) -> None:
        self.epochs = epochs
        self.rule = rule
        self.constant_metric = constant_metric
        self.best: Score | None = None
        self._eligible_since_best = 0

    def add_score(self, score: Score | None, eligible: bool) -> bool:
        """Take an epoch's score in; return whether the trial ends.

        Args:
            score: The score; None without one.
            eligible: Whether selection may choose the epoch.
        """
        if score is not None and (self.best is None or score > self.best):
            improved = self.best is None or score.value > self.best.value
            self.best = score
            self._eligible_since_best = 0 if improved else self._eligible_since_best + 1
        elif eligible:
            self._eligible_since_best += 1
        if not exceeds_constant(self.rule, self.best, self.constant_metric):
            self._eligible_since_best = 0
        return bool(self.epochs) and self._eligible_since_best >= self.epochs
