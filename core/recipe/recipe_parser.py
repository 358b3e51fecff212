"""Read recipes from YAML.

In YAML a component is its name, or its name with parameters::

    sampler: group_balanced
    objectives: [end_task, l1]
    weighting: {fixed: {weights: {l1: reg}}}
    stages: [train]

A parameter's value is a constant or, as a word, the name of a hyperparameter (here ``reg``).
"""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import unknown_name_message
from common.hyperparameters import Hyperparameter
from core.recipe.component import Component, component_classes, parameter_kinds
from core.recipe.recipe import PARTS, Recipe
from core.samplers import SAMPLERS


def parse_recipe(
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
    known = component_classes(part)
    if name not in known:
        problems.append(f"{where}: {unknown_name_message(part.rstrip('s'), str(name), known)}")
        return None
    parameters = parameters or {}
    if not isinstance(parameters, Mapping):
        problems.append(f"{where}.{name}: received {parameters!r}, expected a mapping")
        return None
    allowed = parameter_kinds(known[name])
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
