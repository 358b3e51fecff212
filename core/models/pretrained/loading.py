"""Loading of pretrained encoders, from a folder or by public name."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from core.models.base import ImageSpec, Model
from core.models.bert import SPECIAL_IDS, Bert
from core.models.pretrained.backbones import is_backbone, load_backbone
from core.models.pretrained.families import (
    WITHOUT_PATCH_STATES,
    list_image_families,
    list_text_families,
    load_family,
)
from core.models.pretrained.weights import (
    draws_weights,
    find_local_folder,
    find_or_download,
    load_weights,
    read_config,
    read_mean_and_std,
)
from core.models.resnet import IMAGENET_MEAN_AND_STD, ResNet
from core.models.vit import ViT

PUBLIC_MODELS = ("google/vit-base-patch16-224-in21k", "bert-base-uncased")
# A ViT pretrained at the first size is finetuned at the second, as in Kulkarni et al. (TMLR 2024).
PRETRAINED_PIXELS, FINETUNED_PIXELS = 224, 384
SDPA: Mapping[str, Any] = {"attn_implementation": "sdpa"}
DEFAULT_MEAN_AND_STD = (0.5, 0.5, 0.5)
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load_pretrained(name: str, outputs: Mapping[str, int], parts: frozenset[str]) -> Model:
    """Load a pretrained encoder and add a randomly initialized classifier.

    A ViT takes images at the size of its configuration, or at 384 pixels with interpolated
    positions if that size is 224. Mean and standard deviation are those of
    ``preprocessor_config.json``, or 0.5. A BERT's token head is loaded if the files contain it. A
    ResNet takes images of 224 pixels, and has no hidden states for auxiliary objectives. All other
    families are those of :mod:`core.models.pretrained.families`.

    Args:
        name: An absolute path of a folder with ``config.json`` and ``model.safetensors``, or a
            public name, ``torchvision/NAME`` or ``timm/NAME``.
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.

    Raises:
        UserError: If the files are missing, cannot be read, or lack weights of the encoder.
    """
    if is_backbone(name):
        with _silence_logging():
            return load_backbone(name, outputs, parts)
    folder = find_or_download(name, draws_weights.get())
    model_type = str(read_config(folder).model_type)
    if not supports_type(model_type):
        raise UserError(
            f"model '{name}': received type '{model_type}', expected one that encodes texts "
            "or images, such as bert or vit"
        )
    try:
        with _silence_logging():
            if model_type in LOADERS:
                return LOADERS[model_type](folder, outputs, parts)
            return load_family(model_type, folder, outputs, parts)
    except UserError:
        raise
    except Exception as error:  # of many types, all with the meaning "not such a model"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"model '{name}': {folder} cannot be loaded: {reason}") from error


def choose_image_size(pretrained: int) -> int:
    """Return the height and width at which a ViT is finetuned."""
    return FINETUNED_PIXELS if pretrained == PRETRAINED_PIXELS else pretrained


def _load_vit(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> ViT:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ViTModel

    trunk = load_weights(ViTModel, folder, ("pooler.",), add_pooling_layer=False, **SDPA)
    own = trunk.config.image_size
    mean, std = read_mean_and_std(folder, DEFAULT_MEAN_AND_STD, DEFAULT_MEAN_AND_STD)
    image = ImageSpec(choose_image_size(int(own)), mean, std)
    return ViT(outputs, parts, trunk, image)


def _load_resnet(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> ResNet:
    if parts:
        suitable = sorted(LOADERS.keys() - WITHOUT_PATCH_STATES)
        raise UserError(
            f"model '{folder}': a ResNet; the method needs one with hidden states per token or "
            f"patch, of type {' or '.join(suitable)}"
        )
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ResNetModel

    trunk = load_weights(ResNetModel, folder, ())
    image = ImageSpec(PRETRAINED_PIXELS, *read_mean_and_std(folder, *IMAGENET_MEAN_AND_STD))
    return ResNet(outputs, trunk, trunk.config.hidden_sizes[-1], image)


def _load_bert(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> Bert:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import BertForPreTraining

    optional = ("bert.pooler.", "cls.")
    model = load_weights(BertForPreTraining, folder, optional, is_decoder=False, **SDPA)
    return Bert(outputs, parts, model.bert, model.cls.predictions, _read_special_ids(folder))


def _read_special_ids(folder: Path) -> tuple[int, ...]:
    """Return the ids of :data:`SPECIAL_TOKENS` in the folder's vocabulary."""
    path = folder / "vocab.txt"
    if not path.is_file():
        return SPECIAL_IDS
    ids = {token: i for i, token in enumerate(path.read_text(encoding="utf-8").split("\n"))}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise UserError(f"{path}: no token {missing[0]}")
    return tuple(ids[token] for token in SPECIAL_TOKENS)


LOADERS: Mapping[str, Callable[[Path, Mapping[str, int], frozenset[str]], Model]] = {
    "bert": _load_bert,
    "resnet": _load_resnet,
    "vit": _load_vit,
}


def supports_type(model_type: str) -> bool:
    """Return whether models of a type can be loaded."""
    if model_type in LOADERS:
        return True
    return model_type in list_text_families() or model_type in list_image_families()


def is_without_hidden_states(name: str) -> bool:
    """Return whether a model on this machine has no hidden states per token or patch."""
    folder = find_local_folder(name)
    try:
        return folder is not None and read_config(folder).model_type in WITHOUT_PATCH_STATES
    except UserError:  # reported when the model is loaded
        return False


@contextlib.contextmanager
def _silence_logging() -> Iterator[None]:
    """Silence transformers' reports on new or unused heads, which are expected here."""
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers.utils import logging as module

    logging: Any = module  # its functions have no types

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
