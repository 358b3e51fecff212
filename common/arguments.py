"""The argument parser of all commands."""

import argparse
import re
from typing import NoReturn

from common.errors import suggest_name


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest right name, and exit with code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        found = re.match(r"unrecognized arguments: (\S+)", message)
        if found:
            given = found.group(1).split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            kind = "option" if given.startswith("-") else "argument"
            message = f"unknown {kind} '{given}'{suggest_name(given, known)}"
        self.exit(2, f"error: {message}\n")
