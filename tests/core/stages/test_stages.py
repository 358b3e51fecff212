"""Stages that keep weights, refit a layer, or train one model per task."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import datasets
from common.errors import UserError
from core.environment import detect_environment
from core.models.single_tasks import SingleTasks
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.stages.base import split_validation
from core.training.run import Run
from datasets.benchmark import Split
from datasets.groups.base import GroupMeter
from datasets.multitask.base import TaskBenchmark
from tests.core.training.test_run import rows, start


def test_validation_split_halves_every_group() -> None:
    group = torch.tensor([0] * 11 + [1] * 4 + [3] * 2)
    first, second = split_validation(group, torch.Generator().manual_seed(0))
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(17))
    for g in (0, 1, 3):
        sizes = [int((group[half] == g).sum()) for half in (first, second)]
        assert abs(sizes[0] - sizes[1]) <= 1
    other, _ = split_validation(group, torch.Generator().manual_seed(1))
    assert first.tolist() != other.tolist()


def test_copies_of_a_text_are_in_one_half() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(300).repeat_interleave(torch.randint(1, 4, (300,), generator=generator))
    group = torch.randint(8, (len(same),), generator=generator)
    group[group > 5] = 0  # a common group
    group[same < 4] = 6  # a rare one
    halves = split_validation(group, torch.Generator().manual_seed(0), same)
    assert torch.equal(torch.cat(halves).sort().values, torch.arange(len(same)))
    assert not set(same[halves[0]].tolist()) & set(same[halves[1]].tolist())
    for g in range(7):
        sizes = [int((group[half] == g).sum()) for half in halves]
        assert abs(sizes[0] - sizes[1]) <= 3
    few = torch.tensor([0, 2, 1, 2, 0, 1])  # groups of two, which one half may lack
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        for half in split_validation(few, generator, torch.tensor([0, 0, 1, 1, 2, 3])):
            assert set(few[half].tolist()) == {0, 1, 2}
    alone = torch.arange(len(same))  # no text is repeated: as without ids
    for half, plain in zip(
        split_validation(group, torch.Generator().manual_seed(1), alone),
        split_validation(group, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert torch.equal(half, plain)


@pytest.mark.deviation("dfr-halves")
def test_dfr_refits_on_one_half_and_selects_on_the_other() -> None:
    run = start("dfr", "colored_digits", epochs=3, c=1.0)
    for _ in range(3):
        assert not run.train_epoch().eligible
    before = copy.deepcopy(run.model.state_dict())
    row = run.train_epoch()
    assert row.eligible
    assert row.steps == 0
    after = run.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    validation = run.context.validation
    assert validation.group is not None
    assert sum(row.validation["group_count"]) == len(validation) // 2
    meter = run.evaluate_split("validation")
    assert isinstance(meter, GroupMeter)
    assert run.context.halves is not None
    assert not set(meter.rows.tolist()) & set(run.context.halves.refitting.tolist())


@pytest.mark.medium
def test_dfr_is_close_to_logistic_regression_on_balanced_features() -> None:
    run = start("dfr", "colored_digits", epochs=8, c=1.0)
    for _ in range(8):
        run.train_epoch()
    features: list[torch.Tensor] = []
    hook = run.model.get_last_layer().register_forward_pre_hook(
        lambda _, given: features.append(given[0])
    )
    split = run.context.validation
    assert run.context.halves is not None
    assert split.group is not None
    chosen = run.context.halves.refitting
    with torch.no_grad():
        run.model.eval()
        run.model(split.inputs[chosen])
    hook.remove()
    weights = 1.0 / split.group[chosen].bincount()[split.group[chosen]].double()
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)).fit(
        features[0].numpy(), split.y[chosen].numpy(),
        logisticregression__sample_weight=weights.numpy(),
    )  # fmt: skip
    before = run.evaluate_split("test").compute_metrics()["worst_group_accuracy"]
    run.train_epoch()
    test = run.evaluate_split("test")
    assert isinstance(test, GroupMeter)
    with torch.no_grad():
        features.clear()
        hook = run.model.get_last_layer().register_forward_pre_hook(
            lambda _, given: features.append(given[0])
        )
        run.model(run.benchmark.splits["test"].inputs)
        hook.remove()
    agreement = plain.predict(features[0].numpy()) == test.logits.argmax(dim=1).numpy()
    assert agreement.mean() > 0.8
    assert test.compute_metrics()["worst_group_accuracy"] > before


@pytest.mark.medium
@pytest.mark.deviation("stl")
def test_stl_trains_each_task_independently() -> None:
    run = start("stl", "two_digits", epochs=2, lr=3e-3)
    found = list(rows(run))
    model = run.model
    assert isinstance(model, SingleTasks)
    benchmark = run.benchmark
    assert isinstance(benchmark, TaskBenchmark)
    shared = {id(p) for p in model.current["left"].parameters()}
    assert not shared & {id(p) for p in model.current["sum"].parameters()}
    # Each task takes the steps of a model that is trained on it alone.
    alone = start("stl", "two_digits", epochs=2, lr=3e-3)
    single = alone.model
    assert isinstance(single, SingleTasks)
    for name in ("left", "right"):
        for parameter in single.current[name].parameters():
            parameter.requires_grad_(False)
    alone._take_steps(alone.context.locate_epoch(0))
    again = start("stl", "two_digits", epochs=2, lr=3e-3)
    again._take_steps(again.context.locate_epoch(0))
    assert isinstance(again.model, SingleTasks)
    for a, b in zip(
        single.current["sum"].parameters(), again.model.current["sum"].parameters(), strict=True
    ):
        assert torch.equal(a, b)
    assert found[-1].validation["sum_mae"] <= found[0].validation["sum_mae"]


@pytest.mark.medium
def test_stl_keeps_each_task_at_its_own_best_epoch() -> None:
    run = start("stl", "two_digits", epochs=6, lr=0.05)  # high enough for tasks to get worse again
    current: list[dict[str, float]] = []
    reported: list[Mapping[str, Any]] = []
    for _ in range(6):
        reported.append(run.train_epoch().validation)
        assert isinstance(run.model, SingleTasks)
        with run.model.use_current():
            current.append(run.evaluate_split("validation").compute_metrics())
    for name, best in (("left_accuracy", max), ("right_accuracy", max), ("sum_mae", min)):
        for i in range(6):
            assert reported[i][name] == best(values[name] for values in current[: i + 1])
    seen = run.evaluate_split("validation").compute_metrics()
    assert seen["left_accuracy"] == reported[-1]["left_accuracy"]


def test_stl_keeps_exact_metrics_and_no_undefined_ones() -> None:
    run = start("stl", "two_digits", epochs=1)
    model = run.model
    assert isinstance(model, SingleTasks)
    good = {"left_accuracy": 0.1, "right_accuracy": 0.7, "sum_mae": 1 / 3}
    assert model.keep_best(good).items() >= good.items()
    worse = {"left_accuracy": float("nan"), "right_accuracy": 0.6, "sum_mae": 2.0}
    kept = {name: model.keep_best(worse)[name] for name in good}
    assert kept == good  # not rounded to single precision, and no NaN


def test_dfr_refuses_a_group_missing_from_one_half() -> None:
    # Not the cached benchmark, which other tests share.
    benchmark = datasets.load_benchmark.__wrapped__("colored_digits")
    validation = benchmark.splits["validation"]
    assert validation.group is not None
    rows = torch.cat([(validation.group != 1).nonzero(), (validation.group == 1).nonzero()[:1]])
    rows = rows.flatten()
    split = Split(validation.inputs[rows], {"y": validation.y[rows]}, validation.group[rows])
    benchmark.splits["validation"] = split
    key = resolve_method(load_method("dfr"), benchmark).make_key(
        {"epochs": 1}, 0, detect_environment()
    )
    with pytest.raises(UserError, match="no example of group 1"):
        Run(key, benchmark)


@pytest.mark.medium
@pytest.mark.deviation("tapt-epochs")
def test_tapt_pretrains_on_reconstruction_and_keeps_the_weights() -> None:
    run = start("tapt", "colored_digits", epochs=1, pretrain_epochs=2)
    first, second = run.train_epoch(), run.train_epoch()
    assert set(first.losses) == {"reconstruction"}
    assert second.losses["reconstruction"] < first.losses["reconstruction"]
    assert not first.eligible
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    reference = Run(run.key, run.benchmark)
    assert not all(torch.equal(p, before[name]) for name, p in reference.model.named_parameters())
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())
    last = run.train_epoch()
    assert set(last.losses) == {"end_task"}
    assert last.eligible


def test_methods_name_their_needs() -> None:
    for name in ("stl", "fairgrad"):
        with pytest.raises(UserError, match="needs tasks"):
            load_method(name).check_benchmark(datasets.load_benchmark("colored_digits"))
