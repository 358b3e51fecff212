"""Strict YAML: no duplicate keys, and ``1e-3`` is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.files import read_text


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number and a duplicate key is an error."""


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text.

    Raises:
        yaml.YAMLError: If it is malformed, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_StrictLoader)


def read_yaml_file(path: Path, name: str = "") -> Any:
    """Return the content of a YAML file.

    Args:
        path: The file.
        name: Its name in messages, if not its path.

    Raises:
        UserError: If it is missing or malformed.
    """
    text = read_text(path)
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name or path}: malformed YAML: {reason}") from None


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    duplicates = sorted({str(key) for key in keys if keys.count(key) > 1})
    if duplicates:
        raise yaml.MarkedYAMLError(
            problem=f"duplicate key {', '.join(duplicates)}", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
