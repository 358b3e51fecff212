"""Replays: a strategy searches a table many times; its choices are judged on seeds it never saw."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.strategies import BASE, GROUP_STRATEGIES, NEEDED_SEEDS, Replay, Strategy
from tuning.reporting.intervals import compute_statistics

BUDGETS = (80, 160, 320)  # epochs: 4, 8 and 16 whole trainings of 20 epochs


@dataclass(frozen=True)
class Judged:
    """The replays of a strategy on a table with one budget.

    Args:
        values: The true value of each choice: its mean test value over the seeds held out.
        regrets: The true value, on the seeds held out, of the configuration that is best on the
            other seeds, less that of the choice.
        overtuned: The replays whose choice is worse than the default.
        epochs: The epochs spent.
    """

    values: np.ndarray
    regrets: np.ndarray
    overtuned: np.ndarray
    epochs: np.ndarray


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
    values, regrets, overtuned, epochs = [], [], [], []
    for number in range(replays):
        split = split_seeds(curves.seeds, number)
        choice = strategy(Replay(curves, split.used, number, budget))
        known = curves.chosen_test[:, split.used].mean(axis=1)
        true = curves.chosen_test[:, split.held_out].mean(axis=1)
        values.append(true[choice.configuration])
        regrets.append(true[int(known.argmax())] - true[choice.configuration])
        overtuned.append(true[choice.configuration] < true[0] - 1e-9)
        epochs.append(choice.epochs)
    return Judged(
        *(np.array(found, dtype=np.float64) for found in (values, regrets, overtuned, epochs))
    )


def describe_table(curves: TableCurves, replays: int) -> str:
    """Return sentences about the true values of a table's configurations, and about intervals."""
    halves = [split_seeds(curves.seeds, number) for number in range(replays)]
    tests = curves.chosen_test
    correlations = [
        np.corrcoef(tests[1:, s.used].mean(axis=1), tests[1:, s.held_out].mean(axis=1))[0, 1]
        for s in halves
    ]
    means, count = tests[:, curves.seeds].mean(axis=1), len(curves.seeds)
    return (
        f"{curves.name}: {len(curves.seeds)} seeds of {len(means)} configurations; true values: "
        f"blind {means[1:].mean():.3f}, deviation {means[1:].std(ddof=1):.3f}, default "
        f"{means[0]:.3f}, best {means.max():.3f}; correlation of halves {np.mean(correlations):.2f}"
        ". Intervals are over replays only: these share "
        f"{math.comb(count, (count + 1) // 2)} halves of the seeds, so an interval is too "
        "narrow to decide by"
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
    has_groups = bool(curves.table.list_groups())
    for budget in budgets:
        base: Judged | None = None
        for name, strategy in strategies.items():
            if name in GROUP_STRATEGIES and not has_groups:
                continue
            if NEEDED_SEEDS.get(name, 1) > len(split_seeds(curves.seeds, 0).used):
                continue
            found = replay_strategy(curves, strategy, budget, replays)
            base = found if name == BASE else base
            difference = "-"
            if base is not None and name != BASE:
                paired = compute_statistics((found.regrets - base.regrets).tolist())
                difference = f"{paired.mean:+.3f}"
                if paired.low is not None and paired.high is not None:
                    difference += f" [{paired.low:+.3f}, {paired.high:+.3f}]"
            yield (
                f"| {name} | {budget} | {found.epochs.mean():.0f} | {found.values.mean():.3f} "
                f"| {found.regrets.mean():.3f} | {difference} | {found.overtuned.mean():.0%} |"
            )
