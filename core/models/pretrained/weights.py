"""Locations of pretrained weights, their download, and messages for weights that are missing.

A folder is given by its absolute path, a public model by its name. A public model is searched for
in the Hugging Face cache first (``HF_HOME``) and downloaded otherwise. Only safetensors files are
read, which hold numbers and no code.
"""

import itertools
import json
import urllib.request
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from core.models.pretrained.public_names import FULL_NAMES, list_hub_names

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
DOWNLOADED_FILES = (
    "config.json", "preprocessor_config.json", "vocab.txt", "tokenizer.json", "*.safetensors",
    WEIGHT_FILES[1],
)  # fmt: skip
TIMEOUT_SECONDS = 5  # until a server counts as unreachable


# Whether models have random weights in place of those of the files, while one is built.
draws_weights: ContextVar[bool] = ContextVar("draws_weights", default=False)


@dataclass(frozen=True)
class ModelConfig:
    """The fields of a model's ``config.json`` that checks and loading need.

    Args:
        model_type: The architecture, such as ``bert``; None if the file does not name one.
        vocabulary_size: The number of tokens; 0 if the model takes no texts.
    """

    model_type: str | None
    vocabulary_size: int


def is_path(name: str) -> bool:
    """Return whether a model's name is the path of a folder.

    A public name without an owner is one where a folder of that name holds a model; a data set's
    folder of tokens may have that name too.
    """
    if name in FULL_NAMES:
        return (Path(name) / "config.json").is_file()
    is_written_as_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    return is_written_as_path or (bool(name.strip()) and Path(name).is_dir())


def check_folder(
    name: str, supports_type: Callable[[str], bool], from_scratch: bool = False
) -> str | None:
    """Return a description of a valid folder if this one cannot be loaded, else None.

    The description follows the word "expected" in a message.

    Args:
        name: The folder.
        supports_type: Returns whether models of a type can be loaded.
        from_scratch: Whether the configuration is enough.
    """
    path = Path(name).expanduser()
    if not path.is_absolute():
        return f"an absolute path, which is the same on every node: {path.resolve()}"
    if not path.is_dir():
        return "the path of a folder that exists"
    if not (path / "config.json").is_file():
        return f"a folder with config.json, which {path} does not contain"
    if not from_scratch and not any((path / file).is_file() for file in WEIGHT_FILES):
        return (
            f"a folder with {WEIGHT_FILES[0]}, which {path} does not contain (pickled weights are "
            "not read)"
        )
    try:
        found = read_config(path).model_type
    except UserError as error:
        return f"a readable folder: {error}"
    if found is not None and supports_type(found):
        return None
    return f"a model of a type that encodes texts or images, such as bert or vit, not '{found}'"


def read_config(folder: Path) -> ModelConfig:
    """Return the configuration in a folder's ``config.json``.

    Raises:
        UserError: If it cannot be read.
    """
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: received {type(fields).__name__}, expected an object")
    model_type, size = fields.get("model_type"), fields.get("vocab_size")
    return ModelConfig(
        None if model_type is None else str(model_type), size if isinstance(size, int) else 0
    )


def find_or_download(name: str, from_scratch: bool = False) -> Path:
    """Return the folder of a model's files, downloaded if necessary.

    Args:
        name: An absolute path, or a public name.
        from_scratch: Whether the configuration is enough.

    Raises:
        UserError: If the files are missing and cannot be downloaded.
    """
    if is_path(name):
        return Path(name).expanduser()
    found = _find_in_cache(name, from_scratch)
    if found is not None:
        return found
    problem = check_download(name, from_scratch)
    if problem is not None:
        raise UserError(problem)
    from huggingface_hub import snapshot_download

    patterns = [file for file in DOWNLOADED_FILES if not (from_scratch and "safetensors" in file)]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=TIMEOUT_SECONDS))
    except Exception as error:  # the remedy is the same for every cause
        raise UserError(_missing_weights_message(name, error)) from error


def find_local_folder(name: str) -> Path | None:
    """Return the folder of a model's files on this machine, None if there is none."""
    return Path(name).expanduser() if is_path(name) else _find_in_cache(name)


def check_download(name: str, from_scratch: bool = False) -> str | None:
    """Return an error message if a public model is neither on this machine nor on its server.

    Asks the server for the headers of one file only.

    Args:
        name: The public name.
        from_scratch: Whether the configuration is enough.
    """
    if _find_in_cache(name, from_scratch) is not None:
        return None
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        file = "config.json" if from_scratch else WEIGHT_FILES[0]
        get_hf_file_metadata(hf_hub_url(name, file), timeout=TIMEOUT_SECONDS)
    except Exception as error:
        return _missing_weights_message(name, error)
    return None


def _find_in_cache(name: str, from_scratch: bool = False) -> Path | None:
    """Return the folder of a model in the Hugging Face cache, None if its weights are missing."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json",) if from_scratch else WEIGHT_FILES
    for public, file in itertools.product(list_hub_names(name), files):
        try:
            found = try_to_load_from_cache(public, file)
        except ValueError:  # not a valid name
            return None
        if isinstance(found, str) and (Path(found).parent / "config.json").is_file():
            return Path(found).parent
    return None


def _missing_weights_message(name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"model '{name}': its weights are not on this machine and cannot be downloaded ({reason}). "
        f"On a machine with network access, run 'hf download {name} --local-dir FOLDER'. Copy "
        f"FOLDER (at least config.json and {WEIGHT_FILES[0]}) to a path that all nodes can read "
        "and set model=/path/to/FOLDER, or copy the cache and set HF_HOME to it"
    )


def get_torchvision_path(url: str) -> Path:
    """Return the path at which torchvision expects the weights of this URL."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def check_torchvision_download(name: str, url: str) -> str | None:
    """Return an error message if torchvision's weights are neither on this machine nor online."""
    path = get_torchvision_path(url)
    if path.is_file():
        return None
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return None
    except (OSError, ValueError) as error:
        return (
            f"model '{name}': its weights are not on this machine and cannot be downloaded "
            f"({error}). Download {url} on another machine and put the file at {path} on every "
            "node; set TORCH_HOME to use another folder"
        )


def find_or_download_torchvision(name: str, url: str) -> Path:
    """Return the file of torchvision's weights of this URL, downloaded if necessary.

    Raises:
        UserError: If the file is missing and cannot be downloaded.
    """
    path = get_torchvision_path(url)
    if not path.is_file():
        problem = check_torchvision_download(name, url)
        if problem is not None:
            raise UserError(problem)
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        digest = path.stem.rsplit("-", 1)[-1]  # the name ends with the start of the file's hash
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    return path


def read_mean_and_std(
    folder: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of a folder's preprocessor, by default those given."""
    path = folder / "preprocessor_config.json"
    fields = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tuple(fields.get("image_mean", mean)), tuple(fields.get("image_std", std))


def _make_from_configuration(kind: Any, folder: Path, options: Mapping[str, Any]) -> Any:
    """Return a model of transformers with a folder's configuration and random weights."""
    from transformers import AutoConfig

    if hasattr(kind, "from_config"):  # a class for all families
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return kind.from_config(config, **options)
    config, rest = kind.config_class.from_pretrained(
        folder, local_files_only=True, return_unused_kwargs=True, **options
    )
    return kind(config, **rest)


def load_weights(
    kind: Any,
    folder: Path,
    optional: tuple[str, ...],
    required: tuple[str, ...] = ("",),
    **options: Any,
) -> Any:
    """Return a model of transformers with a folder's weights.

    Args:
        kind: The class, a subclass of ``PreTrainedModel``.
        folder: The folder.
        optional: Prefixes of the names of weights that the files may lack.
        required: Prefixes of the names of the encoder's weights; others may be missing.
        options: For the constructor or the configuration.

    Raises:
        UserError: If other weights are missing.
    """
    import core.torchvision_compat  # noqa: F401

    # isort: split
    import torch

    if draws_weights.get():
        return _make_from_configuration(kind, folder, options)
    model, report = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True,
        dtype=torch.float32, **options,
    )  # fmt: skip
    missing = sorted(
        key
        for key in report["missing_keys"]
        if key.startswith(required) and not key.startswith(optional)
    )
    if missing:
        raise UserError(
            f"{folder}: the weights of {len(missing)} parts of the encoder are missing, such as "
            f"'{missing[0]}'; expected those of {kind.__name__}"
        )
    return model
