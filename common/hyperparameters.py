"""Hyperparameters that a search may set, with their domains.

A hyperparameter is written in YAML as one domain, a default and, optionally, a condition::

    eta: {log_uniform: [0.001, 0.1], default: 0.01}
    momentum: {uniform: [0, 0.99], default: 0.9, when: {optimizer: sgd}}

A benchmark defines the hyperparameters that belong to its data (learning rate, batch size), a
method those that it adds.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from common.errors import suggest_name

Scalar = bool | int | float | str
Hyperparameters = dict[str, Scalar]

RANGE_KINDS = ("uniform", "log_uniform", "integer", "log_integer")
KINDS = ("choice", *RANGE_KINDS)


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter's domain.

    Args:
        kind: ``choice``, ``uniform``, ``log_uniform``, ``integer`` or ``log_integer``.
        values: The choices, or the bounds ``(low, high)``, both included.
        default: The value where no search sets the hyperparameter.
        when: The values of other hyperparameters for which this one has a meaning; elsewhere it
            keeps its default and is not searched.
        has_own_default: Whether the default was given; if not, it is the middle of a range on its
            own scale or the first choice, and gives way to the default of a domain that this one
            replaces.
    """

    kind: str
    values: tuple[Scalar, ...]
    default: Scalar
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    has_own_default: bool = True

    def describe_domain(self) -> str:
        """Return the domain as ``--set`` takes it, such as ``log_uniform:0.001:0.1``."""
        separator = "," if self.kind == "choice" else ":"
        return f"{self.kind}:{separator.join(format_scalar(value) for value in self.values)}"

    def as_mapping(self) -> dict[str, object]:
        """Return the YAML mapping that :func:`parse_hyperparameter` reads."""
        when = {name: list(values) for name, values in self.when.items()}
        condition = {"when": when} if when else {}
        default = {"default": self.default} if self.has_own_default else {}
        return {self.kind: list(self.values), **default, **condition}

    def take_default(self, value: object) -> "Hyperparameter":
        """Return the domain with a value as default, if it has none of its own and holds it."""
        if self.has_own_default or self.find_broken_rule(value) is not None:
            return replace(self, has_own_default=True)
        assert isinstance(value, (bool, int, float, str))
        return replace(self, default=self.find_choice(value), has_own_default=True)

    def find_choice(self, value: Scalar) -> Scalar:
        """Return a choice that equals the value, such as 1.0 for 1; the value where none does."""
        is_bool = isinstance(value, bool)
        choices = self.values if self.kind == "choice" else ()
        return next((v for v in choices if v == value and isinstance(v, bool) == is_bool), value)

    @property
    def is_integer(self) -> bool:
        """Whether the domain holds integers only."""
        return self.kind in ("integer", "log_integer")

    @property
    def is_nominal(self) -> bool:
        """Whether the values are strings or booleans, not numbers."""
        return any(isinstance(value, (str, bool)) for value in self.values)

    @property
    def has_whole_values(self) -> bool:
        """Whether every value is an integer."""
        numbers = self.kind == "choice" and not self.is_nominal
        return self.is_integer or (numbers and all(isinstance(v, int) for v in self.values))

    def to_canonical(self, value: Scalar) -> Scalar:
        """Return the value in the domain's own type, so that 1 and 1.0 are equal."""
        if self.is_nominal or isinstance(value, (str, bool)):
            return value
        if not self.has_whole_values:
            return float(value)
        return int(value) if float(value).is_integer() else value

    @property
    def is_log(self) -> bool:
        """Whether values are drawn evenly on the logarithmic scale."""
        return self.kind.startswith("log_")

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds ``(low, high)`` of a range."""
        low, high = self.values
        return float(low), float(high)

    @property
    def size(self) -> int | None:
        """The number of values, or None for a continuous range."""
        if self.kind == "choice":
            return len(self.values)
        low, high = self.bounds
        return int(high - low) + 1 if self.is_integer else (1 if low == high else None)

    def find_broken_rule(self, value: object) -> str | None:
        """Return the rule that ``value`` breaks, or None for a value of the domain."""
        if self.kind == "choice":
            known = any(type(v) is type(value) and v == value for v in self.values)
            if known or self._equal_number(value):
                return None
            if set(self.values) == {False, True} and self.is_nominal:
                return "true or false"
            return f"one of {list(self.values)}"
        low, high = self.bounds
        kind = "an integer" if self.is_integer else "a number"
        rule = f"{kind} from {self.values[0]} to {high:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return rule
        if self.is_integer and not float(value).is_integer():
            return rule
        return None if low <= value <= high else rule

    def find_broken_kind(self, value: object) -> str | None:
        """Return the kind of value that the domain has, if ``value`` is of another.

        A number outside of the domain is valid, since published values may be.
        """
        if self.is_nominal:
            return self.find_broken_rule(value)
        kind = "an integer" if self.has_whole_values else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return kind
        is_valid = math.isfinite(value) and (not self.has_whole_values or float(value).is_integer())
        return None if is_valid else kind

    def _equal_number(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return any(not isinstance(v, (bool, str)) and v == value for v in self.values)

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw one value."""
        if self.kind == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        return self.value_at(float(rng.random()))

    def value_at(self, position: float) -> Scalar:
        """Return the value of a range at ``position`` in [0, 1) on the domain's own scale."""
        low, high = self.bounds
        if self.is_integer:
            if self.is_log:
                value = math.exp(math.log(low) + position * math.log((high + 1) / low))
            else:
                value = low + position * (high - low + 1)
            return int(min(max(math.floor(value), low), high))  # exp(log(5)) is below 5
        if self.is_log:
            return self.round_value(math.exp(math.log(low) + position * math.log(high / low)))
        return self.round_value(low + position * (high - low))

    def round_value(self, value: float) -> float:
        """Round to six digits, within the bounds, so that the value is easy to read and type."""
        low, high = self.bounds
        return min(max(float(f"{value:.6g}"), low), high)

    def make_grid(self, points: int = 3) -> list[Scalar]:
        """Return the choices, or ``points`` values spread evenly over a range, ends included."""
        if self.kind == "choice":
            return list(self.values)
        low, high = self.bounds
        spread = np.geomspace(low, high, points) if self.is_log else np.linspace(low, high, points)
        if self.is_integer:
            return sorted({round(float(f"{value:.12g}")) for value in spread})
        return sorted({self.round_value(value) for value in spread})


def format_scalar(value: Scalar) -> str:
    """Return a value as YAML and ``--set`` take it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_hyperparameter(
    where: str, text: object, problems: list[str], needs_default: bool = True
) -> Hyperparameter | None:
    """Read one hyperparameter from its YAML mapping.

    Args:
        where: The file and key, as error messages name it.
        text: The content of the YAML there.
        problems: Receives a sentence per mistake.
        needs_default: Whether a missing default is a mistake; if not, the middle of a range on its
            own scale, or the first choice, takes its place.

    Returns:
        The hyperparameter, or None where a mistake was found.
    """
    mistakes = [f"{where}: {mistake}" for mistake in _find_mistakes(text, needs_default)]
    problems += mistakes
    if mistakes or not isinstance(text, Mapping):
        return None
    kind = next(k for k in KINDS if k in text)
    when = {
        str(name): tuple(value) if isinstance(value, list) else (value,)
        for name, value in text.get("when", {}).items()
    }
    values = tuple(text[kind])
    has_default = "default" in text
    hyperparameter = Hyperparameter(
        kind, values, text.get("default", values[0]), when, has_default or needs_default
    )
    if not has_default and kind != "choice":
        hyperparameter = replace(hyperparameter, default=hyperparameter.value_at(0.5))
    rule = hyperparameter.find_broken_rule(hyperparameter.default)
    if rule is not None:
        problems.append(f"{where}: default is {hyperparameter.default!r}, expected {rule}")
        return None
    return replace(hyperparameter, default=hyperparameter.find_choice(hyperparameter.default))


def _find_mistakes(text: object, needs_default: bool) -> Iterator[str]:
    if not isinstance(text, Mapping):
        given = f"{{choice: {text}}}" if isinstance(text, list) and text else ""
        example = given or "{uniform: [0, 1], default: 0.5}"
        yield f"received {text!r}, expected a mapping such as {example}"
        return
    for key in text:
        if key not in (*KINDS, "default", "when"):
            yield f"unknown key '{key}'{suggest_name(str(key), (*KINDS, 'default', 'when'))}"
    kinds = [kind for kind in KINDS if kind in text]
    if len(kinds) != 1:
        yield f"received {kinds or 'no domain'}, expected exactly one of {', '.join(KINDS)}"
        return
    if needs_default and "default" not in text:
        yield "no default: a run without a search needs one"
    yield from _find_condition_mistakes(text.get("when", {}))
    yield from _find_domain_mistakes(kinds[0], text[kinds[0]])


def _find_condition_mistakes(when: object) -> Iterator[str]:
    if not isinstance(when, Mapping):
        yield f"when: received {when!r}, expected a mapping from hyperparameter to value"
        return
    for name, given in when.items():
        values = given if isinstance(given, list) else [given]
        if not values or not all(isinstance(value, (bool, int, float, str)) for value in values):
            yield (
                f"when.{name}: received {given!r}, expected a number, a string, a boolean or a "
                "list of them"
            )


def _find_domain_mistakes(kind: str, values: Any) -> Iterator[str]:
    if not isinstance(values, list) or not values:
        wanted = "a list with at least one value" if kind == "choice" else "two numbers [low, high]"
        yield f"{kind}: received {values!r}, expected {wanted}"
        return
    if kind == "choice":
        if not all(isinstance(v, (bool, int, float, str)) for v in values):
            yield f"choice: received {values!r}, expected numbers, strings or booleans"
        elif not all(isinstance(v, str) or math.isfinite(v) for v in values):
            yield f"choice: received {values!r}, expected finite numbers"
        elif len({(isinstance(v, bool), v) for v in values}) < len(values):
            yield f"choice: received {values!r}, expected each value once"
        return
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not numbers or not all(math.isfinite(v) for v in values):
        yield f"{kind}: received {values!r}, expected two numbers [low, high]"
        return
    if values[0] > values[1]:
        yield f"{kind}: received {values!r}, a reversed range; expected low <= high"
    elif values[0] == values[1]:
        yield f"{kind}: received {values!r}, an empty range; write a constant in the recipe"
    if kind.startswith("log_") and min(values) <= 0:
        yield f"{kind}: received {values!r}, expected bounds above 0"
    if "integer" in kind and not all(float(v).is_integer() for v in values):
        yield f"{kind}: received {values!r}, expected integers"


def find_impossible(hyperparameters: Mapping[str, Hyperparameter]) -> Iterator[str]:
    """Yield the names of hyperparameters whose condition no values fulfill.

    The conditions of all hyperparameters that a condition names must hold too.

    Raises:
        ValueError: If conditions are circular.
    """
    allowed: dict[str, dict[str, set[Scalar]]] = {}
    for name in sort_by_conditions(hyperparameters):
        values: dict[str, set[Scalar]] = {}
        for other, given in hyperparameters[name].when.items():
            _narrow_values(values, other, given)
            for inherited, of_other in allowed.get(other, {}).items():
                _narrow_values(values, inherited, of_other)
        allowed[name] = values
        domains = {o: hyperparameters[o] for o in values if o in hyperparameters}
        if not all(values.values()) or any(
            all(domain.find_broken_rule(value) for value in values[other])
            for other, domain in domains.items()
        ):
            yield name


def _narrow_values(allowed: dict[str, set[Scalar]], name: str, values: Collection[Scalar]) -> None:
    known = allowed.get(name)
    allowed[name] = set(values) if known is None else known & set(values)


def active_names(
    hyperparameters: Mapping[str, Hyperparameter], config: Mapping[str, Scalar]
) -> list[str]:
    """Return the names of the hyperparameters whose conditions hold under ``config``.

    A hyperparameter whose condition names an inactive hyperparameter is inactive too.
    """
    names: list[str] = []
    for name in sort_by_conditions(hyperparameters):
        conditions = hyperparameters[name].when.items()
        if all(
            config.get(other, hyperparameters[other].default if other in hyperparameters else None)
            in values
            and (other not in hyperparameters or other in names)
            for other, values in conditions
        ):
            names.append(name)
    return names


def list_defaults(hyperparameters: Mapping[str, Hyperparameter]) -> Hyperparameters:
    """Return the defaults of the hyperparameters that are active with them."""
    defaults = {name: domain.default for name, domain in hyperparameters.items()}
    return {name: defaults[name] for name in active_names(hyperparameters, defaults)}


def sort_by_conditions(hyperparameters: Mapping[str, Hyperparameter]) -> list[str]:
    """Return the names of hyperparameters, each after those that its condition names.

    Raises:
        ValueError: If conditions are circular.
    """
    done: list[str] = []
    waiting = list(hyperparameters)
    while waiting:
        ready = [
            n
            for n in waiting
            if all(o in done or o not in hyperparameters for o in hyperparameters[n].when)
        ]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(waiting)} are circular")
        done += ready
        waiting = [n for n in waiting if n not in ready]
    return done
