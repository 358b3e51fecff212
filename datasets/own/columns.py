"""The columns of own tables: which one holds the image, the text, the label, the attribute, ..."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError, suggest_name

# The usual names of each column, its own first. Letters' case, spaces, - and _ do not count.
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "uid", "guid", "idx", "image_id", "img_id", "example_id"),
    "filename": (
        *("filename", "file", "path", "image", "img", "filepath", "file_path", "file_name"),
        *("image_path", "img_path", "image_file", "image_filename", "img_filename"),
    ),
    "text": ("text", "sentence", "comment", "comment_text", "review", "document"),
    "split": ("split", "partition", "fold", "subset", "set"),
    "y": ("y", "label", "class", "target", "labels", "category"),
    "a": ("a", "attribute", "group", "place", "attr", "environment", "domain", "confounder"),
    "y_name": ("y_name",),
    "a_name": ("a_name",),
}
MEANINGS = {"filename": "image", "y": "label", "a": "attribute"}  # names that messages use


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Return the column of each role in ``--columns image=path,label=y``: its usual name there.

    Raises:
        UserError: If a part is not of the form COLUMN=NAME, or is given twice.
    """
    found: dict[str, str] = {}
    for part in ",".join(texts).split(",") if texts else []:
        column, sign, name = part.rpartition("=")
        if not sign or not column.strip() or not name.strip():
            raise UserError(
                f"--columns: received '{part}', expected COLUMN=NAME, such as place=a; NAME is "
                "image, text, label, attribute, split or id"
            )
        if column.strip() in found:
            raise UserError(f"--columns: '{column.strip()}' is given twice")
        found[column.strip()] = name.strip()
    return found


def assign_roles(path: Path, columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each role, of those that the table has.

    Args:
        path: The table, for messages.
        columns: Its columns.
        given: A usual name for some of its columns.

    Raises:
        UserError: If a given column or name is unknown, or several columns fit a role.
    """
    roles = _assign_given_roles(path, columns, given)
    others = [column for column in columns if column not in roles.values()]
    for role, names in USUAL_NAMES.items():
        if role in roles:
            continue
        if role == "text" and "filename" in roles:
            names = names[:1]  # a comment on an image is no text to classify
        usual = {_simplify(name) for name in names}
        fitting = [role] if role in others else [c for c in others if _simplify(c) in usual]
        if len(fitting) > 1:
            meaning = MEANINGS.get(role, role)
            raise UserError(
                f"{path}: columns {', '.join(fitting)}: which one is the {meaning}? Say so with "
                f"datasets.prepare --columns {fitting[0]}={meaning}"
            )
        if fitting:
            roles[role] = fitting[0]
            others.remove(fitting[0])
    for column in roles.values():
        if f"{column}.1" in columns:  # as pandas calls the second of a name
            raise UserError(f"{path}: two columns are called '{column}'; rename or remove one")
    return roles


def _assign_given_roles(
    path: Path, columns: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    role_of = {_simplify(n): role for role, names in USUAL_NAMES.items() for n in names}
    roles: dict[str, str] = {}
    for column, name in given.items():
        role = role_of.get(_simplify(name))
        if column not in columns:
            turned = f"; write {name}={column}" if name in columns else ""
            raise UserError(
                f"{path}: columns: there is no column '{column}'{suggest_name(column, columns)}"
                f"{turned}; the file has {', '.join(columns)}"
            )
        if role is None:
            suggestion = suggest_name(name, [n for names in USUAL_NAMES.values() for n in names])
            raise UserError(
                f"{path}: columns: received {column}={name}{suggestion}, expected one of "
                f"{', '.join(MEANINGS.get(role, role) for role in USUAL_NAMES)}"
            )
        if role in roles:
            raise UserError(f"{path}: columns: {roles[role]} and {column} are both the {name}")
        roles[role] = column
    return roles


def require_roles(path: Path, columns: Sequence[str], roles: Mapping[str, str]) -> None:
    """Refuse a table without a label, without inputs or without splits.

    Raises:
        UserError: A sentence per missing column, with the way to name it.
    """
    problems: list[str] = []
    listed = f"the file has {', '.join(columns) or 'none'}"
    way = "name one with datasets.prepare --columns COLUMN="
    for role, also in (("y", ()), ("filename", ("text",))):
        if not {role, *also} & roles.keys():
            meaning = MEANINGS[role]
            names = [name for found in (role, *also) for name in USUAL_NAMES[found]]
            others = [name for name in names if name not in (role, *also, meaning)]
            near = suggest_name(role, columns)
            problems.append(
                f"{path}: missing column {' or '.join((role, *also))}{near} (or {meaning}, "
                f"{', '.join(others[:3])}, ...); {listed}; {way}{meaning}"
            )
    if "split" not in roles:
        problems.append(
            f"{path}: missing column split; {listed}; {way}split, or draw "
            "one with datasets.prepare --split 0.7/0.1/0.2 --seed 0"
        )
    if problems:
        raise UserError("\n".join(problems))


def _simplify(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())
