"""Replays: a strategy searches a table many times; its choices are judged on seeds it never saw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.strategies import BASE, GROUP_STRATEGIES, NEEDED_SEEDS, Replay, Strategy
from core.training.selection import rank_trial

BUDGETS = (40, 80, 160, 320)  # epochs: 2, 4, 8 and 16 whole trainings of 20 epochs
MIN_SEEDS = 4  # of a table in the mean over tables
RESAMPLES = 2000  # of the seeds, for an interval
CONFIDENCE = 95  # percent
CLOSE = 1.0  # point below the best
NEAR = 8.0  # points below the best: configurations among which a search has to choose well


@dataclass(frozen=True)
class Judged:
    """The replays of a strategy on a table with one budget, all values in points.

    Args:
        values: The true value of each choice: its mean test value over the seeds held out.
        regrets: The test value of the configuration that is best on the seeds of the search, less
            that of the choice, on each seed, ``(replays, seeds)``; NaN on those of the search.
        overtuned: The replays whose choice is worse than the default.
        epochs: The epochs spent.
        searched: The seed of each search, the first one of those that it may take.
    """

    values: np.ndarray
    regrets: np.ndarray
    overtuned: np.ndarray
    epochs: np.ndarray
    searched: np.ndarray

    @property
    def regret(self) -> float:
        """The mean regret."""
        return float(np.nanmean(self.regrets, axis=1).mean())


@dataclass(frozen=True)
class SeedSplit:
    """The seeds of a replay.

    Args:
        used: The seeds that a strategy may train on, in the order in which it takes them.
        held_out: The seeds that judge.
    """

    used: list[int]
    held_out: list[int]


def split_seeds(seeds: Sequence[int], replay: int) -> SeedSplit:
    """Return a random half of the seeds and the other one."""
    order = [int(s) for s in np.random.default_rng([7, replay]).permutation(np.asarray(seeds))]
    half = (len(order) + 1) // 2
    return SeedSplit(order[:half], order[half:])


def replay_strategy(
    curves: TableCurves,
    strategy: Strategy,
    budget: float,
    replays: int,
    has_random_start: bool = False,
) -> Judged:
    """Return the replays of a strategy on a table."""
    values, regrets, overtuned, epochs, searched = [], [], [], [], []
    for number in range(replays):
        split = split_seeds(curves.seeds, number)
        drawn = np.random.default_rng([13, number]).integers(1, len(curves.chosen_test))
        start = int(drawn) if has_random_start else 0
        choice = strategy(Replay(curves, split.used, number, budget, start, int(drawn)))
        best = int(curves.chosen_test[:, split.used].mean(axis=1).argmax())
        tests = curves.points * curves.chosen_test[:, split.held_out]
        true = tests.mean(axis=1)
        lost = np.full(curves.chosen_test.shape[1], np.nan)
        lost[split.held_out] = tests[best] - tests[choice.configuration]
        values.append(true[choice.configuration])
        regrets.append(lost)
        overtuned.append(true[choice.configuration] < true[0] - 1e-9)
        epochs.append(choice.epochs)
        searched.append(split.used[0])
    return Judged(
        np.array(values),
        np.array(regrets),
        np.array(overtuned, dtype=np.float64),
        np.array(epochs, dtype=np.float64),
        np.array(searched),
    )


def bootstrap_difference(one: Judged, other: Judged, seeds: Sequence[int]) -> np.ndarray:
    """Return the mean difference of two strategies' regrets in resamples of the seeds.

    Seeds are drawn with replacement. A replay counts as often as the seed of its search is drawn,
    and in its regret each seed held out as often as it is.

    Args:
        one: The replays of a strategy.
        other: The same replays of another.
        seeds: The seeds of the table.
    """
    generator = np.random.default_rng(11)
    differences = one.regrets - other.regrets
    held_out = ~np.isnan(differences)
    filled = np.where(held_out, differences, 0.0)
    means: list[float] = []
    while len(means) < RESAMPLES:
        drawn = generator.choice(np.asarray(seeds), len(seeds))
        counts = np.bincount(drawn, minlength=differences.shape[1]).astype(np.float64)
        judged = held_out @ counts
        weights = counts[one.searched] * (judged > 0)
        if weights.sum():
            lost = filled @ counts / np.maximum(judged, 1)
            means.append(float(weights @ lost / weights.sum()))
    return np.array(means)


def format_interval(mean: float, resampled: np.ndarray) -> str:
    """Return a mean and its interval by a bootstrap."""
    low, high = np.percentile(resampled, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def describe_table(curves: TableCurves, replays: int) -> str:
    """Return sentences about the true values of a table's configurations, and about intervals."""
    halves = [split_seeds(curves.seeds, number) for number in range(replays)]
    tests = curves.chosen_test
    correlations = [
        np.corrcoef(tests[1:, s.used].mean(axis=1), tests[1:, s.held_out].mean(axis=1))[0, 1]
        for s in halves
    ]
    means = curves.points * tests[:, curves.seeds].mean(axis=1)
    near = means > means.max() - NEAR
    ranks = correlate_ranks(curves, near)
    return (
        f"{curves.name}: {len(curves.seeds)} seeds of {len(means)} configurations; true values: "
        f"blind {means[1:].mean():.1f}, deviation {means[1:].std(ddof=1):.1f}, default "
        f"{means[0]:.1f}, best {means.max():.1f}; correlation of halves {np.mean(correlations):.2f}"
        f"; of {near.sum()} within {NEAR:g} points of the best, the ranks of one seed's validation "
        f"values and of the others' test values have a correlation of {ranks:.2f}"
        f". Intervals ({CONFIDENCE}%) are by a bootstrap over the seeds"
    )


def correlate_ranks(curves: TableCurves, chosen: np.ndarray) -> float:
    """Return the mean rank correlation of validation values on a seed with true values.

    Args:
        curves: The table.
        chosen: Which configurations count, ``(configurations,)``.
    """
    rule = replace(curves.rule, ranked_epochs=3)
    found = []
    for seed in curves.seeds:
        scores = [rank_trial(rule, curve.scores) for curve in curves.list_curves([seed])]
        validation = np.array([np.nan if one is None else one.value for one in scores])
        others = [other for other in curves.seeds if other != seed]
        true = curves.chosen_test[:, others].mean(axis=1)
        found.append(spearmanr(validation[chosen], true[chosen]).statistic)
    return float(np.mean(found))


@dataclass(frozen=True)
class TableReplays:
    """The replays of all strategies on a table.

    Args:
        curves: The table.
        judged: The replays, by budget and the strategy's name.
    """

    curves: TableCurves
    judged: Mapping[tuple[int, str], Judged]

    def compare(self, budget: int, name: str) -> tuple[float, np.ndarray] | None:
        """Return by how much a regret exceeds that of ``BASE``, and that in resamples of seeds."""
        found, base = self.judged.get((budget, name)), self.judged.get((budget, BASE))
        if found is None or base is None or name == BASE:
            return None
        resampled = bootstrap_difference(found, base, self.curves.seeds)
        return found.regret - base.regret, resampled


def replay_table(
    curves: TableCurves,
    strategies: Mapping[str, Strategy],
    replays: int,
    budgets: Sequence[int],
    has_random_start: bool = False,
) -> TableReplays:
    """Return the replays of all strategies on a table."""
    usable = list_usable(curves, strategies)
    judged = {
        (budget, name): replay_strategy(curves, strategy, budget, replays, has_random_start)
        for budget in budgets
        for name, strategy in usable.items()
    }
    return TableReplays(curves, judged)


def format_replays(table: TableReplays, replays: int) -> Iterator[str]:
    """Yield the lines of the Markdown table of all strategies on a recorded table."""
    yield from ("", describe_table(table.curves, replays), "")
    columns = "| strategy | budget | epochs | true value | regret | regret less the former |"
    yield f"{columns} below default |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    needed: dict[str, str] = {}  # epochs until the mean regret is small
    for (budget, name), found in table.judged.items():
        compared = table.compare(budget, name)
        if found.regret <= CLOSE:
            needed.setdefault(name, f"{found.epochs.mean():.0f}")
        yield (
            f"| {name} | {budget} | {found.epochs.mean():.0f} | {found.values.mean():.1f} "
            f"| {found.regret:.1f} | {format_interval(*compared) if compared else '-'} "
            f"| {found.overtuned.mean():.0%} |"
        )
    yield ""
    most = max(budget for budget, _ in table.judged)
    for name in dict.fromkeys(name for _, name in table.judged):
        epochs = needed.get(name, f"more than {most}")
        yield f"{table.curves.name}, {name}: within one point of the best after {epochs} epochs"


def format_average(tables: Sequence[TableReplays]) -> Iterator[str]:
    """Yield the lines of the Markdown table of the mean over recorded tables.

    Tables with fewer than ``MIN_SEEDS`` seeds do not count.
    """
    tables = [table for table in tables if len(table.curves.seeds) >= MIN_SEEDS]
    if not tables:
        return
    yield from ("", f"Mean of {', '.join(str(t.curves.name) for t in tables)}:", "")
    yield "| strategy | budget | epochs | regret less the former | below default |"
    yield "| --- | --- | --- | --- | --- |"
    for budget, name in tables[0].judged:
        found = [judged for t in tables if (judged := t.judged.get((budget, name))) is not None]
        compared = [pair for t in tables if (pair := t.compare(budget, name)) is not None]
        if len(found) < len(tables):
            continue
        difference = "-"
        if compared:
            resampled = np.mean([one for _, one in compared], axis=0)
            difference = format_interval(float(np.mean([mean for mean, _ in compared])), resampled)
        yield (
            f"| {name} | {budget} | {np.mean([one.epochs.mean() for one in found]):.0f} "
            f"| {difference} | {np.mean([one.overtuned.mean() for one in found]):.0%} |"
        )


def list_usable(curves: TableCurves, strategies: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """Return the strategies for which a table has groups and seeds enough."""
    seeds = len(split_seeds(curves.seeds, 0).used)
    return {
        name: strategy
        for name, strategy in strategies.items()
        if (curves.table.list_groups() or name not in GROUP_STRATEGIES)
        and NEEDED_SEEDS.get(name, 1) <= seeds
    }
