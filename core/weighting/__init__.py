"""Weightings: how several losses become one step. One per file, found by its name."""

from typing import Any

from core.registry import components
from core.weighting.base import Weighting
from datasets.errors import UserError, unknown


def load(name: str, **parameters: Any) -> Weighting:
    """Return the weighting of that name.

    Args:
        name: A file of this folder, such as ``dro``.
        parameters: Its parameters, as its class documents them.

    Raises:
        UserError: If there is no such weighting.
    """
    known = components("core.weighting", Weighting)
    if name not in known:
        raise UserError(unknown("weighting", name, known))
    found: Weighting = known[name](**parameters)
    return found
