"""The JSON Schema of method files: current, as lax as the parser, and strict on structure."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from common.yaml_files import read_yaml_file
from core.recipe.component import component_classes
from core.recipe.method_files import FOLDER, list_methods
from core.recipe.schema import SCHEMA_FILE, is_current, main, make_schema
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from core.samplers import SAMPLERS
from core.weighting.parameter_kinds import parameter_kinds
from tests.core.recipe.test_methods import GOOD, MISTAKES, changed

VALIDATOR = Draft202012Validator(make_schema())
# Mistakes in relations between keys, which only the parser sees.
RELATIONS = (
    "unknown hyperparameter", "non-integer", "reversed", "no component of the recipe",
    "not numeric",
    "did you mean 'reg'", "'up'", "did you mean 'colored_digits'", "'nothing'",
    "did you mean 'digits_vit'", "circular", "published.waterbirds.reg", "[1, False]",
    "unknown loss", "in over and in fixed", "names all losses", "finite number", "fixed.over",
)  # fmt: skip


def test_the_file_is_the_one_that_the_definitions_make(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    Draft202012Validator.check_schema(make_schema())
    assert is_current(), "run python -m core.recipe.schema"
    assert main(["--check"]) == 0
    monkeypatch.setattr("core.recipe.schema.is_current", lambda: False)
    assert main(["--check"]) == 1
    assert "run python -m core.recipe.schema" in capsys.readouterr().err
    monkeypatch.setattr("core.recipe.schema.SCHEMA_FILE", tmp_path / "schema.json")
    assert main([]) == 0
    assert (tmp_path / "schema.json").read_text() == SCHEMA_FILE.read_text()


@pytest.mark.parametrize("name", list_methods())
def test_every_method_file_is_valid_and_names_the_schema(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    VALIDATOR.validate(read_yaml_file(path))


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES)
def test_it_refuses_the_structural_mistakes_that_the_parser_refuses(
    path: str, value: Any, words: list[str]
) -> None:
    content = yaml.safe_load(changed(path, value))
    relation = any(text in word for word in words for text in RELATIONS)
    assert VALIDATOR.is_valid(content) == relation


def keys_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (str(schema["const"]),) if "const" in schema else ()
        for inner in schema.values():
            yield from keys_of(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from keys_of(inner)


def test_it_knows_every_component_parameter_and_field() -> None:
    known = set(keys_of(make_schema()))
    assert known >= {*SAMPLERS, *TRAINING_CONFIG_FIELDS}
    for part in ("objectives", "weighting", "stages"):
        for name, component_class in component_classes(part).items():
            assert known >= {name, *parameter_kinds(component_class)}


def test_the_good_file_is_valid() -> None:
    VALIDATOR.validate(GOOD)
