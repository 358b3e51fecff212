"""The table of a study's search spaces: domains, defaults, conditions and their origins."""

from collections.abc import Sequence

from common.hyperparameters import Hyperparameter, format_scalar
from core.recipe.resolved_method import COMMAND
from tuning.reporting.table_files import format_markdown
from tuning.search.space import Space


def format_spaces(spaces: Sequence[Space]) -> list[str]:
    """Return a table with a row per hyperparameter; methods that share a row are listed in it."""
    methods: dict[tuple[str, ...], list[str]] = {}
    for space in spaces:
        for row in _list_rows(space):
            methods.setdefault(row, []).append(space.method.name)
    columns = ("hyperparameter", "searched", "default", "only if", "defined by")
    rows = [
        dict(zip(columns, row, strict=True))
        | ({"methods": _join(names, len(spaces))} if len(spaces) > 1 else {})
        for row, names in methods.items()
    ]
    return format_markdown(rows) if rows else ["nothing is searched"]


def _list_rows(space: Space) -> list[tuple[str, ...]]:
    searched = [
        (
            name,
            domain.describe_domain(),
            format_scalar(domain.default),
            _describe_conditions(domain),
            space.resolved.origins[name],
        )
        for name, domain in space.free.items()
    ]
    fixed = [
        (name, f"fixed: {format_scalar(v)}", "", "", COMMAND) for name, v in space.fixed.items()
    ]
    return [*searched, *fixed]


def _describe_conditions(domain: Hyperparameter) -> str:
    return " and ".join(
        f"{other}={' or '.join(map(format_scalar, values))}"
        for other, values in domain.when.items()
    )


def _join(names: Sequence[str], total: int) -> str:
    return "all" if len(names) == total else ", ".join(names)
