"""Study files: every study writes its options as YAML, which ``--config`` and ``resume`` read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.files import write_text
from common.hyperparameters import Hyperparameter
from common.yaml_files import write_yaml
from tuning.options import FLAGS, OPTION_FIELDS, Options
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.records.storage import make_absolute, storage_errors

FILE_NAME = "study.yaml"
COMMENT = "# python tune.py --config FILE repeats this study; its own options take precedence.\n"
DURATIONS = ("time_limit",)


@dataclass(frozen=True)
class StudyCommand:
    """A command with all its data sets, of which each is a study.

    Args:
        options: The options, for the first data set, with the budgets of all.
        datasets: The data sets.
    """

    options: Options
    datasets: tuple[str, ...]


def name_key(field: str) -> str:
    """Return the key of a field of :class:`Options`: its option, without dashes in front."""
    return FLAGS[field].removeprefix("--")


def format_study(command: StudyCommand) -> str:
    """Return the study file of a command: all options that are on or have a value.

    Paths other than the default ones are absolute, so that the file works in every folder.
    """
    content: dict[str, object] = {}
    for field in OPTION_FIELDS:
        value: object = getattr(command.options, field.name)
        if field.name == "dataset" and len(command.datasets) > 1:
            value = command.datasets
        is_off = value is None or value is False or value in ({}, ())
        is_default_path = isinstance(value, Path) and value == field.default
        if field.name != "resume" and not is_off and not is_default_path:
            content[name_key(field.name)] = _encode_value(field.name, value)
    return COMMENT + write_yaml(content)


def write_study_file(command: StudyCommand, records: Sequence[MethodRecords]) -> None:
    """Write the study file of a command into its results, and into the records of each method.

    Raises:
        StorageError: If it cannot be written.
    """
    text, results = format_study(command), command.options.results
    for record in records:
        record.write_study_file(text)
    with storage_errors(open_storage(results)):
        write_text(results / FILE_NAME, text)


def _encode_value(name: str, value: object) -> object:
    if isinstance(value, Path):
        return os.path.abspath(value)
    if name == "storage":
        return make_absolute(str(value))
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _encode_domain(one) for key, one in value.items()}
    if name in DURATIONS and isinstance(value, float):
        return f"{int(value) if value.is_integer() else value}s"
    return value


def _encode_domain(value: object) -> object:
    """Return a value as it is, and a domain in the form of a ``--space`` file."""
    return value.as_mapping() if isinstance(value, Hyperparameter) else value
