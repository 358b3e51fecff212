"""Objectives, stages, augmentations and models, found by their files, document themselves."""

import contextlib
import inspect
import re

import pytest
from torch import nn

from core import models
from core.models.base import Model
from core.objectives.base import Objective
from core.recipe.component import component_classes
from core.recipe.method import IMPLIED_NEEDS, NEEDS
from core.registry import find_components

OBJECTIVES = find_components("core.objectives", Objective)
MODELS = find_components("core.models", Model)
COMPONENTS = [
    (part, name)
    for part in ("objectives", "stages", "augmentations")
    for name in component_classes(part)
]


def check_documentation(component: type) -> None:
    text = "\n".join(inspect.cleandoc(kind.__doc__ or "") for kind in component.__mro__)
    for parameter in inspect.signature(component).parameters:
        assert re.search(rf"^ +{parameter}: ", text, re.MULTILINE), f"{parameter} not documented"


@pytest.mark.parametrize(("name", "part"), [(name, part) for part, name in COMPONENTS])
def test_components_are_documented(name: str, part: str) -> None:
    component = component_classes(part)[name]
    parameters = inspect.signature(component).parameters.values()
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    assert (component.__doc__ or "").strip().partition("\n")[0].endswith(".")
    check_documentation(component)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_need_what_benchmarks_provide(name: str) -> None:
    assert set(NEEDS) | IMPLIED_NEEDS >= OBJECTIVES[name].needs
    assert OBJECTIVES[name].model_parts <= {"reconstruction", "projection"}


@pytest.mark.parametrize("name", [name for name in models.list_models() if name != "resnet50"])
def test_models_are_documented_and_have_heads_of_their_own(name: str) -> None:
    check_documentation(MODELS[name])
    model = MODELS[name]({"y": 2})
    own = {id(p) for head in model.get_task_heads().values() for p in head.parameters()}
    assert own <= {id(p) for p in model.parameters()}
    with contextlib.suppress(NotImplementedError):
        assert isinstance(model.get_last_layer(), nn.Linear)
