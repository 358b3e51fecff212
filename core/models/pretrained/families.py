"""Encoders of any family that transformers' ``AutoModel`` loads for text or images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from core.models.base import ImageSpec, Model
from core.models.image_backbone import ImageBackbone
from core.models.image_encoder import ImageEncoder, encode_images
from core.models.pretrained.weights import load_weights, read_mean_and_std
from core.models.resnet import IMAGENET_MEAN_AND_STD
from core.models.text_encoder import TextEncoder

DEFAULT_PIXELS = 224
MASK_TOKENS = ("[MASK]", "<mask>")
PATCH_EMBEDDINGS = ("embeddings.patch_embeddings", "embeddings.patch_embedding")
# Families whose stages merge patches, known without loading them.
WITHOUT_PATCH_STATES = frozenset(
    {"convnext", "convnextv2", "efficientnet", "mobilenet_v2", "pvt_v2", "regnet", "resnet", "swin",
     "swinv2", "van"}
)  # fmt: skip
# Models of images and texts, of which the part for images is loaded.
IMAGE_PARTS: Mapping[str, str] = {
    "clip": "CLIPVisionModel", "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel", "siglip_vision_model": "SiglipVisionModel",
}  # fmt: skip


def list_text_families() -> frozenset[str]:
    """Return the model types of text encoders."""
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers.models.auto import modeling_auto as auto

    return frozenset(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)


def list_image_families() -> frozenset[str]:
    """Return the model types of image encoders."""
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers.models.auto import modeling_auto as auto

    return frozenset(auto.MODEL_FOR_IMAGE_MAPPING_NAMES) | frozenset(IMAGE_PARTS)


def load_family(
    model_type: str, folder: Path, outputs: Mapping[str, int], parts: frozenset[str]
) -> Model:
    """Load an encoder of any family.

    Args:
        model_type: Its type, of :func:`list_text_families` or :func:`list_image_families`.
        folder: The folder of its files.
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.

    Raises:
        UserError: If the family has no such part, or weights are missing.
    """
    if model_type in list_text_families():
        return _load_text(folder, outputs, parts)
    return _load_images(model_type, folder, outputs, parts)


def _load_text(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> TextEncoder:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import AutoModelForMaskedLM

    if "projection" in parts:
        raise UserError(
            f"model '{folder}': the method needs causal language modeling, which is for models of "
            "type bert"
        )
    prefix = _find_prefix(folder)
    model = load_weights(AutoModelForMaskedLM, folder, (f"{prefix}.pooler.",), (f"{prefix}.",))
    trunk = model.base_model
    if getattr(trunk.config, "is_encoder_decoder", False):
        raise UserError(
            f"model '{folder}': type '{trunk.config.model_type}' is an encoder with a decoder; "
            "expected an encoder alone, such as roberta"
        )
    special_ids = _read_special_ids(folder) if "reconstruction" in parts else ()
    return TextEncoder(outputs, parts, trunk, model, special_ids)


def _find_prefix(folder: Path) -> str:
    """Return the name of the encoder inside of its family's models."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    kind: Any = AutoModelForMaskedLM._model_mapping[type(config)]
    return str(kind.base_model_prefix)


def _read_special_ids(folder: Path) -> tuple[int, ...]:
    """Return the ids of the special tokens in a folder's tokenizer, the mask's last."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; the method needs the mask token, which this file names")
    fields = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"]: int(token["id"]) for token in fields.get("added_tokens", [])}
    mask = next((special[name] for name in MASK_TOKENS if name in special), None)
    if mask is None:
        raise UserError(f"{path}: no token {' or '.join(MASK_TOKENS)}")
    return (*sorted(set(special.values()) - {mask}), mask)


def _load_images(
    model_type: str, folder: Path, outputs: Mapping[str, int], parts: frozenset[str]
) -> Model:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    import transformers

    kind: Any = getattr(transformers, IMAGE_PARTS.get(model_type, "AutoModel"))
    options: dict[str, Any] = {"mask_ratio": 0.0} if model_type == "vit_mae" else {}
    trunk = load_weights(kind, folder, ("pooler.",), **options)
    config = trunk.config
    size = getattr(config, "image_size", DEFAULT_PIXELS)
    pixels = int(size[0] if isinstance(size, list | tuple) else size or DEFAULT_PIXELS)
    image = ImageSpec(pixels, *read_mean_and_std(folder, *IMAGENET_MEAN_AND_STD))
    embedding = _find_patch_embedding(trunk, pixels)
    if embedding is not None:
        return ImageEncoder(outputs, parts, trunk, image, embedding)
    if parts:
        raise UserError(
            f"model '{folder}': type '{model_type}' has no hidden states per patch, which the "
            "method needs; expected one that has, such as vit, deit, dinov2 or clip"
        )
    features = _pool_output(trunk, torch.zeros(1, int(config.num_channels), pixels, pixels))
    return ImageBackbone(outputs, trunk, features.shape[1], image, _pool_output)


def _find_patch_embedding(trunk: Any, pixels: int) -> nn.Module | None:
    """Return the layer that embeds patches; None if not each patch has a state in the output."""
    layers = dict(trunk.named_modules())
    layer = next((layers[name] for name in PATCH_EMBEDDINGS if name in layers), None)
    config = trunk.config
    patch = getattr(config, "patch_size", None)
    if layer is None or not isinstance(patch, int) or not hasattr(config, "hidden_size"):
        return None
    with torch.no_grad():
        hidden = encode_images(trunk, torch.zeros(1, int(config.num_channels), pixels, pixels))
    is_per_patch = hidden.ndim == 3 and hidden.shape[1] > (pixels // patch) ** 2
    return layer if is_per_patch and hidden.shape[2] == config.hidden_size else None


def _pool_output(trunk: nn.Module, inputs: Tensor) -> Tensor:
    """Return the pooled output of a network of transformers, ``(b, width)``."""
    output: Any = trunk(inputs)
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is None:
        hidden: Tensor = output.last_hidden_state
        pooled = hidden.mean(dim=(2, 3) if hidden.ndim == 4 else 1)
    return pooled.flatten(1)
