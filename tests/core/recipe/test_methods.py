"""Method files: all are valid, and all mistakes are reported at once with file and key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import datasets
from common.errors import UserError, ValidationErrors
from common.hyperparameters import Hyperparameter
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from tests.conftest import EMBEDDED, fitting

GOOD: dict[str, Any] = {
    "description": "A method.",
    "recipe": {
        "sampler": "uniform",
        "objectives": ["end_task", "l1"],
        "weighting": {"fixed": {"weights": {"l1": "reg"}}},
        "stages": ["train"],
    },
    "search": {"reg": {"log_uniform": [0.1, 1], "default": 0.5}},
}


def problems_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValidationErrors) as found:
        load_method("mine", tmp_path)
    return found.value.problems


def changed(path: str, value: Any) -> str:
    """Return the good file with one entry changed, or removed for None."""
    text = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = path.split(".")
    place = text
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    dumped: str = yaml.safe_dump(text)
    return dumped


@pytest.mark.parametrize(("name", "dataset"), fitting(list_methods(), EMBEDDED))
def test_every_file_is_valid_and_documented(name: str, dataset: str) -> None:
    method = load_method(name)
    assert method.description.endswith(".")
    assert method.paper
    resolve_method(method, datasets.load_benchmark(dataset)).check_values(
        {n: k.default for n, k in method.search.items()}
    )


def test_the_good_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    method = load_method("mine", tmp_path)
    filled = method.recipe.with_values({"reg": 0.7})
    assert filled.weighting.as_dict() == {"fixed": {"weights": {"l1": 0.7}}}


MISTAKES: list[tuple[str, Any, list[str]]] = [
    ("recipe.sampler", "unifrom", ["recipe.sampler", "did you mean 'uniform'"]),
    ("recipe.objectives", ["end_tusk"], ["recipe.objectives[0]", "did you mean 'end_task'"]),
    ("recipe.objectives", [], ["recipe.objectives", "at least one"]),
    ("recipe.weighting", {"dro": {"step": 1}}, ["recipe.weighting.dro", "'step_size'"]),
    (
            "recipe.weighting",
            {"dro": {"step_size": "eta"}},
            ["step_size", "unknown hyperparameter 'eta'"],
        ),
    ("recipe.weighting", {"dro": {"step_size": True}}, ["step_size", "True", "a number"]),
    (
            "recipe.weighting",
            {"dro": {}, "fixed": {"l1": "rge"}},
            ["weighting.fixed.l1", "did you mean 'reg'"],
        ),
    ("recipe.weighting", {"dro": {}, "fixed": 1}, ["weighting.fixed", "from loss to weight"]),
    ("recipe.weighting", {"dro": {}, "fixed": {"l1": True}}, ["fixed.l1", "True", "a number"]),
    ("recipe.weighting", {"dro": {}, "ls": {}}, ["recipe.weighting", "expected a name"]),
    *(("recipe.weighting", weighting, words) for weighting, words in (
        ({"dro": {"over": "end_tusk"}, "fixed": {"l1": "reg"}},
         ["recipe.weighting.dro.over[0]: unknown loss 'end_tusk' (did you mean 'end_task'?)"]),
        ({"dro": {}, "fixed": {"l2": "reg"}},
         ["weighting.fixed.l2: unknown loss 'l2' (did you mean 'l1'?); known: end_task, l1"]),
        ({"fixed": {"weights": {"l2": "reg"}}}, ["fixed.weights.l2: unknown loss 'l2'"]),
        ({"dro": {}, "fixed": {"group_0": "reg"}}, ["fixed.group_0: unknown loss 'group_0'"]),
        ({"dro": {"over": ["end_task", "l1"]}, "fixed": {"l1": "reg"}},
         ["recipe.weighting: ['l1'] are in over and in fixed, expected each in one"]),
        ({"dro": {"over": ["l1", "l1"]}, "fixed": {"end_task": "reg"}}, ["each name once"]),
        ({"dro": {}, "fixed": {"l1": "reg", "end_task": 1}}, ["fixed names all losses"]),
        ({"dro": {}, "fixed": {"l1": "reg", "end_task": float("inf")}}, ["finite number"]),
        ({"dro": {}, "fixed": {"weights": {"l1": "reg"}}},
         ["fixed.weights: expected the losses themselves", "fixed: {l1: reg}"]),
        ({"fixed": {"l1": "reg"}}, ["received {'l1': 'reg'}, expected {weights: ...}"]),
        ({"dro": {}, "fixed": {"over": "l1"}}, ["fixed.over: expected inside of dro"]),
        ({"dro": {}, "fixed": {"l1": "reg"}, "over": "end_task"}, ["over: expected inside of dro"]),
        ({"dro": {"fixed": {"l1": "reg"}}}, ["dro.fixed: expected beside dro"]),
    )),
    ("recipe.weighting", {"dro": {"over": 1}}, ["weighting.dro.over", "1", "objective"]),
    ("recipe.stages", None, ["missing key 'stages'"]),
    ("recipe.stages", [{"train": {"epochs": 1.5}}], ["epochs", "1.5", "an integer"]),
    ("recipe.stages", [{"train": {"epochs": "reg"}}], ["epochs", "'reg'", "non-integer"]),
    ("recipe.color", "red", ["unknown key 'color'"]),
    ("recipe", None, ["recipe", "None", "mapping"]),
    ("search.reg.log_uniform", [1, 0.1], ["search.reg", "reversed"]),
    ("search.lr", {"uniform": [0, 1], "default": 0}, ["search.lr", "is a training-config field"]),
    ("search.idle", {"choice": [1], "default": 1}, ["search.idle", "no component of the recipe"]),
    ("serach", {}, ["'serach'", "did you mean 'search'"]),
    ("grid", {"waterbirds": {"rge": [1]}}, ["grid.waterbirds.rge", "did you mean 'reg'"]),
    ("grid", {"waterbirds": {"reg": 1}}, ["grid.waterbirds.reg", "list"]),
    ("published", {"waterbirds": {"reg": True}}, ["published.waterbirds.reg", "True", "a number"]),
    ("published", {"waterbirds": {"reg": "1"}}, ["published.waterbirds.reg", "'1'", "a number"]),
    ("grid", {"waterbirds": {"reg": [1, False]}}, ["[1, False]", "a number"]),
    ("published", {"waterbirds": {"lr": "x"}}, ["published.waterbirds.lr", "'x'"]),
    ("needs", ["groups"], ["needs", "train_groups"]),
    ("datasets", {"waterbirds": {"up": {"choice": [1], "default": 1}}}, ["'up'"]),
    ("description", "", ["description"]),
    ("recipe.sampler", ["uniform"], ["recipe.sampler", "unknown sampler"]),
    ("search.reg", {"choice": ["small", "big"], "default": "big"}, ["l1", "not numeric"]),
    ("grid", {"colored_digitz": {"lr": [0.1]}}, ["did you mean 'colored_digits'"]),
    ("search.reg", {"choice": [1, 1.0], "default": 1}, ["search.reg", "once"]),
    ("search.reg.when", {"nothing": 1}, ["search.reg.when", "'nothing'"]),
    *(("search.reg.when", when, ["search.reg", "when", word]) for when, word in (
        ({"optimizer": "SGD"}, "received 'SGD', expected one of ['sgd', 'adam', 'adamw']"),
        ({"optimizer": ["sgd", "adan"]}, "received 'adan'"),
        ({"batch_size": "32"}, "received '32', expected an integer"),
        ({"batch_size": 0}, "received 0, expected an integer from 1"),
        ({"warmup": 2}, "received 2, expected a number from 0.0 to 1"),
        ({"compile": 1}, "received 1, expected true or false"),
        ({"compile": "true"}, "received 'true', expected true or false"),
        ({"model": "digits_vti"}, "did you mean 'digits_vit'"),
        ({"augmentation": "flip"}, "received 'flip'"),
        ({"optimizer": []}, "received []"),
        ({"optimizer": None}, "received None"),
        ({"optimizer": {"is": "sgd"}}, "received {'is': 'sgd'}"),
    )),
    ("search.reg.when", {"reg": 0.5}, ["search: the conditions of reg are circular"]),
]  # fmt: skip
CONDITIONS: dict[
    str, tuple[dict[str, Any], list[str]]
] = {  # hyperparameters beside "reg", and a part of the only message
    "other type": (
        {"a": {"integer": [1, 3], "default": 1}, "reg": {"when": {"a": "1"}}},
        ["search.reg.when.a: received '1', expected an integer from 1 to 3"],
    ),
    "boolean": (
        {"a": {"choice": [0, 1], "default": 1}, "reg": {"when": {"a": True}}},
        ["search.reg.when.a: received True, expected one of [0, 1]"],
    ),
    "contradiction": (
        {
            "a": {"choice": [1, 2], "default": 1},
            "b": {"choice": [1, 2], "default": 1, "when": {"a": 1}},
            "reg": {"when": {"a": 2, "b": 1}},
        },
        ["search.reg.when: no values fulfill this condition"],
    ),
    "contradiction of fields": (
        {
            "b": {"choice": [1, 2], "default": 1, "when": {"optimizer": "sgd"}},
            "c": {"choice": [1, 2], "default": 1, "when": {"b": 2}},
            "reg": {"when": {"optimizer": ["adam", "adamw"], "c": 2}},
        },
        ["search.reg.when: no values fulfill this condition"],
    ),
    "circle": (
        {
            "a": {"choice": [1, 2], "default": 1, "when": {"b": 1}},
            "b": {"choice": [1, 2], "default": 1, "when": {"reg": 0.5}},
            "reg": {"when": {"a": 2}},
        },
        ["search: the conditions of", "circular"],
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_that_never_hold_are_refused(name: str, tmp_path: Path) -> None:
    search, words = CONDITIONS[name]
    reg = {**GOOD["search"]["reg"], **search["reg"]}
    text = changed("search", {**search, "reg": reg})
    found = problems_of(tmp_path, text)
    assert any(all(word in problem for word in words) for problem in found), found


@pytest.mark.parametrize(
    ("exception", "words"),
    [
        ({"reg": {"when": {"nothing": 1}}}, "reg.when: unknown hyperparameter 'nothing'"),
        ({"reg": {"when": {"optimizer": "SGD"}}}, "reg.when.optimizer: received 'SGD'"),
        ({"reg": {"when": {"a": "2"}}}, "reg.when.a: received '2'"),
        ({"a": {"when": {"reg": 0.5}}, "reg": {"when": {"a": 2}}}, ": the conditions of"),
        ({"a": {"choice": [1, 2]}}, "reg.when: no values fulfill this condition"),
    ],
)
def test_conditions_of_one_data_set_are_checked(
    exception: dict[str, Any], words: str, tmp_path: Path
) -> None:
    a = {"choice": [1, 2, 3], "default": 1}
    search = {"a": a, "reg": {**GOOD["search"]["reg"], "when": {"a": [3]}}}
    given = {name: {**search[name], **domain} for name, domain in exception.items()}
    text = yaml.safe_load(changed("search", search))
    text["datasets"] = {"colored_digits": given}
    (found,) = problems_of(tmp_path, yaml.safe_dump(text))
    assert "mine.yaml: datasets.colored_digits" in found
    assert words in found


def test_conditions_of_one_data_set_may_leave_out_values(tmp_path: Path) -> None:
    a = {"choice": [1, 2, 3], "default": 1}
    text = yaml.safe_load(changed("search", {
        "a": a, "reg": {**GOOD["search"]["reg"], "when": {"a": [2, 3]}}
    }))  # fmt: skip
    text["datasets"] = {"colored_digits": {"a": {**a, "choice": [1, 2]}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(text))
    resolved = resolve_method(
        load_method("mine", tmp_path), datasets.load_benchmark("colored_digits")
    )
    assert resolved.hyperparameters["a"].values == (1, 2)


def test_a_condition_of_a_data_sets_own_search_space_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    condition = {"optimizer": ("SGD",)}
    momentum = Hyperparameter("uniform", (0.0, 0.9), 0.5, condition)
    monkeypatch.setattr(benchmark, "search_space", {"momentum": momentum}, raising=False)
    with pytest.raises(ValidationErrors, match=r"momentum.when.optimizer: received 'SGD'"):
        resolve_method(load_method("erm"), benchmark)


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES)
def test_mistakes_name_file_and_key(
    path: str, value: Any, words: list[str], tmp_path: Path
) -> None:
    found = problems_of(tmp_path, changed(path, value))
    assert all(problem.startswith(f"{tmp_path.name}/mine.yaml") for problem in found)
    assert any(all(word in problem for word in words) for problem in found), found


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = yaml.safe_load(changed("recipe.sampler", "unifrom"))
    text["search"]["reg"] = {"uniform": [2, 1], "default": 1}
    text["needs"] = ["sunshine"]
    assert len(problems_of(tmp_path, yaml.safe_dump(text))) >= 3


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("recipe: [", "malformed"),
        ("recipe: {}\nrecipe: {}", "duplicate key recipe"),
        ("just words", "mapping"),
        ("", "mapping"),
        ("description: 1_000", "1_000"),
        ("description: !!bool maybe", "malformed"),
        ("[" * 3000, "malformed"),
        ("a: !!python/object/apply:os.system [ls]", "malformed"),
    ],
)
def test_malformed_files(text: str, word: str, tmp_path: Path) -> None:
    assert word in problems_of(tmp_path, text)[0]


def test_files_that_are_no_methods_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / ".#erm.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    assert list_methods(tmp_path) == ["mine"]


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("recipe.objectives", ["end_task", "end_task", "l1"], "duplicate loss name"),
        ("recipe.stages", [{"identify_errors": {"epochs": 1}}], "eligible"),
        ("recipe.stages", [{"train": {"epochs": 0}}], "epochs: received 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused_before_anything_starts(
    path: str, value: Any, word: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(changed(path, value))
    method = load_method("mine", tmp_path)
    with pytest.raises(ValidationErrors, match=word):
        resolve_method(method, datasets.load_benchmark("colored_digits")).make_key(
            {}, 0, detect_environment()
        )


@pytest.mark.parametrize("default", [1, 1.0])
def test_a_float_hyperparameter_may_have_a_whole_default(default: float, tmp_path: Path) -> None:
    domain = {"log_uniform": [0.1, 10], "default": default}
    (tmp_path / "mine.yaml").write_text(changed("search.reg", domain))
    method, benchmark = load_method("mine", tmp_path), datasets.load_benchmark("colored_digits")
    resolved = resolve_method(method, benchmark)
    key = resolved.make_key({"reg": 0.5}, 0, detect_environment())
    assert key.recipe.weighting.as_dict() == {"fixed": {"weights": {"l1": 0.5}}}
    ones = [
        resolve_method(method, benchmark).make_key({"reg": value}, 0, detect_environment())
        for value in (1, 1.0)
    ]
    assert ones[0].digest == ones[1].digest


def test_recipe_that_needs_groups_must_say_so(tmp_path: Path) -> None:
    found = problems_of(tmp_path, changed("recipe.sampler", "group_balanced"))
    assert "train_groups" in found[0]


def test_unknown_method_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'erm_l1'"):
        load_method("erm_l2")
