"""Import the files of extensions: a mistake in one is an error of the user that names the file."""

import importlib
import traceback
from pathlib import Path
from types import ModuleType

from common.errors import UserError


def import_file(module: str, path: Path) -> ModuleType:
    """Return a module.

    Args:
        module: Its dotted name.
        path: Its file.

    Raises:
        UserError: If it cannot be imported; the message names file and line.
    """
    try:
        return importlib.import_module(module)
    except SyntaxError as error:
        where = f"{error.filename or path}: line {error.lineno or 1}"
        raise UserError(f"{where}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), 0)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: line {line}: cannot be imported ({reason})") from error
