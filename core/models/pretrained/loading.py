"""Pretrained encoders: from a folder, or by their public names."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from core.models.base import ImageSpec, Model
from core.models.bert import SPECIAL, Bert
from core.models.pretrained.weights import config, here, locate
from core.models.resnet import IMAGENET, ResNet
from core.models.vit import ViT

PUBLIC = ("google/vit-base-patch16-224-in21k", "bert-base-uncased")
# Models pretrained at the usual size are trained at this one, as Kulkarni et al. (TMLR 2024) do.
USUAL, TRAINED = 224, 384
SDPA = {"attn_implementation": "sdpa"}
HALF = (0.5, 0.5, 0.5)
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load(name: str, outputs: Mapping[str, int], parts: frozenset[str]) -> Model:
    """Return a pretrained encoder with a fresh classifier.

    A ViT takes images at the size of its configuration, or at 384 pixels with interpolated
    positions where that is 224; mean and deviation are those of ``preprocessor_config.json``, or
    one half. A BERT's token head has the pretrained weights where the files hold them. A ResNet
    takes images of 224 pixels, and has no hidden states for auxiliary objectives.

    Args:
        name: An absolute path of a folder with ``config.json`` and ``model.safetensors``, or a
            public name.
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.

    Raises:
        UserError: If the files are absent, cannot be read, or do not hold the whole encoder.
    """
    folder = locate(name)
    kind = str(config(folder).get("model_type"))
    if kind not in KINDS:
        raise UserError(
            f"model '{name}': received type '{kind}', expected {' or '.join(sorted(KINDS))}"
        )
    try:
        with _quiet():
            return KINDS[kind](folder, outputs, parts)
    except UserError:
        raise
    except Exception as error:  # of many kinds: each means that these files are no such model
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"model '{name}': {folder} cannot be loaded: {reason}") from error


def _vit(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> ViT:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ViTModel

    trunk = _read(ViTModel, folder, ("pooler.",), add_pooling_layer=False, **SDPA)
    own = trunk.config.image_size
    mean, std = _moments(folder, HALF, HALF)
    image = ImageSpec(TRAINED if own == USUAL else int(own), mean, std)
    return ViT(outputs, parts, trunk, image)


def _resnet(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> ResNet:
    if parts:
        raise UserError(
            f"model '{folder}': a ResNet; the method needs one with hidden states per token or "
            f"patch, of type {' or '.join(kind for kind in sorted(KINDS) if kind not in PLAIN)}"
        )
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ResNetModel

    trunk = _read(ResNetModel, folder, ())
    image = ImageSpec(USUAL, *_moments(folder, *IMAGENET))
    return ResNet(outputs, trunk, trunk.config.hidden_sizes[-1], image)


def _moments(
    folder: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation as a folder's preprocessor says, or these."""
    path = folder / "preprocessor_config.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tuple(found.get("image_mean", mean)), tuple(found.get("image_std", std))


def _bert(folder: Path, outputs: Mapping[str, int], parts: frozenset[str]) -> Bert:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import BertForPreTraining

    fresh = ("bert.pooler.", "cls.")
    model = _read(BertForPreTraining, folder, fresh, is_decoder=False, **SDPA)
    return Bert(outputs, parts, model.bert, model.cls.predictions, _special(folder))


def _special(folder: Path) -> tuple[int, ...]:
    """Return the numbers of :data:`TOKENS` in the folder's vocabulary."""
    path = folder / "vocab.txt"
    if not path.is_file():
        return SPECIAL
    number = {word: i for i, word in enumerate(path.read_text(encoding="utf-8").splitlines())}
    absent = [token for token in TOKENS if token not in number]
    if absent:
        raise UserError(f"{path}: no token {absent[0]}")
    return tuple(number[token] for token in TOKENS)


KINDS: Mapping[str, Callable[[Path, Mapping[str, int], frozenset[str]], Model]] = {
    "bert": _bert,
    "resnet": _resnet,
    "vit": _vit,
}
PLAIN = frozenset({"resnet"})  # without hidden states per token or patch


def plain(name: str) -> bool:
    """Return whether a folder or a public name that is on this machine is of a plain kind."""
    folder = here(name)
    try:
        return folder is not None and config(folder).get("model_type") in PLAIN
    except UserError:  # which is told where it is loaded
        return False


def _read(kind: Any, folder: Path, fresh: tuple[str, ...], **options: Any) -> Any:
    """Return a model of transformers with a folder's weights.

    Args:
        kind: Its class.
        folder: The folder.
        fresh: Starts of the names of weights that need not be in the files.
        options: For the constructor or the configuration.

    Raises:
        UserError: If other weights are missing.
    """
    import torch

    model, report = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True,
        dtype=torch.float32, **options,
    )  # fmt: skip
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(fresh))
    if missing:
        raise UserError(
            f"{folder}: the weights of {len(missing)} parts of the encoder are missing, such as "
            f"'{missing[0]}'; expected those of {kind.__name__}"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence reports on heads that are new, or not needed: nobody can do anything about them."""
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
