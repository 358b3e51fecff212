"""Makes the options of a study from parsed arguments."""

import argparse

from core.recipe.assignments import check_epochs, parse_assignments
from tuning.option_values import name_space, parse_domains, read_space
from tuning.options import OPTION_FIELDS, Options


def make_options(args: argparse.Namespace) -> Options:
    """Return the options of parsed arguments.

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
        "pinned": pinned,
        "domains": domains,
        "sources": sources,
    }
    return Options(**given | parsed)
