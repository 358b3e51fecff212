"""The search space of a method: the hyperparameters that a command leaves free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import ValidationErrors
from common.hyperparameters import (
    Hyperparameter,
    Hyperparameters,
    Scalar,
    active_names,
    list_defaults,
    sort_by_conditions,
)
from core.environment import detect_environment
from core.recipe.method import Method
from core.recipe.recipe import EpochCounts
from core.recipe.resolved_method import COMMAND, ResolvedMethod, resolve_method
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from datasets.benchmark import Benchmark
from tuning.options import Options
from tuning.search.searchers.grid import count_points, make_grid

INTEGER_KINDS = {"uniform": "integer", "log_uniform": "log_integer"}  # in place of decimals
INNER_POSITION = 0.382  # of a range, where few have an integer


@dataclass(frozen=True)
class Space:
    """The search space of a method on a benchmark.

    Args:
        resolved: The method on the benchmark.
        fixed: Values that the command fixes.
        free: The hyperparameters to search, with conditions among themselves only.
        has_defaults: Whether their defaults are the method's or given; a domain of the command that
            holds no default has its middle in its place.
    """

    resolved: ResolvedMethod
    fixed: Hyperparameters
    free: dict[str, Hyperparameter]
    has_defaults: bool = True

    @property
    def default_proposal(self) -> Hyperparameters | None:
        """The hyperparameters that a rule with a margin prefers; None without defaults."""
        return list_defaults(self.free) if self.has_defaults else None

    @property
    def method(self) -> Method:
        """The method."""
        return self.resolved.method

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark."""
        return self.resolved.benchmark

    def complete(self, values: Hyperparameters) -> Hyperparameters:
        """Return proposed hyperparameters together with the fixed values."""
        return {**self.fixed, **values}

    def count_points(self) -> int | None:
        """Return the number of different hyperparameters; None if there are infinitely many."""
        return count_points(self.free)

    def find_common_values(self, search: str) -> Hyperparameters:
        """Return the values that all trials have: fixed, published, or the same in a whole grid.

        Args:
            search: The ``--search`` option.
        """
        if search == "published":
            return self.published() or dict(self.fixed)
        points = self.grid() if search == "grid" else [{}]
        same = {n: v for n, v in points[0].items() if all(point.get(n) == v for point in points)}
        return {**same, **self.fixed}

    def list_values(self, name: str, search: str) -> list[Scalar]:
        """Return the values that trials may have of a hyperparameter or training-config field.

        Args:
            name: Its name.
            search: The ``--search`` option.
        """
        common = self.find_common_values(search)
        if name in common:
            return [common[name]]
        searched = list(self.free[name].values) if name in self.free else []
        if search == "grid":
            searched = list(self.resolved.grid.get(name, searched))
        return searched or [self.resolved.training_config.as_dict()[name]]

    def count_epochs(self, search: str) -> list[EpochCounts]:
        """Return the epochs of each trial that is known beforehand; else of one with defaults."""
        points = self.grid() if search == "grid" else [self.find_common_values(search)]
        return [self.resolved.count_epochs(self.complete(point)) for point in points]

    def published(self) -> Hyperparameters | None:
        """Return the published hyperparameters with the fixed values on top; None without any.

        If the command fixes every hyperparameter, none need be published.
        """
        given = self.resolved.published
        if given is None and self.free:
            return None
        return {**(given or {}), **self.fixed}

    def method_grid(self) -> list[Hyperparameters]:
        """Return the published grid; empty if there is none."""
        return self.grid() if self.resolved.grid else []

    def grid(self) -> list[Hyperparameters]:
        """Return the published grid, or the hyperparameters' own, without those that are fixed."""
        given = self.resolved.grid
        asked = {n for n, origin in self.resolved.origins.items() if origin == COMMAND}
        lists = {n: given[n] for n in given if n not in self.fixed and n not in asked}
        free = self.free
        if given:  # hyperparameters that a published grid does not name keep their defaults
            free = {n: domain for n, domain in free.items() if n in given or n in asked}
        return make_grid(free, lists)


def make_space(method: Method, benchmark: Benchmark, options: Options) -> Space:
    """Return the search space of a method for a command.

    A fixed value of a hyperparameter that only other methods have does not concern this method;
    :func:`tuning.study.checks.check_study` refuses one that no method has.

    Raises:
        ValidationErrors: If a fixed value or a value of a domain is invalid.
        UserError: If the benchmark lacks what the method needs.
    """
    resolved = resolve_method(method, benchmark, options.domains, options.sources)
    hyperparameters = resolved.hyperparameters
    fixed = {name: value for name, value in options.fixed.items() if resolved.has_name(name)}
    resolved.check_values(fixed)
    base = resolved.complete_values(fixed)
    free: dict[str, Hyperparameter] = {}
    for name in sort_by_conditions(hyperparameters):
        hyperparameter = hyperparameters[name]
        inside = {other: v for other, v in hyperparameter.when.items() if other in free}
        outside = {other: v for other, v in hyperparameter.when.items() if other not in free}
        # A hyperparameter that is neither free nor fixed was dropped, with all that depend on it.
        settled = all(other in fixed or other not in hyperparameters for other in outside)
        holds = settled and all(base[other] in allowed for other, allowed in outside.items())
        if name not in fixed and holds:
            free[name] = replace(hyperparameter, when=inside)
    free = {name: free[name] for name in hyperparameters if name in free}
    has_defaults = True
    if options.domains:
        plain = resolve_method(method, benchmark).complete_values({})
        has_defaults = all(
            domain.has_own_default or free[name].default == plain[name]
            for name, domain in options.domains.items()
            if name in free
        )
    space = Space(resolved, fixed, free, has_defaults)
    configs = _list_ends(space)
    _check_ends(space, configs)
    _check_decimals(space)
    _check_settings_used(space, options, configs)
    return space


def _list_ends(space: Space) -> list[Hyperparameters]:
    """Return the defaults, the published grid, and each hyperparameter's choices or ends."""
    ends = [{name: value} for name, domain in space.free.items() for value in domain.values]
    return [{}, *space.method_grid(), *ends]


def _check_ends(space: Space, configs: Sequence[Hyperparameters]) -> None:
    """Try all choices, or both ends of a range, so that no trial fails on its values."""
    environment = detect_environment(gpu=False)
    problems: dict[str, None] = {}
    for config in configs:
        try:
            space.resolved.make_key(space.complete(config), 0, environment)
        except ValidationErrors as found:
            problems |= dict.fromkeys(found.problems)
    if problems:
        raise ValidationErrors(list(problems))


def _check_decimals(space: Space) -> None:
    """Refuse ranges with decimals of hyperparameters that are integers.

    Raises:
        ValidationErrors: One message per range.
    """
    problems = []
    for name, domain in space.free.items():
        if domain.kind not in INTEGER_KINDS:
            continue
        inside = domain.value_at(INNER_POSITION)
        if _is_valid(space, {name: inside}) or not _is_valid(space, {name: round(float(inside))}):
            continue
        where = space.resolved.sources.get(name, space.resolved.name)
        low, high = domain.values
        problems.append(
            f"{where}: {name}: received {domain.describe_domain()}, which holds decimals; expected "
            f"integers: {INTEGER_KINDS[domain.kind]}:{low}:{high}"
        )
    if problems:
        raise ValidationErrors(problems)


def _is_valid(space: Space, values: Hyperparameters) -> bool:
    try:
        space.resolved.make_key(space.complete(values), 0, detect_environment(gpu=False))
    except ValidationErrors:
        return False
    return True


def _check_settings_used(
    space: Space, options: Options, configs: Sequence[Hyperparameters]
) -> None:
    """Refuse training-config fields that a command sets and that change no trial.

    Raises:
        ValidationErrors: One message per field.
    """
    if options.search == "published":
        configs = [space.published() or {}]
    elif options.search == "grid":
        configs = space.grid()
    given = [space.complete(config) for config in configs]
    unused = [space.resolved.find_unused_settings(values) for values in given]
    asked = {name for name in (*options.fixed, *options.domains) if name in TRAINING_CONFIG_FIELDS}
    problems: dict[str, None] = {}
    for name in sorted(asked):
        default = space.resolved.training_config.as_dict()[name]
        changed = [
            found.get(name)
            for values, found in zip(given, unused, strict=True)
            if values.get(name, default) != default
        ]
        if changed and all(changed):
            problems[str(changed[0])] = None
    if problems:
        raise ValidationErrors(list(problems))


def describe_hyperparameters(space: Space, values: Hyperparameters) -> Hyperparameters:
    """Return the values of all active hyperparameters, and of all else that a trial is given.

    A command, a grid or published values may give training-config fields too, such as epochs.
    """
    given = space.complete(values)
    merged = space.resolved.complete_values(given)
    hyperparameters = space.resolved.hyperparameters
    names = [
        *(n for n in hyperparameters if n in active_names(hyperparameters, merged)),
        *given,
    ]
    return {name: merged[name] for name in dict.fromkeys(names)}
