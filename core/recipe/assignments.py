"""What both command lines share: a parser with kind errors, and ``--set key=value``."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from common.errors import UserError, ValidationErrors, suggest_name
from common.hyperparameters import Hyperparameters
from core.recipe.method import read_yaml


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, name the nearest right option and exit with code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        found = re.match(r"unrecognized arguments: (\S+)", message)
        if found:
            given = found.group(1).split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            kind = "option" if given.startswith("-") else "argument"
            message = f"unknown {kind} '{given}'{suggest_name(given, known)}"
        self.exit(2, f"error: {message}\n")


def check_epochs(config: Hyperparameters, epochs: int | None) -> None:
    """Refuse two ways of giving the epochs.

    Raises:
        UserError: If ``--set`` and ``--epochs`` both do.
    """
    if epochs is not None and "epochs" in config:
        raise UserError("--set epochs=...: --epochs is given too; give one of them")


def read_baseline(path: str | Path | None) -> str:
    """Return the text of a baseline file; empty if none is given.

    Raises:
        UserError: If it cannot be read.
    """
    if path is None:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--baseline: cannot read '{path}': {error}") from None
    if not text.strip():
        raise UserError(f"--baseline: '{path}' is empty")
    return text


def pairs(texts: Sequence[str]) -> Hyperparameters:
    """Return the values of ``key=value`` arguments, read as YAML scalars.

    Raises:
        Problems: If one is not of that form, or a key stands twice with different values.
    """
    found: Hyperparameters = {}
    problems = []
    for text in texts:
        name, sign, value_text = text.partition("=")
        try:
            value = read_yaml(value_text)
        except (yaml.YAMLError, ValueError):
            value = None
        if not sign or not name or not isinstance(value, (bool, int, float, str)):
            problems.append(f"--set: received '{text}', expected key=value, such as lr=0.01")
        elif name in found and found[name] != value:
            problems.append(f"--set: {name} stands twice, with {found[name]!r} and {value!r}")
        else:
            found[name] = value
    if problems:
        raise ValidationErrors(problems)
    return found
