"""Makes the options of a study from parsed arguments."""

import argparse
from dataclasses import fields

from core.recipe.assignments import check_epochs, parse_assignments
from tuning.option_values import parse_domains, read_space
from tuning.options import Options


def make_options(args: argparse.Namespace) -> Options:
    """Return the options of parsed arguments.

    Raises:
        UserError: If ``--set`` or ``--space`` is malformed or contradicts ``--epochs``.
    """
    known = {field.name for field in fields(Options)}
    given = {name: value for name, value in vars(args).items() if name in known}
    values, domains = read_space(args.domains) if "domains" in args else ({}, {})
    assignments, asked = parse_domains(given.get("pinned", ()))
    pinned = parse_assignments(assignments)
    pinned |= {n: value for n, value in values.items() if n not in pinned and n not in asked}
    domains = {name: domain for name, domain in {**domains, **asked}.items() if name not in pinned}
    check_epochs(pinned, given.get("epochs"))
    parsed = {"methods": tuple(args.methods), "pinned": pinned, "domains": domains}
    return Options(**given | parsed)
