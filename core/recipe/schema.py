"""``python -m core.recipe.schema``: write the JSON Schema of method files for editors.

The schema is made from the definitions that :mod:`core.recipe.method_parser` checks a file by:
samplers, components with their parameters, kinds of hyperparameters and rules of the training
config. It accepts every file that the parser accepts. The parser also knows relations between
keys, such as parameters that name a hyperparameter.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from common.arguments import Parser
from common.hyperparameters import KINDS, RANGE_KINDS, Hyperparameter
from common.terminal import run_command
from core.recipe.component import component_classes
from core.recipe.coverage import FIXED, OVER
from core.recipe.method import NEEDS
from core.recipe.method_files import FOLDER
from core.recipe.recipe import PARTS
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from core.samplers import SAMPLERS
from core.weighting.parameter_kinds import list_kinds, parameter_kinds, required_parameters
from datasets.training_config import TRAINING_CONFIG_RULES

SCHEMA_FILE = FOLDER / "schema.json"
Schema = dict[str, Any]

SCALAR: Schema = {"type": ["boolean", "number", "string"]}
NAME_OF_HYPERPARAMETER: Schema = {"type": "string", "description": "The name of a hyperparameter."}
NONE: Mapping[str, Schema] = {}
TYPES: Mapping[type, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"
}  # fmt: skip


def make_schema() -> Schema:
    """Return the schema of a method file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Method",
        "description": "A method of Evenhand: a recipe and the hyperparameters that it adds.",
        "type": "object",
        "properties": {
            "description": {"type": "string", "minLength": 1, "description": "One sentence."},
            "paper": {"description": "The paper that published the method."},
            "needs": {
                "description": "Properties that a benchmark must provide.",
                "type": ["array", "null"],
                "items": {"enum": list(NEEDS)},
            },
            "recipe": _make_recipe_schema(),
            "settings": {
                "description": "Fields of the training config that the method changes.",
                **_optional_object(
                    properties={name: _make_field_schema(name) for name in TRAINING_CONFIG_FIELDS},
                    additionalProperties=False,
                ),
            },
            "search": {
                "description": "The hyperparameters that the method adds.",
                **_optional_object(**_make_search_schema()),
            },
            "options": {
                "description": "Hyperparameters that are fixed unless a command searches them.",
                **_optional_object(**_make_search_schema()),
            },
            "datasets": {
                "description": "Other domains of these hyperparameters for one data set.",
                **_optional_object(additionalProperties=_optional_object(**_make_search_schema())),
            },
            "grid": {
                "description": "The published grid per data set.",
                **_make_values_schema(_array_of),
            },
            "published": {
                "description": "The published best values per data set.",
                **_make_values_schema(dict),
            },
        },
        "required": ["description", "recipe"],
        "additionalProperties": False,
        "$defs": {"hyperparameter": _make_hyperparameter_schema()},
    }


def _optional_object(**keywords: Any) -> Schema:
    return {"type": ["object", "null"], **keywords}


def _array_of(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _one_or_several(value: Schema) -> Schema:
    return {"anyOf": [value, _array_of(value)]}


def _make_recipe_schema() -> Schema:
    return {
        "description": "The four parts of the method.",
        "type": "object",
        "properties": {
            "sampler": {
                "description": "The examples that an epoch draws.",
                "oneOf": [_name_schema(name, sampler) for name, sampler in SAMPLERS.items()],
            },
            "objectives": {
                "description": "The losses that are descended.",
                **_array_of(_make_component_schema("objectives")),
            },
            "weighting": {
                "description": "How several losses become one step.",
                **_make_weighting_schema(),
            },
            "stages": {
                "description": "The stages of training, in order.",
                **_array_of(_make_component_schema("stages")),
            },
        },
        "required": list(PARTS),
        "additionalProperties": False,
    }


def _name_schema(name: str, documented: object) -> Schema:
    return {"const": name, "description": _first_line(documented)}


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0].replace("``", "")


def _make_component_schema(part: str) -> Schema:
    """Return the schema of a component: its name, or its name with parameters."""
    parameters = {
        name: _make_parameters_schema(component_class)
        for name, component_class in component_classes(part).items()
    }
    return {"oneOf": [*_list_name_schemas(part), _make_single_schema(parameters)]}


def _list_name_schemas(part: str) -> list[Schema]:
    """Return the schemas of the names that need no parameters."""
    return [
        _name_schema(name, component_class)
        for name, component_class in component_classes(part).items()
        if not required_parameters(component_class)
    ]


def _make_single_schema(parameters: Mapping[str, Schema]) -> Schema:
    """Return the schema of one name with its parameters."""
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": parameters,
        "additionalProperties": False,
    }


def _make_weighting_schema() -> Schema:
    """Return the schema of a weighting, alone or beside losses of fixed weight."""
    over = {
        "description": "The losses, or objectives, that the weighting covers.",
        "oneOf": [{"type": "string"}, _array_of({"type": "string"}) | {"uniqueItems": True}],
    }
    weightings = {
        name: _make_parameters_schema(component_class, {OVER: over})
        for name, component_class in component_classes("weighting").items()
    }
    fixed = {
        "description": "The weights of the losses that the weighting does not cover.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": _make_parameter_schema(float),
    }
    return {
        "oneOf": [
            *_list_name_schemas("weighting"),
            _make_single_schema(weightings),
            {
                "type": "object",
                "minProperties": 2,
                "maxProperties": 2,
                "properties": weightings | {FIXED: fixed},
                "required": [FIXED],
                "additionalProperties": False,
            },
        ]
    }


def _make_parameters_schema(component_class: type, more: Mapping[str, Schema] = NONE) -> Schema:
    """Return the schema of a component's parameters, and of more keys beside them."""
    kinds = parameter_kinds(component_class)
    required = required_parameters(component_class)
    schema = {
        "description": _first_line(component_class),
        "type": "object" if required else ["object", "null"],
        "properties": {**{n: _make_parameter_schema(kind) for n, kind in kinds.items()}, **more},
        "additionalProperties": False,
    }
    return schema | ({"required": required} if required else {})


def _make_parameter_schema(kind: Any) -> Schema:
    """Return the schema of a value, which a word may give as a hyperparameter's name."""
    options = list_kinds(kind)
    mapping = next((option for option in options if get_origin(option) is not None), None)
    if mapping is not None:
        values = _make_parameter_schema(get_args(mapping)[1])
        named = {"type": "object", "additionalProperties": values}
        return {"anyOf": [named, {"type": "string"}]} if str in options else named
    types = {"type": [TYPES[option] for option in options]}
    return types if str in options else {"anyOf": [types, NAME_OF_HYPERPARAMETER]}


def _make_search_schema() -> Schema:
    return {
        "propertyNames": {"not": {"enum": list(TRAINING_CONFIG_FIELDS)}},
        "additionalProperties": {"$ref": "#/$defs/hyperparameter"},
    }


def _make_hyperparameter_schema() -> Schema:
    return {
        "description": "One domain, a default and, optionally, a condition.",
        "type": "object",
        "properties": {
            "choice": {
                "description": "The values to choose from.",
                "uniqueItems": True,
                **_array_of(SCALAR),
            },
            **{kind: _make_range_schema(kind) for kind in RANGE_KINDS},
            "default": {"description": "The value where no search sets one.", **SCALAR},
            "when": {
                "description": "Values of other hyperparameters for which this one is searched.",
                "type": "object",
                "properties": {
                    name: _one_or_several(_make_field_schema(name))
                    for name in TRAINING_CONFIG_FIELDS
                },
                "additionalProperties": _one_or_several(SCALAR),
            },
        },
        "required": ["default"],
        "oneOf": [{"required": [kind]} for kind in KINDS],
        "additionalProperties": False,
    }


def _make_range_schema(kind: str) -> Schema:
    number = "integer" if "integer" in kind else "number"
    positive = {"exclusiveMinimum": 0} if kind.startswith("log_") else {}
    return {
        "description": "The lowest and the highest value.",
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": number, **positive},
    }


def _make_values_schema(wrap: Callable[[Schema], Schema]) -> Schema:
    """Return the schema of values of hyperparameters and training-config fields per data set."""
    values = _optional_object(
        properties={name: wrap(_make_field_schema(name)) for name in TRAINING_CONFIG_FIELDS},
        additionalProperties=wrap(SCALAR),
    )
    return _optional_object(additionalProperties=values)


def _make_field_schema(name: str) -> Schema:
    """Return the schema of a field of the training config."""
    if name == "augmentation":
        return {"enum": sorted(component_classes("augmentations"))}
    if name not in TRAINING_CONFIG_RULES:
        return {"type": "string"}
    return _make_rule_schema(TRAINING_CONFIG_RULES[name])


def _make_rule_schema(rule: Hyperparameter) -> Schema:
    if rule.kind == "choice":
        return {"enum": list(rule.values)}
    low, high = rule.values
    return {"type": "integer" if rule.is_integer else "number", "minimum": low, "maximum": high}


def encode_schema() -> str:
    """Return the text of the schema file."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"


def is_current(path: Path = SCHEMA_FILE) -> bool:
    """Return whether the schema file is the one that the definitions make."""
    return path.is_file() and path.read_text(encoding="utf-8") == encode_schema()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schema, or check it; return 0, or 1 if it is out of date."""
    parser = Parser(
        prog="python -m core.recipe.schema",
        description="Write search_spaces/schema.json, the JSON Schema by which editors complete "
        "and check method files.",
    )
    parser.add_argument("--check", action="store_true", help="only check that it is up to date")
    if not parser.parse_args(arguments).check:
        SCHEMA_FILE.write_text(encode_schema(), encoding="utf-8")
        print(f"{SCHEMA_FILE.parent.name}/{SCHEMA_FILE.name} written")
    elif not is_current():
        print(
            f"{SCHEMA_FILE.parent.name}/{SCHEMA_FILE.name} is out of date: run "
            "python -m core.recipe.schema",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
