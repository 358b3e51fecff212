"""The table of a study's search spaces: domains, defaults, conditions and their origins."""

from collections.abc import Sequence

from common.hyperparameters import Hyperparameter, Scalar, format_scalar
from core.recipe.resolved_method import COMMAND
from tuning.reporting.layout.printed_table import format_markdown
from tuning.search.space import Space


def format_spaces(spaces: Sequence[Space], search: str = "tpe") -> list[str]:
    """Return a table with a row per hyperparameter; methods that share a row are listed in it.

    Args:
        spaces: The search spaces.
        search: The search: a grid has its points' values, and published values have no ranges.
    """
    methods: dict[tuple[str, ...], list[str]] = {}
    for space in spaces:
        for row in _list_rows(space, search):
            methods.setdefault(row, []).append(space.method.name)
    columns = ("hyperparameter", "searched", "default", "only if", "defined by")
    rows = [
        dict(zip(columns, row, strict=True))
        | ({"methods": _join(names, len(spaces))} if len(spaces) > 1 else {})
        for row, names in methods.items()
    ]
    return format_markdown(rows) if rows else ["nothing is searched"]


def _list_rows(space: Space, search: str) -> list[tuple[str, ...]]:
    if search in ("grid", "published"):
        return _list_values(space, search)
    unused = [
        (name, "not searched", format_scalar(domain.default), _describe_conditions(domain), origin)
        for name, domain in space.resolved.hyperparameters.items()
        if name not in space.free and name not in space.fixed
        for origin in [space.resolved.origins[name]]
    ]
    searched = [
        (
            name,
            domain.describe_domain(),
            format_scalar(domain.default),
            _describe_conditions(space.resolved.hyperparameters[name]),  # also those that hold
            space.resolved.origins[name],
        )
        for name, domain in space.free.items()
    ]
    fixed: list[tuple[str, ...]] = [
        (name, f"fixed: {format_scalar(v)}", "", "", COMMAND) for name, v in space.fixed.items()
    ]
    own = space.benchmark
    fixed += [
        (name, f"fixed: {format_scalar(value)}", "", "", own.own_file)
        for name, value in {**own.own_protocol, **own.own_sizes}.items()
        if name not in {*space.fixed, *space.free, *space.method.settings}
    ]
    return [*searched, *unused, *fixed]


def _list_values(space: Space, search: str) -> list[tuple[str, ...]]:
    """Return a row per hyperparameter with the values of a grid, or the published one."""
    resolved = space.resolved
    points = space.grid() if search == "grid" else [space.published() or {}]
    values: dict[str, dict[Scalar, None]] = {}
    for point in points:
        for name, value in point.items():
            values.setdefault(name, {})[value] = None
    given = resolved.grid if search == "grid" else resolved.published or {}
    rows: list[tuple[str, ...]] = []
    for name, found in {**values, **{n: {v: None} for n, v in space.fixed.items()}}.items():
        listed = ",".join(map(format_scalar, found))
        text = f"choice:{listed}" if len(found) > 1 else f"fixed: {listed}"
        published = f"published {'grid' if search == 'grid' else 'values'} of {resolved.name}"
        origin = COMMAND if name in space.fixed else published
        if name not in given and name not in space.fixed:
            origin = resolved.origins.get(name, f"method {resolved.name}")
        rows.append((name, text, "", "", origin))
    return rows


def _describe_conditions(domain: Hyperparameter) -> str:
    return " and ".join(
        f"{other}={' or '.join(map(format_scalar, values))}"
        for other, values in domain.when.items()
    )


def _join(names: Sequence[str], total: int) -> str:
    return "all" if len(names) == total else ", ".join(names)
