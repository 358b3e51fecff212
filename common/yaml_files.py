"""Strict YAML: YAML 1.2's scalars, and no duplicate keys.

PyYAML reads YAML 1.1, in which ``064`` is 52, ``1:30`` is 90, ``no`` is false and ``1e-3`` is a
string. Here numbers are decimal, only ``true`` and ``false`` are booleans, and a number in another
notation is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.files import read_text

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
# Octal, hexadecimal, binary, sexagesimal numbers, underscores and leading zeros.
OTHER_NUMBER = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?"
    r"|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9_]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9_]+)?)\Z"
)
# Errors of PyYAML's own constructors, such as for "!!bool maybe".
CONSTRUCTOR_ERRORS = (ValueError, LookupError, AttributeError, RecursionError)
TAG = "tag:yaml.org,2002:"
DIGITS = list("-+.0123456789")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2, in which a duplicate key is an error."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (none of YAML 1.1's)

    def compose_mapping_node(self, anchor: dict[Any, Any]) -> yaml.MappingNode:
        """Return a mapping's node as it is written, before ``<<`` merges others into it.

        Raises:
            yaml.MarkedYAMLError: If it has a key twice.
        """
        node = super().compose_mapping_node(anchor)
        keys = [
            key.value if key.tag == TAG + "merge" else self.construct_object(key)
            for key, _ in node.value
            if isinstance(key, yaml.ScalarNode)
        ]
        duplicates = sorted({str(key) for key in keys if keys.count(key) > 1})
        if duplicates:
            raise yaml.MarkedYAMLError(
                problem=f"duplicate key {', '.join(duplicates)}", problem_mark=node.start_mark
            )
        return node


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text.

    Raises:
        UserError: If it is malformed, a mapping has a key twice, or a number is in a notation that
            readers of YAML understand differently.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, *CONSTRUCTOR_ERRORS) as error:
        raise UserError(_describe_error(error, text)) from None


def _describe_error(error: Exception, text: str) -> str:
    """Return the error in one line, with its place in a text of several lines."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        parts = [part for part in (error.context, error.problem) if part]
        if "\n" in text.strip():
            parts.insert(0, f"line {error.problem_mark.line + 1}")
        return ": ".join(parts)
    return " ".join(str(error).split())


def read_yaml_file(path: Path, name: str = "") -> Any:
    """Return the content of a YAML file.

    Args:
        path: The file.
        name: Its name in messages, if not its path.

    Raises:
        UserError: If it is missing or malformed.
    """
    try:
        text = read_text(path)
    except UserError as error:
        place = name.removesuffix(f"'{path}'").strip()  # the option that names it
        raise UserError(f"{place}: {error}" if place not in ("", name) else str(error)) from None
    try:
        return parse_yaml(text)
    except UserError as error:
        raise UserError(f"{name or path}: malformed YAML: {error}") from None


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


def _construct_number(loader: _StrictLoader, node: yaml.ScalarNode) -> int | float:
    text = str(loader.construct_scalar(node))
    if INTEGER.match(text):
        return int(text)
    if FLOAT.match(text) or NOT_FINITE.match(text):
        return float(text.replace(".", "") if NOT_FINITE.match(text) else text)
    raise yaml.MarkedYAMLError(
        problem=f"received the number {text}, expected one in plain decimal digits, such as 64, "
        "0.5 or 1e-3; put quotes around it if it is a word",
        problem_mark=node.start_mark,
    )


def _resolve(tag: str, pattern: re.Pattern[str], first: list[str | None]) -> None:
    _StrictLoader.add_implicit_resolver(TAG + tag, pattern, first)


_resolve("merge", re.compile(r"<<\Z"), ["<"])
_resolve("null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_resolve("bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_resolve("int", INTEGER, [*DIGITS])
_resolve("float", FLOAT, [*DIGITS])
_resolve("float", NOT_FINITE, [*DIGITS])
_resolve("int", OTHER_NUMBER, [*DIGITS])
_resolve("merge", re.compile(r"<<\Z"), ["<"])
_StrictLoader.add_constructor(TAG + "map", _construct_mapping)
_StrictLoader.add_constructor(TAG + "int", _construct_number)
_StrictLoader.add_constructor(TAG + "float", _construct_number)


def write_yaml(data: Mapping[str, object]) -> str:
    """Return plain data as YAML, in its own order, with short mappings in one line."""
    text: str = yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None, width=100)
    return text
