"""The argument parser of all commands."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from common.errors import suggest_name

REQUIRED = "the following arguments are required: "  # argparse's words


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest right name, and exit with code 2."""

    _source = ""  # of the arguments, if not the command line
    _received = ""  # the arguments, joined by spaces

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and keep them for messages."""
        self._received = " ".join(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def name_source(self, source: str) -> None:
        """Let errors begin with what the arguments come from, such as a file."""
        self._source = f"{source}: "

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        spaced = re.search(r"([\w.-]+)(?: +[=:]| *[=:] )+ *(\S+)", self._received)
        found = re.match(r"unrecognized arguments: (\S+)", message)
        if found and spaced:
            message = f"write {spaced.group(1)}={spaced.group(2)} without spaces"
        elif found:
            given = found.group(1).split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            kind = "option" if given.startswith("-") else "argument"
            message = f"unknown {kind} '{given}'{suggest_name(given, known)}"
        elif message.startswith(REQUIRED):
            message += self._list_choices(message.removeprefix(REQUIRED).split(", "))
        self.exit(2, f"error: {self._source}{message}\n")

    def _list_choices(self, missing: Sequence[str]) -> str:
        """Return the values that missing arguments may have, with an example of the first."""
        found = [a for a in self._actions if a.choices is not None and a.dest in missing]
        if not found:
            return ""
        listed = [f"{action.dest} is one of {', '.join(action.choices or ())}" for action in found]
        example = next(iter(found[0].choices or ()))
        return f"; {'; '.join(listed)}, such as: {self.prog} {example}"
