"""Backbones of torchvision and timm by name: ``torchvision/NAME``, ``timm/NAME``."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError, suggest_name
from core.models.base import ImageSpec
from core.models.image_backbone import ImageBackbone
from core.models.pretrained.weights import (
    check_torchvision_download,
    draws_weights,
    find_or_download_torchvision,
)

TORCHVISION, TIMM = "torchvision/", "timm/"


def is_backbone(name: str) -> bool:
    """Return whether a model's name is that of a backbone of torchvision or timm."""
    return name.startswith((TORCHVISION, TIMM))


def suggest_backbone(name: str) -> str:
    """Return ``" (did you mean 'torchvision/x'?)"`` if a backbone has this name, or ``""``."""
    if name in _list_torchvision():
        return f" (did you mean '{TORCHVISION}{name}'?)"
    is_there = importlib.util.find_spec("timm") is not None
    if is_there and name.partition(".")[0] in _import_timm().list_models():
        return f" (did you mean '{TIMM}{name}'?)"
    return ""


def check_backbone_name(name: str) -> str | None:
    """Return a description of valid names if a backbone's name is invalid, else None.

    The description follows the word "expected" in a message.
    """
    library, _, own = name.partition("/")
    if library == "timm":
        if importlib.util.find_spec("timm") is None:
            return (
                "the package timm for this model: pip install --no-deps --require-hashes -r "
                "requirements-timm.txt"
            )
        known = _import_timm().list_models()
        own = own.partition(".")[0]
    else:
        known = _list_torchvision()
    if own in known:
        return None
    return f"a model of {library}{suggest_name(own, known)}"


def check_backbone_weights(name: str) -> str | None:
    """Return an error message if torchvision's weights are neither on this machine nor online."""
    if name.startswith(TIMM):
        return None  # timm's own messages name its cache
    return check_torchvision_download(name, _get_weights(name).url)


def load_backbone(name: str, outputs: Mapping[str, int], parts: frozenset[str]) -> ImageBackbone:
    """Load a backbone with its pretrained weights.

    Args:
        name: ``torchvision/NAME`` with the library's default weights, or ``timm/NAME``.
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives; none are supported.

    Raises:
        UserError: If a part is asked for, or the weights are missing.
    """
    if parts:
        raise UserError(
            f"model '{name}': it is used by its pooled features; the method needs a model with "
            "hidden states per patch, such as a folder with a vit, deit or dinov2"
        )
    if name.startswith(TIMM):
        return _load_timm(name.removeprefix(TIMM), outputs)
    weights = _get_weights(name)
    path = None if draws_weights.get() else find_or_download_torchvision(name, weights.url)
    trunk = _make_torchvision(name.removeprefix(TORCHVISION))
    if path is not None:
        trunk.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    width = remove_classifier(trunk, name)
    transform: Any = weights.transforms()
    image = ImageSpec(transform.crop_size[0], tuple(transform.mean), tuple(transform.std))
    return ImageBackbone(outputs, trunk, width, image, _call_trunk)


def remove_classifier(trunk: nn.Module, name: str) -> int:
    """Replace a network's last linear layer by nothing; return the number of its inputs.

    Raises:
        UserError: If the network's last layer is another one.
    """
    layers = [(key, layer) for key, layer in trunk.named_modules() if not list(layer.children())]
    linear = [(key, layer) for key, layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        raise UserError(f"model '{name}': it has no linear classifier whose inputs are features")
    key, last = linear[-1]
    trunk.set_submodule(key, nn.Identity())
    return last.in_features


def _call_trunk(trunk: nn.Module, inputs: Tensor) -> Tensor:
    features: Tensor = trunk(inputs)
    return features


def _list_torchvision() -> list[str]:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from torchvision import models

    return list(models.list_models(module=models))


def _make_torchvision(name: str) -> nn.Module:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from torchvision import models

    # Those with auxiliary classifiers have weights for them, and return more than features.
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    trunk: Any = models.get_model(name, weights=None, **options)
    if hasattr(trunk, "aux_logits"):
        trunk.aux_logits = False
    made: nn.Module = trunk
    return made


def _get_weights(name: str) -> Any:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from torchvision import models

    return models.get_model_weights(name.removeprefix(TORCHVISION)).DEFAULT


def _import_timm() -> Any:
    """Return the package, which is an extra and imports torchvision."""
    import core.torchvision_compat  # noqa: F401

    # isort: split
    return importlib.import_module("timm")


def _load_timm(name: str, outputs: Mapping[str, int]) -> ImageBackbone:
    timm = _import_timm()
    try:
        trunk: Any = timm.create_model(name, pretrained=not draws_weights.get(), num_classes=0)
    except Exception as error:  # of many types: no network, no such weights
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"model 'timm/{name}': its weights cannot be loaded: {reason}") from error
    image = _make_image_spec(**timm.data.resolve_model_data_config(trunk))
    return ImageBackbone(outputs, trunk, int(trunk.num_features), image, _call_trunk)


def _make_image_spec(
    input_size: Sequence[int], mean: Sequence[float], std: Sequence[float], **_: object
) -> ImageSpec:
    """Return the images of a network from timm's configuration of its data."""
    return ImageSpec(int(input_size[-1]), tuple(mean), tuple(std))
