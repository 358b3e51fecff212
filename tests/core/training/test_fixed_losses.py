"""Losses of fixed weight beside a weighting: their gradient has exactly that weight."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import datasets
from common.errors import ValidationErrors
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.recipe import Recipe
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from core.weighting.methods.dro import GroupDRO
from tests.core.training.test_run import start

GROUPS = ["group_0", "group_1", "group_2", "group_3"]


def begin(folder: Path, weighting: Any, objectives: list[Any], **config: Any) -> Run:
    """Return a run of one step per epoch, whose gradients are not clipped."""
    content = {
        "description": "A method.",
        "needs": ["train_groups", "encoder"],
        "recipe": {
            "sampler": "uniform",
            "objectives": objectives,
            "weighting": weighting,
            "stages": ["train"],
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    benchmark = datasets.load_benchmark("colored_digits")
    given = {"batch_size": 4000, "epochs": 1, "clip_norm": 0.0, **config}
    resolved = resolve_method(load_method("mine", folder), benchmark)
    return Run(resolved.make_key(given, 0, detect_environment()), benchmark)


def gradient(folder: Path, weighting: Any, objectives: list[Any], **config: Any) -> Tensor:
    """Return the gradient of the first step, by all parameters."""
    run = begin(folder, weighting, objectives, **config)
    run.train_epoch()
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
         for p in run.model.parameters()]
    )  # fmt: skip


def check_difference(both: Tensor, covered: Tensor, share: float, folder: Path) -> None:
    """Check that a gradient is another one plus a share of the penalty's."""
    objectives = ["end_task", "l1"]
    penalty = share * gradient(folder, {"fixed": {"weights": {"end_task": 0.0}}}, objectives)
    assert penalty.norm() > 0
    assert (both - covered - penalty).norm() < 1e-3 * penalty.norm()


@pytest.mark.medium
@pytest.mark.parametrize(
    "weighting",
    [
        {"ls": {}},
        {"dro": {"step_size": 0.1}},
        {"fairgrad": {"alpha": 2.0}},
        {"pcgrad": {}},
        {"famo": {}},
        {"mgda": {"losses": "log"}},
    ],
)
def test_the_gradient_of_a_fixed_loss_has_its_weight(
    weighting: dict[str, Any], tmp_path: Path
) -> None:
    covered = gradient(tmp_path, weighting, ["group_losses"])
    both = gradient(tmp_path, weighting | {"fixed": {"l1": 3.0}}, ["group_losses", "l1"])
    check_difference(both, covered, 3.0, tmp_path)


def test_a_loss_that_over_leaves_out_weighs_one(tmp_path: Path) -> None:
    covered = gradient(tmp_path, {"ls": {}}, ["group_losses"])
    both = gradient(tmp_path, {"ls": {"over": "group_losses"}}, ["group_losses", "l1"])
    check_difference(both, covered, 1.0, tmp_path)


def test_split_batches_keep_the_weight(tmp_path: Path) -> None:
    covered = gradient(tmp_path, {"ls": {}}, ["end_task"])
    split = {"ls": {}, "fixed": {"l1": 3.0}}
    both = gradient(tmp_path, split, ["end_task", "l1"], microbatch=300)
    check_difference(both, covered, 3.0, tmp_path)


def test_the_minimax_is_over_the_groups_alone() -> None:
    run = start("dro_mt_l1", "colored_digits", epochs=1, reg=5.0, mt=2.0)
    row = run.train_epoch()
    weighting = run.stage_state.weighting
    assert isinstance(weighting, GroupDRO)
    assert run.context.losses.covered == GROUPS
    assert weighting.log_q.shape == (4,)
    assert weighting.log_q.exp().sum().item() == pytest.approx(1.0)
    assert set(row.losses) == {*GROUPS, "reconstruction", "l1"}


def test_over_names_losses_or_objectives(tmp_path: Path) -> None:
    objectives = ["group_losses", "l1"]
    one = begin(tmp_path, {"dro": {"over": ["group_1", "group_3"]}, "fixed": {"l1": 2}}, objectives)
    assert one.context.losses.covered == ["group_1", "group_3"]
    assert one.context.losses.fixed_weights == {"l1": 2.0, "group_0": 1.0, "group_2": 1.0}
    assert one.train_epoch().losses["group_0"] > 0
    spelled = begin(tmp_path, {"dro": {"over": "group_losses"}, "fixed": {"l1": 2}}, objectives)
    assert spelled.context.losses.covered == GROUPS
    short = begin(tmp_path, {"dro": {}, "fixed": {"l1": 2}}, objectives)
    assert short.context.losses.fixed_weights == spelled.context.losses.fixed_weights == {"l1": 2.0}


def test_a_recipe_with_fixed_losses_survives_json() -> None:
    recipe = load_method("dro_mt_l1").recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.as_dict()["weighting"] == {
        "dro": {"step_size": "eta"}, "fixed": {"reconstruction": "mt", "l1": "reg"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weighting", "words"),
    [
        ({"dro": {}, "fixed": {"l2": 1}}, ["fixed.l2: unknown loss 'l2'", "did you mean 'l1'"]),
        ({"dro": {"over": "groups"}}, ["over[0]: unknown loss 'groups'", "group_losses"]),
        ({"dro": {"over": "group_7"}}, ["over: unknown loss 'group_7'", "known: group_0"]),
        ({"dro": {}, "fixed": {"l1": 1, "group_losses": 2}}, ["none is left for the weighting"]),
        ({"dro": {"over": "l1"}, "fixed": {"l1": 1}}, ["['l1'] are in over and in fixed"]),
        ({"ls": {}, "fixed": {"group_1": 1, "group_losses": 2}}, ["names a loss twice"]),
    ],
)
def test_names_that_fit_no_loss_are_refused_before_anything_starts(
    weighting: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValidationErrors) as found:
        begin(tmp_path, weighting, ["group_losses", "l1"])
    assert all(word in str(found.value) for word in words), found.value
