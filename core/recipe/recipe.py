"""Recipes: the four answers that make a method; a search may choose the hyperparameters.

In YAML a component is its name, or its name with parameters::

    sampler: group_balanced
    objectives: [end_task, l1]
    weighting: {fixed: {weights: {l1: reg}}}
    stages: [train]

A parameter's value is a constant or, as a word, the name of a hyperparameter (here ``reg``). The
vocabulary is closed: samplers of :mod:`core.samplers`, and the files of ``core/objectives``,
``core/weighting/methods`` and ``core/stages``.
"""

import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import unknown_name_message
from common.hyperparameters import Hyperparameter, Scalar
from core.augmentations.base import Augmentation
from core.objectives.base import Objective
from core.registry import components
from core.samplers import NEEDS_GROUPS, SAMPLERS
from core.stages.base import Stage
from core.weighting.base import AlphaFairWeighting, GramWeighting, Weighting
from datasets.benchmark import Benchmark

PARTS = ("sampler", "objectives", "weighting", "stages")


@dataclass(frozen=True)
class Component:
    """A component of a recipe: its name and parameters (constants or hyperparameters' names)."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Sampler, objectives, weighting and stages, not yet filled with values."""

    sampler: str
    objectives: tuple[Component, ...]
    weighting: Component
    stages: tuple[Component, ...]

    def needs(self) -> frozenset[str]:
        """Return what the recipe needs of a benchmark."""
        known = vocabulary("objectives")
        needs = {need for part in self.objectives for need in known[part.name].needs}
        return frozenset(needs | ({"train_groups"} if self.sampler in NEEDS_GROUPS else set()))

    def hyperparameters(self) -> set[str]:
        """Return the names of the hyperparameters that the recipe uses."""
        parts = (*self.objectives, self.weighting, *self.stages)
        return {name for part in parts for name in _references(part.parameters)}

    def fill(self, values: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return the recipe as plain data with values for hyperparameters, for a trial's key."""

        def one(part: Component) -> dict[str, Any]:
            return {part.name: _filled(part.parameters, values)}

        return {
            "sampler": self.sampler,
            "objectives": [one(part) for part in self.objectives],
            "weighting": one(self.weighting),
            "stages": [one(part) for part in self.stages],
        }


def vocabulary(part: str) -> dict[str, Any]:
    """Return the classes that ``part`` may name: a folder of ``core`` with components."""
    packages: dict[str, tuple[str, type]] = {
        "objectives": ("core.objectives", Objective),
        "weighting": ("core.weighting.methods", Weighting),
        "stages": ("core.stages", Stage),
        "augmentations": ("core.augmentations", Augmentation),
    }
    return dict(components(*packages[part]))


def build(part: str, filled: Mapping[str, Any]) -> Any:
    """Return the instance that a filled component ``{name: parameters}`` describes."""
    ((name, parameters),) = filled.items()
    return vocabulary(part)[name](**parameters)


def model_parts(objectives: Iterable[Objective]) -> frozenset[str]:
    """Return the parts beyond encoder and classifier that the objectives need of a model."""
    return frozenset(part for objective in objectives for part in objective.parts)


def check_recipe(filled: Mapping[str, Any], benchmark: Benchmark, gradients: str) -> None:
    """Refuse a filled recipe that cannot work on a benchmark.

    Args:
        filled: The recipe with values.
        benchmark: The benchmark.
        gradients: The strategy by which task gradients are computed.

    Raises:
        ValueError: If a parameter makes no sense, a loss stands twice, a weight names no loss, no
            stage is eligible for selection, or the weighting cannot take that strategy.
    """
    names = [
        name for part in filled["objectives"] for name in build("objectives", part).names(benchmark)
    ]
    if len(set(names)) < len(names):
        raise ValueError(f"a loss stands twice among {names}")
    weighting: Weighting = build("weighting", filled["weighting"])
    weighting.setup(names)
    if gradients == "representation" and not isinstance(weighting, GramWeighting):
        raise ValueError("gradients=representation is for weightings by Gram matrix")
    if gradients == "matrix_free" and not isinstance(weighting, AlphaFairWeighting):
        raise ValueError("gradients=matrix_free is for the weightings fairgrad and nashmtl")
    if not any(build("stages", part).eligible for part in filled["stages"]):
        raise ValueError("no stage is eligible for selection")


def count_epochs(filled: Mapping[str, Any], epochs: int) -> tuple[int, int]:
    """Return the epochs of the stages that selection looks at, and of all stages.

    Args:
        filled: The recipe with values.
        epochs: The training config's epochs, for stages that name none.
    """
    stages = [build("stages", part) for part in filled["stages"]]
    counts = [(epochs if s.epochs is None else s.epochs, s.eligible) for s in stages]
    return sum(n for n, eligible in counts if eligible), sum(n for n, _ in counts)


def parse(
    where: str, text: object, hyperparameters: Mapping[str, Hyperparameter], problems: list[str]
) -> Recipe | None:
    """Read a recipe from its YAML mapping.

    Args:
        where: The file and key, as error messages name it.
        text: What the YAML holds there.
        hyperparameters: The hyperparameters that parameters may name.
        problems: Receives a sentence per mistake.

    Returns:
        The recipe, or None where a mistake was found.
    """
    before = len(problems)
    if not isinstance(text, Mapping):
        problems.append(f"{where}: received {text!r}, expected a mapping with {', '.join(PARTS)}")
        return None
    problems += [
        f"{where}: {unknown_name_message('part', str(k), PARTS)}" for k in text if k not in PARTS
    ]
    problems.extend(f"{where}: no {part}" for part in PARTS if part not in text)
    sampler = text.get("sampler", "uniform")
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        problems.append(
            f"{where}.sampler: {unknown_name_message('sampler', str(sampler), SAMPLERS)}"
        )
    parsed = {
        part: _parse_list(f"{where}.{part}", part, text[part], hyperparameters, problems)
        for part in ("objectives", "stages")
        if part in text
    }
    weighting = None
    if "weighting" in text:
        weighting = _parse_one(
            f"{where}.weighting", "weighting", text["weighting"], hyperparameters, problems
        )
    if len(problems) > before or weighting is None:
        return None
    return Recipe(sampler, parsed["objectives"], weighting, parsed["stages"])


def _parse_list(
    where: str,
    part: str,
    text: object,
    hyperparameters: Mapping[str, Hyperparameter],
    problems: list[str],
) -> tuple[Component, ...]:
    if not isinstance(text, list) or not text:
        problems.append(f"{where}: received {text!r}, expected a list with at least one name")
        return ()
    found = [
        _parse_one(f"{where}[{i}]", part, item, hyperparameters, problems)
        for i, item in enumerate(text)
    ]
    return tuple(component for component in found if component is not None)


def _parse_one(
    where: str,
    part: str,
    text: object,
    hyperparameters: Mapping[str, Hyperparameter],
    problems: list[str],
) -> Component | None:
    if isinstance(text, str):
        text = {text: {}}
    if not isinstance(text, Mapping) or len(text) != 1:
        problems.append(f"{where}: received {text!r}, expected a name or {{name: parameters}}")
        return None
    ((name, parameters),) = text.items()
    known = vocabulary(part)
    if name not in known:
        problems.append(f"{where}: {unknown_name_message(part.rstrip('s'), str(name), known)}")
        return None
    parameters = parameters or {}
    if not isinstance(parameters, Mapping):
        problems.append(f"{where}.{name}: received {parameters!r}, expected a mapping")
        return None
    allowed = typing.get_type_hints(known[name].__init__)
    allowed.pop("return", None)
    for key, value in parameters.items():
        if key not in allowed:
            problems.append(
                f"{where}.{name}: {unknown_name_message('parameter', str(key), allowed)}"
            )
        else:
            problems += _value_mistakes(
                f"{where}.{name}.{key}", allowed[key], value, hyperparameters
            )
    problems += [
        f"{where}.{name}: no value for '{parameter.name}'"
        for parameter in inspect.signature(known[name]).parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.name not in parameters
    ]
    return Component(name, dict(parameters))


def _value_mistakes(
    where: str, kind: Any, value: object, hyperparameters: Mapping[str, Hyperparameter]
) -> Iterator[str]:
    """Yield the mistakes in a parameter's value: a wrong kind, or an unknown hyperparameter."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    mapping = next((k for k in options if typing.get_origin(k) is not None), None)
    if mapping is not None:
        if not isinstance(value, Mapping):
            yield f"{where}: received {value!r}, expected a mapping from loss to weight"
            return
        for name, inner in value.items():
            yield from _value_mistakes(
                f"{where}.{name}", typing.get_args(mapping)[1], inner, hyperparameters
            )
        return
    if isinstance(value, str) and str not in options:
        if value not in hyperparameters:
            yield f"{where}: {unknown_name_message('hyperparameter', value, hyperparameters)}"
            return
        hyperparameter = hyperparameters[value]
        if hyperparameter.words:
            yield f"{where}: hyperparameter '{value}' is not numeric, which this parameter requires"
        elif int in options and not hyperparameter.whole:
            yield (
                f"{where}: hyperparameter '{value}' is not of whole numbers, which this parameter "
                "expects"
            )
        return
    if not any(_is(option, value) for option in options):
        names = " or ".join("a whole number" if o is int else o.__name__ for o in options)
        yield f"{where}: received {value!r}, expected {names} or the name of a hyperparameter"


def _is(kind: Any, value: object) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _references(parameters: Mapping[str, Any]) -> Iterator[str]:
    for value in parameters.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _references(value)


def _filled(parameters: Mapping[str, Any], values: Mapping[str, Scalar]) -> dict[str, Any]:
    return {
        name: _filled(value, values)
        if isinstance(value, Mapping)
        else (values.get(value, value) if isinstance(value, str) else value)
        for name, value in parameters.items()
    }
