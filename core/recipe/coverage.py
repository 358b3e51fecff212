"""Which losses of a recipe its weighting covers, and with which weight the others enter."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import unknown_name_message
from common.hyperparameters import Scalar
from core.objectives.base import Objective
from core.recipe.component import Component
from core.registry import find_components

FIXED = "fixed"  # key of the weights beside a weighting
WEIGHTS = "weights"  # parameter of weightings that names losses
OVER = "over"  # key of the covered losses among the weighting's parameters


@dataclass(frozen=True)
class Coverage:
    """The losses that a weighting covers, and the weights of the others.

    Args:
        over: Names of losses, or of objectives for all of theirs; empty for all losses that
            ``fixed`` does not name.
        fixed: Weights of the others by the same names, or names of hyperparameters; 1 where
            ``over`` leaves out a loss that has none.
    """

    over: tuple[str, ...] = ()
    fixed: Component = field(default_factory=lambda: Component(FIXED, {}))

    def with_values(self, values: Mapping[str, Scalar]) -> "Coverage":
        """Return the coverage with values for the hyperparameters that it names."""
        return Coverage(self.over, self.fixed.with_values(values))

    def find_fixed_weights(self, losses: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
        """Return the weights of the losses that the weighting does not cover, by name.

        Args:
            losses: Each objective's name, and the names of its losses.

        Raises:
            ValueError: If a name is unknown or given twice, or the weighting would cover no loss.
        """
        weights = {
            name: _read_weight(key, value)
            for key, value in self.fixed.parameters.items()
            for name in _list_named(key, losses, FIXED)
        }
        count = sum(len(_list_named(key, losses, FIXED)) for key in self.fixed.parameters)
        if count > len(weights):
            raise ValueError(f"{FIXED} names a loss twice: {', '.join(self.fixed.parameters)}")
        if self.over:
            covered = {name for key in self.over for name in _list_named(key, losses, OVER)}
            both = sorted(covered & set(weights))
            if both:
                raise ValueError(f"{both} are in {OVER} and in {FIXED}, expected each in one")
            for _, names in losses:
                weights |= {name: weights.get(name, 1.0) for name in names if name not in covered}
        if all(name in weights for _, names in losses for name in names):
            raise ValueError(f"{FIXED} names all losses, so none is left for the weighting")
        return weights

    def encode_weighting(self, weighting: Component) -> dict[str, Any]:
        """Return a weighting with its coverage as plain data, in the form of the YAML."""
        data = weighting.as_dict()
        if self.over:
            data[weighting.name][OVER] = list(self.over)
        return data | (self.fixed.as_dict() if self.fixed.parameters else {})


def decode_weighting(data: Mapping[str, Mapping[str, Any]]) -> tuple[Component, Coverage]:
    """Return the weighting and the coverage that :meth:`Coverage.encode_weighting` encoded."""
    fixed = dict(data[FIXED]) if len(data) > 1 else {}
    ((name, parameters),) = [item for item in data.items() if len(data) == 1 or item[0] != FIXED]
    parameters = dict(parameters)
    over = tuple(parameters.pop(OVER, ()))
    return Component(name, parameters), Coverage(over, Component(FIXED, fixed))


def _list_named(key: str, losses: Sequence[tuple[str, Sequence[str]]], where: str) -> list[str]:
    """Return the losses that a key names: one, or all of an objective."""
    found = [name for objective, names in losses for name in names if key in (objective, name)]
    if not found:
        known = {name for objective, names in losses for name in (objective, *names)}
        raise ValueError(f"{where}: {unknown_name_message('loss', key, known)}")
    return found


def _read_weight(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{FIXED}.{key}: received {value!r}, expected a finite number")
    return float(value)


def find_loss_name_mistakes(
    where: str, weighting: Component, coverage: Coverage, objectives: Sequence[Component]
) -> Iterator[str]:
    """Yield the mistakes in the losses that a weighting names, before its data set is known.

    Args:
        where: The file and key of the weighting in messages.
        weighting: The weighting, whose hyperparameters may have no values yet.
        coverage: Its coverage, likewise.
        objectives: The objectives of the recipe.
    """
    classes = find_components("core.objectives", Objective)
    patterns = {part.name: classes[part.name].loss_names for part in objectives}
    own = f"{where}.{weighting.name}"
    weights = weighting.parameters.get(WEIGHTS)
    named = {
        **{f"{where}.{FIXED}.{key}": key for key in coverage.fixed.parameters},
        **{f"{own}.{OVER}[{i}]": key for i, key in enumerate(coverage.over)},
    }
    if isinstance(weights, Mapping):
        named |= {f"{own}.{WEIGHTS}.{key}": str(key) for key in weights}
    mistakes = [
        f"{place}: {unknown_name_message('loss', key, _list_examples(patterns))}"
        for place, key in named.items()
        if key not in patterns and not any(re.fullmatch(p, key) for p in patterns.values())
    ]
    yield from mistakes
    if mistakes:
        return
    losses = [
        (name, _list_losses(name, pattern, list(named.values())))
        for name, pattern in patterns.items()
    ]
    numbers = dict.fromkeys(coverage.fixed.references, 1.0)
    try:
        coverage.with_values(numbers).find_fixed_weights(losses)
    except ValueError as error:
        yield f"{where}: {error}"


def _list_examples(patterns: Mapping[str, str]) -> set[str]:
    """Return names of objectives and of their losses, as far as they are known."""
    losses = {pattern.replace(r"\d+", "0") for pattern in patterns.values()}
    return {*patterns, *(name for name in losses if re.escape(name) == name)}


def _list_losses(name: str, pattern: str, named: list[str]) -> list[str]:
    """Return losses that an objective may have: those named, or one where none is."""
    if re.escape(pattern) == pattern:
        return [pattern]
    # Others than those named may exist, so that these never are all.
    return [*(key for key in named if key != name and re.fullmatch(pattern, key)), f"any of {name}"]
