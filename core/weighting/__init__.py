"""Weightings: how several losses become one training step.

:func:`load_weighting` makes a weighting by its name, a file of ``core/weighting/methods/``, and
:func:`backward` takes the place of ``loss.backward()``. Errors are :class:`ValueError`
(:class:`WeightingError` where arguments of ``backward`` do not fit each other) and
:class:`TypeError`.
"""

import importlib
import inspect
import pkgutil
from typing import Any

from . import methods
from .base import (
    AlphaFairWeighting,
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
)
from .errors import WeightingError, describe_unknown_name
from .gradients import BackwardResult, backward
from .parameter_kinds import find_wrong_value
from .solvers.alpha_fair import AlphaFairSolution, solve_alpha_fair
from .solvers.alpha_fair_device import DeviceSolution, solve_alpha_fair_on_device

__all__ = [
    "AlphaFairSolution",
    "AlphaFairWeighting",
    "BackwardResult",
    "DeviceSolution",
    "GradientWeighting",
    "GramWeighting",
    "LossWeighting",
    "Weighting",
    "WeightingError",
    "backward",
    "list_weightings",
    "load_weighting",
    "solve_alpha_fair",
    "solve_alpha_fair_on_device",
]


def list_weightings() -> list[str]:
    """Return the names of all weightings: the files of ``methods/``, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def load_weighting(name: str, **parameters: Any) -> Weighting:
    """Return the weighting of that name.

    Args:
        name: A file of ``methods/``, such as ``dro``.
        parameters: Its parameters, as its class documents them.

    Raises:
        TypeError: If it has no such parameter, or one of another type.
        ValueError: If there is no such weighting, or a parameter is out of its range.
    """
    known = list_weightings()
    if name not in known:
        raise ValueError(describe_unknown_name("weighting", name, known))
    module = importlib.import_module(f"{methods.__name__}.{name}")
    (made,) = (
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Weighting) and value.__module__ == module.__name__
    )
    accepted = inspect.signature(made).parameters
    for parameter in parameters:
        if parameter not in accepted:
            raise TypeError(describe_unknown_name(f"parameter of {name}", parameter, accepted))
    mistake = find_wrong_value(made, parameters)
    if mistake is not None:
        raise TypeError(f"{name}: {mistake}")
    return made(**parameters)
