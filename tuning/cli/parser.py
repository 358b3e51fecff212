"""Command-line options made from the table in :mod:`tuning.options`."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field
from types import MappingProxyType

import datasets
from common.arguments import Parser
from common.paths import parse_location, parse_path
from core.recipe.method_files import list_methods
from core.training.selection import RULES
from tuning.options import FLAGS as OPTION_FLAGS
from tuning.options import OPTION_FIELDS, RUN, get_definition

EPILOG = """\
examples:
  python tune.py --method erm rwg jtt --dataset colored_digits --trials 16
  python tune.py --method all --dataset colored_digits --plan
  python tune.py --method ls fairgrad --dataset two_digits imbalanced_tasks --time-limit 1h
  python tune.py --method dro --dataset colored_digits --set batch_size=32 --search random
  python tune.py --method erm rwg jtt --dataset colored_digits --trials 32 --resume

Each method is searched on the training and validation splits. Its winner is trained again on new
seeds, and only these runs read the test split, once, unless --audit-test is given.
results/<dataset>/table.md compares the methods; results/<dataset>/<method>/best_config.yaml holds
the winner and the command that reproduces it.

See also:
  python tune.py clean --help    list what could be removed, with sizes, and remove it
  python tune.py compare --help  test the differences of methods over seeds and data sets
  python tune.py doctor --help   check the machines for a study, with a fix for each finding
  python tune.py export --help   rebuild the tables; write single-task baselines for delta-m
  python tune.py report --help   write an HTML page about the studies, or show it while they run
  python tune.py publish --help  write a model for others, with a card and an archive to verify
  python tune.py reproduce --help  run the papers' tables, and compare with their values
  python tune.py resume --help   continue a study with all options that it was started with
  python tune.py status --help   print the state of running and ended studies
  python tune.py show --help     print a method's search space and published values
  python tune.py trace --help    print where a number of a table comes from
"""
NO_HELP: Mapping[str, str] = MappingProxyType({})


def make_parser() -> Parser:
    """Return the parser of a study's command line.

    Options that are not given leave no attribute: :class:`Options` alone holds the defaults.
    """
    parser = Parser(
        prog="python tune.py",
        description="Search for each method's best hyperparameters by validation worst-group "
        "accuracy, or by\ndelta-m for multi-task data sets, confirm them on new seeds, and "
        "export tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in OPTION_FIELDS:
        title = get_definition(field).group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_option(groups[title], field, takes_several=field.name == "dataset")
    groups[RUN].add_argument(
        "--config",
        metavar="FILE",
        type=parse_path,
        help="YAML file of options by name, such as the study.yaml that studies write into their "
        "results; options of the command line take precedence",
    )
    last = list(groups.values())[-1]
    last.add_argument(
        "--plan",
        action="store_true",
        help="print the trials, their cost in time and disk space, and exit",
    )
    last.add_argument(
        "--simulate",
        metavar="DIR|URL",
        type=parse_location,
        help="compare searches and schedulers on the records of one method of an earlier study, "
        "<storage>/<dataset>/<method>, without training and in seconds; takes --trials",
    )
    return parser


def add_options(
    parser: argparse.ArgumentParser,
    names: Iterable[str],
    helps: Mapping[str, str] = NO_HELP,
    several_data_sets: bool = False,
) -> None:
    """Add some of a study's options to the parser of another command.

    Args:
        parser: The parser, whose ``argument_default`` is to be ``SUPPRESS``.
        names: Fields of :class:`Options`.
        helps: Other help texts than a study's, by field.
        several_data_sets: Whether ``--dataset`` takes several, as that of a study.
    """
    known = {field.name: field for field in OPTION_FIELDS}
    for name in names:
        several = several_data_sets and name == "dataset"
        _add_option(parser, known[name], helps.get(name), several)


def _add_option(
    parser: argparse._ActionsContainer,
    field: Field[object],
    text: str | None = None,
    takes_several: bool = False,
) -> None:
    defined = get_definition(field)
    if isinstance(field.default, bool):
        text = text or defined.help
        parser.add_argument(FLAGS[field.name], dest=field.name, action="store_true", help=text)
        return
    parser.add_argument(
        FLAGS[field.name],
        dest=field.name,
        action="append" if defined.repeatable else "store",
        nargs="+" if takes_several else defined.nargs,
        metavar=defined.metavar,
        type=defined.convert or str,
        choices=defined.choices or None,
        help=text or _help_text(field),
    )


def _help_text(field: Field[object]) -> str:
    """Return an option's help with its default; lists of names are filled in."""
    defined = get_definition(field)
    lists = {"methods": list_methods(), "datasets": datasets.list_benchmarks(), "rules": RULES}
    text = defined.help.format_map({name: ", ".join(names) for name, names in lists.items()})
    default = defined.default
    if default is None and field.default is not MISSING and field.default is not None:
        default = str(field.default)
    return f"{text} (default: {default})" if default else text


FLAGS = {**OPTION_FLAGS, "config": "--config", "plan": "--plan"}
