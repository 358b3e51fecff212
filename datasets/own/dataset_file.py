"""A folder's own ``dataset.yaml``: columns, a split to draw, ranges to search, training config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.errors import UserError, ValidationErrors, suggest_name
from common.files import wrap_os_errors, write_text
from common.hyperparameters import Hyperparameter, Scalar, parse_hyperparameter
from common.yaml_files import read_yaml_file, write_yaml
from datasets.own.splits import DrawnSplit, check_shares
from datasets.training_config import TRAINING_CONFIG_RULES

NAME: Final = "dataset.yaml"
KEYS = ("columns", "split", "search", "protocol")
SPLIT_KEYS = ("shares", "seed")
WORDS = ("model", "augmentation")  # fields of a training config whose values core checks
TEXT_LENGTH, IMAGE_SIZE = "text_length", "image_size"
SIZES = {
    TEXT_LENGTH: Hyperparameter("integer", (3, 100_000), 220),
    IMAGE_SIZE: Hyperparameter("integer", (1, 100_000), 1),
}
PROTOCOL_KEYS = (*TRAINING_CONFIG_RULES, *WORDS, *SIZES)


@dataclass(frozen=True)
class DatasetFile:
    """The content of a folder's ``dataset.yaml``.

    Args:
        path: The file.
        columns: The usual name of columns of the table, by column.
        split: How a split is drawn; None for that of the table.
        search: The domains of hyperparameters.
        protocol: The values of training-config fields.
        sizes: ``text_length`` in tokens and ``image_size`` in pixels, as far as given.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    split: DrawnSplit | None = None
    search: Mapping[str, Hyperparameter] = field(default_factory=dict)
    protocol: Mapping[str, Scalar] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def read_dataset_file(folder: Path) -> DatasetFile:
    """Return the content of a folder's file; an empty one if it is missing.

    Raises:
        ValidationErrors: If it has mistakes, a sentence each.
        UserError: If it is malformed.
    """
    path = folder / NAME
    if not path.is_file():
        return DatasetFile(path)
    return _Reader(path).read()


def remember_choices(
    folder: Path, columns: Mapping[str, str], split: DrawnSplit | None
) -> list[str]:
    """Add columns and a split to a folder's file, below its own content; return the keys added.

    Raises:
        UserError: If the file says otherwise, or cannot be written.
    """
    found = read_dataset_file(folder)
    given: dict[str, object] = {}
    if columns and dict(found.columns) != dict(columns):
        given["columns"] = dict(columns)
    if split is not None and found.split != split:
        given["split"] = {"shares": list(split.shares), "seed": split.seed}
    stored = {"columns": found.columns, "split": found.split}
    for key in given:
        if stored[key]:
            raise UserError(
                f"{found.path}: {key}: the file has other {key} already; change them there, or "
                "delete the entry"
            )
    if given:
        text = found.path.read_text(encoding="utf-8") if found.path.is_file() else ""
        end = "" if text.endswith("\n") or not text else "\n"
        with wrap_os_errors(folder):
            write_text(found.path, f"{text}{end}{write_yaml(given)}")
    return list(given)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def read(self) -> DatasetFile:
        content = self._check_mapping("", read_yaml_file(self.path))
        self._check_keys("", content, KEYS)
        columns = self._read_columns(content.get("columns"))
        split = self._read_split(content.get("split"))
        search: dict[str, Hyperparameter] = {}
        domains = self._check_mapping("search", content.get("search"))
        for name, given in domains.items():
            where = f"{self.path}: search.{name}"
            domain = parse_hyperparameter(where, given, self.problems, needs_default=False)
            if domain is not None:
                search[name] = domain
        protocol, sizes = self._read_protocol(content.get("protocol"))
        if self.problems:
            raise ValidationErrors(self.problems)
        return DatasetFile(self.path, columns, split, search, protocol, sizes)

    def _add(self, key: str, message: str) -> None:
        self.problems.append(f"{self.path}: {key}{': ' * bool(key)}{message}")

    def _check_mapping(self, key: str, value: object) -> dict[str, object]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._add(key, f"received {value!r}, expected a mapping")
            return {}
        return {str(name): entry for name, entry in value.items()}

    def _check_keys(self, key: str, content: Mapping[str, object], known: tuple[str, ...]) -> None:
        for name in content:
            if name not in known:
                suggestion = suggest_name(name, known)
                listed = "" if suggestion else f"; known: {', '.join(known)}"
                self._add(key, f"unknown key '{name}'{suggestion}{listed}")

    def _read_columns(self, value: object) -> dict[str, str]:
        columns = self._check_mapping("columns", value)
        return {column: str(name) for column, name in columns.items()}

    def _read_split(self, value: object) -> DrawnSplit | None:
        if value is None:
            return None
        content = self._check_mapping("split", value)
        self._check_keys("split", content, SPLIT_KEYS)
        shares, seed = content.get("shares"), content.get("seed", 0)
        numbers = [
            float(share)
            for share in (shares if isinstance(shares, list) else [])
            if isinstance(share, (int, float)) and not isinstance(share, bool)
        ]
        if isinstance(seed, bool) or not isinstance(seed, int):
            self._add("split.seed", f"received {seed!r}, expected an integer")
            return None
        try:
            return DrawnSplit(check_shares(f"{self.path}: split.shares", shares, numbers), seed)
        except UserError as error:
            self.problems.append(str(error))
            return None

    def _read_protocol(self, value: object) -> tuple[dict[str, Scalar], dict[str, int]]:
        content = self._check_mapping("protocol", value)
        self._check_keys("protocol", content, PROTOCOL_KEYS)
        protocol: dict[str, Scalar] = {}
        sizes: dict[str, int] = {}
        for name, given in content.items():
            rules = TRAINING_CONFIG_RULES.get(name) or SIZES.get(name)
            is_word = name in WORDS and isinstance(given, str)
            rule = rules.find_broken_rule(given) if rules else None if is_word else "a name"
            if name not in PROTOCOL_KEYS:
                continue
            if rule is not None or not isinstance(given, (bool, int, float, str)):
                self._add(f"protocol.{name}", f"received {given!r}, expected {rule}")
            elif rules is None or name in TRAINING_CONFIG_RULES:
                protocol[name] = given if rules is None else _convert_number(rules, given)
            else:
                sizes[name] = int(given)
        return protocol, sizes


def _convert_number(rules: Hyperparameter, value: Scalar) -> Scalar:
    """Return a number in the type of its field: 1 as 1.0 where that is a float."""
    return rules.to_canonical(value) if rules.kind != "choice" else value
