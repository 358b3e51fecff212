"""Models, by name; each returns predictions and the last hidden representation.

A name is that of a file of this folder, or a pretrained model's: a public name or the absolute
path of a folder (:mod:`core.models.pretrained.loading`).
"""

import inspect
from collections.abc import Mapping

from common.errors import UserError, suggest_name
from core.models.base import Encoder, Model
from core.models.pretrained.loading import KINDS, PUBLIC, load
from core.models.pretrained.loading import plain as pretrained_plain
from core.models.pretrained.weights import absent, folder_rule, is_path, torchvision_absent
from core.models.transformer import Transformer
from core.registry import components


def _known() -> dict[str, type[Model]]:
    """Return the models that can be made from the number of their outputs alone."""

    def complete(kind: type[Model]) -> bool:
        parameters = inspect.signature(kind).parameters.values()
        needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
        return needed == ["outputs"]

    found = components("core.models", Model)
    return {name: kind for name, kind in found.items() if complete(kind)}


def names() -> list[str]:
    """Return the names of this folder's models, sorted."""
    return sorted(_known())


def encoders() -> list[str]:
    """Return the names of this folder's models that have hidden states per token or patch."""
    return sorted(name for name, kind in _known().items() if issubclass(kind, Encoder))


def plain(name: str) -> bool:
    """Return whether a model has no hidden states per token or patch."""
    if name in names() or name == "resnet50":
        return name not in encoders()
    return pretrained_plain(name)


def check(name: str) -> str | None:
    """Return what a model's name should be and is not, as the end of "expected ...", or None.

    Does not ask the network: see :func:`unavailable`.
    """
    known = [*names(), *PUBLIC]
    if name in known:
        return None
    if is_path(name):
        return folder_rule(name, tuple(sorted(KINDS)))
    if name.count("/") == 1:
        return None  # the public name of a model, which only its server can judge
    return (
        f"one of {known}, another public name such as 'owner/model', or the absolute path of a "
        f"folder with a {' or '.join(sorted(KINDS))}{suggest_name(name, known)}"
    )


def unavailable(name: str) -> str | None:
    """Return why a model's weights can be neither found nor downloaded, or None.

    Asks servers, for a few seconds at most, where weights are not on this machine.
    """
    if name == "resnet50":
        import core.torchvision_compat  # noqa: F401

        # isort: split
        from torchvision.models import ResNet50_Weights

        return torchvision_absent(name, ResNet50_Weights.IMAGENET1K_V1.url)
    if name in names():
        return None
    if is_path(name):
        rule = folder_rule(name, tuple(sorted(KINDS)))
        return None if rule is None else f"model '{name}': expected {rule}"
    problem = absent(name)
    return (
        None
        if problem is None
        else problem + ("" if name in PUBLIC else suggest_name(name, PUBLIC))
    )


def build(
    name: str,
    outputs: Mapping[str, int],
    parts: frozenset[str] = frozenset(),
    checkpointing: bool = False,
    compiled: bool = False,
) -> Model:
    """Return a model; torch's global generator draws the weights that are not pretrained.

    Args:
        name: A file of this folder, a public name, or the absolute path of a folder.
        outputs: The number of its outputs by task, such as classes.
        parts: What auxiliary objectives need beyond encoder and classifier: ``reconstruction``,
            ``projection``. Nothing else is built.
        checkpointing: Whether activations are computed again in the backward pass.
        compiled: Whether :func:`torch.compile` compiles the model.

    Raises:
        UserError: If there is no such model, its weights are absent, or it cannot do what is asked.
    """
    rule = check(name)
    if rule is not None:
        raise UserError(f"model: received '{name}', expected {rule}")
    kind = _known().get(name)
    if kind is None:
        model = load(name, outputs, parts)
    elif issubclass(kind, Encoder):
        model = kind(outputs, parts)
    elif parts:
        raise UserError(
            f"model: received '{name}', expected one with hidden states per token or patch, which "
            f"the method needs: one of {[*encoders(), *PUBLIC]} or a folder"
        )
    else:
        model = kind(outputs)
    if checkpointing:
        if not isinstance(model, Transformer):
            raise UserError(
                f"checkpointing: received true, which model '{name}' cannot do; expected false, or "
                f"a transformer: one of {[*encoders(), *PUBLIC]} or a folder"
            )
        model.checkpoint()
    if compiled:
        model.compile()
    return model
