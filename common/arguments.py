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

    _commands: Sequence[str] = ()  # names that are given in place of options
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

    def name_commands(self, names: Sequence[str]) -> None:
        """Let errors tell commands from options: ``--status`` is the command ``status``."""
        self._commands = names

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        found = re.match(r"unrecognized arguments: (\S+)", message)
        invalid = re.match(r"(argument \S+: )invalid choice: '(.*)' \(choose from (.*)\)", message)
        if found:
            message = self._describe_unrecognized(found.group(1))
        elif invalid:
            where, name, listed = invalid.groups()
            choices = listed.replace("'", "").split(", ")
            nearest = suggest_name(name, choices)
            message = f"{where}received '{name}'{nearest}, expected one of {', '.join(choices)}"
        elif message.startswith(REQUIRED):
            message += self._list_choices(message.removeprefix(REQUIRED).split(", "))
        self.exit(2, f"error: {self._source}{message}\n")

    def _describe_unrecognized(self, argument: str) -> str:
        """Return the message for an argument that no option takes, with the remedy."""
        several = re.search(r"--set[ =](\S+=\S+) +([A-Za-z_]\w*=\S+)", self._received)
        if several and argument in several.group(2):
            return f"write --set {several.group(1)} --set {several.group(2)}"
        spaced = re.search(r"([\w.-]+)(?: +[=:]| *[=:] )+ *(\S+)", self._received)
        if spaced:
            return f"write {spaced.group(1)}={spaced.group(2)} without spaces"
        given = argument.split("=")[0]
        name = given.lstrip("-")
        if name in self._commands:
            return f"'{name}' is a command: write {self.prog} {name}"
        known = [option for action in self._actions for option in action.option_strings]
        kind = "option" if given.startswith("-") else "argument"
        message = f"unknown {kind} '{given}'"
        if kind == "argument" and "--results" in known and "--set" not in known:
            return f"{message}; a results folder is given by --results {given}"
        if given == "--results" and any(not action.option_strings for action in self._actions):
            return f"{message}: write the results folder alone"
        return message + suggest_name(given, known)

    def _list_choices(self, missing: Sequence[str]) -> str:
        """Return the values that missing arguments may have, with an example of the first."""
        found = [a for a in self._actions if a.choices is not None and a.dest in missing]
        if not found:
            return ""
        listed = [f"{action.dest} is one of {', '.join(action.choices or ())}" for action in found]
        example = next(iter(found[0].choices or ()))
        return f"; {'; '.join(listed)}, such as: {self.prog} {example}"
