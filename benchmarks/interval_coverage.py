"""Coverage of the intervals of worst-group accuracies near 1, and errors of the marks of tables.

``python -m benchmarks.interval_coverage`` prints the figures of docs/statistics.md.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from tuning.reporting.intervals import SHARE, compute_statistics
from tuning.reporting.statistics.paired import LEVEL, compute_t_p_value, correct_holm

GROUPS, GROUP_SIZE = 4, 90
DEVIATION = 0.4  # of a seed's group accuracy, on the logit scale
ACCURACIES = (0.95, 0.98, 0.99, 0.995)  # of a group
METHODS, SEEDS = 5, 5  # of a simulated column
SHIFT = 3  # standard deviations by which a worse method is worse

Values = NDArray[np.float64]


def draw_worst_groups(
    accuracy: float, shape: tuple[int, int], random: np.random.Generator
) -> Values:
    """Return the lowest of the groups' shares of right examples, of studies and seeds."""
    scores = logit(accuracy) + DEVIATION * random.standard_normal((*shape, GROUPS))
    found: Values = random.binomial(GROUP_SIZE, expit(scores)).min(axis=-1) / GROUP_SIZE
    return found


def measure_coverage(
    accuracy: float, seeds: int, studies: int, random: np.random.Generator
) -> tuple[float, float, float]:
    """Return the expected value, the share of intervals that hold it, and of studies without one.

    Studies without an interval, of equal seeds, count as not holding it.
    """
    expected = float(draw_worst_groups(accuracy, (10 * studies, 1), random).mean())
    drawn = draw_worst_groups(accuracy, (studies, seeds), random)
    covered = missing = 0
    for values in drawn.tolist():
        found = compute_statistics(values, SHARE)
        if found.low is None or found.high is None:
            missing += 1
        else:
            covered += found.low <= expected <= found.high
    return expected, covered / studies, missing / studies


def find_distinguished(column: Values, all_pairs: bool) -> set[int]:
    """Return the rows that a corrected test distinguishes from the one with the best mean."""
    best = int(column.mean(axis=1).argmax())
    pairs = [(i, j) for i in range(len(column)) for j in range(i)]
    tested = [pair for pair in pairs if all_pairs or best in pair]
    corrected = correct_holm([compute_t_p_value(column[i] - column[j]) for i, j in tested])
    apart = [pair for pair, value in zip(tested, corrected, strict=True) if value < LEVEL]
    return {row for pair in apart if best in pair for row in pair} - {best}


def measure_marks(
    columns: int, all_pairs: bool, random: np.random.Generator
) -> tuple[float, float]:
    """Return how often a row of equal methods is distinguished, and one that is worse."""
    false = found = 0
    for _ in range(columns):
        equal = random.standard_normal((METHODS, SEEDS))
        false += bool(find_distinguished(equal, all_pairs))
        equal[0] -= SHIFT
        found += 0 in find_distinguished(equal, all_pairs)
    return false / columns, found / columns


def main() -> None:
    """Print both simulations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=5_000)
    args = parser.parse_args()
    for seeds in (3, 5):
        for accuracy in ACCURACIES:
            found = measure_coverage(accuracy, seeds, args.studies, np.random.default_rng(1))
            expected, covered, missing = (100 * value for value in found)
            print(
                f"{seeds} seeds, expected value {expected:.1f}: {covered:.1f}% hold it, "
                f"{missing:.1f}% have no interval"
            )
    for name, all_pairs in (("pairs with the best", False), ("all pairs", True)):
        false, power = measure_marks(args.columns, all_pairs, np.random.default_rng(0))
        print(f"correction for {name}: false {100 * false:.1f}%, found {100 * power:.1f}%")


if __name__ == "__main__":
    main()
