"""Makes the options of a study from parsed arguments."""

import argparse

from common.errors import UserError
from core.recipe.assignments import check_epochs, parse_assignments
from core.recipe.method_files import list_methods
from tuning.option_values import name_space, parse_domains, read_space
from tuning.options import OPTION_FIELDS, Options
from tuning.study.study_file import StudyCommand


def make_command(args: argparse.Namespace) -> StudyCommand:
    """Return the command of parsed arguments, with its data sets.

    Raises:
        UserError: If a data set is given twice or is a method, or as :func:`make_options`.
    """
    twice = sorted({name for name in args.dataset if args.dataset.count(name) > 1})
    if twice:
        raise UserError(f"--dataset: {', '.join(twice)} is given twice")
    methods = [name for name in args.dataset[1:] if name in list_methods()]
    if methods:
        given = " ".join([*args.methods, *methods])
        raise UserError(f"--dataset: '{methods[0]}' is a method: write --method {given}")
    return StudyCommand(make_options(args), tuple(args.dataset))


def make_options(args: argparse.Namespace) -> Options:
    """Return the options of parsed arguments, for the first data set.

    Raises:
        UserError: If ``--set`` or ``--space`` is malformed or contradicts ``--epochs``.
    """
    known = {field.name for field in OPTION_FIELDS}
    given = {name: value for name, value in vars(args).items() if name in known}
    values, domains = read_space(args.domains) if "domains" in args else ({}, {})
    place = name_space(args.domains) if "domains" in args else ""
    assignments, asked = parse_domains(given.get("pinned", ()))
    pinned = parse_assignments(assignments)
    pinned |= {n: value for n, value in values.items() if n not in pinned and n not in asked}
    domains = {name: domain for name, domain in {**domains, **asked}.items() if name not in pinned}
    check_epochs(pinned, given.get("epochs"))
    sources = dict.fromkeys((*values, *domains), place)
    sources |= dict.fromkeys((*(text.partition("=")[0] for text in assignments), *asked), "--set")
    parsed = {
        "methods": tuple(args.methods),
        "log": tuple(dict.fromkeys(given.get("log", ()))),
        "dataset": args.dataset[0],
        "pinned": pinned,
        "domains": domains,
        "sources": sources,
    }
    return Options(**given | parsed)
