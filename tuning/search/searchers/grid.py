"""Grid search, and the enumeration of finite spaces."""

import itertools
import math
from collections.abc import Mapping, Sequence

from common.hyperparameters import Hyperparameter, Hyperparameters, Scalar, active_names
from tuning.search.searchers.base import Searcher, make_identity

MAX_POINTS = 10_000  # a space with more counts as infinite
MAX_GRID_INTEGERS = 10  # a grid holds every integer of a range of up to so many


class GridSearcher(Searcher):
    """Proposes the points of a grid in turn.

    Args:
        points: The hyperparameters of each point.
    """

    def __init__(self, points: Sequence[Hyperparameters]) -> None:
        super().__init__()
        self.points = points

    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return the point of that number."""
        return self.points[number] if number < len(self.points) else None


def make_grid(
    hyperparameters: Mapping[str, Hyperparameter], values: Mapping[str, Sequence[Scalar]]
) -> list[Hyperparameters]:
    """Return all combinations, in the hyperparameters' order.

    Args:
        hyperparameters: The hyperparameters.
        values: The values to combine; where a hyperparameter has none, its own grid
            (:meth:`Hyperparameter.make_grid`, all values of an integer range of up to 10).
    """
    missing = {name: h for name, h in hyperparameters.items() if name not in values}
    lists = {**{name: _grid_values(h) for name, h in missing.items()}, **values}
    points: dict[str, Hyperparameters] = {}
    for combination in itertools.product(*lists.values()):
        point = dict(zip(lists, combination, strict=True))
        used = active_names(hyperparameters, point)
        point = {n: v for n, v in point.items() if n in used or n not in hyperparameters}
        points.setdefault(make_identity(point), point)
    return list(points.values())


def list_points(hyperparameters: Mapping[str, Hyperparameter]) -> list[Hyperparameters] | None:
    """Return all points of a space; None for an infinite one (:data:`MAX_POINTS`)."""
    sizes = [hyperparameter.size for hyperparameter in hyperparameters.values()]
    if None in sizes or math.prod(size for size in sizes if size is not None) > MAX_POINTS:
        return None
    return make_grid(hyperparameters, {name: _all_values(h) for name, h in hyperparameters.items()})


def count_points(hyperparameters: Mapping[str, Hyperparameter]) -> int | None:
    """Return the number of points of a space; None for an infinite one (:data:`MAX_POINTS`)."""
    points = list_points(hyperparameters)
    return None if points is None else len(points)


def _grid_values(hyperparameter: Hyperparameter) -> Sequence[Scalar]:
    if hyperparameter.is_integer and (hyperparameter.size or 0) <= MAX_GRID_INTEGERS:
        return _all_values(hyperparameter)
    return hyperparameter.make_grid()


def _all_values(hyperparameter: Hyperparameter) -> Sequence[Scalar]:
    if not hyperparameter.is_integer:
        return hyperparameter.make_grid()
    low, high = hyperparameter.bounds
    return list(range(int(low), int(high) + 1))
