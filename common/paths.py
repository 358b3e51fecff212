"""Paths as users write them: ``~`` and variables are expanded, and URLs are no paths.

A shell expands them at the start of a word only: not in ``--results=~/out``, in a file of
variables, or between quotes.
"""

import argparse
import os
import re
from pathlib import Path

from common.errors import UserError

# s3:bucket, s3://bucket, host:/folder or C:\folder; a colon elsewhere belongs to a name.
URL_START = re.compile(r"(?i:s3|gs):|[A-Za-z][A-Za-z0-9+.-]*:[/\\]")


def expand_path(text: str) -> str:
    """Return a path with its ``~`` and variables expanded.

    Raises:
        ValueError: If it is empty, or names a variable or user that does not exist.
    """
    if not text.strip():
        raise ValueError("received an empty path")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"received {text!a}, expected a name in UTF-8") from None
    expanded = os.path.expanduser(os.path.expandvars(text))
    unset = re.search(r"\$(\w+|\{[^}]*\})", expanded)
    if unset and not os.path.lexists(expanded):
        name = unset.group(1).strip("{}")
        raise ValueError(f"received '{text}', and the variable {name} is not set")
    if expanded.startswith("~") and not os.path.lexists(expanded):
        raise ValueError(
            f"received '{text}', and there is no such user; write ./{text} for a folder of that "
            "name"
        )
    return expanded


def parse_path(text: str) -> Path:
    """Return the path of an option on this machine, a converter of :mod:`argparse`.

    Raises:
        argparse.ArgumentTypeError: If it cannot be expanded, or is a URL.
    """
    expanded = parse_location(text)
    if URL_START.match(expanded):
        raise argparse.ArgumentTypeError(
            f"received '{text}', expected a path on this machine; write ./{text} for a folder of "
            "that name"
        )
    return Path(expanded)


def parse_location(text: str) -> str:
    """Return the path or URL of an option, a converter of :mod:`argparse`.

    Raises:
        argparse.ArgumentTypeError: If it cannot be expanded.
    """
    try:
        return expand_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_path_variable(name: str) -> Path | None:
    """Return the path that a variable of the environment holds; None if it is not set or empty.

    Raises:
        UserError: If it cannot be expanded, or is a URL.
    """
    text = os.environ.get(name)
    try:
        return parse_path(text) if text else None
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{name}: {error}") from None
