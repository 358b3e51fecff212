"""Coverage of the intervals of worst-group accuracies near 1, and errors of the marks of tables.

``python -m benchmarks.interval_coverage`` prints the figures of docs/statistics.md. Of a column's
marks: how often the true best is left unmarked by tests with the row of the best mean, and how
often rows that are far worse are; by the rule of the tables and by others.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from tuning.reporting.intervals import SHARE, compute_statistics
from tuning.reporting.statistics.paired import LEVEL

GROUPS, GROUP_SIZE = 4, 90
DEVIATION = 0.4  # of a seed's group accuracy, on the logit scale
ACCURACIES = (0.95, 0.98, 0.99, 0.995)  # of a group
SEEDS = 5  # of a simulated column
METHODS = (6, 11, 18, 30)
CHUNK = 500  # studies at once
# Means and deviations of eleven methods on colored_digits, in points; further methods repeat them.
MEANS = (86.6, 84.4, 84.0, 74.0, 73.6, 66.1, 58.7, 57.8, 56.2, 54.7, 50.7)
DEVIATIONS = (2.3, 4.4, 2.7, 5.6, 4.4, 12.5, 8.4, 9.8, 9.6, 11.1, 8.5)
FAR = 25  # points below the best
SIX = (0, 1, 3, 5, 8, 9)  # of these eleven, where there are six methods

Values = NDArray[np.float64]
Marks = NDArray[np.bool_]


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


def find_unmarked(drawn: Values) -> dict[str, Marks]:
    """Return the rows that rules tell from the one with the best mean.

    Args:
        drawn: Values of studies, methods and seeds; shape (R, k, n).

    Returns:
        By the rule's name, the marks of studies and methods; shape (R, k).
    """
    studies, methods, seeds = drawn.shape
    rows = np.arange(studies)
    best = drawn.mean(axis=2).argmax(axis=1)
    top = drawn[rows, best][:, None]
    gaps = top - drawn
    shift = gaps.mean(axis=2)
    squares = drawn.var(axis=2, ddof=1) / seeds
    added = squares + squares[rows, best][:, None]
    freedom = added**2 / (squares**2 + squares[rows, best][:, None] ** 2) * (seeds - 1)
    gaps[rows, best] = np.arange(seeds)  # no test of the best with itself
    paired = stdtr(seeds - 1, -shift / (gaps.std(axis=2, ddof=1) / seeds**0.5))
    welch = stdtr(freedom, -shift / added**0.5)
    pooled = shift / (2 * squares.mean(axis=1, keepdims=True)) ** 0.5
    level = LEVEL / (methods - 1)
    found = {
        "paired t, Bonferroni (tables)": paired < level,
        "paired t, Holm": correct_holm(paired, best) < LEVEL,
        "Welch's t, Bonferroni": welch < level,
        "pooled deviation (Dunnett)": pooled > stdtrit(methods * (seeds - 1), 1 - level),
        "all pairs, Holm": find_by_all_pairs(drawn, best),
    }
    for marks in found.values():
        marks[rows, best] = False
    return found


def correct_holm(p_values: Values, best: NDArray[np.intp]) -> Values:
    """Return Holm's corrected p-values of studies and methods, those of the best rows apart."""
    given = p_values.copy()
    given[np.arange(len(given)), best] = np.inf
    order = given.argsort(axis=1)
    factors = np.arange(given.shape[1] - 1, -1, -1)
    factors[-1] = 1
    steps = np.maximum.accumulate(np.take_along_axis(given, order, 1) * factors, axis=1)
    found = np.empty_like(given)
    np.put_along_axis(found, order, steps, 1)
    return found


def find_by_all_pairs(drawn: Values, best: NDArray[np.intp]) -> Marks:
    """Return the rows told from the best by two-sided paired t-tests with Holm's for all pairs."""
    studies, methods, seeds = drawn.shape
    one, other = np.triu_indices(methods, 1)
    gaps = drawn[:, one] - drawn[:, other]
    t = np.abs(gaps.mean(axis=2)) / (gaps.std(axis=2, ddof=1) / seeds**0.5)
    order = np.argsort(-t, axis=1)
    p_values = 2 * stdtr(seeds - 1, -np.take_along_axis(t, order, 1))
    steps = np.maximum.accumulate(p_values * np.arange(len(one), 0, -1), axis=1)
    apart = np.empty_like(steps, dtype=np.bool_)
    np.put_along_axis(apart, order, steps < LEVEL, 1)
    found = np.zeros((studies, methods), dtype=np.bool_)
    for row in range(methods):
        pairs = (one == row) | (other == row)
        partners = np.where(one == row, other, one)[pairs]
        found[:, row] = (apart[:, pairs] & (partners == best[:, None])).any(axis=1)
    return found


def measure_marks(
    means: Values, deviations: Values, rows: Marks, studies: int
) -> dict[str, tuple[float, float]]:
    """Return, by rule, the share of given rows told from the best, and of studies with such a row.

    Args:
        means: The true mean of each method.
        deviations: Its deviation between seeds.
        rows: The methods that are counted.
        studies: The number of studies.
    """
    random = np.random.default_rng(0)
    counts: dict[str, list[tuple[float, float]]] = {}
    for _ in range(studies // CHUNK):
        drawn = random.standard_normal((CHUNK, len(means), SEEDS))
        for name, marks in find_unmarked(means[:, None] + deviations[:, None] * drawn).items():
            chosen = marks[:, rows]
            counts.setdefault(name, []).append((chosen.mean(), chosen.any(axis=1).mean()))
    return {
        name: (float(np.mean([a for a, _ in found])), float(np.mean([b for _, b in found])))
        for name, found in counts.items()
    }


def print_marks(studies: int) -> None:
    """Print how often rules leave the best unmarked, and how often they leave far worse rows so."""
    for methods in METHODS:
        chosen = SIX if methods == len(SIX) else range(methods)
        means, deviations = (
            np.array([values[row % len(values)] for row in chosen])
            for values in (MEANS, DEVIATIONS)
        )
        means[len(MEANS) :] = means[len(MEANS) :].clip(max=MEANS[2])  # one best
        first = np.arange(methods) == 0
        ones, elevens = np.ones(methods), np.full(methods, 11.0)
        cases = {
            "all equal, deviations equal": (np.zeros(methods), ones),
            "all equal, best 1, others 11": (np.zeros(methods), np.where(first, ones, elevens)),
            "all equal, best 11, others 1": (np.zeros(methods), np.where(first, elevens, ones)),
            "all equal, recorded deviations, best 11.1": (
                np.zeros(methods), np.where(first, 11.1, deviations),
            ),
            "three equal, best 1, others 11": (
                np.where(np.arange(methods) < 3, 0.0, -100.0), np.where(first, ones, elevens),
            ),
        }  # fmt: skip
        for case, (true, spread) in cases.items():
            _print_shares(
                f"{methods} methods, {case}: the best unmarked", true, spread, first, studies
            )
        equal = np.zeros(methods), ones, np.ones(methods, dtype=np.bool_)
        _print_shares(
            f"{methods} methods, all equal: any unmarked", *equal, studies, of_studies=True
        )
        far = means <= MEANS[0] - FAR
        text = f"{methods} methods, recorded means: those {FAR} points worse unmarked"
        _print_shares(text, means, deviations, far, studies)
        text = f"{methods} methods, recorded means: erm (11.1) unmarked"
        _print_shares(text, means, deviations, means == MEANS[9], studies)


def _print_shares(
    text: str, means: Values, deviations: Values, rows: Marks, studies: int,
    of_studies: bool = False,
) -> None:  # fmt: skip
    found = measure_marks(means, deviations, rows, studies)
    listed = ", ".join(f"{name} {100 * shares[of_studies]:.1f}" for name, shares in found.items())
    print(f"{text}, %: {listed}", flush=True)


def main() -> None:
    """Print both simulations; --studies 0 leaves the first out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=20_000)
    args = parser.parse_args()
    for seeds in (3, 5) if args.studies else ():
        for accuracy in ACCURACIES:
            found = measure_coverage(accuracy, seeds, args.studies, np.random.default_rng(1))
            expected, covered, missing = (100 * value for value in found)
            print(
                f"{seeds} seeds, expected value {expected:.1f}: {covered:.1f}% hold it, "
                f"{missing:.1f}% have no interval"
            )
    print_marks(args.columns)


if __name__ == "__main__":
    main()
