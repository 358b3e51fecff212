"""The version of the records' form: raised when files or fields of records change."""

from collections.abc import Mapping

from common.errors import UserError

RECORD_VERSION = 3


def check_record_version(data: Mapping[str, object], file: str) -> dict[str, object]:
    """Return the content of a file without its version; refuse another version than ours.

    Args:
        data: The content of the file.
        file: The path or URL, for the message.

    Raises:
        UserError: If the version differs, or if the file has none.
    """
    found = data.get("record_version", 1)
    if found != RECORD_VERSION:
        raise UserError(
            f"'{file}' has record version {found!r}, expected {RECORD_VERSION}: it is from another "
            "version of Evenhand; choose another --results folder, or delete its study"
        )
    return {name: value for name, value in data.items() if name != "record_version"}
