"""Models, by name. One per file; each returns predictions and the last hidden representation."""

from collections.abc import Mapping

from core.models.base import Model
from core.registry import components
from datasets.errors import UserError, unknown


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(components("core.models", Model))


def check(name: str) -> str | None:
    """Return what is wrong with a model's name, or None."""
    return None if name in names() else f"one of {names()}"


def build(
    name: str,
    outputs: Mapping[str, int],
    parts: frozenset[str] = frozenset(),
    checkpointing: bool = False,
    compiled: bool = False,
) -> Model:
    """Return a freshly initialised model; torch's global generator draws the weights.

    Args:
        name: A file of this folder.
        outputs: The number of its outputs by task, such as classes.

    Raises:
        UserError: If there is no such model.
    """
    known = components("core.models", Model)
    if name not in known:
        raise UserError(unknown("model", name, known))
    model: Model = known[name](outputs)
    return model
