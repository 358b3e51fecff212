"""YAML: a number is the one that a person means, or refused; a word stays a word."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import UserError, ValidationErrors
from common.hyperparameters import Scalar
from common.yaml_files import parse_yaml
from core.recipe.assignments import format_assignment, parse_assignments

OTHER_NOTATIONS = [
    "064", "-064", "00", "007.5", "0o64", "0O7", "0x1F", "0b11", "1:30", "16:9", "1:2:3.5",
    "1_000", "1__0", "1_0.5", "1e1_0", ".5_0", "+0x_f",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_NOTATIONS)
def test_other_notations_are_refused_with_a_sentence(text: str) -> None:
    for content in (text, f"a: [{text}]", f"{text}: a", f"!!int {text}", f"!!float '{text}'"):
        with pytest.raises(UserError, match="expected one in plain decimal digits"):
            parse_yaml(content)
    assert parse_yaml(f"'{text}'") == text
    with pytest.raises(ValidationErrors, match=r"--set: received .batch_size=.*plain decimal"):
        parse_assignments([f"batch_size={text}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("-2e+1", -20.0), ("1.5e-2", 0.015), (".5", 0.5),
        ("-.5", -0.5), ("1.", 1.0), ("1.e3", 1000.0), ("+3", 3), ("0", 0), ("12e03", 12000.0),
        ("true", True), ("FALSE", False), (".inf", math.inf), ("-.Inf", -math.inf),
    ],
)  # fmt: skip
def test_plain_numbers_and_booleans_are_read(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "word",
    ["yes", "no", "on", "off", "Yes", "NO", "y", "=", "1e", "1.2.3", "2024-01-01", "127.0.0.1:80"],
)
def test_words_stay_words(word: str) -> None:
    assert parse_yaml(f"[{word}]") == [word]
    assert parse_assignments([f"key={word}"]) == {"key": word}


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_python_and_json_write_them(value: float) -> None:
    assert parse_yaml(repr(value)) == parse_yaml(json.dumps(value)) == value


@given(
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("éß中𐀀"))
)
@example("064")
@example("true")
@example("1")
@example("on")
def test_assignments_are_read_back(value: Scalar) -> None:
    text = format_assignment("key", value)
    assert parse_assignments([text]) == {"key": value}
    assert type(parse_assignments([text])["key"]) is type(value)


@pytest.mark.parametrize("text", ["9" * 5000, "!!bool maybe", "!!timestamp x", "[" * 3000])
def test_errors_of_constructors_are_one_line(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", {"x": 3, "y": 2}),  # own keys win
        ("a: &a {x: 1}\nc: &c {x: 2, z: 3}\nb:\n  <<: [*a, *c]", {"x": 1, "z": 3}),
        ("a: &a {x: 1}\nc: &c {<<: *a, x: 2, z: 3}\nb: {<<: *c}", {"x": 2, "z": 3}),
        ("a: {<<: &c {<<: &d {x: 1}, x: 2}, y: 3}\nb: *c", {"x": 2}),
        ('b: {"<<": 1}', {"<<": 1}),
    ],
)
def test_mappings_are_merged(text: str, expected: object) -> None:
    assert parse_yaml(text)["b"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {x: 1}\nb: {<<: *a, y: 2, y: 3}", "duplicate key y"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "duplicate key <<"),
        ("b: {<<: {x: 1, x: 2}}", "duplicate key x"),
        ("b: {1: 2, 1.0: 3}", "duplicate key 1"),
        ("b: {<<: 3}", "expected a mapping or list of mappings for merging, but found scalar"),
        ("b: {<<: *nowhere}", "undefined alias 'nowhere'"),
    ],
)
def test_a_wrong_merge_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
