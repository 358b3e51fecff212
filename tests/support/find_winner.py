"""The winner of a search by the formulas of docs/search.md: a slow reference."""

import numpy as np
import pandas as pd


def find_winner(curves: pd.DataFrame) -> int:
    """Return the winner by the formulas of docs/search.md, from the groups of each epoch."""
    columns = map(str, curves)
    groups = [n.partition("[")[2] for n in columns if n.startswith("validation_group_count[")]
    searched = curves[(curves.phase == "search") & curves.eligible]
    ranks = {}
    for trial in sorted({int(number) for number in searched.trial}):
        found = []
        for _, row in searched[searched.trial == trial].iterrows():
            accuracy, count = min(
                (row[f"validation_group_accuracy[{g}"], row[f"validation_group_count[{g}"])
                for g in groups
            )
            share = (accuracy * count + 1) / (count + 2)
            error = (share * (1 - share) / count) ** 0.5
            found.append((accuracy, row.validation_average_accuracy, -row.epoch, error))
        best = sorted(found, reverse=True)[:3]
        ranks[trial] = np.mean([one[:2] for one in best], axis=0), np.mean([e[3] for e in best])
    winner = max(ranks, key=lambda trial: (*ranks[trial][0], -trial))
    (default, _), error = ranks[0]
    return 0 if ranks[winner][0][0] <= default + 2**0.5 * error else winner
