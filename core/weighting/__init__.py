"""Weightings: how several losses become one training step.

:func:`load_weighting` makes a weighting by its name, a file of ``core/weighting/methods/``, and
:func:`backward` takes the place of ``loss.backward()``. Errors are :class:`ValueError`
(:class:`WeightingError` where arguments of ``backward`` do not fit each other) and
:class:`TypeError`.
"""

import inspect
from typing import Any

from common.errors import unknown_name_message
from core.registry import find_components, find_mistake
from core.weighting.base import (
    AlphaFairWeighting,
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
)
from core.weighting.errors import WeightingError
from core.weighting.gradients import BackwardResult, backward
from core.weighting.solvers.alpha_fair import AlphaFairSolution, solve_alpha_fair
from core.weighting.solvers.alpha_fair_device import DeviceSolution, solve_alpha_fair_on_device

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
    "load_weighting",
    "solve_alpha_fair",
    "solve_alpha_fair_on_device",
]


def load_weighting(name: str, **parameters: Any) -> Weighting:
    """Return the weighting of that name.

    Args:
        name: A file of ``core/weighting/methods/``, such as ``dro``.
        parameters: Its parameters, as its class documents them.

    Raises:
        TypeError: If it has no such parameter, or one of another type.
        ValueError: If there is no such weighting, or a parameter is out of its range.
    """
    known = find_components("core.weighting.methods", Weighting)
    if name not in known:
        mistake = find_mistake("core.weighting.methods", Weighting, name)
        raise ValueError(mistake or unknown_name_message("weighting", name, known))
    accepted = inspect.signature(known[name]).parameters
    for parameter in parameters:
        if parameter not in accepted:
            raise TypeError(unknown_name_message(f"parameter of {name}", parameter, accepted))
    try:
        weighting: Weighting = known[name](**parameters)
    except TypeError as error:
        raise TypeError(f"{name} with {parameters}: {error}") from None
    return weighting
