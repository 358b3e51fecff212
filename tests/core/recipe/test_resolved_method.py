"""A method on a benchmark: its hyperparameters, defaults, values and epochs."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from common.errors import UserError, ValidationErrors
from core.environment import detect_environment
from core.recipe.method import NEEDS, Method
from core.recipe.method_files import list_methods, load_method
from core.recipe.method_parser import parse_method
from core.recipe.recipe import EpochCounts
from core.recipe.resolved_method import ResolvedMethod, resolve_method
from core.recipe.training_rules import TRAINING_CONFIG_FIELDS
from core.samplers import SAMPLER_NEEDS, SAMPLERS
from tests.conftest import EMBEDDED, fitting

EVERY = fitting(list_methods(), EMBEDDED)


def resolve(method: str, dataset: str = "colored_digits") -> ResolvedMethod:
    return resolve_method(load_method(method), datasets.load_benchmark(dataset))


@pytest.mark.deviation("defaults")
@pytest.mark.parametrize(("method", "dataset"), EVERY)
def test_defaults_have_every_hyperparameter_and_field(method: str, dataset: str) -> None:
    resolved = resolve(method, dataset)
    assert set(resolved.defaults) == {*resolved.hyperparameters, *TRAINING_CONFIG_FIELDS}
    assert all(resolved.has_name(name) for name in resolved.defaults)
    for name, hyperparameter in resolved.hyperparameters.items():
        assert resolved.defaults[name] == hyperparameter.default
    assert resolved.complete_values(resolved.complete_values({})) == resolved.complete_values({})


@given(st.sampled_from(EVERY), st.integers(1, 50), st.integers(0, 2**31))
def test_keys_are_those_of_the_completed_values(
    fitting_pair: tuple[str, str], epochs: int, seed: int
) -> None:
    resolved = resolve(*fitting_pair)
    environment = detect_environment(gpu=False)
    short = resolved.make_key({"epochs": epochs}, seed, environment)
    full = resolved.make_key(resolved.complete_values({"epochs": epochs}), seed, environment)
    assert short.digest == full.digest
    assert short.training_config.epochs == epochs
    assert resolved.count_epochs({"epochs": epochs}) == short.recipe.count_epochs(epochs)


@pytest.mark.deviation("jtt-epochs")
def test_stages_with_epochs_of_their_own_are_counted_apart() -> None:
    assert resolve("jtt").count_epochs({"T": 2, "epochs": 7}) == EpochCounts(7, 9)
    assert resolve("erm").count_epochs({"epochs": 7}) == EpochCounts(7, 7)


def test_the_method_changes_the_training_config() -> None:
    resolved = resolve("fairgrad", "two_digits")
    assert resolved.training_config.clip == "shared"
    assert resolved.benchmark.training_config.clip == "all"
    encoder = resolve("erm_l1" if "encoder" in load_method("erm_l1").needs else "erm_mt_l1")
    assert encoder.training_config.model == encoder.benchmark.encoder


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"T": "many"}, ["T", "'many'", "an integer"]),
        ({"T": True}, ["T", "True", "an integer"]),
        ({"lr": float("inf")}, ["lr", "inf", "number"]),
        ({"learning_rate": 1}, ["unknown hyperparameter 'learning_rate'"]),
        ({"optimizer": "rmsprop"}, ["optimizer", "'rmsprop'", "sgd"]),
    ],
)
def test_invalid_values_are_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationErrors) as found:
        resolve("jtt").check_values(values)
    assert all(word in str(found.value) for word in ["jtt on colored_digits", *words])


def test_published_values_outside_of_the_searched_range_are_valid() -> None:
    resolve("jtt").check_values({"T": 1000, "up": 3})


def test_a_benchmark_that_lacks_a_need_is_refused() -> None:
    with pytest.raises(UserError, match="needs tasks"):
        resolve("stl")


def parse(text: dict[str, Any]) -> Method:
    recipe = {"sampler": "uniform", "objectives": ["end_task"], "weighting": "ls",
              "stages": ["train"]}  # fmt: skip
    recipe |= text.pop("recipe", {})
    return parse_method(Path("x.yaml"), {"description": "X.", "recipe": recipe, **text})


def test_settings_fix_what_a_data_set_searches() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    assert {"lr", "batch_size"} <= set(benchmark.search_space)
    method = parse({"settings": {"lr": 0.123, "batch_size": 48}})
    resolved = resolve_method(method, benchmark)
    assert not {"lr", "batch_size"} & set(resolved.hyperparameters)
    key = resolved.make_key({}, 0, detect_environment(gpu=False))
    assert key.training_config.lr == resolved.training_config.lr == 0.123
    assert key.training_config.batch_size == 48
    given = resolved.make_key({"lr": 0.5}, 0, detect_environment(gpu=False))
    assert given.training_config.lr == 0.5


@pytest.mark.parametrize(
    ("recipe", "needs", "dataset"),
    [
        ({"stages": ["train_each_task"]}, "tasks", "colored_digits"),
        ({"stages": ["train_first", "refit_last_layer"]}, "validation_groups", "two_digits"),
        ({"stages": [{"identify_errors": {"epochs": 1}}, "train"]}, "classification", "two_digits"),
        ({"sampler": "class_balanced"}, "classification", "two_digits"),
        ({"sampler": "subsampled_classes"}, "classification", "two_digits"),
        ({"sampler": "group_balanced"}, "train_groups", "two_digits"),
        ({"sampler": "subsampled_groups"}, "train_groups", "two_digits"),
    ],
)
def test_samplers_and_stages_have_needs(recipe: dict[str, Any], needs: str, dataset: str) -> None:
    if dataset == "two_digits":
        recipe = {"objectives": ["task_losses"], **recipe}
    listed = [need for need in ("tasks", needs) if need in NEEDS and dataset == "two_digits"]
    if needs in NEEDS:
        with pytest.raises(ValidationErrors, match=f"the recipe needs {needs}"):
            parse({"recipe": recipe, "needs": [need for need in listed if need != needs]})
        listed = [*dict.fromkeys([*listed, needs])]
    method = parse({"recipe": recipe, "needs": listed})
    with pytest.raises(UserError, match=f"needs .*{needs}.*'{dataset}' does not provide"):
        resolve_method(method, datasets.load_benchmark(dataset))


def test_every_sampler_has_its_needs() -> None:
    assert set(SAMPLER_NEEDS) == set(SAMPLERS)
