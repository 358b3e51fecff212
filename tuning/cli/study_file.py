"""Read study files: YAML files of a command's options, by name."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.errors import UserError, ValidationErrors, suggest_name
from common.hyperparameters import format_scalar
from common.yaml_files import parse_yaml, read_yaml_file
from core.recipe.assignments import format_assignment
from tuning.cli.parser import make_parser
from tuning.options import FLAGS, OPTION_FIELDS, get_definition
from tuning.study.study_file import FILE_NAME, StudyCommand, format_study, name_key

FLAG_FIELDS = {field.name for field in OPTION_FIELDS if isinstance(field.default, bool)}
LIST_FIELDS = {"dataset", *(f.name for f in OPTION_FIELDS if get_definition(f).nargs)}


def read_study_file(path: Path) -> argparse.Namespace:
    """Return the options in a study file, as :func:`tuning.cli.parser.make_parser` parses them.

    Raises:
        UserError: If it is missing or malformed, or names an option that does not exist.
        SystemExit: If a value is not one of its option's, after a message.
    """
    where = f"--config '{path}'"
    if path.is_dir():
        file = path / FILE_NAME
        remedy = f"a folder, expected a file: {file}" if file.is_file() else "a folder, not a file"
        raise UserError(f"{where}: {remedy}; to continue a study: python tune.py resume {path}")
    return parse_study(read_yaml_file(path, where), where)


def parse_study(content: object, where: str) -> argparse.Namespace:
    """Return the options in the content of a study file.

    Args:
        content: The content.
        where: The file, as error messages name it.

    Raises:
        UserError: If it is malformed, or names an option that does not exist.
        SystemExit: If a value is not one of its option's, after a message.
    """
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{where}: expected a mapping such as 'method: [erm, rwg]'")
    known = {name_key(field): field for field in FLAGS}
    given = {str(key).replace("_", "-"): value for key, value in content.items()}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValidationErrors(
            [f"{where}: unknown option '{key}'{suggest_name(key, known)}" for key in unknown]
        )
    values = {known[key]: value for key, value in given.items()}
    space = values.pop("domains", None)
    inline = isinstance(space, Mapping)
    if space is not None and not inline:
        values["domains"] = space
    arguments = [text for name in values for text in _list_arguments(name, values[name], where)]
    parser = make_parser()
    parser.name_source(where)
    parsed = parser.parse_args(arguments)
    if inline:
        parsed.domains = space
    return parsed


def list_study_arguments(command: StudyCommand) -> list[str]:
    """Return the arguments of the command line that mean the same command."""
    content: object = parse_yaml(format_study(command))
    assert isinstance(content, Mapping)
    fields_by_key = {name_key(name): name for name in FLAGS}
    given = {fields_by_key[key]: value for key, value in content.items()}
    given.pop("domains", None)
    arguments = [text for name in given for text in _list_arguments(name, given[name], "")]
    domains = {name: domain.describe_domain() for name, domain in command.options.domains.items()}
    return [*arguments, *_list_arguments("pinned", domains, "")]


def _list_arguments(name: str, value: object, where: str) -> Iterator[str]:
    """Yield the arguments of the command line that mean a value of a study file."""
    flag, key = FLAGS[name], name_key(name)
    if name in FLAG_FIELDS:
        if not isinstance(value, bool):
            raise UserError(f"{where}: {key}: received {value!r}, expected true or false")
        yield from [flag] if value else []
    elif name == "pinned" and isinstance(value, Mapping):
        for n, one in value.items():
            yield from (flag, _format_setting(str(n), one))
    elif name in LIST_FIELDS or name == "pinned":
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        texts = [_format_text(item, key, where) for item in items]
        parts = [[flag, text] for text in texts] if name == "pinned" else [[flag, *texts]]
        yield from (argument for part in parts for argument in part)
    elif value is not None:
        text = _format_text(value, key, where)
        yield from [f"{flag}={text}"] if text.startswith("-") else (flag, text)


def _format_setting(name: str, value: object) -> str:
    """Return a ``--set`` argument; a text with a colon may be a domain, and is left as it is."""
    if isinstance(value, (bool, int, float)) or (isinstance(value, str) and ":" not in value):
        return format_assignment(name, value)
    return f"{name}={value}"


def _format_text(value: object, key: str, where: str) -> str:
    if not isinstance(value, (bool, int, float, str)):
        raise UserError(f"{where}: {key}: received {value!r}, expected a single value")
    return format_scalar(value)


def merge_arguments(first: argparse.Namespace, second: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments of a study file with those of the command line, which win.

    Settings of ``--set`` replace those of the same name only.

    Args:
        first: The arguments of the file.
        second: The arguments of the command line.
    """
    merged = argparse.Namespace(**{**vars(first), **vars(second)})
    own = getattr(second, "pinned", [])
    names = {text.partition("=")[0] for text in own}
    kept = [t for t in getattr(first, "pinned", []) if t.partition("=")[0] not in names]
    if kept or own:
        merged.pinned = [*kept, *own]
    return merged
