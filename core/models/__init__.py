"""Models, by name. One per file; each returns predictions and the last hidden representation."""

from torch import nn

from core.registry import components
from datasets.errors import UserError, unknown


def names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(components("core.models", nn.Module))


def build(name: str, outputs: int) -> nn.Module:
    """Return a freshly initialised model; torch's global generator draws the weights.

    Args:
        name: A file of this folder.
        outputs: The number of its outputs, such as classes.

    Raises:
        UserError: If there is no such model.
    """
    known = components("core.models", nn.Module)
    if name not in known:
        raise UserError(unknown("model", name, known))
    model: nn.Module = known[name](outputs)
    return model
