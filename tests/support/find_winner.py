"""The winner of a search by the formulas of docs/search.md: a slow reference."""

import numpy as np
import pandas as pd


def find_winner(curves: pd.DataFrame) -> int:
    """Return the winner by the formulas of docs/search.md, from the groups of each epoch."""
    searched = curves[(curves.phase == "search") & curves.eligible]
    ranks = {
        trial: rank(searched[searched.trial == trial])
        for trial in sorted({int(number) for number in searched.trial})
    }
    best = max(ranks, key=lambda trial: (*ranks[trial][0], -trial))
    (default, _), error = ranks[0]
    if ranks[best][0][0] <= default:
        return 0
    further = curves[(curves.phase == "finalist") & curves.eligible]
    means = []
    for trial in (0, best):
        runs = further[further.trial == trial]
        values = [rank(runs[runs.seed == seed])[0][0] for seed in (1001, 1002, 1003)
                  if (runs.seed == seed).any()]  # fmt: skip
        means.append([float(np.mean(values[:n])) for n in range(1, len(values) + 1)])
    own, others = means
    if any(other <= mean for mean, other in zip(own, others, strict=True)):
        assert all(other > mean for mean, other in zip(own[:-1], others[:-1], strict=True))
        return 0  # it has left the race, which is over
    assert len(own) == 3
    return best if others[-1] > own[-1] + 2**0.5 * error / 3**0.5 else 0


def rank(epochs: pd.DataFrame) -> tuple[tuple[float, float], float]:
    """Return the means of worst-group and average accuracy over three epochs, and the error."""
    columns = map(str, epochs)
    groups = [n.partition("[")[2] for n in columns if n.startswith("validation_group_count[")]
    found = []
    for _, row in epochs.iterrows():
        accuracy, count = min(
            (row[f"validation_group_accuracy[{g}"], row[f"validation_group_count[{g}"])
            for g in groups
        )
        share = (accuracy * count + 1) / (count + 2)
        error = (share * (1 - share) / count) ** 0.5
        found.append((accuracy, row.validation_average_accuracy, -row.epoch, error))
    worst, average, _, error = np.mean(sorted(found, reverse=True)[:3], axis=0)
    return (float(worst), float(average)), float(error)
