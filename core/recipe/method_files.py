"""Find and load the methods' YAML files in ``search_spaces/``."""

from functools import lru_cache
from pathlib import Path

from common.errors import UserError, ValidationErrors, unknown_name_message
from common.files import is_hidden, read_text
from common.yaml_files import parse_yaml
from core.recipe.method import Method
from core.recipe.method_parser import name_file, parse_method

ALIASES = {"scaleinvls": "si"}  # names of published code
FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"


def list_methods(folder: Path = FOLDER) -> list[str]:
    """Return the names of all methods, sorted."""
    found = (path for path in folder.glob("*.yaml") if path.is_file() and not is_hidden(path))
    return sorted(path.stem for path in found)


def load_method(name: str, folder: Path = FOLDER) -> Method:
    """Read a method's file.

    Raises:
        UserError: If there is no such method.
        ValidationErrors: If the file is invalid, with all mistakes at once.
    """
    name = ALIASES.get(name, name)
    path = folder / f"{name}.yaml"
    if name not in list_methods(folder):
        raise UserError(unknown_name_message("method", name, list_methods(folder)))
    try:
        text = read_text(path)
    except UserError as error:
        raise ValidationErrors([str(error)]) from None
    return _parse_text(path, text)


@lru_cache  # a command asks for the same few files again and again
def _parse_text(path: Path, text: str) -> Method:
    try:
        content = parse_yaml(text)
    except UserError as error:
        raise ValidationErrors([f"{name_file(path)}: malformed YAML: {error}"]) from None
    return parse_method(path, content)
