"""``python tune.py show``: a method, and its search space on a data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.hyperparameters import Hyperparameters, format_scalar
from core.recipe.method import Method
from core.recipe.method_files import load_method
from tuning.cli.parser import add_options
from tuning.options import Options
from tuning.search.space import make_space
from tuning.study.space_table import format_spaces

EPILOG = """\
examples:
  python tune.py show jtt
  python tune.py show jtt --dataset waterbirds
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py show",
        description="Show a method: recipe, published values and grids, and its search space on a "
        "data set, with\nthe origin of each range.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("method", metavar="METHOD", help="name of a method")
    add_options(parser, ("dataset", "data_root"), {"dataset": "the data set of the search space"})
    return parser


def run_show(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        UserError: If there is no such method or data set, or a method file is malformed.
    """
    args = make_parser().parse_args(arguments)
    dataset = getattr(args, "dataset", None)
    data_root: Path = getattr(args, "data_root", Options.data_root)
    print("\n".join(_describe_method(load_method(args.method), dataset, data_root)))
    return 0


def _describe_method(method: Method, dataset: str | None, data_root: Path) -> list[str]:
    lines = [f"{method.name}: {method.description}", f"paper: {method.paper}",
             f"needs: {', '.join(sorted(method.needs)) or 'nothing'}",
             f"recipe: {method.recipe.as_dict()}"]  # fmt: skip
    for known, values in method.published.items():
        if dataset in (None, known):
            lines.append(f"published on {known}: {_format_values(values)}")
    for known, grid in method.grid.items():
        if dataset in (None, known):
            points = "; ".join(f"{n}: {', '.join(map(format_scalar, v))}" for n, v in grid.items())
            lines.append(f"grid on {known}: {points}")
    if method.settings:
        lines.append(f"settings: {_format_values(method.settings)}")
    for name, domain in method.options.items():
        lines.append(
            f"option {name}={format_scalar(domain.default)}, fixed unless --set changes or "
            f"searches it: {domain.describe_domain()}"
        )
    if dataset is None:
        own = "; ".join(f"{n}={d.describe_domain()}" for n, d in method.search.items())
        return [*lines, f"searched beside the data set's hyperparameters: {own or 'nothing'}"]
    datasets.check_name(dataset, data_root, "--dataset")
    benchmark = datasets.load_benchmark(dataset, str(data_root))
    space = make_space(method, benchmark, Options((method.name,), benchmark.name))
    return [*lines, f"search space on {benchmark.name}:", *format_spaces([space])]


def _format_values(values: Hyperparameters) -> str:
    return ", ".join(f"{name}={format_scalar(value)}" for name, value in values.items())
