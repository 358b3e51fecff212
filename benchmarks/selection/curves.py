"""A recorded table as strategies see it: scores of epochs by a rule, and true values."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from benchmarks.selection.planned_runs import TableName
from benchmarks.selection.recorded_table import RecordedTable
from common.hyperparameters import Hyperparameters
from core.training.epoch_row import EpochRow
from core.training.selection import (
    Metrics,
    Rule,
    Score,
    SelectionRow,
    get_rule,
    score_curves,
    select_epoch,
)
from tuning.search.recorded_curves import Curve, RecordedCurves, compute_distance
from tuning.search.simulate import SimulatedTrial

SCORED_METRICS = ("average_accuracy", "worst_task_delta")  # by which rules break ties


@dataclass(frozen=True)
class PooledCurves(RecordedCurves):
    """Recorded trials of which each is proposed once: the nearest one that is left.

    Args:
        left: The indices of the trials that are left.
    """

    left: list[int] = field(default_factory=list)

    def find_nearest(self, values: Hyperparameters) -> Curve:
        """Take the nearest trial that is left."""
        index = min(
            self.left,
            key=lambda i: compute_distance(self.space, self.curves[i].hyperparameters, values),
        )
        self.left.remove(index)
        return self.curves[index]


class TableCurves:
    """The scores and true values of a table.

    Greater values are better: metrics of which lower ones are better are negated. Epochs that a
    failed run lacks have the worst value of the table.

    Args:
        table: The table.
    """

    def __init__(self, table: RecordedTable) -> None:
        self.table = table
        self.rule: Rule = get_rule(table.rule)
        self.seeds = table.seeds
        self.searches: dict[Hashable, list[SimulatedTrial]] = {}  # that several strategies share
        self._curves: dict[tuple[int, ...], list[Curve]] = {}

    @property
    def points(self) -> float:
        """The points of a unit of the metric: accuracies are shares, delta-m is in percent."""
        return 1.0 if self.rule.lower_is_better else 100.0

    @property
    def name(self) -> TableName:
        """The table's name."""
        return self.table.name

    @cached_property
    def validation(self) -> np.ndarray:
        """The rule's metric on the validation split, ``(configurations, seeds, epochs)``."""
        return self._orient_metric("validation")

    @cached_property
    def test(self) -> np.ndarray:
        """The same on the test split."""
        return self._orient_metric("test")

    def _orient_metric(self, split: str) -> np.ndarray:
        values = self.table.get_metric(split, self.rule.metric)
        values = -values if self.rule.lower_is_better else values
        return np.where(np.isnan(values), np.nanmin(values), values)

    @cached_property
    def rows(self) -> list[list[list[SelectionRow]]]:
        """The epochs of each configuration and seed, ineligible ones first; empty without."""
        names = [n for n in (self.rule.metric, *SCORED_METRICS) if n in self.table.metrics]
        sign = -1 if self.rule.lower_is_better else 1
        arrays = {
            name: np.nan_to_num(self.table.get_metric("validation", name)) for name in names
        } | {self.rule.metric: sign * self.validation}
        configurations, seeds, epochs = self.validation.shape

        groups = [self.table.metrics.index(name) for name in self.table.list_groups()]

        def make_rows(configuration: int, seed: int) -> list[SelectionRow]:
            if seed not in self.seeds:
                return []
            start = int(self.table.ineligible[configuration])
            columns = [array[configuration, seed].tolist() for array in arrays.values()]
            eligible: list[Metrics] = [
                dict(zip(arrays, row, strict=True)) for row in zip(*columns, strict=True)
            ]
            if groups:
                of_epochs = np.nan_to_num(self.table.validation[configuration, seed])[:, groups]
                counts: list[float | None] = list(map(float, self.table.group_counts))
                eligible = [
                    {**one, "group_accuracy": accuracies, "group_count": counts}
                    for one, accuracies in zip(eligible, of_epochs.tolist(), strict=True)
                ]
            metrics = [eligible[0]] * start + eligible
            last = start + epochs - 1
            return [_make_row(epoch, start, last, found) for epoch, found in enumerate(metrics)]

        return [[make_rows(c, s) for s in range(seeds)] for c in range(configurations)]

    @cached_property
    def chosen_test(self) -> np.ndarray:
        """The test value at the epoch that validation chooses, ``(configurations, seeds)``.

        NaN where a seed is not trained with every configuration.
        """
        found = np.full(self.validation.shape[:2], np.nan)
        for c, s in itertools.product(range(len(found)), self.seeds):
            best = select_epoch(score_curves(self.rule, [self.rows[c][s]]))
            assert best is not None
            found[c, s] = self.test[c, s, best.epoch - 1 - int(self.table.ineligible[c])]
        return found

    def list_curves(self, seeds: Sequence[int]) -> list[Curve]:
        """Return the curve of each configuration, averaged over training seeds."""
        key = tuple(sorted(seeds))
        if key not in self._curves:
            self._curves[key] = [self._make_curve(c, key) for c in range(len(self.rows))]
        return self._curves[key]

    def _make_curve(self, configuration: int, seeds: Sequence[int]) -> Curve:
        scores: list[Score | None] = score_curves(
            self.rule, [self.rows[configuration][seed] for seed in seeds]
        )
        # Epochs are the unit of cost: each training seed's counts.
        epochs = (float(len(seeds)),) * len(scores)
        return Curve(self.table.hyperparameters[configuration], tuple(scores), epochs, epochs)

    def make_pool(
        self, seeds: Sequence[int], ranked_epochs: int = 1, start: int = 0
    ) -> PooledCurves:
        """Return the curves from which a search proposes, the defaults among them.

        Args:
            seeds: The training seeds over which they are averaged.
            ranked_epochs: Best epochs whose mean ranks a trial.
            start: The configuration that takes the place of the defaults.
        """
        curves = self.list_curves(seeds)
        values = self.table.hyperparameters[start]
        space = {
            name: replace(domain, default=values[name]) for name, domain in self.table.space.items()
        }
        return PooledCurves(
            str(self.name),
            space,
            replace(self.rule, ranked_epochs=ranked_epochs),
            curves,
            0,
            left=list(range(len(curves))),
        )


def _make_row(epoch: int, start: int, last: int, metrics: Metrics) -> SelectionRow:
    row = EpochRow(
        epoch=epoch + 1,
        stage=int(epoch >= start),
        stage_epoch=epoch,
        eligible=epoch >= start,
        final=epoch == last,
        losses={},
        lr=0.0,
        steps=1,
        validation=metrics,
        seconds=1.0,
    )
    return SelectionRow(row)
