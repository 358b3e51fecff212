"""Models by name. Each returns predictions and the last hidden representation.

A name is a file of this folder, the public name of a pretrained model, ``torchvision/NAME``,
``timm/NAME``, or the absolute path of a folder with a model (:mod:`core.models.pretrained`).
"""

import inspect
from collections.abc import Mapping

import torch

from common.errors import UserError, suggest_name
from core.models.base import Encoder, Model
from core.models.pretrained.backbones import (
    check_backbone_name,
    check_backbone_weights,
    is_backbone,
    suggest_backbone,
)
from core.models.pretrained.loading import (
    PRETRAINED_PIXELS,
    PUBLIC_MODELS,
    choose_image_size,
    is_without_hidden_states,
    load_pretrained,
    supports_type,
)
from core.models.pretrained.public_names import FULL_NAMES
from core.models.pretrained.weights import (
    check_download,
    check_folder,
    check_torchvision_download,
    draws_weights,
    is_path,
)
from core.models.resnet50 import ResNet50
from core.models.transformer import Transformer
from core.registry import find_components, find_mistake


def _find_models() -> dict[str, type[Model]]:
    """Return the models that need no argument but the number of outputs, by name."""

    def is_complete(kind: type[Model]) -> bool:
        parameters = inspect.signature(kind).parameters.values()
        required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
        return required == ["outputs"]

    found = find_components("core.models", Model)
    return {name: kind for name, kind in found.items() if is_complete(kind)}


def list_models() -> list[str]:
    """Return the names of this folder's models, sorted."""
    return sorted(_find_models())


def list_encoders() -> list[str]:
    """Return the names of this folder's models with hidden states per token or patch, sorted."""
    return sorted(name for name, kind in _find_models().items() if issubclass(kind, Encoder))


def list_small_encoders(modality: str) -> list[str]:
    """Return the names of this folder's untrained encoders of images or text, for tries."""
    return sorted(
        name
        for name, kind in _find_models().items()
        if issubclass(kind, Encoder) and kind.modality == modality and name.startswith("tiny_")
    )


def lacks_hidden_states(name: str) -> bool:
    """Return whether a model is known to have no hidden states per token or patch."""
    if name in list_models() or name == "resnet50":
        return name not in list_encoders()
    if is_backbone(name):
        return True
    return is_without_hidden_states(name)


def lacks_task_heads(name: str) -> bool:
    """Return whether all parameters of a model are shared, also its last layer."""
    kind = _find_models().get(name)
    return kind is not None and kind.get_task_heads is Model.get_task_heads


def is_pretrained(name: str) -> bool:
    """Return whether a model has pretrained weights, unless its config asks for random ones."""
    kind = _find_models().get(name)
    return kind is None or issubclass(kind, ResNet50)


def find_image_size(name: str) -> int | None:
    """Return height and width of the images of the public ViT; None for other models."""
    return choose_image_size(PRETRAINED_PIXELS) if name == PUBLIC_MODELS[0] else None


def check_model_name(name: str, from_scratch: bool = False) -> str | None:
    """Return a description of valid names if a model's name is invalid, else None.

    The description follows the word "expected" in a message. No server is asked, see
    :func:`check_model_weights`.

    Args:
        name: The name.
        from_scratch: Whether a folder with a configuration and no weights is valid.
    """
    known = [*list_models(), *PUBLIC_MODELS]
    if name in known or (name in FULL_NAMES and not is_path(name)):
        return None
    mistake = find_mistake("core.models", Model, name)
    if mistake is not None:
        return f"one that can be used: {mistake}"
    if is_backbone(name):
        return check_backbone_name(name)
    if is_path(name):
        return check_folder(name, supports_type, from_scratch)
    if name.count("/") == 1:
        return None  # a public name, which only the server can check
    return (
        f"one of {known}, another public name such as 'owner/model' or 'roberta-base', "
        "'torchvision/NAME', 'timm/NAME', or the absolute path of a folder with a model of "
        "transformers"
        f"{suggest_backbone(name) or suggest_name(name, [*known, *FULL_NAMES])}"
    )


def check_model_weights(name: str, from_scratch: bool = False) -> str | None:
    """Return an error message if a model's weights are neither on this machine nor online.

    Asks the server, for a few seconds at most, if they are not on this machine.

    Args:
        name: The model's name.
        from_scratch: Whether its configuration is enough.
    """
    if from_scratch and (name == "resnet50" or is_backbone(name)):
        return None
    if name == "resnet50":
        import core.torchvision_compat  # noqa: F401

        # isort: split
        from torchvision.models import ResNet50_Weights

        return check_torchvision_download(name, ResNet50_Weights.IMAGENET1K_V1.url)
    if name in list_models():
        return None
    if is_backbone(name):
        return check_backbone_weights(name)
    if is_path(name):
        rule = check_folder(name, supports_type, from_scratch)
        return None if rule is None else f"model '{name}': expected {rule}"
    problem = check_download(name, from_scratch)
    if problem is None or name in PUBLIC_MODELS:
        return problem
    return problem if name in FULL_NAMES else problem + suggest_name(name, PUBLIC_MODELS)


def build_model(
    name: str,
    outputs: Mapping[str, int],
    parts: frozenset[str] = frozenset(),
    checkpointing: bool = False,
    compiled: bool = False,
    from_scratch: bool = False,
) -> Model:
    """Build a model. Weights that are not pretrained are drawn from torch's global generator.

    Args:
        name: A file of this folder, a public name, or the absolute path of a folder.
        outputs: The number of outputs by task, such as classes.
        parts: The parts for auxiliary objectives, beyond encoder and classifier, that are built:
            ``reconstruction``, ``projection``.
        checkpointing: Whether activations are computed again in the backward pass.
        compiled: Whether :func:`torch.compile` compiles the model.
        from_scratch: Whether a pretrained model's weights are random too.

    Raises:
        UserError: If there is no such model, its weights are missing, or it does not support the
            arguments.
    """
    rule = check_model_name(name, from_scratch)
    if rule is not None:
        raise UserError(f"model: received '{name}', expected {rule}")
    kind = _find_models().get(name)
    if kind is None:
        token = draws_weights.set(from_scratch)
        try:
            model = load_pretrained(name, outputs, parts)
        finally:
            draws_weights.reset(token)
    elif issubclass(kind, Encoder):
        model = kind(outputs, parts)
    elif parts:
        raise UserError(
            f"model: received '{name}', expected one with hidden states per token or patch, which "
            f"the method needs: one of {[*list_encoders(), *PUBLIC_MODELS]} or a folder"
        )
    elif from_scratch and issubclass(kind, ResNet50):
        model = kind(outputs, pretrained=False)
    else:
        model = kind(outputs)
    if checkpointing:
        if not isinstance(model, Transformer):
            raise UserError(
                f"checkpointing: received true, which model '{name}' does not support; expected "
                f"false, or a transformer: one of {[*list_encoders(), *PUBLIC_MODELS]} or a folder"
            )
        model.enable_checkpointing()
    if compiled:  # the compiler has a switch of its own
        torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
        model.compile()
    return model
