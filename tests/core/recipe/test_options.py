"""Options of methods: fixed unless set, and in the key only where they differ from the default."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import datasets
from common.errors import ValidationErrors
from common.hyperparameters import Scalar
from core.environment import detect_environment
from core.recipe.component import make_objective, make_weighting
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.recipe.trial_key import TrialKey
from tests.core.recipe.test_methods import GOOD, problems_of
from tests.core.recipe.test_resolved_method import resolve
from tests.core.training.test_run import rows, start

# Every option, with another value than its default.
OPTIONS: list[tuple[str, str, Scalar]] = [
    ("nashmtl", "update_interval", 5),
    ("nashmtl_groups", "update_interval", 5),
    ("dwa", "window", 25),
    ("alpha_fair_dwa", "window", 3),
    ("sdmgrad", "iterations", 20),
    ("mgda", "normalization", "loss"),
    ("mgda", "normalization", "loss+"),
    ("log_mgda", "normalization", "norm"),
    ("alpha_fair_mgda", "normalization", "loss"),
    ("famo", "weights_lr", 0.1),
    ("ls", "task_weights", "sum:2,left:0.5"),
    ("si", "task_weights", "sum:2"),
    ("erm_mt", "mt_batches", 2),
    ("erm_mt_l1", "mt_batches", 2),
    ("erm_mt2", "mt_batches", 2),
    ("erm_mt2_l1", "mt_batches", 2),
]


def make_key(method: str, **values: Any) -> TrialKey:
    dataset = "colored_digits" if "tasks" not in load_method(method).needs else "two_digits"
    return resolve(method, dataset).make_key(values, 0, detect_environment(gpu=False))


def test_every_option_is_listed_here() -> None:
    found = {(name, option) for name in list_methods() for option in load_method(name).options}
    assert found == {(method, option) for method, option, _ in OPTIONS}


@pytest.mark.parametrize(("method", "option", "value"), OPTIONS)
def test_an_option_changes_key_and_component(method: str, option: str, value: Scalar) -> None:
    plain, default = make_key(method), load_method(method).options[option].default
    assert make_key(method, **{option: default}).digest == plain.digest
    assert option not in str(plain.as_dict())
    changed = make_key(method, **{option: value})
    assert changed.digest != plain.digest
    assert TrialKey.from_dict(changed.as_dict()).digest == changed.digest
    parts = (*changed.recipe.objectives, changed.recipe.weighting)
    assert value in [given for part in parts for given in part.parameters.values()]
    for part in changed.recipe.objectives:
        make_objective(part)
    make_weighting(changed.recipe.weighting)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("method", "option", "value"),
    [("dwa", "window", 2), ("mgda", "normalization", "loss+"), ("ls", "task_weights", "sum:9"),
     ("famo", "weights_lr", 1.0), ("sdmgrad", "iterations", 1), ("nashmtl", "update_interval", 50)],
)  # fmt: skip
def test_an_option_changes_what_is_trained(method: str, option: str, value: Scalar) -> None:
    config: dict[str, Any] = {"epochs": 3, "batch_size": 256}
    plain = list(rows(start(method, "two_digits", **config)))
    assert list(rows(start(method, "two_digits", **config | {option: value}))) != plain


@pytest.mark.parametrize(
    ("method", "option", "value", "words"),
    [
        ("nashmtl", "update_interval", 0, "update_interval is 0, expected a number of at least 1"),
        ("nashmtl", "update_interval", 1.5, "received 1.5, expected an integer"),
        ("mgda", "normalization", "l2", "received 'l2', expected one of"),
        ("mgda", "normalization", 1, "received 1, expected a word"),
        ("ls", "task_weights", "summ:2", "weights of \\['summ'\\], which are no losses"),
        ("ls", "task_weights", "sum", "received 'sum', expected a number for each loss"),
        ("si", "task_weights", "sum:nan", "received 'sum:nan'"),
        ("erm_mt", "mt_batches", 0, "mt_batches 0: expected 1 to 1,000"),
        ("erm_mt", "mt_batches", 10**9, "mt_batches 1,000,000,000: expected 1 to 1,000"),
        ("erm_mt2", "mt_batch_size", -1, "mt_batch_size -1: expected at least 0"),
        ("dwa", "window", -1, "window is -1, expected a number of at least 0"),
        ("dwa", "window", 10**9, "window is 1000000000, expected at most 100,000 steps"),
        ("sdmgrad", "iterations", 10**9, "iterations is 1000000000, expected at most 10,000"),
        ("famo", "weights_lr", 0, "weights_lr is 0.0, expected a number above 0"),
        ("dwa", "windows", 3, "did you mean 'window'"),
        ("fairgrad", "window", 3, "unknown hyperparameter 'window'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    method: str, option: str, value: Scalar, words: str
) -> None:
    with pytest.raises(ValidationErrors, match=words) as found:
        make_key(method, **{option: value})
    assert len(found.value.problems) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"idle": {"integer": [1, 2], "default": 1}}, "options.idle: no component"),
        ({"reg": {"uniform": [0, 1], "default": 0.5}}, "options.reg: is under `search` too"),
        ({"shape": {"choice": ["log"], "default": "log"}}, "expected the component's own: 'plain'"),
        ({"shape": {"choice": ["plain"], "default": "plain", "when": {"reg": 0.5}}}, "condition"),
        ({"lr": {"uniform": [0, 1], "default": 0.5}}, "training-config field"),
    ],
)
def test_mistakes_in_options_are_named(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    text = yaml.safe_load(yaml.safe_dump(GOOD))
    text["recipe"]["weighting"]["fixed"]["losses"] = "shape" if "shape" in options else "plain"
    text["options"] = options
    found = problems_of(tmp_path, yaml.safe_dump(text))
    assert any(words in problem for problem in found), found


@pytest.mark.deviation("dwa-window", "sdmgrad")
def test_published_values_may_set_options() -> None:
    for dataset in ("nyuv2", "cityscapes", "celeba40", "qm9"):
        assert load_method("dwa").published[dataset]["window"] == 25
    sdmgrad = resolve_method(load_method("sdmgrad"), datasets.load_benchmark("nyuv2"))
    assert sdmgrad.published is not None
    key = sdmgrad.make_key(sdmgrad.published, 0, detect_environment(gpu=False))
    assert key.recipe.weighting.parameters == {"strength": 0.3, "iterations": 20}
    config = key.training_config
    assert (config.clip_norm, config.clip, config.times_losses) == (1.0, "shared", True)


def test_normalized_gradients_are_divided_in_the_search_only() -> None:
    """Weights by hand for two orthogonal gradients: inverse to the divided squared lengths."""
    from core.weighting.methods.mgda import MGDA

    gram = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    losses = torch.tensor([2.0, 0.5], dtype=torch.float64)
    divisors = {
        "none": [1.0, 1.0], "norm": [2.0, 1.0], "loss": [2.0, 0.5], "loss+": [4.0, 0.5],
    }  # fmt: skip
    for name, (first, second) in divisors.items():
        weighting = MGDA(normalization=name)
        weighting.transform_losses(losses)
        squares = [4.0 / first**2, 1.0 / second**2]
        inverse = [1 / square for square in squares]
        expected = [value / sum(inverse) for value in inverse]
        assert weighting.compute_weights(gram).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="needs the losses of the step"):
        MGDA(normalization="loss").compute_weights(gram)


@pytest.mark.deviation("erm-l1-batch")
def test_erm_l1_has_the_batch_size_of_the_values_file() -> None:
    published = load_method("erm_l1").published["civilcomments_small"]
    assert published["batch_size"] == 32
    assert load_method("erm_l1").grid["civilcomments_small"]["batch_size"] == [4, 8, 16, 32]
