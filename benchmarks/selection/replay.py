"""Replays: a strategy searches a table many times; its choices are judged on seeds it never saw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.strategies import BASE, GROUP_STRATEGIES, NEEDED_SEEDS, Replay, Strategy

BUDGETS = (40, 80, 160, 320)  # epochs: 2, 4, 8 and 16 whole trainings of 20 epochs
RESAMPLES = 2000  # of the seeds, for an interval
CONFIDENCE = 95  # percent
CLOSE = 0.01  # of the best: one point


@dataclass(frozen=True)
class Judged:
    """The replays of a strategy on a table with one budget.

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


def replay_strategy(curves: TableCurves, strategy: Strategy, budget: float, replays: int) -> Judged:
    """Return the replays of a strategy on a table."""
    values, regrets, overtuned, epochs, searched = [], [], [], [], []
    for number in range(replays):
        split = split_seeds(curves.seeds, number)
        choice = strategy(Replay(curves, split.used, number, budget))
        best = int(curves.chosen_test[:, split.used].mean(axis=1).argmax())
        true = curves.chosen_test[:, split.held_out].mean(axis=1)
        lost = np.full(curves.chosen_test.shape[1], np.nan)
        tests = curves.chosen_test[:, split.held_out]
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


def bootstrap_difference(one: Judged, other: Judged, seeds: Sequence[int]) -> tuple[float, float]:
    """Return an interval of the mean difference of two strategies' regrets, over seeds.

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
    means = []
    for _ in range(RESAMPLES):
        drawn = generator.choice(np.asarray(seeds), len(seeds))
        counts = np.bincount(drawn, minlength=differences.shape[1]).astype(np.float64)
        judged = held_out @ counts
        weights = counts[one.searched] * (judged > 0)
        if weights.sum():
            lost = filled @ counts / np.maximum(judged, 1)
            means.append(float(weights @ lost / weights.sum()))
    low, high = np.percentile(means, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)


def describe_table(curves: TableCurves, replays: int) -> str:
    """Return sentences about the true values of a table's configurations, and about intervals."""
    halves = [split_seeds(curves.seeds, number) for number in range(replays)]
    tests = curves.chosen_test
    correlations = [
        np.corrcoef(tests[1:, s.used].mean(axis=1), tests[1:, s.held_out].mean(axis=1))[0, 1]
        for s in halves
    ]
    means = tests[:, curves.seeds].mean(axis=1)
    return (
        f"{curves.name}: {len(curves.seeds)} seeds of {len(means)} configurations; true values: "
        f"blind {means[1:].mean():.3f}, deviation {means[1:].std(ddof=1):.3f}, default "
        f"{means[0]:.3f}, best {means.max():.3f}; correlation of halves {np.mean(correlations):.2f}"
        f". Intervals ({CONFIDENCE}%) are by a bootstrap over the seeds"
    )


def format_replays(
    curves: TableCurves, strategies: Mapping[str, Strategy], replays: int, budgets: Sequence[int]
) -> Iterator[str]:
    """Yield the lines of the Markdown table of all strategies on a recorded table."""
    yield from ("", describe_table(curves, replays), "")
    yield (
        "| strategy | budget | epochs | true value | regret | regret less today's | below default |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    base: dict[int, Judged] = {}
    needed: dict[str, float] = {}  # epochs until the mean regret is small
    for budget in budgets:
        for name, strategy in list_usable(curves, strategies).items():
            found = replay_strategy(curves, strategy, budget, replays)
            if name == BASE:
                base[budget] = found
            difference = "-"
            if budget in base and name != BASE:
                low, high = bootstrap_difference(found, base[budget], curves.seeds)
                difference = f"{found.regret - base[budget].regret:+.3f} [{low:+.3f}, {high:+.3f}]"
            if found.regret <= CLOSE:
                needed.setdefault(name, float(found.epochs.mean()))
            yield (
                f"| {name} | {budget} | {found.epochs.mean():.0f} | {found.values.mean():.3f} "
                f"| {found.regret:.3f} | {difference} | {found.overtuned.mean():.0%} |"
            )
    yield ""
    for name in list_usable(curves, strategies):
        epochs = f"{needed[name]:.0f}" if name in needed else f"more than {max(budgets)}"
        yield f"{curves.name}, {name}: within one point of the best after {epochs} epochs"


def list_usable(curves: TableCurves, strategies: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """Return the strategies for which a table has groups and seeds enough."""
    seeds = len(split_seeds(curves.seeds, 0).used)
    return {
        name: strategy
        for name, strategy in strategies.items()
        if (curves.table.list_groups() or name not in GROUP_STRATEGIES)
        and NEEDED_SEEDS.get(name, 1) <= seeds
    }
