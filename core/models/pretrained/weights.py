"""Where pretrained weights lie, and what to do where they do not.

A folder is given by its absolute path, a public model by its name; that one is looked for in the
Hugging Face cache first (``HF_HOME``) and downloaded where there is network. Weights are read from
safetensors files only, which hold numbers and nothing that could run.
"""

import json
import urllib.request
from pathlib import Path
from typing import Any

from common.errors import UserError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
FILES = ("config.json", "preprocessor_config.json", "vocab.txt", "*.safetensors", WEIGHTS[1])
TIMEOUT = 5  # seconds until a server counts as unreachable


def is_path(name: str) -> bool:
    """Return whether a model's name is meant as a folder."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).is_dir()


def folder_rule(name: str, kinds: tuple[str, ...]) -> str | None:
    """Return what a folder should be and is not, as the end of "expected ...", or None.

    Args:
        name: The folder.
        kinds: The model types that can be loaded.
    """
    path = Path(name).expanduser()
    if not path.is_absolute():
        return f"an absolute path, which holds on every node: {path.resolve()}"
    if not path.is_dir():
        return "the path of a folder that exists"
    if not (path / "config.json").is_file():
        return f"a folder with config.json, which {path} does not hold"
    if not any((path / file).is_file() for file in WEIGHTS):
        return (
            f"a folder with {WEIGHTS[0]}, which {path} does not hold (pickled weights are not read)"
        )
    try:
        kind = config(path).get("model_type")
    except UserError as error:
        return f"a readable folder: {error}"
    return None if kind in kinds else f"a model of type {' or '.join(kinds)}, not '{kind}'"


def config(folder: Path) -> dict[str, Any]:
    """Return what a folder's ``config.json`` says.

    Raises:
        UserError: If it cannot be read.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: received {type(found).__name__}, expected an object")
    return found


def locate(name: str) -> Path:
    """Return the folder of a model's files, downloaded if need be.

    Args:
        name: An absolute path, or a public name.

    Raises:
        UserError: If they are not there and cannot be downloaded.
    """
    if is_path(name):
        return Path(name).expanduser()
    found = _cached(name)
    if found is not None:
        return found
    problem = absent(name)
    if problem is not None:
        raise UserError(problem)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), etag_timeout=TIMEOUT))
    except Exception as error:  # whatever stops the download, the remedy is the same
        raise UserError(_remedy(name, error)) from error


def here(name: str) -> Path | None:
    """Return the folder of a model's files if they are on this machine; asks no server."""
    return Path(name).expanduser() if is_path(name) else _cached(name)


def absent(name: str) -> str | None:
    """Return why a public model can be neither found nor downloaded, and the remedy; or None.

    Asks the server for no more than whether it has the file.
    """
    if _cached(name) is not None:
        return None
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(name, WEIGHTS[0]), timeout=TIMEOUT)
    except Exception as error:
        return _remedy(name, error)
    return None


def _cached(name: str) -> Path | None:
    """Return the folder of a model in the Hugging Face cache if its weights are there."""
    from huggingface_hub import try_to_load_from_cache

    for file in WEIGHTS:
        try:
            found = try_to_load_from_cache(name, file)
        except ValueError:  # no such name can exist
            return None
        if isinstance(found, str) and (Path(found).parent / "config.json").is_file():
            return Path(found).parent
    return None


def _remedy(name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"model '{name}': its weights are not on this machine and cannot be downloaded ({reason}). "
        f"Where there is network, run 'hf download {name} --local-dir FOLDER'; bring FOLDER (at "
        f"least config.json and {WEIGHTS[0]}) to a place that all nodes see and give it as "
        "model=/path/to/FOLDER, or bring the cache and set HF_HOME to it"
    )


def torchvision_path(url: str) -> Path:
    """Return where torchvision's weights of this address lie or belong."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def torchvision_absent(name: str, url: str) -> str | None:
    """Return why a model of torchvision can be neither found nor downloaded; or None."""
    path = torchvision_path(url)
    if path.is_file():
        return None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return None
    except (OSError, ValueError) as error:
        return (
            f"model '{name}': its weights are not on this machine and cannot be downloaded "
            f"({error}). Download {url} elsewhere and put the file at {path} on every node; "
            "TORCH_HOME moves that folder"
        )


def torchvision_file(name: str, url: str) -> Path:
    """Return the file of torchvision's weights of this address, downloaded if need be.

    Raises:
        UserError: If it is not there and cannot be downloaded.
    """
    path = torchvision_path(url)
    if not path.is_file():
        problem = torchvision_absent(name, url)
        if problem is not None:
            raise UserError(problem)
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        digest = path.stem.rsplit("-", 1)[-1]  # the name ends with the start of the file's hash
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    return path
