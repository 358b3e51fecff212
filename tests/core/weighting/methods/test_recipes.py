"""Weightings in recipes: parameters that a YAML may set."""

from typing import Any

import pytest

from common.hyperparameters import Hyperparameter
from core.recipe.component import make_weighting
from core.recipe.recipe_parser import parse_recipe
from core.weighting import Weighting
from core.weighting.methods.fairgrad import FairGrad

HYPERPARAMETERS = {"fairness": Hyperparameter("uniform", (0.5, 5.0), 2.0)}


def weighting_of(text: object, problems: list[str]) -> Weighting | None:
    recipe, found = parse_recipe(
        "method.yaml: recipe",
        {
            "sampler": "uniform",
            "objectives": ["end_task"],
            "weighting": text,
            "stages": ["train"],
        },
        HYPERPARAMETERS,
    )
    problems += found
    if recipe is None:
        return None
    return make_weighting(recipe.with_values({"fairness": 3.0}).weighting)


@pytest.mark.parametrize(
    ("text", "alpha", "loss_alpha"),
    [
        ({"fairgrad": {"alpha": "fairness", "losses": "log"}}, 3.0, 1.0),
        ({"fairgrad": {"alpha": 1, "losses": 0.5}}, 1.0, 0.5),
        ({"fairgrad": {"losses": "fairness"}}, 2.0, 3.0),
        ("fairgrad", 2.0, 0.0),
    ],
)
def test_a_recipe_may_transform_the_losses(text: Any, alpha: float, loss_alpha: float) -> None:
    problems: list[str] = []
    weighting = weighting_of(text, problems)
    assert problems == []
    assert weighting is not None
    assert isinstance(weighting, FairGrad)
    assert (weighting.alpha, weighting.loss_alpha) == (alpha, loss_alpha)


def test_a_misspelt_parameter_is_refused() -> None:
    problems: list[str] = []
    assert weighting_of({"cagrad": {"radius": 0.4}}, problems) is None
    assert "unknown parameter 'radius'" in problems[0]
