"""Mean ranks of methods, as multi-task papers report them."""

from collections.abc import Mapping

import pandas as pd


def compute_mean_ranks(
    rows: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]
) -> dict[str, float]:
    """Return each method's rank, averaged over metrics.

    1 is best; equal values share the better rank, and NaN is worse than any number. A mean rank
    depends on the compared methods, so it is computed when a table is made.

    Args:
        rows: The metrics of each method, by its name.
        higher_is_better: The metrics that count: whether higher is better.

    Raises:
        ValueError: If a method lacks a metric.
    """
    for name, row in rows.items():
        missing = [metric for metric in higher_is_better if metric not in row]
        if missing:
            raise ValueError(f"{name} has no {', '.join(missing)}, so it cannot be ranked")
    costs = pd.DataFrame(
        [
            [-row[metric] if higher else row[metric] for metric, higher in higher_is_better.items()]
            for row in rows.values()
        ]
    )
    means = costs.rank(method="min", na_option="bottom").mean(axis=1)
    return dict(zip(rows, means.tolist(), strict=True))
