"""Validate recipes in YAML.

In YAML a component is its name, or its name with parameters::

    sampler: group_balanced
    objectives: [end_task, l1]
    weighting: {fixed: {weights: {l1: reg}}}
    stages: [train]

A parameter's value is a constant or the name of a hyperparameter (here ``reg``). Where a parameter
takes strings, a word that names no hyperparameter is a constant.

A weighting covers all losses, but those to which ``fixed`` beside it gives a constant weight, or
those alone that ``over`` names; the others enter with the weight 1::

    weighting: {dro: {step_size: eta}, fixed: {l1: reg}}
    weighting: {dro: {step_size: eta, over: group_losses}, fixed: {l1: reg}}

Losses are named by themselves or, for all losses of one, by their objective.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from common.errors import unknown_name_message
from common.hyperparameters import Hyperparameter
from core.recipe.component import Component, component_classes, find_component_mistake
from core.recipe.coverage import FIXED, OVER, WEIGHTS, Coverage, find_loss_name_mistakes
from core.recipe.recipe import PARTS, Recipe
from core.samplers import SAMPLERS
from core.weighting.parameter_kinds import (
    has_kind,
    list_kinds,
    name_kinds,
    parameter_kinds,
    required_parameters,
)


def parse_recipe(
    where: str, content: object, hyperparameters: Mapping[str, Hyperparameter]
) -> tuple[Recipe | None, list[str]]:
    """Return the recipe that a YAML mapping describes, and the mistakes in it.

    Args:
        where: The file and key in messages.
        content: The YAML value.
        hyperparameters: The hyperparameters that parameters may name.

    Returns:
        The recipe, or None if there is a mistake; one message per mistake.
    """
    if not isinstance(content, Mapping):
        return None, [f"{where}: received {content!r}, expected a mapping with {', '.join(PARTS)}"]
    parser = _RecipeParser(hyperparameters)
    recipe = parser.parse(where, content)
    return recipe, parser.mistakes


class _RecipeParser:
    """Parses one recipe and collects the mistakes in it."""

    def __init__(self, hyperparameters: Mapping[str, Hyperparameter]) -> None:
        self.hyperparameters = hyperparameters
        self.mistakes: list[str] = []

    def parse(self, where: str, content: Mapping[Any, Any]) -> Recipe | None:
        """Return the recipe, or None if there is a mistake."""
        for key in content:
            if key not in PARTS:
                self.mistakes.append(f"{where}: {unknown_name_message('key', str(key), PARTS)}")
        self.mistakes += [f"{where}: missing key '{part}'" for part in PARTS if part not in content]
        sampler = content.get("sampler", "uniform")
        if not isinstance(sampler, str) or sampler not in SAMPLERS:
            message = unknown_name_message("sampler", str(sampler), SAMPLERS)
            self.mistakes.append(f"{where}.sampler: {message}")
        objectives = self._parse_list(where, "objectives", content)
        stages = self._parse_list(where, "stages", content)
        weighting, coverage = None, Coverage()
        if "weighting" in content:
            written, coverage = self._parse_coverage(f"{where}.weighting", content["weighting"])
            if written is not None:
                weighting = self._parse_component(f"{where}.weighting", "weighting", written)
        if self.mistakes or weighting is None:
            return None
        self.mistakes += find_loss_name_mistakes(
            f"{where}.weighting", weighting, coverage, objectives
        )
        return None if self.mistakes else Recipe(sampler, objectives, weighting, stages, coverage)

    def _parse_coverage(self, where: str, content: object) -> tuple[object, Coverage]:
        """Return the weighting without the keys of its coverage, and the coverage."""
        if not isinstance(content, Mapping):
            return content, Coverage()
        rest, fixed = dict(content), {}
        misplaced = self._find_misplaced_key(where, content)
        if misplaced is not None:
            self.mistakes.append(misplaced)
            return None, Coverage()
        if len(rest) > 1 and FIXED in rest:
            fixed = self._parse_fixed_weights(f"{where}.{FIXED}", rest.pop(FIXED))
        over: tuple[str, ...] = ()
        for name, parameters in rest.items():
            if isinstance(parameters, Mapping) and OVER in parameters:
                over = self._parse_over(f"{where}.{name}.{OVER}", parameters[OVER])
                rest[name] = {key: value for key, value in parameters.items() if key != OVER}
        return rest, Coverage(over, Component(FIXED, fixed))

    def _find_misplaced_key(self, where: str, content: Mapping[Any, Any]) -> str | None:
        """Return a message if ``over`` or ``fixed`` is elsewhere than its form requires."""
        others = [name for name in content if name not in (FIXED, OVER)]
        fixed = content.get(FIXED)
        keys = set(fixed) if isinstance(fixed, Mapping) else set()
        if OVER in content and others:
            return f"{where}.{OVER}: expected inside of {others[0]}: {others[0]}: {{{OVER}: ...}}"
        if others and isinstance(fixed, Mapping) and OVER in fixed:
            return f"{where}.{FIXED}.{OVER}: expected inside of {others[0]}, whose losses it names"
        if others and keys == {WEIGHTS}:
            return (
                f"{where}.{FIXED}.{WEIGHTS}: expected the losses themselves beside another "
                f"weighting: {FIXED}: {{l1: reg}}"
            )
        known = parameter_kinds(component_classes("weighting")[FIXED])
        if not others and isinstance(fixed, Mapping) and not keys & {*known, OVER}:
            return (
                (
                    f"{where}.{FIXED}: received {dict(fixed)!r}, expected {{{WEIGHTS}: ...}}, or "
                    "another weighting beside it"
                )
                if fixed
                else None
            )
        for name in others:
            inner = content[name]
            if isinstance(inner, Mapping) and FIXED in inner:
                return (
                    f"{where}.{name}.{FIXED}: expected beside {name}: {{{name}: ..., {FIXED}: ...}}"
                )
        return None

    def _parse_fixed_weights(self, where: str, content: object) -> dict[str, Any]:
        if not isinstance(content, Mapping) or not content:
            self.mistakes.append(
                f"{where}: received {content!r}, expected a mapping from loss to weight"
            )
            return {}
        for name, value in content.items():
            self.mistakes += self._check_value(f"{where}.{name}", float, value)
        return {str(name): value for name, value in content.items()}

    def _parse_over(self, where: str, content: object) -> tuple[str, ...]:
        names = [content] if isinstance(content, str) else content
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            if len(set(names)) < len(names):
                self.mistakes.append(f"{where}: received {names!r}, expected each name once")
            return tuple(names)
        self.mistakes.append(
            f"{where}: received {content!r}, expected the name of a loss or objective, or a list"
        )
        return ()

    def _parse_list(
        self, where: str, part: str, content: Mapping[Any, Any]
    ) -> tuple[Component, ...]:
        if part not in content:
            return ()
        items = content.get(part)
        if not isinstance(items, list) or not items:
            self.mistakes.append(
                f"{where}.{part}: received {items!r}, expected a list with at least one name"
            )
            return ()
        found = [
            self._parse_component(f"{where}.{part}[{i}]", part, item)
            for i, item in enumerate(items)
        ]
        return tuple(component for component in found if component is not None)

    def _parse_component(self, where: str, part: str, content: object) -> Component | None:
        if isinstance(content, str):
            content = {content: {}}
        if not isinstance(content, Mapping) or len(content) != 1:
            self.mistakes.append(
                f"{where}: received {content!r}, expected a name or {{name: parameters}}"
            )
            return None
        ((name, parameters),) = content.items()
        classes = component_classes(part)
        if name not in classes:
            message = find_component_mistake(part, str(name)) or unknown_name_message(
                part.rstrip("s"), str(name), classes
            )
            self.mistakes.append(f"{where}: {message}")
            return None
        parameters = parameters or {}
        if not isinstance(parameters, Mapping):
            self.mistakes.append(f"{where}.{name}: received {parameters!r}, expected a mapping")
            return None
        self._check_parameters(f"{where}.{name}", classes[name], parameters)
        return Component(name, dict(parameters))

    def _check_parameters(
        self, where: str, component_class: type, parameters: Mapping[Any, Any]
    ) -> None:
        kinds = parameter_kinds(component_class)
        for key, value in parameters.items():
            if key in kinds:
                self.mistakes += self._check_value(f"{where}.{key}", kinds[key], value)
            else:
                message = unknown_name_message("parameter", str(key), kinds)
                self.mistakes.append(f"{where}: {message}")
        for name in required_parameters(component_class):
            if name not in parameters:
                self.mistakes.append(f"{where}: missing required parameter '{name}'")

    def _check_value(self, where: str, kind: Any, value: object) -> Iterator[str]:
        """Yield the mistakes in a value: a wrong kind, or an unknown hyperparameter."""
        options = list_kinds(kind)
        mapping = next((option for option in options if get_origin(option) is not None), None)
        if mapping is not None and not (isinstance(value, str) and str in options):
            if not isinstance(value, Mapping):
                yield f"{where}: received {value!r}, expected a mapping from loss to weight"
                return
            for name, inner in value.items():
                yield from self._check_value(f"{where}.{name}", get_args(mapping)[1], inner)
        elif isinstance(value, str) and str not in options:
            yield from self._check_reference(where, options, value)
        elif not any(has_kind(option, value) for option in options):
            expected = name_kinds(kind)
            if str not in options:
                expected += " or the name of a hyperparameter"
            yield f"{where}: received {value!r}, expected {expected}"

    def _check_reference(self, where: str, options: tuple[Any, ...], name: str) -> Iterator[str]:
        if name not in self.hyperparameters:
            message = unknown_name_message("hyperparameter", name, self.hyperparameters)
            yield f"{where}: {message}"
            return
        hyperparameter = self.hyperparameters[name]
        where = f"{where}: hyperparameter '{name}'"
        if hyperparameter.is_nominal:
            yield f"{where} is not numeric, but the parameter requires numbers"
        elif int in options and not hyperparameter.has_whole_values:
            yield f"{where} has non-integer values, but the parameter requires integers"
