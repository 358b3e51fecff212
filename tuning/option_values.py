"""Values of options: numbers with a lower bound, durations, shares of a GPU, domains."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, overload

from common.errors import UserError, ValidationErrors, suggest_name, unknown_name_message
from common.hyperparameters import KINDS, Hyperparameter, Hyperparameters, parse_hyperparameter
from common.yaml_files import parse_yaml, read_yaml_file

AUTO: Final = "auto"
Gpus = float | Literal["auto"] | None  # of a trial, as asked
NUMBERS = r"[-+.\deE]+([:,][-+.\deE]*)*"
SECONDS_PER_UNIT = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@overload
def at_least(lowest: int) -> Callable[[str], int]: ...
@overload
def at_least(lowest: float) -> Callable[[str], float]: ...
def at_least(lowest: float) -> Callable[[str], float]:
    """Return a converter of numbers from ``lowest``, of integers if that is one."""
    whole = isinstance(lowest, int)
    kind = "an integer" if whole else "a number"

    def convert_number(text: str) -> float:
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            value = lowest - 1
        if "_" in text:  # which Python reads as 10 in 1_0, a typing mistake
            value = lowest - 1
        if not value >= lowest or value == float("inf"):
            raise argparse.ArgumentTypeError(f"received '{text}', expected {kind} from {lowest:g}")
        return value

    return convert_number


def parse_hours(text: str) -> float:
    """Read a number of hours above 0."""
    try:
        hours = at_least(0.0)(text)
    except argparse.ArgumentTypeError:
        hours = 0.0
    if not hours:
        raise argparse.ArgumentTypeError(f"received '{text}', expected a number of hours above 0")
    return hours


def parse_gpus(text: str) -> Gpus:
    """Read a share of a GPU in (0, 1], a number of GPUs, 0 or ``auto``."""
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if "_" in text:
        value = -1.0
    if not (0 <= value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError(
            f"received '{text}', expected a share such as 0.25, a number of GPUs, or auto"
        )
    return value


def parse_duration(text: str) -> float:
    """Read a duration such as 90s, 30m, 1h30m or 1d in seconds, also a bare number's unit."""
    number = r"(\d+(?:\.\d+)?)"
    units = "".join(rf"(?:{number}{unit})?" for unit in SECONDS_PER_UNIT)
    found = re.fullmatch(units, text) or re.fullmatch(rf"()()(){number}", text)
    counts = found.groups() if found else ()
    seconds = sum(
        float(count) * unit
        for count, unit in zip(counts, SECONDS_PER_UNIT.values(), strict=False)
        if count
    )
    if seconds <= 0:
        raise argparse.ArgumentTypeError(
            f"received '{text}', expected a time above 0 such as 90s, 30m, 1h30m or 1d"
        )
    return seconds


def parse_domains(texts: Sequence[str]) -> tuple[list[str], dict[str, Hyperparameter]]:
    """Split ``--set`` arguments into those with a value and those with a domain to search.

    Args:
        texts: The arguments, such as ``lr=0.1`` or ``lr=log_uniform:1e-4:1e-1``.

    Returns:
        The arguments with a value, unread, and the domains by name.

    Raises:
        ValidationErrors: If a domain is malformed, or a name is given twice.
    """
    others: list[str] = []
    domains: dict[str, Hyperparameter] = {}
    problems: list[str] = []
    for text in texts:
        name, _, given = text.partition("=")
        called = re.fullmatch(rf"({'|'.join(KINDS)})\((.*)\)", given)
        if called:
            separator = "," if called[1] == "choice" else ":"
            values = separator.join(re.split(r"[,\s]+", called[2].strip("[] ")))
            problems.append(f"--set: received '{text}', expected {name}={called[1]}:{values}")
            continue
        if not _is_domain(given) or name != name.strip():
            others.append(text)
            continue
        try:
            content = _read_domain(given)
        except UserError as error:
            problems.append(f"--set: received '{text}': {error}")
            continue
        domain = parse_hyperparameter(f"--set {name}", content, problems, False)
        if domain is not None and name in domains:
            problems.append(f"--set: {name} is given two domains")
        elif domain is not None:
            domains[name] = domain
    fixed = {text.partition("=")[0] for text in others}
    problems += [
        f"--set: {name} is given a value and a domain" for name in domains if name in fixed
    ]
    if problems:
        raise ValidationErrors(problems)
    return others, domains


def _is_domain(text: str) -> bool:
    """Return whether a text is a domain: whether a kind, or what resembles one, is before a colon.

    A value may have colons too, such as those of ``task:weight``.
    """
    kind, colon, rest = text.partition(":")
    if not colon:
        return False
    is_word = re.fullmatch(r"[A-Za-z][\w-]*", kind) is not None
    is_range = re.fullmatch(r"[-+.\deE]+:[-+.\deE]+", rest) is not None  # task:weight is a value
    return kind in KINDS or (is_word and (is_range or bool(suggest_name(kind, KINDS))))


def _read_domain(text: str) -> dict[str, list[object]]:
    """Return a domain's text, such as ``choice:8,16``, as a file has it: values by kind.

    Raises:
        UserError: If the kind is unknown, or a value is missing or malformed.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise UserError(unknown_name_message("domain", kind, KINDS))
    separators = "," if kind == "choice" else "[:,]"
    parts = re.split(separators, rest)
    example = "choice:8,16,32" if kind == "choice" else f"{kind}:LOW:HIGH"
    if not all(part.strip() for part in parts):
        raise UserError(f"a value is empty, expected a domain such as {example}")
    if kind == "choice" and any(re.fullmatch(NUMBERS, part) and ":" in part for part in parts):
        raise UserError(
            f"choices are separated by commas: choice:{rest.strip(':').replace(':', ',')}"
        )
    return {kind: [parse_yaml(part) for part in parts]}


def name_space(given: Path | Mapping[str, object]) -> str:
    """Return the source of ``--space``, a file or part of a study file, as messages name it."""
    return f"--space '{given}'" if isinstance(given, Path) else "--config: space"


def read_space(
    given: Path | Mapping[str, object],
) -> tuple[Hyperparameters, dict[str, Hyperparameter]]:
    """Return the values and domains of ``--space``: a mapping from hyperparameter to either.

    A domain is a mapping such as ``{log_uniform: [1e-4, 1e-1]}``, or a text as ``--set`` has it.

    Args:
        given: A YAML file, or the mapping itself, from a study file.

    Raises:
        UserError: If it is missing or malformed.
        ValidationErrors: If a value or a domain is malformed.
    """
    where = name_space(given)
    space: object = read_yaml_file(given, where) if isinstance(given, Path) else given
    if isinstance(space, Mapping) and list(space) == ["search"]:  # as in the files of methods
        space = space["search"]
    if not isinstance(space, Mapping) or not space:
        raise UserError(f"{where}: expected a mapping such as 'lr: {{log_uniform: [1e-4, 1e-1]}}'")
    values: Hyperparameters = {}
    domains: dict[str, Hyperparameter] = {}
    problems: list[str] = []
    for name, given in space.items():
        content: object = given
        if isinstance(given, str) and _is_domain(given):
            try:
                content = _read_domain(given)
            except UserError as error:
                problems.append(f"{where}: {name}: received '{given}': {error}")
                continue
        elif isinstance(given, (bool, int, float, str)):
            values[str(name)] = given
            continue
        domain = parse_hyperparameter(f"{where}: {name}", content, problems, needs_default=False)
        if domain is not None:
            domains[str(name)] = domain
    if problems:
        raise ValidationErrors(problems)
    return values, domains
