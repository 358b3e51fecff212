"""Mean ranks of methods, as multi-task papers report them."""

import math
from collections.abc import Mapping


def compute_mean_ranks(
    rows: Mapping[str, Mapping[str, float]], higher: Mapping[str, bool]
) -> dict[str, float]:
    """Return each method's rank, averaged over metrics.

    1 is best; equal values share the better rank, and NaN is worse than any number. A mean rank
    depends on the methods that are compared, so it is computed when a table is made.

    Args:
        rows: The metrics of each method, by its name.
        higher: The metrics that count: whether higher is better.

    Raises:
        ValueError: If a method lacks a metric.
    """
    for name, row in rows.items():
        missing = [metric for metric in higher if metric not in row]
        if missing:
            raise ValueError(f"{name} has no {', '.join(missing)}, so it cannot be ranked")
    ranks = dict.fromkeys(rows, 0)
    for metric, up in higher.items():
        costs = {name: _cost(row[metric], up) for name, row in rows.items()}
        for name, cost in costs.items():
            ranks[name] += 1 + sum(other < cost for other in costs.values())
    return {name: total / len(higher) for name, total in ranks.items()}


def _cost(value: float, higher: bool) -> float:
    """Return the value such that lower is better."""
    if math.isnan(value):
        return math.inf
    return -value if higher else value
