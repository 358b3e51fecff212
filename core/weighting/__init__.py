"""Weightings: how several losses become one step. One per file, found by its name."""

import inspect
from typing import Any

from common.errors import UserError, unknown_name_message
from core.registry import components
from core.weighting.base import GradientWeighting, GramWeighting, LossWeighting, Weighting
from core.weighting.gradients import Step, backward
from core.weighting.solvers.alpha_fair import AlphaFairSolution, alpha_fair
from core.weighting.solvers.alpha_fair_device import DeviceSolution, alpha_fair_on_device

__all__ = [
    "AlphaFairSolution",
    "DeviceSolution",
    "GradientWeighting",
    "GramWeighting",
    "LossWeighting",
    "Step",
    "Weighting",
    "alpha_fair",
    "alpha_fair_on_device",
    "backward",
    "load_weighting",
]


def load_weighting(name: str, **parameters: Any) -> Weighting:
    """Return the weighting of that name.

    Args:
        name: A file of this folder, such as ``dro``.
        parameters: Its parameters, as its class documents them.

    Raises:
        UserError: If there is no such weighting, or it has no such parameter or of another type.
        ValueError: If a parameter has a value that it cannot have.
    """
    known = components("core.weighting.methods", Weighting)
    if name not in known:
        raise UserError(unknown_name_message("weighting", name, known))
    own = inspect.signature(known[name]).parameters
    for given in parameters:
        if given not in own:
            raise UserError(unknown_name_message(f"parameter of {name}", given, own))
    try:
        found: Weighting = known[name](**parameters)
    except TypeError as error:
        raise UserError(f"{name} with {parameters}: {error}") from None
    return found
